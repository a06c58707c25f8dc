"""The official client of MCP's Streamable HTTP, driven by lines of JSON."""

import asyncio
import contextlib
import json
import sys

from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import ResourceListChangedNotification

url = sys.argv[1]


TOOLS = {"open": "where", "leave": "where"}


class Client:
    """What it does happens in a task of its own, since a connection's context may be left only where it was entered."""

    def __init__(self):
        self.asks = asyncio.Queue()
        self.said = []
        self.pushed = asyncio.Event()
        self.task = asyncio.create_task(self.live())

    async def act(self, what):
        answered = asyncio.get_running_loop().create_future()
        await self.asks.put((what, answered))
        return await answered

    async def live(self):
        ask = await self.asks.get()
        while True:
            # A connection from `initialize` to the DELETE that leaving it sends.
            try:
                async with (
                    streamablehttp_client(url) as (read, write, _),
                    ClientSession(read, write, logging_callback=self.log, message_handler=self.hear) as session,
                ):
                    await session.initialize()
                    while True:
                        what, answered = ask
                        answer = await self.call(session, what)
                        if what == "leave" or "error" in answer:
                            break
                        answered.set_result(answer)
                        ask = await self.asks.get()
                answered.set_result(answer)
            except Exception as error:  # the test judges it
                ask[1].set_result({"error": repr(error)})
            ask = await self.asks.get()

    async def log(self, message):
        self.said.append(message.data)

    async def hear(self, message):
        if isinstance(getattr(message, "root", None), ResourceListChangedNotification):
            self.pushed.set()

    async def call(self, session, what):
        self.said.clear()
        self.pushed.clear()
        try:
            result = await session.call_tool(TOOLS.get(what, what), {})
            # The stream for what is no answer is opened on the side, and what is pushed before that is lost.
            while what == "push" and not self.pushed.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.pushed.wait(), 0.2)
                    break
                result = await session.call_tool(what, {})
        except McpError as error:
            return {"error": error.error.message}
        at, count = result.content[0].text.split()
        return {"at": at, "count": int(count), "said": self.said}


async def main():
    clients = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        ask = json.loads(line)
        if ask["client"] not in clients:
            clients[ask["client"]] = Client()
        print(json.dumps(await clients[ask["client"]].act(ask["what"])), flush=True)
    for client in clients.values():
        client.task.cancel()
    await asyncio.gather(*(client.task for client in clients.values()), return_exceptions=True)


asyncio.run(main())
