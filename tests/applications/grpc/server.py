"""Counts in sessions, which it names in the metadata `x-session-id` and keeps in memory, by calls of every kind."""

import json
import os
import secrets
import sys
import threading
from concurrent import futures

import grpc

INSTANCE = os.environ["INSTANCE"]
sessions = {}
seen = {"cancelled": 0, "calls": 0}
lock = threading.Lock()


def said(**more):
    return json.dumps({"at": INSTANCE, **more}).encode()


def session(context):
    """The caller's session. Whose session is not here is told so, and what it asks for does not happen."""
    name = dict(context.invocation_metadata()).get("x-session-id")
    context.set_trailing_metadata((("x-instance", INSTANCE),))
    if name not in sessions:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"no such session at {INSTANCE}: 100% unknown")
    return name


def open_session(request, context):
    name = secrets.token_hex(16)
    sessions[name] = 0
    context.send_initial_metadata((("x-session-id", name),))
    return said()


def count(request, context):
    name = session(context)
    with lock:
        sessions[name] += 1
        return said(count=sessions[name])


def items(request, context):
    session(context)
    for number in range(int(request)):
        yield said(number=number)


def total(requests, context):
    session(context)
    return said(total=sum(len(request) for request in requests))


def chat(requests, context):
    session(context)
    context.send_initial_metadata((("x-open", "yes"),))
    for request in requests:
        yield said(heard=request.decode())
    yield said(heard="bye")


def endless(request, context):
    def over():
        with lock:
            seen["cancelled"] += 1

    session(context)
    context.add_callback(over)
    yield said()
    threading.Event().wait()


def cancelled(request, context):
    return said(count=seen["cancelled"])


def leave(request, context):
    del sessions[session(context)]
    return said()


calls = {
    "Open": grpc.unary_unary_rpc_method_handler(open_session),
    "Count": grpc.unary_unary_rpc_method_handler(count),
    "List": grpc.unary_stream_rpc_method_handler(items),
    "Sum": grpc.stream_unary_rpc_method_handler(total),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
    "Cancelled": grpc.unary_unary_rpc_method_handler(cancelled),
    "Leave": grpc.unary_unary_rpc_method_handler(leave),
}
server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Sessions", calls),))
server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
