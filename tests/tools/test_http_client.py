"""A real service on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from opusagent.errors import ToolError
from opusagent.models.agent import HttpTool
from opusagent.tools.http_client import MAX_BODY_BYTES, HttpClient
from opusagent.tools.http_tools import http_tool
from tests.tools.rig import asks, of_call

pytestmark = pytest.mark.integration

type Answer = Callable[[str, dict[str, str]], bytes]


class Server:
    """Notes what it is asked and answers with bytes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    async def serve(self, main: Callable[[Server], Awaitable[None]]) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            async with asyncio.timeout(20):
                await main(self)
        finally:
            server.close()
            server.close_clients()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (field.split(": ", 1) for field in fields)}
            self.asked.append((line.split()[1], headers))
            writer.write(self._answer(line.split()[1], headers))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def run(answer: Answer, main: Callable[[Server], Awaitable[None]]) -> None:
    asyncio.run(Server(answer).serve(main))


def http(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def asked(server: Server, *paths: str) -> list[dict[str, object]]:
    client = HttpClient()
    declared = HttpTool(
        type="http",
        name="get",
        description="Get.",
        url=server.url + "/{path}",
        parameters={"path": {}},  # type: ignore[dict-item]
    )
    tools = of_call([http_tool(declared, {}, client)])
    try:
        return [dict(await tools(asks("get", f'{{"path": "{path}"}}'))) for path in paths]
    finally:
        await client.close()


def test_a_request_reaches_a_service_and_its_answer_comes_back() -> None:
    async def main(server: Server) -> None:
        answers = await asked(server, "a", "a/b")
        assert answers == [{"path": "/a"}, {"path": "/a%2Fb"}]
        assert {headers["idempotency-key"] for _, headers in server.asked} == {"u1"}

    run(
        lambda path, _: http(f'{{"path": "{path}"}}'.encode(), "Content-Type: application/json"),
        main,
    )


def test_no_cookie_goes_from_one_caller_to_another() -> None:
    async def main(server: Server) -> None:
        await asked(server, "a", "b")
        assert all("cookie" not in headers for _, headers in server.asked)

    run(lambda _, __: http(b"x", "Set-Cookie: session=4711; Path=/"), main)


def test_an_answer_without_an_end_is_read_up_to_the_bound() -> None:
    async def main(server: Server) -> None:
        client = HttpClient()
        answer = await client.fetch(
            lambda c: c.build_request("GET", server.url), is_repeatable=False
        )
        assert (len(answer.body), answer.is_whole) == (MAX_BODY_BYTES, False)
        await client.close()

    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
    run(lambda _, __: head + b"x" * 2 * MAX_BODY_BYTES, main)


def test_a_service_that_hangs_up_is_an_error() -> None:
    async def main(server: Server) -> None:
        assert await asked(server, "a") == [{"error": "get: the service cannot be reached"}]

    run(lambda _, __: b"", main)


def test_a_port_where_nobody_listens_is_an_error() -> None:
    async def main() -> None:
        client = HttpClient()
        with pytest.raises(ToolError, match="cannot be reached"):
            await client.fetch(
                lambda c: c.build_request("GET", "http://127.0.0.1:9/"), is_repeatable=True
            )
        await client.close()

    asyncio.run(main())
