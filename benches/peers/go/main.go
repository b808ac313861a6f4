// The server as it is usually written in Go: grpc-go, a goroutine for every stream, a buffered channel for every reader.
//
// A send never blocks on a reader. When a reader's channel is full, its messages are dropped until there is room again, and nobody
// tells it: the usual `select` with a `default`. Reader and sender learn nothing of it; the load generator counts it.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"messenger/benches/peers/go/target/chat"
)

// How many messages may wait for one reader.
const waiting = 4096

type reader chan *chat.ReadMessagesResponse

type server struct {
	chat.UnimplementedMessengerServerServer

	// One lock for the order: who holds it stamps a message and puts it into all channels before anybody else does.
	mutex   sync.Mutex
	readers map[reader]struct{}
	last    time.Time
}

// stamp gives the time, and one nanosecond more than the last time where the clock has not moved on.
func (s *server) stamp() *timestamppb.Timestamp {
	now := time.Now().Round(0)
	if !now.After(s.last) {
		now = s.last.Add(1)
	}
	s.last = now
	return timestamppb.New(now)
}

func (s *server) SendMessage(_ context.Context, request *chat.SendMessageRequest) (*chat.SendMessageResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	// One message for everybody: nothing changes it from here on.
	message := &chat.ReadMessagesResponse{Author: request.Author, Text: request.Text, SendTime: s.stamp()}
	for reader := range s.readers {
		select {
		case reader <- message:
		default:
		}
	}
	return &chat.SendMessageResponse{SendTime: message.SendTime}, nil
}

func (s *server) ReadMessages(_ *emptypb.Empty, stream grpc.ServerStreamingServer[chat.ReadMessagesResponse]) error {
	mine := make(reader, waiting)
	s.mutex.Lock()
	s.readers[mine] = struct{}{}
	s.mutex.Unlock()
	defer func() {
		s.mutex.Lock()
		delete(s.readers, mine)
		s.mutex.Unlock()
	}()
	// Headers go out with the first message otherwise, and a reader could not tell when it is open.
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for {
		select {
		case message := <-mine:
			if err := stream.Send(message); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("MESSENGER_SERVER_PORT"))
	if err != nil {
		log.Fatal(err)
	}
	server := &server{readers: make(map[reader]struct{})}
	grpcServer := grpc.NewServer()
	chat.RegisterMessengerServerServer(grpcServer, server)
	log.Fatal(grpcServer.Serve(listener))
}
