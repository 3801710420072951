"""MCP: reconnecting in virtual time with the server in memory, and both transports for real."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, override

import mcp
import pytest
import uvicorn
from mcp.client.caching import CacheConfig
from mcp.server import Server
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.types import (
    BlobResourceContents,
    CallToolRequestParams,
    CallToolResult,
    EmbeddedResource,
    ListToolsResult,
    PaginatedRequestParams,
    TextResourceContents,
)

from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.models.agent import McpServer
from opusagent.observability import configure_logging
from opusagent.tools.mcp_tools import (
    CONNECT_S,
    FIRST_PAUSE_S,
    IDEMPOTENCY_KEY,
    LIST_EVERY_S,
    LONGEST_PAUSE_S,
    MAX_PAGES,
    START_S,
    McpConnection,
)
from tests import virtual_time
from tests.tools.mcp_server import server as tiny
from tests.tools.rig import asks, of_call
from tests.waiting import eventually, pass_time

SERVER = Path(__file__).parent / "mcp_server.py"
ALL = ["add", "environment", "fails", "hangs", "dies", "long"]


def names(connection: McpConnection) -> list[str]:
    return [tool.spec.name for tool in connection.tools]


def declared(**more: Any) -> McpServer:
    return McpServer.model_validate(
        {"type": "mcp", "name": "tiny", "command": [sys.executable, str(SERVER)]} | more
    )


async def call(connection: McpConnection, name: str, arguments: str = "{}") -> dict[str, object]:
    return dict(await of_call(connection.tools)(asks(name, arguments)))


# In memory


class Line:
    """Connects to a server in memory, unless it is cut; `cache` is that of its client."""

    def __init__(self, server: MCPServer | Server[Any], cache: CacheConfig | None = None) -> None:
        self.server = server
        self.cache = cache
        self.is_cut = False
        self.tries: list[float] = []
        self.open: list[asyncio.Event] = []

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[mcp.Client]:
        self.tries.append(asyncio.get_running_loop().time())
        if self.is_cut:
            raise ConnectionRefusedError(111, "Connection refused")
        async with mcp.Client(self.server, cache=self.cache) as client:
            yield client


class Moody:
    """A server whose list comes in pages of one tool, as slow or broken as it is told to be.

    Attributes:
        asked: How often a page was asked for.
        called: How often a tool was.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self.hangs = False
        self.breaks = False
        self.asked = self.called = 0
        self.server: Server[Any] = Server(
            "moody", on_list_tools=self._list, on_call_tool=self._call
        )

    async def _list(
        self, _context: object, asked: PaginatedRequestParams | None
    ) -> ListToolsResult:
        self.asked += 1
        if self.breaks:
            raise mcp.MCPError(-32603, "out of order")
        if self.hangs:
            await asyncio.Event().wait()
        n = int((asked and asked.cursor) or 0)
        tool = mcp.Tool(name=self._names[n], input_schema={"type": "object"})
        more = str(n + 1) if n + 1 < len(self._names) else None
        return ListToolsResult(tools=[tool], next_cursor=more, ttl_ms=3_600_000)

    async def _call(self, _context: object, _asked: CallToolRequestParams) -> CallToolResult:
        self.called += 1
        raise mcp.MCPError(-32602, "size: must be a number")


def in_memory(
    main: Callable[[McpConnection, Line], Coroutine[Any, Any, None]],
    *,
    server: MCPServer | Server[Any] = tiny,
    cut: bool = False,
    cache: CacheConfig | None = None,
    **more: Any,
) -> None:
    async def whole() -> None:
        line = Line(server, cache)
        line.is_cut = cut
        connection = McpConnection(declared(**more), {}, line.connect)
        task = asyncio.get_running_loop().create_task(connection.run())
        try:
            await connection.tried()
            await main(connection, line)
        finally:
            task.cancel()
            await asyncio.wait((task,))

    virtual_time.run(whole())


def test_the_tools_of_a_server_are_listed_with_what_it_says_of_them() -> None:
    async def main(connection: McpConnection, _: Line) -> None:
        assert names(connection) == ALL
        spec = connection.tools[0].spec
        assert (spec.description, spec.repeatable) == ("Add two numbers.", False)
        properties = spec.input_schema["properties"]
        assert isinstance(properties, dict)
        assert list(properties) == ["a", "b"]

    in_memory(main)


def test_only_the_tools_that_are_wanted_are_taken() -> None:
    async def main(connection: McpConnection, _: Line) -> None:
        assert [(t.spec.name, t.spec.repeatable, t.timeout_s) for t in connection.tools] == [
            ("add", True, 3)
        ]

    in_memory(main, only=["add", "other"], repeatable=["add"], timeout_s=3)


@pytest.mark.usefixtures("logging_as_it_was")
def test_a_tool_that_the_file_names_and_the_server_lacks_is_said_once_per_change() -> None:
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)
    server = MCPServer("changing")

    @server.tool()
    async def first() -> None:
        """One."""

    async def main(connection: McpConnection, _: Line) -> None:
        assert [*connection.lacks] == ["second", "frist"]
        await pass_time(3 * LIST_EVERY_S)

        @server.tool()
        async def second() -> None:
            """Two."""

        await pass_time(3 * LIST_EVERY_S)
        assert [*connection.lacks] == ["frist"]

    in_memory(main, server=server, only=["first", "second"], repeatable=["first", "frist"])
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [(line["level"], line["tools"]) for line in lines if "lacks" in line["event"]]
    assert told == [("warning", ["second", "frist"]), ("warning", ["frist"])]


def test_a_call_is_answered_or_refused_in_words() -> None:
    async def main(connection: McpConnection, _: Line) -> None:
        assert await call(connection, "add", '{"a": 1, "b": 2}') == {"result": 3}
        assert "the shop is closed" in str((await call(connection, "fails"))["error"])
        assert "error" in await call(connection, "add", '{"a": "many", "b": 1}')
        assert "shortened" in await call(connection, "long")

    in_memory(main)


def test_what_is_no_text_is_named_and_the_text_of_a_document_is_told() -> None:
    server = MCPServer("pictures")

    @server.tool()
    async def draws() -> Image:
        """Draw."""
        return Image(data=b"\x89PNG", format="png")

    @server.tool()
    async def reads() -> list[EmbeddedResource]:
        """Read."""
        page = TextResourceContents(uri="file:///hours", text="Open from 9 to 5.")
        picture = BlobResourceContents(uri="file:///logo", blob="iVBORw==")
        return [EmbeddedResource(resource=page), EmbeddedResource(resource=picture)]

    async def main(connection: McpConnection, _: Line) -> None:
        assert await call(connection, "draws") == {"result": "[image]"}
        assert await call(connection, "reads") == {"result": "Open from 9 to 5.\n[resource]"}

    in_memory(main, server=server)


def test_a_tool_that_hangs_is_given_up_and_the_others_go_on() -> None:
    async def main(connection: McpConnection, _: Line) -> None:
        assert await call(connection, "hangs") == {
            "error": "hangs did not answer within 10 seconds"
        }
        assert await call(connection, "add", '{"a": 1, "b": 2}') == {"result": 3}

    in_memory(main)


def test_a_server_that_is_away_is_asked_again_and_again_ever_more_seldom() -> None:
    async def main(connection: McpConnection, line: Line) -> None:
        assert connection.tools == ()
        await pass_time(200)
        pauses = [b - a for a, b in zip(line.tries, line.tries[1:], strict=False)]
        assert pauses[:3] == pytest.approx([FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S])
        assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S)
        line.is_cut = False
        await pass_time(LONGEST_PAUSE_S)
        assert names(connection) == ALL

    in_memory(main, cut=True)


def test_a_list_is_read_to_its_end_where_it_has_one() -> None:
    async def main(connection: McpConnection, _: Line) -> None:
        assert names(connection) == ["a", "b", "c"]

    async def endless(connection: McpConnection, _: Line) -> None:
        assert len(connection.tools) == MAX_PAGES

    in_memory(main, server=Moody("a", "b", "c").server)
    in_memory(endless, server=Moody(*map(str, range(1000))).server)


@pytest.mark.parametrize(
    ("more", "seconds"),
    [({}, START_S), ({"command": [], "url": "http://crm.example/mcp"}, CONNECT_S)],
)
def test_a_server_that_does_not_answer_at_the_start_is_not_waited_for(
    more: dict[str, Any], seconds: float
) -> None:
    moody = Moody("a")
    moody.hangs = True

    async def main(connection: McpConnection, _: Line) -> None:
        assert asyncio.get_running_loop().time() == pytest.approx(seconds)
        assert (connection.tools, connection.problem) == ((), "TimeoutError")
        moody.hangs = False
        await pass_time(FIRST_PAUSE_S + 0.1)
        assert (names(connection), connection.problem) == (["a"], "")

    in_memory(main, server=moody.server, **more)


def test_a_command_may_take_its_time_to_start() -> None:
    async def main() -> None:
        @asynccontextmanager
        async def connect() -> AsyncIterator[mcp.Client]:
            await pass_time(START_S - 10)  # a program is fetched first
            async with mcp.Client(tiny) as client:
                yield client

        connection = McpConnection(declared(), {}, connect)
        task = asyncio.get_running_loop().create_task(connection.run())
        await connection.tried()
        assert names(connection) == ALL
        task.cancel()
        await asyncio.wait((task,))

    virtual_time.run(main())


@pytest.mark.parametrize("mood", ["breaks", "hangs"])
def test_a_server_that_is_lost_is_asked_for_nothing_and_looked_for_at_once(mood: str) -> None:
    moody = Moody("a")

    async def main(connection: McpConnection, line: Line) -> None:
        await pass_time(200)  # the pauses have grown until it was found
        line.is_cut = False
        await pass_time(LONGEST_PAUSE_S)
        assert connection.problem == ""
        setattr(moody, mood, True)
        tries = len(line.tries)
        async with asyncio.timeout(LIST_EVERY_S + CONNECT_S + 1):
            while not connection.problem:
                await pass_time(0.1)
        assert names(connection) == ["a"]  # calls that go on have been told of it
        assert await call(connection, "a") == {"error": "a is not available now"}
        assert moody.called == 0
        setattr(moody, mood, False)
        await pass_time(FIRST_PAUSE_S)
        assert (len(line.tries), connection.problem) == (tries + 1, "")

    in_memory(main, server=moody.server, cut=True)


def test_a_request_that_the_server_refuses_says_why_and_is_no_doubt_about_the_server() -> None:
    moody = Moody("a")

    async def main(connection: McpConnection, _: Line) -> None:
        assert await call(connection, "a") == {"error": "a: size: must be a number"}
        await pass_time(1)
        assert moody.asked == 1

    in_memory(main, server=moody.server)


def test_tools_are_listed_anew_from_time_to_time() -> None:
    server = MCPServer("changing")

    @server.tool()
    async def first() -> None:
        """One."""

    async def main(connection: McpConnection, line: Line) -> None:
        assert names(connection) == ["first"]

        @server.tool()
        async def second() -> None:
            """Two."""

        await pass_time(LIST_EVERY_S + 1)
        assert names(connection) == ["first", "second"]
        assert len(line.tries) == 1

    in_memory(main, server=server)


def test_a_list_is_asked_for_anew_though_the_server_says_that_it_may_be_kept() -> None:
    moody = Moody("a")

    async def main(_: McpConnection, __: Line) -> None:
        await pass_time(LIST_EVERY_S + 1)
        assert moody.asked == 2

    in_memory(main, server=moody.server, cache=CacheConfig())


def test_a_call_that_fails_as_lost_connections_do_makes_the_server_be_asked_at_once() -> None:
    server = MCPServer("broken")

    @server.tool()
    async def breaks() -> None:
        """Break."""
        server.add_tool(breaks, name="more")
        raise mcp.MCPError(-32603, "the caller said 4711")

    async def main(connection: McpConnection, _: Line) -> None:
        assert await call(connection, "breaks") == {"error": "breaks is not available now"}
        await pass_time(1)
        assert names(connection) == ["breaks", "more"]

    in_memory(main, server=server)


def test_a_call_that_is_given_up_is_cancelled_at_the_server_and_never_sent_again() -> None:
    server = MCPServer("bank")
    runs: list[str] = []

    @server.tool()
    async def pays() -> None:
        """Pay."""
        runs.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            runs.append("cancelled")

    async def main(connection: McpConnection, _: Line) -> None:
        assert await call(connection, "pays") == {"error": "pays did not answer within 10 seconds"}
        await pass_time(60)
        assert runs == ["begun", "cancelled"]

    in_memory(main, server=server)


@pytest.mark.parametrize("repeatable", [[], ["pays"]])
def test_a_call_whose_connection_is_lost_is_not_sent_again(repeatable: list[str]) -> None:
    server = MCPServer("bank")
    runs: list[str] = []

    @server.tool()
    async def pays() -> None:
        """Pay."""
        runs.append("begun")
        raise mcp.MCPError(-32000, "Connection closed")

    async def main(connection: McpConnection, _: Line) -> None:
        assert await call(connection, "pays") == {"error": "pays is not available now"}
        await pass_time(60)
        assert runs == ["begun"]

    in_memory(main, server=server, repeatable=repeatable)


def test_the_id_of_the_models_request_goes_with_a_call() -> None:
    server = MCPServer("bank")
    keys: list[object] = []

    @server.tool()
    async def pays(context: Context) -> None:
        """Pay."""
        keys.append((context.request_context.meta or {}).get(IDEMPOTENCY_KEY))

    async def main(connection: McpConnection, _: Line) -> None:
        run = of_call(connection.tools)
        await run(asks("pays", tool_use_id="u1"))
        await run(asks("pays", tool_use_id="u2"))
        assert keys == ["u1", "u2"]

    in_memory(main, server=server)


def test_names_that_the_model_could_not_use_are_changed() -> None:
    server = MCPServer("dots")

    @server.tool(name="shop.find_order")
    async def find() -> str:
        """Find."""
        return "yes"

    async def main(connection: McpConnection, _: Line) -> None:
        assert names(connection) == ["shop_find_order"]
        assert await call(connection, "shop_find_order") == {"result": "yes"}

    in_memory(main, server=server)


def test_tools_whose_names_would_be_the_same_keep_names_of_their_own_in_any_order() -> None:
    long = "x" * 70
    listed = ["a.b", "a_b", "a/b", f"{long}1", f"{long}2"]
    told: list[dict[str, str]] = []

    async def main(connection: McpConnection, _: Line) -> None:
        told.append({tool.spec.description: tool.spec.name for tool in connection.tools})

    in_memory(main, server=Moody(*listed).server)
    in_memory(main, server=Moody(*reversed(listed)).server)
    in_memory(main, server=Moody("a_b", "a_b").server)
    cut = "x" * 62
    usable = {"a_b": "a_b", "a.b": "a_b_2", "a/b": "a_b_3", f"{long}1": "x" * 64}
    assert told[0] == told[1] == usable | {f"{long}2": f"{cut}_2"}
    assert told[2] == {"a_b": "a_b"}


# For real


def for_real(
    main: Callable[[McpConnection], Awaitable[None]],
    what: McpServer,
    environ: dict[str, str] | None = None,
) -> None:
    async def whole() -> None:
        connection = McpConnection(what, environ or {})
        task = asyncio.get_running_loop().create_task(connection.run())
        try:
            async with asyncio.timeout(60):
                await connection.tried()
                await main(connection)
        finally:
            task.cancel()
            await asyncio.wait((task,))

    asyncio.run(whole())


@pytest.mark.integration
def test_a_command_is_run_in_its_folder_with_its_environment_and_again_when_it_has_died(
    tmp_path: Path,
) -> None:
    async def main(connection: McpConnection) -> None:
        assert names(connection) == ALL
        assert await call(connection, "add", '{"a": 1, "b": 2}') == {"result": 3}
        assert await call(connection, "environment", '{"name": "TOKEN"}') == {
            "value": "s3cret",
            "folder": str(tmp_path),
        }
        other = await call(connection, "environment", '{"name": "OTHER"}')
        assert other["value"] is None  # the rest of the environment is none of its business
        assert await call(connection, "dies") == {"error": "dies is not available now"}
        assert names(connection) == ALL  # a call that goes on has been told of them
        assert "error" in await call(connection, "add", '{"a": 1, "b": 2}')

        async def again() -> None:
            while await call(connection, "add", '{"a": 2, "b": 2}') != {"result": 4}:
                await pass_time(0.1)

        await again()

    what = declared(folder=str(tmp_path), env={"TOKEN": "${SECRET}"})
    for_real(main, what, {"SECRET": "s3cret", "OTHER": "x"})


@pytest.mark.integration
def test_what_a_server_mutters_between_its_messages_is_in_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(connection: McpConnection) -> None:
        assert names(connection) == ALL

    mutters = f'echo she said 4711; exec "{sys.executable}" "{SERVER}"'
    for_real(main, declared(command=["sh", "-c", mutters]))
    assert "4711" not in caplog.text


@pytest.mark.integration
def test_a_command_that_cannot_be_run_leaves_no_tools(capfd: pytest.CaptureFixture[str]) -> None:
    async def main(connection: McpConnection) -> None:
        assert connection.tools == ()

    for_real(main, declared(command=["/no/such/command"]))
    assert "No such file" in capfd.readouterr().out


@pytest.mark.integration
def test_a_command_that_ends_at_once_and_a_server_that_refuses_are_told_apart() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def problem_of(what: McpServer) -> str:
        connection = McpConnection(what, {})
        task = asyncio.get_running_loop().create_task(connection.run())
        await connection.tried()
        task.cancel()
        await asyncio.wait((task,))
        return connection.problem

    async def main() -> None:
        ended = await problem_of(declared(command=["true"]))
        assert ended == "MCPError: Connection closed; run its command by hand to see what it says"
        server = await asyncio.start_server(refuse, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        server_at = {"command": [], "url": f"http://127.0.0.1:{port}/mcp"}
        assert await problem_of(declared(**server_at)) == "MCPError: HTTP 401 Unauthorized"
        server.close()
        nobody = await problem_of(declared(**server_at))
        assert nobody.startswith("ConnectError: Connect call failed")

    asyncio.run(main())


class _Web(uvicorn.Server):
    """Leaves signals alone."""

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def http_server(port: int = 0) -> AsyncIterator[int]:
    config = uvicorn.Config(
        tiny.streamable_http_app(), port=port, log_level="critical", lifespan="on"
    )
    web = _Web(config)
    task = asyncio.get_running_loop().create_task(web.serve())
    assert await eventually(lambda: web.started)
    try:
        yield web.servers[0].sockets[0].getsockname()[1]
    finally:
        web.should_exit = True
        web.force_exit = True
        await task


@pytest.mark.integration
def test_a_server_over_http_is_called_and_found_again_after_it_was_away() -> None:
    async def main() -> None:
        async with http_server() as port:
            what = declared(
                url=f"http://127.0.0.1:{port}/mcp", command=[], headers={"X-Key": "${KEY}"}
            )
            connection = McpConnection(what, {"KEY": "k"})
            task = asyncio.get_running_loop().create_task(connection.run())
            await connection.tried()
            assert names(connection) == ALL
            assert await call(connection, "add", '{"a": 1, "b": 2}') == {"result": 3}
            assert "the shop is closed" in str((await call(connection, "fails"))["error"])
        assert "error" in await call(connection, "add", '{"a": 1, "b": 2}')
        async with http_server(port):
            while await call(connection, "add", '{"a": 2, "b": 2}') != {"result": 4}:
                await pass_time(0.1)
            task.cancel()
            await asyncio.wait((task,))

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main()

    asyncio.run(bounded())


# Declarations


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"env": {"A": "${NONE}"}}, "env: A: ${NONE} is not set"),
        ({"command": [], "url": "${NONE}"}, "url: ${NONE} is not set"),
        ({"command": [], "url": "crm.example/mcp"}, "url: must begin with http"),
        ({"command": [], "url": "http://x", "headers": {"A": "x\ny"}}, "headers: A: has a char"),
        ({"command": [], "url": "http://x", "headers": {"A": "${NONE}"}}, "headers: A: ${NONE}"),
    ],
)
def test_a_variable_that_is_missing_and_an_address_that_is_none_are_named(
    more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        McpConnection(declared(**more), {})
    assert words in str(caught.value)


def test_without_the_package_mcp_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match=r"pip install 'opusagent\[tools\]'"):
        McpConnection(declared(), {})
