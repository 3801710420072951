"""Websockets on loopback: who is let in, what a probe is answered, how a socket ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from opusagent.errors import ConfigError, TransportError
from opusagent.transports import CallerTransport
from opusagent.transports.websocket import (
    MAX_PROBE_BYTES,
    PING_S,
    UNSENT_BYTES,
    WebSocketServer,
    connect,
)
from tests.transports.rig import run_clean

pytestmark = pytest.mark.integration

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
TENANTS = {"acme": "s3cret", "globex": "other"}


@asynccontextmanager
async def serving(
    handler: Callable[..., object] | None = None,
    *,
    tokens: Mapping[str, str] = TENANTS,
    refuse_new: Callable[[], bool] = lambda: False,
    ping_s: float = PING_S,
) -> AsyncIterator[int]:
    async def echo(caller: CallerTransport, tenant: str, _: Mapping[str, str]) -> None:
        while (message := await caller.recv()) is not None:
            await caller.send(f"{tenant}:{message!r}")

    server = WebSocketServer(
        handler or echo,  # type: ignore[arg-type]
        host="127.0.0.1",
        port=0,
        tokens=tokens,
        refuse_new=refuse_new,
        ping_s=ping_s,
    )
    port = await server.start()
    try:
        yield port
    finally:
        await server.stop()


async def ask(port: int, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes, each part on its own; gives status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.wait((asyncio.get_running_loop().run_in_executor(None, int),))
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    writer.transport.abort()
    return int(status.split()[1]), headers, body


def get(token: str = "Bearer s3cret", extra: str = "") -> bytes:
    authorization = f"Authorization: {token}\r\n" if token else ""
    return f"GET /any/path?x=1 HTTP/1.1\r\nHost: h\r\n{authorization}{extra}\r\n".encode()


def post(body: bytes, *, token: str = "Bearer s3cret", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return (
        f"POST /bot HTTP/1.1\r\nHost: h\r\nAuthorization: {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    ).encode() + body


HEALTHY = {"type": "ac-bot-api", "success": True}


@pytest.mark.parametrize(
    "parts",
    [
        (get(),),
        (get("bearer s3cret"),),
        (get("BEARER   s3cret"),),
        (post(b"{}"),),
        (post(b""),),
        (post(b"x" * 20_000),),
        (post(b'{"a":1}')[:3], post(b'{"a":1}')[3:]),
        (post(b'{"a":1}')[:-4], post(b'{"a":1}')[-4:]),
        (post(b"5\r\nhello\r\n0\r\n\r\n").replace(b"Content-Length: 15", b"Transfer-Encoding: chunked"),),
    ],
    ids=["get", "lower case", "spaces", "post", "empty post", "long post", "cut", "body late", "chunked"],
)  # fmt: skip
def test_a_probe_with_the_token_is_told_that_the_bot_is_well(parts: tuple[bytes, ...]) -> None:
    async def main() -> None:
        async with serving() as port:
            status, headers, body = await ask(port, *parts)
            assert status == 200
            assert headers["content-type"] == "application/json"
            assert json.loads(body) == HEALTHY

    run_clean(main)


@pytest.mark.parametrize(
    "request_",
    [
        get(""),
        get("Bearer wrong"),
        get("Bearer s3cretx"),
        get("Basic s3cret"),
        get("s3cret"),
        get("Bearer wrong", UPGRADE),
        get("", UPGRADE),
        post(b"{}", token="Bearer wrong"),
    ],
)
def test_a_wrong_or_missing_token_is_refused_before_the_upgrade(request_: bytes) -> None:
    async def main() -> None:
        async with serving() as port:
            status, headers, _ = await ask(port, request_)
            assert status == 401
            assert headers["www-authenticate"] == "Bearer"

    run_clean(main)


def test_a_post_that_is_too_long_ends_and_the_server_lives_on() -> None:
    async def main() -> None:
        async with serving() as port:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await ask(port, post(b"x" * (MAX_PROBE_BYTES + 1)))
            assert (await ask(port, get()))[0] == 200

    run_clean(main)


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01", b"P", b"HELLO\r\n\r\n", b""])
def test_junk_from_a_scanner_harms_nobody(junk: bytes) -> None:
    async def main() -> None:
        async with serving() as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(junk)
            await writer.drain()
            writer.close()
            assert (await ask(port, get()))[0] == 200

    run_clean(main)


def test_a_caller_is_known_by_the_token_that_it_gave() -> None:
    async def main() -> None:
        async with serving() as port:
            for tenant, token in TENANTS.items():
                caller = await connect(f"ws://127.0.0.1:{port}/bot", token=token)
                await caller.send("hello")
                assert await caller.recv() == f"{tenant}:'hello'"
                await caller.close()
                assert await caller.recv() is None

    run_clean(main)


def test_without_tokens_everybody_is_let_in() -> None:
    async def main() -> None:
        async with serving(tokens={}) as port:
            caller = await connect(f"ws://127.0.0.1:{port}/")
            await caller.send("x")
            assert await caller.recv() == ":'x'"
            await caller.close()

    run_clean(main)


def test_while_calls_are_refused_new_sockets_get_503_and_open_ones_and_probes_go_on() -> None:
    async def main() -> None:
        refusing = False
        async with serving(refuse_new=lambda: refusing) as port:
            url = f"ws://127.0.0.1:{port}/"
            caller = await connect(url, token="s3cret")
            refusing = True
            with pytest.raises(TransportError, match="HTTP 503"):
                await connect(url, token="s3cret")
            with pytest.raises(TransportError, match="HTTP 401"):
                await connect(url, token="wrong")
            assert (await ask(port, get()))[0] == 200
            await caller.send("still here")
            assert await caller.recv() == "acme:'still here'"
            await caller.close()

    run_clean(main)


def test_a_message_of_a_megabyte_goes_through() -> None:
    async def main() -> None:
        async with serving() as port:
            caller = await connect(f"ws://127.0.0.1:{port}/", token="s3cret")
            text = "x" * 1_200_000
            await caller.send(text)
            assert await caller.recv() == f"acme:'{text}'"
            await caller.close()

    run_clean(main)


def test_a_socket_that_is_cut_gives_none_to_the_reader_and_an_error_to_the_writer() -> None:
    outcome: list[object] = []
    done = asyncio.Event()

    async def handler(caller: CallerTransport, *_: object) -> None:
        outcome.append(await caller.recv())
        try:
            await caller.send("too late")
        except TransportError as error:
            outcome.append(error.code)
        await caller.close()
        await caller.close()
        done.set()

    async def main() -> None:
        async with serving(handler) as port:
            caller = await connect(f"ws://127.0.0.1:{port}/", token="s3cret")
            caller.abort()
            await done.wait()
            await caller.close()
        assert outcome == [None, "ConnectionLost"]

    run_clean(main)


@asynccontextmanager
async def upgraded(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """A websocket whose frames the test reads itself, or does not; the system takes little for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    writer.write(get(extra=UPGRADE))
    await reader.readuntil(b"\r\n\r\n")
    yield reader
    writer.transport.abort()


def test_a_quiet_socket_is_pinged_so_that_nothing_on_the_way_cuts_it() -> None:
    async def main() -> None:
        async with serving(ping_s=0.05) as port, upgraded(port) as reader:
            assert (await reader.readexactly(1))[0] == 0x89  # FIN, ping

    run_clean(main)


def test_little_is_kept_where_it_cannot_be_taken_back_for_a_caller_who_does_not_read() -> None:
    sent = []
    text = "x" * 1000

    async def send_for_ever(caller: CallerTransport, *_: object) -> None:
        with contextlib.suppress(TimeoutError, TransportError):
            async with asyncio.timeout(0.5):
                while True:
                    await caller.send(text)
                    sent.append(text)
        stuck.set()
        await caller.recv()

    async def main() -> None:
        async with serving(send_for_ever) as port, upgraded(port):
            await stuck.wait()
        assert len(sent) * len(text) < 4 * UNSENT_BYTES  # the receiver's own buffer is one

    stuck = asyncio.Event()
    run_clean(main)


def test_the_query_of_the_url_reaches_the_handler() -> None:
    async def main() -> None:
        seen: list[object] = []

        async def note(caller: CallerTransport, *about: object) -> None:
            seen.extend(about)
            await caller.close()

        async with serving(note) as port:
            for path in ("/x", "//[x"):  # every path is accepted
                url = f"ws://127.0.0.1:{port}{path}?agent=a%20b&n=1&n=2"
                caller = await connect(url, token="s3cret")
                assert await caller.recv() is None
        assert seen == ["acme", {"agent": "a b", "n": "2"}] * 2

    run_clean(main)


def test_nobody_listening_is_a_transport_error() -> None:
    async def main() -> None:
        async with serving() as port:
            pass
        with pytest.raises(TransportError, match="ConnectionLost"):
            await connect(f"ws://127.0.0.1:{port}/")

    run_clean(main)


async def nobody(*_: object) -> None:
    """Take no caller."""


def test_a_port_that_is_taken_is_a_configuration_error() -> None:
    async def main() -> None:
        async with serving() as port:
            second = WebSocketServer(
                nobody,
                host="127.0.0.1",
                port=port,
                tokens={},
                refuse_new=lambda: False,
            )
            with pytest.raises(ConfigError, match=f"BRIDGE_PORT={port}"):
                await second.start()

    run_clean(main)


def test_a_certificate_that_is_none_is_a_configuration_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    with pytest.raises(ConfigError, match="BRIDGE_TLS_CERT"):
        make_secure(bad)


def test_a_secure_socket_is_served_to_who_trusts_its_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    cert, ca_file = tmp_path / "cert.pem", tmp_path / "ca.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(cert)
    authority.cert_pem.write_to_path(ca_file)

    async def main() -> None:
        server = make_secure(cert)
        url = f"wss://localhost:{await server.start()}/"
        caller = await connect(url, ca_file=ca_file)
        await caller.close()
        with pytest.raises(TransportError, match="ConnectionLost"):
            await connect(url)
        await server.stop()

    run_clean(main)


def make_secure(cert: Path) -> WebSocketServer:
    async def handler(caller: CallerTransport, *_: object) -> None:
        await caller.recv()

    return WebSocketServer(
        handler,
        host="localhost",
        port=0,
        tokens={},
        refuse_new=lambda: False,
        tls_cert=cert,
    )
