"""Websockets to and from callers, on the library `websockets`.

GET or POST with the token     200 and the answer of a healthy bot
upgrade with the token         a caller
anything with a wrong token    401, before any upgrade
upgrade while calls are refused 503
"""

from __future__ import annotations

import asyncio
import hmac
import http
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.connection import broadcast
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Request, Response
from websockets.protocol import State

from opusagent.errors import ConfigError, TransportError
from opusagent.transports import CallerTransport
from opusagent.transports.certificate import server_tls
from opusagent.transports.direct import DirectConnection

__all__ = ["WebSocketServer", "connect"]

_log = structlog.get_logger("opusagent.websocket")

HEALTHY: Final = b'{"type":"ac-bot-api","success":true}'
"""What AudioCodes expects of a bot's URL over plain HTTP (AudioCodes Bot API, health check)."""

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""A chunk of audio is about 7 kB; a whole prompt in one message was seen with 190 kB."""

PING_S: Final = 20.0
"""Keeps load balancers with a limit of a minute from cutting a quiet call."""

PING_TIMEOUT_S: Final = 20.0
SEND_S: Final = 10.0
"""A peer that takes nothing for so long is gone, whatever TCP says."""
CLOSE_S: Final = 2.0
MAX_PROBE_BYTES: Final = 64 * 1024

UNSENT_BYTES: Final = 16 * 1024
"""What the socket may hold for a caller who reads slowly, and the system as much again: audio in there
cannot be taken back."""

type Handler = Callable[[CallerTransport, str, Mapping[str, str]], Awaitable[None]]
"""Of the socket, its tenant and the query of its URL."""


class WebSocketServer:
    """Accepts callers and gives each to a handler, with the name of its tenant and its URL's query.

    Args:
        handler: Carries one caller; the socket is closed when it returns.
        host: Where to listen.
        port: 0 takes any free one.
        tokens: Tenant -> token; without any every caller is let in as the tenant "".
        refuse_new: Whether upgrades are refused just now.
        tls_cert: Certificate chain (PEM), to serve `wss://`.
        tls_key: Its key.
        ping_s: Seconds between the pings that keep a quiet socket open.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str,
        port: int,
        tokens: Mapping[str, str],
        refuse_new: Callable[[], bool],
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        ping_s: float = PING_S,
    ) -> None:
        """Prepare; nothing is bound before `start`.

        Raises:
            ConfigError: If the certificate cannot be used.
        """
        self._handler = handler
        self._host = host
        self._port = port
        self._tokens = {name: f"Bearer {token}".encode() for name, token in tokens.items()}
        self._refuse_new = refuse_new
        self._ping_s = ping_s
        self._tls = None if tls_cert is None else server_tls(tls_cert, tls_key)
        self._server: Server | None = None

    async def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ConfigError: If the address cannot be taken.
        """
        try:
            self._server = await serve(
                self._carry,
                self._host,
                self._port,
                ssl=self._tls,
                create_connection=_Connection,
                process_request=self._answer,
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                write_limit=UNSENT_BYTES,
                ping_interval=self._ping_s,
                ping_timeout=PING_TIMEOUT_S,
                close_timeout=CLOSE_S,
                server_header=None,
            )
        except OSError as error:
            place = f"BRIDGE_HOST={self._host} BRIDGE_PORT={self._port}"
            raise ConfigError(f"{place}: cannot listen there: {error.strerror}") from error
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop listening and close what is open (1001); cut what does not close in time."""
        if self._server is None:
            return
        self._server.close()
        try:
            async with asyncio.timeout(CLOSE_S + 1.0):
                await self._server.wait_closed()
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Cut every socket without a word."""
        for connection in self._server.connections if self._server is not None else ():
            connection.transport.abort()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        tenant = self._tenant(request)
        if tenant is None:
            _log.warning("token refused", remote=_remote(connection))
            refusal = connection.respond(http.HTTPStatus.UNAUTHORIZED, "wrong or missing token\n")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            return _json(HEALTHY)
        if self._refuse_new():
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "no new calls here\n")
        connection.username = tenant
        return None

    def _tenant(self, request: Request) -> str | None:
        """Who sent this; None if nobody we know. Every token is compared, each in constant time."""
        if not self._tokens:
            return ""
        scheme, _, token = ", ".join(request.headers.get_all("Authorization")).partition(" ")
        given = f"{scheme.title()} {token.strip()}".encode()
        found = None
        for name, expected in self._tokens.items():
            if hmac.compare_digest(given, expected):
                found = name
        return found

    async def _carry(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _Connection)
        await self._handler(
            WebSocketTransport(connection), connection.username, _query(connection.request)
        )


class WebSocketTransport:
    """A websocket as the bridge and the simulated caller see it: see `CallerTransport`."""

    def __init__(self, connection: _Connection | _Client) -> None:
        """Wrap an open websocket."""
        self._connection = connection

    async def recv(self) -> str | bytes | None:
        """The next message; None once the socket is closed."""
        try:
            message = await self._connection.recv()
        except ConnectionClosed:
            return None
        self._connection.queued -= 1
        return message

    async def listen(self, take: Callable[[str | bytes], None]) -> None:
        """Give every message to `take` in the step in which it came; returns once the socket is closed."""
        self._connection.listener = take
        try:
            while (message := await self.recv()) is not None:
                take(message)
        finally:
            self._connection.listener = None

    def send_now(self, text: str) -> bool:
        """Send a text message without waiting; False, and nothing is sent, where that cannot be."""
        connection = self._connection
        if (
            connection.state is not State.OPEN
            or connection.transport.get_write_buffer_size() >= UNSENT_BYTES
        ):
            return False
        broadcast((connection,), text)
        return True

    async def send(self, text: str) -> None:
        """Send a text message.

        Raises:
            TransportError: If the socket is closed.
        """
        try:
            async with asyncio.timeout(SEND_S):
                await self._connection.send(text)
        except ConnectionClosed as error:
            raise TransportError("ConnectionLost", "the websocket is closed") from error
        except TimeoutError:
            # The library's pings wait behind the same full buffer, so they would never notice.
            self.abort()
            raise TransportError("SendTimeout", "the peer does not read") from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket; cut it where the peer does not take part within `CLOSE_S`."""
        try:
            async with asyncio.timeout(CLOSE_S + 1.0):
                await self._connection.close(code, reason)
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Cut the TCP connection without a word, as a crash would."""
        self._connection.transport.abort()


async def connect(url: str, *, token: str = "", ca_file: Path | None = None) -> WebSocketTransport:
    """Open a websocket to a bot, as VoiceAI Connect does.

    Raises:
        TransportError: If there is no bot, or it refuses; `message` has the HTTP status then.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    tls = None
    if url.startswith("wss:"):
        tls = ssl.create_default_context(cafile=ca_file)
    try:
        connection = await ws_connect(
            url,
            additional_headers=headers,
            ssl=tls,
            create_connection=_Client,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            close_timeout=CLOSE_S,
            proxy=None,
        )
    except InvalidStatus as error:
        raise TransportError("Refused", f"HTTP {error.response.status_code}") from error
    except (OSError, TimeoutError, WebSocketException) as error:
        raise TransportError("ConnectionLost", f"{url}: {error}") from error
    assert isinstance(connection, _Client)
    return WebSocketTransport(connection)


_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*(\d+)[ \t]*\r?$")
_BODY_HEADERS: Final = re.compile(rb"(?im)^(?:content-length|transfer-encoding):[^\n]*\n")


class _Client(DirectConnection, ClientConnection):
    """The caller's end."""


class _Connection(DirectConnection, ServerConnection):
    """Answers a POST as if it were a GET: the library closes on any request with a body.

    AudioCodes' health check may be either (AudioCodes Bot API; reports of Live Hub users).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._posted: bytearray | None = bytearray()  # None: not, or no longer, a POST

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        _keep_little(transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self._posted is None:
            super().data_received(data)
            return
        self._posted += data
        if not self._posted.startswith(b"POST "[: len(self._posted)]):
            held, self._posted = bytes(self._posted), None
            super().data_received(held)
            return
        head, found, body = bytes(self._posted).partition(_HEAD_END)
        length = _LENGTH.search(head)
        too_long = len(self._posted) > MAX_PROBE_BYTES
        if (found and len(body) >= (int(length[1]) if length else 0)) or too_long:
            self._posted = None
            get = b"GET " + _BODY_HEADERS.sub(b"", head[5:] + b"\r\n") + b"\r\n"
            super().data_received(get)


def _query(request: Request | None) -> dict[str, str]:
    """Of the URL, whatever its path is; of a name that stands there twice the last value."""
    return dict(parse_qsl(request.path.partition("?")[2])) if request is not None else {}


def _keep_little(transport: asyncio.BaseTransport) -> None:
    """Hold what the network does not take yet here, where it can be taken back, not in the system."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Linux and macOS have it
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _json(body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    return Response(200, "OK", headers, body)


def _remote(connection: ServerConnection) -> str:
    address = connection.remote_address
    return str(address[0]) if address else ""
