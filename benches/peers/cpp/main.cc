// The server as people usually write it in C++: gRPC's callback API, and a reactor with a queue for
// each reader.
//
// All readers share one message, but gRPC serializes it for each of them, because the typed API has
// no other way. As in most such servers the queues have no bound, so a reader that stops reading
// costs memory for every message until its connection ends.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "messenger.grpc.pb.h"

using namespace mes_grpc;
using Message = std::shared_ptr<const ReadMessagesResponse>;

class Reader;

// The readers, and the order of the messages.
class Chat {
 public:
  void Enter(Reader* reader) {
    std::lock_guard lock(mutex_);
    readers_.insert(reader);
  }

  void Leave(Reader* reader) {
    std::lock_guard lock(mutex_);
    readers_.erase(reader);
  }

  // Stamps a message and queues it for all readers under the lock, so all get the same order.
  Message Post(const SendMessageRequest& request);

 private:
  std::mutex mutex_;
  std::unordered_set<Reader*> readers_;
  int64_t last_ = 0;
};

// One stream. gRPC allows one write at a time. The first message of the queue is the one that is
// being written.
class Reader : public grpc::ServerWriteReactor<ReadMessagesResponse> {
 public:
  explicit Reader(Chat& chat) : chat_(chat) {
    // Without this the headers would wait for the first message. It comes before `Enter`, because a
    // write would send the headers too. gRPC sends nothing before it has this reactor.
    StartSendInitialMetadata();
    chat_.Enter(this);
  }

  void Push(const Message& message) {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    queue_.push_back(message);
    if (queue_.size() == 1) StartWrite(queue_.front().get());
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    queue_.pop_front();
    if (ok && !ended_ && !queue_.empty()) StartWrite(queue_.front().get());
  }

  // The client has left. A stream ends in no other way.
  void OnCancel() override {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    Finish(grpc::Status::CANCELLED);
  }

  // All operations of this stream have ended, and after `Leave` no message is pushed to it.
  void OnDone() override {
    chat_.Leave(this);
    delete this;
  }

 private:
  Chat& chat_;
  std::mutex mutex_;
  std::deque<Message> queue_;
  bool ended_ = false;
};

Message Chat::Post(const SendMessageRequest& request) {
  auto message = std::make_shared<ReadMessagesResponse>();
  message->set_author(request.author());
  message->set_text(request.text());
  std::lock_guard lock(mutex_);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  last_ = std::max<int64_t>(std::chrono::nanoseconds(now).count(), last_ + 1);
  message->mutable_sendtime()->set_seconds(last_ / 1'000'000'000);
  message->mutable_sendtime()->set_nanos(static_cast<int32_t>(last_ % 1'000'000'000));
  for (Reader* reader : readers_) reader->Push(message);
  return message;
}

class Service final : public MessengerServer::CallbackService {
  grpc::ServerUnaryReactor* SendMessage(grpc::CallbackServerContext* context,
                                        const SendMessageRequest* request,
                                        SendMessageResponse* response) override {
    *response->mutable_sendtime() = chat_.Post(*request)->sendtime();
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerWriteReactor<ReadMessagesResponse>* ReadMessages(
      grpc::CallbackServerContext*, const google::protobuf::Empty*) override {
    return new Reader(chat_);
  }

  Chat chat_;
};

int main() {
  const char* port = std::getenv("MESSENGER_SERVER_PORT");
  if (port == nullptr) return 2;
  Service service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(std::string("127.0.0.1:") + port, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  server->Wait();
}
