// The server as people usually write it in Go: grpc-go, a goroutine for each stream, and a buffered
// channel for each reader.
//
// A send never blocks on a reader, because it uses a `select` with a `default`. When the channel of
// a reader is full, the server drops its messages. Neither reader nor sender is told; the load
// generator counts the lost messages.
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

// The number of messages in the channel of a reader.
const waiting = 4096

type reader chan *chat.ReadMessagesResponse

type server struct {
	chat.UnimplementedMessengerServerServer

	// A message is stamped and put into all channels under the lock, so all readers get the same
	// order.
	mutex   sync.Mutex
	readers map[reader]struct{}
	last    time.Time
}

// stamp gives the time, or the last time plus one nanosecond if the clock has not advanced.
func (s *server) stamp() *timestamppb.Timestamp {
	now := time.Now().Round(0)
	if !now.After(s.last) {
		now = s.last.Add(1)
	}
	s.last = now
	return timestamppb.New(now)
}

func (s *server) SendMessage(
	_ context.Context, request *chat.SendMessageRequest,
) (*chat.SendMessageResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	// All readers share the message. Nothing changes it from here on.
	message := &chat.ReadMessagesResponse{
		Author: request.Author, Text: request.Text, SendTime: s.stamp(),
	}
	for reader := range s.readers {
		select {
		case reader <- message:
		default:
		}
	}
	return &chat.SendMessageResponse{SendTime: message.SendTime}, nil
}

func (s *server) ReadMessages(
	_ *emptypb.Empty, stream grpc.ServerStreamingServer[chat.ReadMessagesResponse],
) error {
	mine := make(reader, waiting)
	s.mutex.Lock()
	s.readers[mine] = struct{}{}
	s.mutex.Unlock()
	defer func() {
		s.mutex.Lock()
		delete(s.readers, mine)
		s.mutex.Unlock()
	}()
	// Otherwise grpc-go sends the headers with the first message, and the reader does not know that
	// its stream is open.
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
