"""A server of the same interface as it is commonly written in Python: a pool of threads, a queue for each reader, a lock.

usage: server.py PROTO_DIR PORT; port 0 takes a free one, which the first line of the output names. Ends with its input.

A few authors are commands instead:
  !end     all streams end, without an error
  !status  the call fails with the status that the text names, or with an exception where it says "raise"
  !time    the message goes out with the time in the text, "SECONDS NANOS", or with none where it is empty
"""

import queue
import sys
import threading
from concurrent import futures

import grpc

sys.path.insert(0, sys.argv[1])
messages, services = grpc.protos_and_services("messenger.proto")


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Messenger(services.MessengerServerServicer):
    def __init__(self):
        self.lock = threading.Lock()
        self.readers = []

    def SendMessage(self, request, context):
        if request.author == "!status":
            say(f"asked for {request.text}")
            if request.text == "raise":
                raise ValueError("as asked")
            # When to retry, in gRPC's words. It says nothing about whether the message was taken.
            context.set_trailing_metadata([("grpc-retry-pushback-ms", "100")])
            context.abort(grpc.StatusCode[request.text], "as asked: нет")
        message = messages.ReadMessagesResponse(author=request.author, text=request.text)
        with self.lock:
            if request.author != "!time":
                message.sendTime.GetCurrentTime()
            elif request.text:
                message.sendTime.seconds, message.sendTime.nanos = map(int, request.text.split())
            for reader in self.readers:
                reader.put(None if request.author == "!end" else message)
        answer = messages.SendMessageResponse()
        if message.HasField("sendTime"):
            answer.sendTime.CopyFrom(message.sendTime)
        return answer

    def ReadMessages(self, request, context):
        mine = queue.SimpleQueue()
        # Whoever hangs up must not hold a thread for ever.
        context.add_callback(lambda: mine.put(None))
        with self.lock:
            self.readers.append(mine)
        say("reader opened")
        # The response headers go out with the first message that this yields, not before.
        while (message := mine.get()) is not None:
            yield message
        with self.lock:
            self.readers.remove(mine)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
services.add_MessengerServerServicer_to_server(Messenger(), server)
port = server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
server.start()
say(f"listening {port}")
sys.stdin.read()
server.stop(grace=None)
