"""The tools of MCP servers: listed at start, and again whenever a connection was lost and found."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TextIO, cast

import structlog

from opusagent.errors import ConfigError, ToolError
from opusagent.models.agent import McpServer
from opusagent.models.session_state import ToolSpec
from opusagent.tools.addresses import check_address, check_headers
from opusagent.tools.problems import kind_of
from opusagent.tools.results import as_object
from opusagent.tools.templates import resolve
from opusagent.tools.tool import Arguments, JsonObject, Place, Tool, ToolContext, at_key

if TYPE_CHECKING:
    import httpx2
    import mcp
    from mcp.client import Transport
    from mcp.types import CallToolResult, ContentBlock, RequestParamsMeta

__all__ = [
    "CONNECT_S",
    "FIRST_PAUSE_S",
    "IDEMPOTENCY_KEY",
    "LIST_EVERY_S",
    "LONGEST_PAUSE_S",
    "MAX_NAME",
    "START_S",
    "McpConnection",
    "unlike",
]

_log = structlog.get_logger("opusagent.tools")

CONNECT_S: Final = 10.0
"""What a server may take to be connected and to list its tools."""
START_S: Final = 60.0
"""What a command may take to start and to list its tools: `npx` and `uvx` fetch a program before they run it."""
LIST_EVERY_S: Final = 30.0
"""How often it is asked for its tools: they may change, and one that is gone is noticed."""
FIRST_PAUSE_S: Final = 0.5
"""After a connection is lost or refused; twice as long each time, up to the longest."""
LONGEST_PAUSE_S: Final = 30.0
MAX_PAGES: Final = 20
"""Of a list of tools."""

IDEMPOTENCY_KEY: Final = "idempotencyKey"
"""In a call's `_meta`, where MCP leaves room for it: the id of the model's request, never the same twice."""

READ_S: Final = 300.0
"""How long a server may hold an answer open."""

_WRONG_REQUEST: Final = frozenset({-32601, -32602})
"""JSON-RPC: no such method, invalid parameters. Anything else may be the connection."""
MAX_NAME: Final = 64
"""Characters of a tool's name (Bedrock API reference, ToolSpecification)."""
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")

type Connect = Callable[[], AbstractAsyncContextManager[mcp.Client]]


class McpConnection:
    """One MCP server, for all calls of a process.

    Args:
        declared: As in the agent's file.
        environ: What `${NAME}` is taken from.
        connect: Connects to it; as declared without.

    Raises:
        ConfigError: If the package `mcp` is not installed or a variable is missing.
    """

    def __init__(
        self, declared: McpServer, environ: Mapping[str, str], connect: Connect | None = None
    ) -> None:
        if importlib.util.find_spec("mcp") is None:
            raise ConfigError("needs the package mcp: pip install 'opusagent[tools]'")
        self._declared = declared
        self._way = _Way(declared, environ)
        self._connect = connect or self._way.connect
        self._client: mcp.Client | None = None
        self._doubted = asyncio.Event()
        self._tried = asyncio.Event()
        self._problem = ""
        self.tools: tuple[Tool, ...] = ()
        """As they were listed last; they are kept while the server is away, and refused then."""
        self.lacks: tuple[str, ...] = ()
        """What the agent's file names of its tools, and was not among them then."""

    @property
    def name(self) -> str:
        """As in the agent's file."""
        return self._declared.name

    @property
    def problem(self) -> str:
        """Why it is away; empty while it is not."""
        return "" if self._client is not None else self._problem or "it has not answered"

    async def tried(self) -> None:
        """Wait until the server has listed its tools, or could not."""
        await self._tried.wait()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                if await self._stay_connected():
                    pause_s = FIRST_PAUSE_S
                self._tried.set()
                await _wait(asyncio.Event(), pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            await self._way.close()

    async def _stay_connected(self) -> bool:
        """Connect, and return when the server is away; whether it was there at all."""
        was_there = False
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(START_S if self._declared.command else CONNECT_S):
                    client = await stack.enter_async_context(self._connect())
                    await self._list(client)
                was_there = True
                self._found(client)
                while True:
                    if await _wait(self._doubted, LIST_EVERY_S):
                        self._doubted.clear()
                    async with asyncio.timeout(CONNECT_S):
                        await self._list(client)
        except Exception as error:  # noqa: BLE001 - a foreign package: whatever it is, the server is away
            if (problem := self._way.problem(error)) != self._problem:
                _log.warning("MCP server is away", server=self.name, problem=problem)
                self._problem = problem
        finally:
            self._client = None
        return was_there

    def _found(self, client: mcp.Client) -> None:
        self._client = client
        self._problem = ""
        self._tried.set()
        _log.info("MCP server", server=self.name, tools=[tool.spec.name for tool in self.tools])

    async def _list(self, client: mcp.Client) -> None:
        listed: dict[str, mcp.Tool] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="bypass")
            listed |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None:
                break
        declared = self._declared
        wanted = [t for name, t in listed.items() if not declared.only or name in declared.only]
        names = _usable_names([tool.name for tool in wanted])
        self.tools = tuple(self._tool(tool, names[tool.name]) for tool in wanted)
        named = dict.fromkeys((*declared.only, *declared.repeatable))
        lacks = tuple(name for name in named if name not in listed)
        if lacks and lacks != self.lacks:
            _log.warning("MCP server lacks tools", server=self.name, tools=[*lacks])
        self.lacks = lacks

    def _tool(self, listed: mcp.Tool, name: str) -> Tool:
        return Tool(
            spec=ToolSpec(
                name=name,
                description=listed.description or listed.title or listed.name,
                input_schema=listed.input_schema,
                repeatable=listed.name in self._declared.repeatable,
            ),
            timeout_s=self._declared.timeout_s,
            run=partial(self._call, listed.name),
        )

    async def _call(
        self, name: str, arguments: Arguments, context: ToolContext, _place: Place
    ) -> JsonObject:
        """Sent once: nobody knows what has come of a call whose answer did not come."""
        from mcp.shared.exceptions import MCPError  # noqa: PLC0415 - of the extra `tools`

        if self._client is None:
            raise ToolError(f"{name} is not available now")
        try:
            meta = cast("RequestParamsMeta", {IDEMPOTENCY_KEY: context.tool_use_id})
            result = await self._client.call_tool(name, arguments, meta=meta)
        except MCPError as error:
            if error.code in _WRONG_REQUEST:
                raise ToolError(f"{name}: {error.message}") from None
            self._doubted.set()  # ask for the tools at once: that shows whether it is still there
            raise ToolError(f"{name} is not available now") from None
        return _result(name, result)


class _Way:
    """How an MCP server is reached."""

    def __init__(self, declared: McpServer, environ: Mapping[str, str]) -> None:
        self._declared = declared
        self._url = resolve({"url": declared.url}, environ)["url"]
        if self._url:
            with at_key("url"):
                check_address(self._url)
        with at_key("headers"):
            self._headers = check_headers(resolve(declared.headers, environ))
        with at_key("env"):
            self._env = resolve(declared.env, environ)
        self._http: httpx2.AsyncClient | None = None
        self._refused = ""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[mcp.Client]:
        """A connection, ready for use."""
        import mcp  # noqa: PLC0415 - of the extra `tools`, and slow

        # It logs what it cannot read, and that may be a caller's.
        logging.getLogger("mcp").setLevel(logging.CRITICAL)
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: ASYNC230, PTH123
            transport = self._over_http() if self._url else self._over_pipes(nowhere)
            async with mcp.Client(transport, cache=None) as client:
                yield client

    async def close(self) -> None:
        """Close what is open."""
        if self._http is not None:
            await self._http.aclose()

    def problem(self, error: BaseException) -> str:
        """Why it is away; no caller has a part in connecting and listing."""
        from mcp.shared.exceptions import MCPError  # noqa: PLC0415 - of the extra `tools`

        refused, self._refused = self._refused, ""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, MCPError):
            return kind_of(error)
        if not self._url:
            return f"MCPError: {error.message}; run its command by hand to see what it says"
        return f"MCPError: {refused or error.message}"

    async def _note(self, response: httpx2.Response) -> None:
        """The package `mcp` does not tell with which status a request was refused."""
        self._refused = ""
        if response.status_code >= 400 and response.status_code != 405:  # of a stream nobody needs
            self._refused = f"HTTP {response.status_code} {response.reason_phrase}".rstrip()

    def _over_http(self) -> Transport:
        import httpx2  # noqa: PLC0415 - of the extra `tools`
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

        if self._http is None:  # once: it reads certificates
            self._http = httpx2.AsyncClient(
                headers=self._headers,
                timeout=httpx2.Timeout(CONNECT_S, read=READ_S),
                event_hooks={"response": [self._note]},
            )
        return streamable_http_client(self._url, http_client=self._http)

    def _over_pipes(self, nowhere: TextIO) -> Transport:
        import mcp  # noqa: PLC0415 - of the extra `tools`

        command, *arguments = self._declared.command
        parameters = mcp.StdioServerParameters(
            command=command, args=arguments, env=self._env, cwd=self._declared.folder or None
        )
        return mcp.stdio_client(parameters, errlog=nowhere)


def _usable_names(names: Iterable[str]) -> dict[str, str]:
    """A name for each that the model can use; whatever their order, a tool's is the same."""
    usable: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (_usable(name) != name, name)):
        usable[name] = unlike(usable.values(), _usable(name))
    return usable


def _usable(name: str) -> str:
    return _NO_NAME.sub("_", name)[:MAX_NAME]


def unlike(others: Collection[str], name: str) -> str:
    """The name, or where another one has it, with a number after it."""
    numbered = (
        f"{name[: MAX_NAME - len(end)]}{end}" for end in map("_{}".format, itertools.count(2))
    )
    return next(one for one in itertools.chain((name,), numbered) if one not in others)


def _result(name: str, result: CallToolResult) -> JsonObject:
    texts = [_text(block) for block in result.content]
    if result.is_error:
        raise ToolError(" ".join(texts) or f"{name} failed")
    return as_object(
        "\n".join(texts) if result.structured_content is None else result.structured_content
    )


def _text(block: ContentBlock) -> str:
    """What the model can be told of it: a text, also of an embedded document, else what it would be."""
    text = getattr(getattr(block, "resource", block), "text", None)
    return text if isinstance(text, str) else f"[{block.type}]"


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False
