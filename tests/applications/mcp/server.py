"""An MCP server with a tool that counts in its session."""

import sys
from contextlib import asynccontextmanager

from mcp.server.fastmcp import Context, FastMCP

port, instance = int(sys.argv[1]), sys.argv[2]


@asynccontextmanager
async def session(_):
    """What a session has: the low-level server enters this once in each."""
    yield {"count": 0}


server = FastMCP("counter", host="127.0.0.1", port=port, lifespan=session, log_level="WARNING")


@server.tool()
def count(context: Context) -> str:
    """Counts one further."""
    state = context.request_context.lifespan_context
    state["count"] += 1
    return f"{instance} {state['count']}"


@server.tool()
def where() -> str:
    """Tells which instance this is."""
    return f"{instance} 0"


@server.tool()
async def report(context: Context) -> str:
    """Says something while it works, in the answer to the call: a stream of events."""
    for word in ("one", "two", "three"):
        await context.info(f"{instance} {word}")
    return f"{instance} 0"


@server.tool()
async def push(context: Context) -> str:
    """Tells the client something in the stream that this keeps open for all that is no answer."""
    await context.session.send_resource_list_changed()
    return f"{instance} 0"


server.run("streamable-http")
