"""Clients of a Jupyter server, driven by lines of JSON: Jupyter's own gateway client, which knows kernels only, or what
JupyterLab does in a browser, with a login and its cookies."""

import asyncio
import json
import sys
import uuid

import requests
import websocket
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager

kind, url = sys.argv[1:]
PATIENCE = 40
# A variable of the kernel is the state that has to live.
CODES = {
    "open": "import os; count = 0; print(os.environ['INSTANCE'], count)",
    "where": "print(os.environ['INSTANCE'], count)",
    "count": "count += 1; print(os.environ['INSTANCE'], count)",
}


def seen(text):
    at, count = text.split()
    return {"at": at, "count": int(count)}


class Kernel:
    """Jupyter's gateway client: REST and the kernel's WebSocket, nothing that names the client."""

    async def act(self, what):
        if what == "open":
            self.manager = GatewayKernelManager()
            await self.manager.start_kernel(kernel_name="python3")
            await self.connect()
        elif what == "reconnect":
            self.channels.stop_channels()
            await self.connect()
        elif what == "restart":
            await self.manager.restart_kernel()
            await self.channels.wait_for_ready(PATIENCE)
            return seen(await self.run(CODES["open"]))
        answer = seen(await self.run(CODES.get(what, CODES["where"])))
        if what == "leave":
            self.channels.stop_channels()
            await self.manager.shutdown_kernel()
        return answer

    async def connect(self):
        self.channels = self.manager.client()
        await self.channels.start_channels()
        await self.channels.wait_for_ready(PATIENCE)

    async def run(self, code):
        ask = self.channels.execute(code)
        printed = ""
        while True:
            message = await self.channels.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != ask:
                continue
            if message["msg_type"] == "stream":
                printed += message["content"]["text"]
            elif message["msg_type"] == "error":
                raise RuntimeError(message["content"])
            elif message["content"].get("execution_state") == "idle":
                return printed


class Page:
    """A browser tab: its cookies go with every request, also with the one that opens a kernel's WebSocket."""

    def __init__(self):
        self.http = requests.Session()

    async def act(self, what):
        return await asyncio.get_running_loop().run_in_executor(None, getattr(self, what))

    def open(self):
        self.http.get(url + "/login", timeout=PATIENCE).raise_for_status()
        form = {"_xsrf": self.http.cookies["_xsrf"], "password": "a secret"}
        self.http.post(url + "/login", form, timeout=PATIENCE).raise_for_status()
        self.kernel = self.ask("POST", "/api/kernels", {"name": "python3"}).json()["id"]
        self.connect()
        return self.run("open")

    def ask(self, method, path, body=None):
        fields = {"X-XSRFToken": self.http.cookies["_xsrf"]}
        answer = self.http.request(method, url + path, json=body, headers=fields, timeout=PATIENCE)
        answer.raise_for_status()
        return answer

    def connect(self):
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies)
        address = f"{url.replace('http', 'ws', 1)}/api/kernels/{self.kernel}/channels"
        self.socket = websocket.create_connection(address, cookie=cookies, timeout=PATIENCE)

    def run(self, what):
        header = {"msg_id": str(uuid.uuid4()), "msg_type": "execute_request", "session": "a page", "version": "5.3"}
        content = {"code": CODES[what], "silent": False, "store_history": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self.socket.send(json.dumps(message))
        printed, done = "", False
        while not (printed and done):
            answer = json.loads(self.socket.recv())
            if answer["parent_header"].get("msg_id") == header["msg_id"]:
                printed += answer["content"].get("text", "") if answer["msg_type"] == "stream" else ""
                done = done or answer["msg_type"] == "execute_reply"
        return seen(printed)

    def count(self):
        return self.run("count")

    def reconnect(self):
        self.socket.close()
        self.connect()
        return self.run("where")

    def list(self):
        """What the server keeps in memory is there as well: the page's kernel is the server's only one."""
        kernels = [kernel["id"] for kernel in self.ask("GET", "/api/kernels").json()]
        if kernels != [self.kernel]:
            raise RuntimeError(f"{self.kernel} is not alone among {kernels}")
        return self.run("where")

    def leave(self):
        answer = self.run("where")
        self.socket.close()
        self.ask("DELETE", f"/api/kernels/{self.kernel}")
        self.http.get(url + "/logout", timeout=PATIENCE).raise_for_status()
        return answer


async def main():
    if kind == "kernel":
        GatewayClient.instance().url = url
    clients = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        ask = json.loads(line)
        if ask["client"] not in clients:
            clients[ask["client"]] = Kernel() if kind == "kernel" else Page()
        try:
            answer = await clients[ask["client"]].act(ask["what"])
        except Exception as error:  # the test judges it
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
