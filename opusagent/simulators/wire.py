"""The outside of the local Nova Sonic service: TLS, HTTP/2 and event stream, faults included.

A `Service` says what to answer; this module only moves bytes. The real AWS SDK talks to it.

    client --frames--> StreamHandler.receive(JSON event)
    client <--frames-- StreamWriter.send(JSON event)
"""

from __future__ import annotations

import asyncio
import enum
import json
import re
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self
from urllib.parse import unquote

from opusagent.simulators.certificates import make_authority
from opusagent.simulators.h2_connection import Connection
from opusagent.simulators.h2_stream import StreamHandler, StreamWriter

__all__ = [
    "ConnectionFault",
    "Refusal",
    "Service",
    "StreamHandler",
    "StreamRequest",
    "StreamWriter",
    "WireServer",
]

_PATH: Final = re.compile(r"/model/([^/]+)/invoke-with-bidirectional-stream(?:\?.*)?")
_CREDENTIAL: Final = re.compile(r"Credential=([^/,\s]+)/")


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a client asked for.

    Attributes:
        model_id: Decoded, e.g. `amazon.nova-2-sonic-v1:0`.
        headers: As received, names in lower case, pseudo headers included.
        credential_id: The access key id of the authorization header; empty when there is none.
    """

    model_id: str
    headers: Mapping[str, str]
    credential_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer before the stream begins.

    Attributes:
        status: The HTTP status, e.g. 429.
        error_type: As in `x-amzn-errortype`, e.g. `ThrottlingException`.
        leave_open: The body never ends, as was seen with throttling.
        delay_s: How long the client waits for it.
    """

    status: int
    error_type: str
    message: str
    leave_open: bool = False
    delay_s: float = 0.0


class ConnectionFault(enum.StrEnum):
    """What can go wrong before any request. A closed port is `WireServer.stop_listening`."""

    TLS = "tls"  # the handshake fails
    GO_AWAY = "go_away"  # GOAWAY is the first thing said
    DROP = "drop"  # the connection is cut after the handshake


class Service(Protocol):
    """What answers. Both methods are called on the event loop and must not block."""

    def open_connection(self) -> ConnectionFault | None:
        """Say what happens to a new connection; None is a good one."""

    def open_stream(self, request: StreamRequest, writer: StreamWriter) -> StreamHandler | Refusal:
        """Take a stream or refuse it. `writer.hold_head` delays the head of one that is taken."""


class WireServer:
    """Serves a `Service` over TLS and HTTP/2, with an authority made at start.

    async with WireServer(service, ca_file=Path("ca.pem")) as server:
        ...  # server.url
    """

    def __init__(
        self,
        service: Service,
        *,
        host: str = "localhost",
        port: int = 0,
        ca_file: Path | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """Prepare; nothing is opened yet. Port 0 picks a free one; `ca_file` is written at start."""
        self._service = service
        self._host = host
        self._port = port
        self._ca_file = ca_file
        self._new_id = new_id
        authority = make_authority()
        self._ca_pem = authority.ca_pem
        self._context = authority.context
        self._context.set_alpn_protocols(["h2"])
        self._context.sni_callback = self._greet
        self._faults: dict[int, ConnectionFault] = {}
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """`https://localhost:PORT`, the endpoint for a client."""
        return f"https://localhost:{self._port}"

    @property
    def port(self) -> int:
        """The port listened on; 0 before the start when none was given."""
        return self._port

    @property
    def ca_pem(self) -> bytes:
        """The certificate that a client must trust."""
        return self._ca_pem

    @property
    def connections(self) -> int:
        """How many TLS connections are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Write the CA file and listen."""
        if self._ca_file is not None:
            await asyncio.to_thread(self._ca_file.write_bytes, self._ca_pem)
        await self.listen_again()

    async def listen_again(self) -> None:
        """Listen, on the same port as before `stop_listening`."""
        if self._server is None:
            self._server = await asyncio.get_running_loop().create_server(
                self._make_connection, self._host, self._port, ssl=self._context
            )
            self._port = self._server.sockets[0].getsockname()[1]

    def stop_listening(self) -> None:
        """Refuse TCP connections from now on; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self.stop_listening()
        for connection in tuple(self._connections):
            connection.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _greet(
        self, ssl_object: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        fault = self._service.open_connection()
        if fault is ConnectionFault.TLS:
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_HANDSHAKE_FAILURE)
        if fault is not None:
            self._faults[id(ssl_object)] = fault
        return None

    def _make_connection(self) -> Connection:
        return Connection(
            open_request=self._open_request,
            new_id=self._new_id,
            go_away_at_once=self._goes_away,
            made=self._connections.add,
            lost=self._connections.discard,
        )

    def _goes_away(self, transport: asyncio.Transport) -> bool:
        match self._faults.pop(id(transport.get_extra_info("ssl_object")), None):
            case ConnectionFault.DROP:
                transport.abort()
                return False
            case fault:
                return fault is ConnectionFault.GO_AWAY

    def _open_request(
        self, headers: Mapping[str, str], writer: StreamWriter
    ) -> StreamHandler | None:
        path = _PATH.fullmatch(headers.get(":path", ""))
        if path is None or headers.get(":method") != "POST":
            self._refuse(writer, Refusal(404, "UnknownOperationException", "no such path"))
            return None
        credential = _CREDENTIAL.search(headers.get("authorization", ""))
        request = StreamRequest(
            model_id=unquote(path[1]),
            headers=headers,
            credential_id=credential[1] if credential else "",
        )
        match self._service.open_stream(request, writer):
            case Refusal() as refusal:
                self._refuse(writer, refusal)
                return None
            case handler:
                return handler

    def _refuse(self, writer: StreamWriter, refusal: Refusal) -> None:
        headers = [
            (":status", str(refusal.status)),
            ("content-type", "application/json"),
            ("x-amzn-errortype", refusal.error_type),
            ("x-amzn-requestid", self._new_id()),
        ]
        body = json.dumps({"message": refusal.message}).encode()
        writer.refuse(headers, body, leave_open=refusal.leave_open, delay_s=refusal.delay_s)
