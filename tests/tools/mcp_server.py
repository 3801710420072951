"""A tiny MCP server, by the official package: `python mcp_server.py` speaks over its pipes.

Its tools are async: plain ones would run in threads, which virtual time does not wait for.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("tiny")


@server.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
async def environment(name: str) -> dict[str, Any]:
    """Say what a variable holds, and where it runs."""
    return {"value": os.environ.get(name), "folder": str(Path.cwd())}


@server.tool()
async def fails() -> str:
    """Fail."""
    raise ToolError("the shop is closed")


@server.tool()
async def hangs() -> str:
    """Never answer."""
    await anyio.sleep_forever()
    return ""


@server.tool()
async def dies() -> str:
    """End the server at once."""
    os._exit(3)


@server.tool()
async def long() -> str:
    """Return much."""
    return "x" * 100_000


if __name__ == "__main__":
    sys.stderr.write("starting\n")
    server.run()
