"""Drives clients with a channel each: reads {"client", "what"} a line, does it, answers by a line of JSON."""

import json
import queue
import sys

import grpc


class Client:
    def __init__(self, target):
        self.channel = grpc.insecure_channel(target)
        self.session = None
        self.said = None

    def metadata(self):
        return (("x-session-id", self.session),) if self.session else ()

    def unary(self, method, request=b""):
        call = self.channel.unary_unary(f"/demo.Sessions/{method}")
        answer, call = call.with_call(request, metadata=self.metadata(), timeout=30)
        return json.loads(answer), call

    def open(self):
        self.session = None
        answer, call = self.unary("Open")
        self.session = dict(call.initial_metadata())["x-session-id"]
        return answer

    def count(self):
        answer, call = self.unary("Count")
        assert dict(call.trailing_metadata())["x-instance"] == answer["at"], call.trailing_metadata()
        return answer

    def leave(self):
        return self.unary("Leave")[0]

    def cancelled(self):
        return self.unary("Cancelled")[0]

    def list(self):
        call = self.channel.unary_stream("/demo.Sessions/List")(b"200", metadata=self.metadata(), timeout=30)
        answers = [json.loads(answer) for answer in call]
        assert [answer["number"] for answer in answers] == list(range(200)), answers
        assert dict(call.trailing_metadata())["x-instance"] == answers[0]["at"], call.trailing_metadata()
        return answers[0]

    def sum(self):
        # More than any window holds.
        pieces = (b"x" * 100_000 for _ in range(40))
        call = self.channel.stream_unary("/demo.Sessions/Sum")
        answer = json.loads(call(pieces, metadata=self.metadata(), timeout=30))
        assert answer["total"] == 4_000_000, answer
        return answer

    def chat(self):
        """Begins a call that goes both ways, and stays."""
        self.said = queue.Queue()
        said = iter(self.said.get, None)
        self.answers = self.channel.stream_stream("/demo.Sessions/Chat")(said, metadata=self.metadata())
        # It comes before anything was said.
        assert dict(self.answers.initial_metadata())["x-open"] == "yes"
        return self.say()

    def say(self):
        self.said.put(b"word")
        answer = json.loads(next(self.answers))
        assert answer["heard"] == "word", answer
        return answer

    def bye(self):
        self.said.put(None)
        answers = [json.loads(answer) for answer in self.answers]
        assert [answer["heard"] for answer in answers] == ["bye"], answers
        return answers[0]

    def wait(self):
        """Takes what comes of the call until it fails."""
        return json.loads(next(self.answers))

    def endless(self):
        call = self.channel.unary_stream("/demo.Sessions/Endless")(b"", metadata=self.metadata())
        answer = json.loads(next(call))
        call.cancel()
        return answer


clients = {}
for line in sys.stdin:
    order = json.loads(line)
    client = clients.setdefault(order["client"], None) or Client(sys.argv[1])
    clients[order["client"]] = client
    try:
        answer = getattr(client, order["what"])()
    except grpc.RpcError as error:
        answer = {"error": {"code": error.code().name, "details": error.details()}}
    print(json.dumps(answer), flush=True)
