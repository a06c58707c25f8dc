"""A stateful application that a gateway runs as its worker: sessions in memory, and whatever trouble it is told to make.

    application.py PORT|SOCKET TROUBLE...

It tells who it is by what the gateway puts into its environment.
"""

import http.server
import json
import os
import resource
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import uuid

ME = "{0}.{1}".format(os.environ["TIDEGATE_GENERATION"], os.environ["TIDEGATE_INSTANCE"])
GENERATION = int(os.environ["TIDEGATE_GENERATION"])
TROUBLES = set(sys.argv[2:])
SESSIONS = {}
LOCK = threading.Lock()
WORK = os.environ.get("WORK_FILE", "")


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = sys.argv[1].isdigit()

    def log_message(self, *_):
        pass

    def answer(self, status, fields=(), **members):
        body = json.dumps({"backend": ME, "generation": GENERATION, "pid": os.getpid(), **members}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def session(self):
        for pair in self.headers.get("Cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == "sid" and value in SESSIONS:
                return value
        return None

    def do_GET(self):
        with LOCK:
            known = self.session()
        lost = self.headers.get("Tidegate-Session-Lost", "")
        if self.path == "/healthz":
            return self.answer(503 if "unready" in TROUBLES else 200)
        if self.path == "/work":
            try:
                with open(WORK, encoding="ascii") as file:
                    return self.answer(200, open=int(file.read()))
            except (OSError, ValueError) as error:
                return self.answer(500, error=str(error))
        if self.path == "/where":
            descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return self.answer(
                200, known=known is not None, lost=lost, environment=dict(os.environ), descriptors=descriptors, uid=os.getuid()
            )
        if self.path == "/count":
            if known is None:
                return self.answer(401, lost=lost)
            with LOCK:
                SESSIONS[known] += 1
                count = SESSIONS[known]
            return self.answer(200, count=count)
        return self.answer(404)

    def do_POST(self):
        with LOCK:
            known = self.session()
        if self.path == "/login":
            new = uuid.uuid4().hex
            with LOCK:
                SESSIONS[new] = SESSIONS.pop(known, 0)
            return self.answer(200, [("Set-Cookie", "sid=" + new + "; Path=/")])
        if self.path == "/logout" and known is not None:
            with LOCK:
                SESSIONS.pop(known)
            return self.answer(200, [("Set-Cookie", "sid=; Path=/; Max-Age=0")])
        return self.answer(401)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "worker", 0


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("worker", 0)


def watch():
    """A test that failed must not leave it behind."""
    while os.path.isdir(os.environ.get("TEST_FOLDER", "/")):
        time.sleep(2)
    os.killpg(0, signal.SIGKILL)


def trouble():
    print("worker", ME, "begins", flush=True)
    if "exit" in TROUBLES:
        print("there is no database", flush=True)
        sys.exit(3)
    if "flood" in TROUBLES:
        # Bounded, should nobody be there to end it.
        subprocess.Popen(["sh", "-c", "yes a line that nobody wants to read | head -c 32000000; sleep 1238"])
    if "fork" in TROUBLES:
        # A child, and a grandchild that has left the family.
        subprocess.Popen(["sleep", "1234"])
        subprocess.Popen(["sh", "-c", "setsid sh -c 'sleep 1235 & sleep 1236' &"])
    if "deaf" in TROUBLES:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "leak" in TROUBLES:
        kept = []
        while True:
            kept.append(bytearray(1 << 20))
    if "port" in TROUBLES:
        code = "import socket,sys,time; s=socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(1237)"
        subprocess.Popen([sys.executable, "-c", code, sys.argv[1]])
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
                break
            except OSError:
                time.sleep(0.01)


def main():
    threading.Thread(target=watch, daemon=True).start()
    trouble()
    place = sys.argv[1]
    server = Server(("127.0.0.1", int(place)), Answers) if place.isdigit() else UnixServer(place, Answers)
    print("worker", ME, "listens", flush=True)
    server.serve_forever()


main()
