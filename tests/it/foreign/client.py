"""Calls of the interface as Python programs make them. Prints what happens, one JSON value a line.

usage: client.py PROTO_DIR ADDRESS SCENARIO [ARGUMENTS]

With MESSENGER_TEST_CA, a file, under TLS, and then with MESSENGER_TEST_TOKEN.
"""

import json
import os
import sys
import threading
import time

import grpc

sys.path.insert(0, sys.argv[1])
messages, services = grpc.protos_and_services("messenger.proto")
from google.protobuf.empty_pb2 import Empty  # noqa: E402

# A proxy that the environment names is not for servers on this machine.
options = [("grpc.enable_http_proxy", 0)]
if "MESSENGER_TEST_CA" in os.environ:
    with open(os.environ["MESSENGER_TEST_CA"], "rb") as ca:
        credentials = grpc.ssl_channel_credentials(ca.read())
    if "MESSENGER_TEST_TOKEN" in os.environ:
        token = grpc.access_token_call_credentials(os.environ["MESSENGER_TEST_TOKEN"])
        credentials = grpc.composite_channel_credentials(credentials, token)
    channel = grpc.secure_channel(sys.argv[2], credentials, options=options)
else:
    channel = grpc.insecure_channel(sys.argv[2], options=options)
stub = services.MessengerServerStub(channel)


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def message(seen):
    return [seen.author, seen.text, seen.sendTime.ToJsonString()]


def send(author, text, **options):
    answer = stub.SendMessage(messages.SendMessageRequest(author=author, text=text), **options)
    return [author, text, answer.sendTime.ToJsonString()]


def status(call):
    """How a call ends that must fail."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def streams(count):
    """Many streams over one connection. Each has its headers before any message, and nothing that was sent before."""
    send("python", "too early")
    calls = [stub.ReadMessages(Empty()) for _ in range(int(count))]
    for call in calls:
        call.initial_metadata()
    say("open")
    sent = send("python", "to all streams")
    say(sum(message(next(call)) == sent for call in calls))


def order(total, senders, each):
    """Two readers, and threads that send, while others send too."""
    calls = [stub.ReadMessages(Empty()) for _ in range(2)]
    for call in calls:
        call.initial_metadata()
    say("open")
    sent = {}

    def work(author):
        sent[author] = [send(author, str(number)) for number in range(int(each))]

    threads = [threading.Thread(target=work, args=(f"python {sender}",)) for sender in range(int(senders))]
    for thread in threads:
        thread.start()
    seen = [[message(next(call)) for _ in range(int(total))] for call in calls]
    for thread in threads:
        thread.join()
    say({"seen": seen, "sent": list(sent.values())})


def statuses():
    """What a server says to calls that are wrong."""

    def raw(method, request):
        return lambda: channel.unary_unary(f"/{method}")(request, timeout=30)

    service = "mes_grpc.MessengerServer"
    say(
        {
            "too large": status(lambda: send("python", "x" * (4 << 20), timeout=30)),
            "far too large": status(lambda: send("python", "x" * (32 << 20), timeout=30)),
            "no protobuf": status(raw(f"{service}/SendMessage", b"\xff\xff\xff")),
            "no UTF-8": status(raw(f"{service}/SendMessage", b"\x0a\x01\xff")),
            "no such method": status(raw(f"{service}/Shout", b"")),
            "no such service": status(raw("mes_grpc.Nobody/SendMessage", b"")),
            "as it should be": status(lambda: send("python", "x" * ((4 << 20) - 64), timeout=30)),
        }
    )


def deadline(seconds):
    """A stream with a deadline gets messages, and ends when it passes."""
    start = time.monotonic()
    call = stub.ReadMessages(Empty(), timeout=float(seconds))
    call.initial_metadata()
    sent = send("python", "in time")
    say(message(next(call)) == sent)
    say([status(lambda: next(call)), time.monotonic() - start])


def end():
    """Reads until the server ends it, and watches its health."""
    call = stub.ReadMessages(Empty())
    call.initial_metadata()
    # The health protocol's messages by hand: the request's one field is the name of a service, the answer's the status.
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    say(list(next(watch)))
    seen = []
    ended = status(lambda: seen.extend(message(one) for one in call))
    say({"seen": seen, "ended": ended, "health": list(next(watch))})
    say(status(lambda: send("python", "too late", timeout=5)))


def slow():
    """A stream that is not read until somebody says so."""
    call = stub.ReadMessages(Empty())
    call.initial_metadata()
    say("open")
    sys.stdin.readline()
    seen = []
    ended = status(lambda: seen.extend(len(one.text) for one in call))
    say([len(seen), ended])


def health(*names):
    """Asks about each service by its name."""
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    answers = {}
    for name in names:
        request = b"\x0a" + bytes([len(name)]) + name.encode() if name else b""
        answers[name] = status(lambda: answers.setdefault("bytes " + name, list(check(request))))
    say(answers)


scenarios = {scenario.__name__: scenario for scenario in (streams, order, statuses, deadline, end, slow, health)}
scenarios[sys.argv[3]](*sys.argv[4:])
