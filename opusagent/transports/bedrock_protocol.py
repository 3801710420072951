"""What is plugged into the AWS SDK, through its own configuration: a transport and a protocol.

The SDK finds the endpoint, builds the request and signs it. Two of its parts are replaced by ones
that fit a telephone call: with `transport=`, one connection per stream, a CA file, and no wait that
hangs; with `protocol=`, the codec of the events, which took most of the time of a call. An event goes
through the SDK's two stream interfaces as the JSON it is, without the SDK's objects around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from awscrt.http import HttpHeaders, HttpRequest
from smithy_aws_core.aio.protocols import RestJsonClientProtocol
from smithy_aws_core.identity import AWSCredentialsIdentity
from smithy_core.aio.interfaces import ProtocolSettings
from smithy_core.aio.interfaces.eventstream import EventPublisher, EventReceiver
from smithy_http import Fields, tuples_to_fields
from smithy_http.aio.interfaces import HTTPRequest, HTTPResponse

from opusagent.errors import RemoteProtocolError, TransportError
from opusagent.transports.event_stream import (
    ChunkSigner,
    FrameReader,
    chunk_frame,
    unwrap_chunk,
)

if TYPE_CHECKING:
    from opusagent.transports.credentials import Pinned
    from opusagent.transports.http2 import Exchange
    from opusagent.transports.http2_connector import Http2Connector

__all__ = ["PinnedResolver", "StreamProtocol", "StreamTransport"]

_SETTINGS: Final = ProtocolSettings(
    namespace="com.amazonaws.bedrockruntime", service_target="AmazonBedrockFrontendService"
)
_SERVICE: Final = "bedrock"
# Throttled requests were seen with a body that never ends; what has come by then is all there is.
_ERROR_BODY_S: Final = 1.0
_OK: Final = 200


class PinnedResolver:
    """Gives the SDK the same credentials for the whole life of a stream."""

    def __init__(self, pinned: Pinned) -> None:
        """Hand out `pinned` and nothing else."""
        self._identity = AWSCredentialsIdentity(
            access_key_id=pinned.access_key_id,
            secret_access_key=pinned.secret_access_key,
            session_token=pinned.session_token,
        )

    async def get_identity(self, *, properties: object) -> AWSCredentialsIdentity:
        """Give them, without I/O."""
        return self._identity

    async def invalidate(self) -> None:
        """Do nothing: a new stream gets new credentials."""


class StreamTransport:
    """The SDK's `transport` for one stream: sends its request on its own connection."""

    SUPPORTS_DUPLEX_STREAMING: Literal[True] = True
    TIMEOUT_EXCEPTIONS: tuple[type[Exception], ...] = ()

    def __init__(self, connector: Http2Connector, exchange: Exchange) -> None:
        """Use `exchange` for the one request that will come."""
        self._connector = connector
        self._exchange = exchange

    async def send(self, request: HTTPRequest, *, request_config: object = None) -> _Response:
        """Connect, send the request head and wait for that of the response.

        Raises:
            TransportError: If there is no connection, or the service refused the stream.
        """
        destination = request.destination
        if "host" not in request.fields:
            authority = f"{destination.host}:{destination.port}"
            host = authority if destination.port else destination.host
            request.fields.extend(tuples_to_fields([("host", host)]))
        headers = [
            (field.name, value)
            for field in request.fields.entries.values()
            if field.kind == "header"
            for value in field.values
        ]
        query = f"?{destination.query}" if destination.query else ""
        exchange = self._exchange
        self._connector.connect(exchange, destination.host, destination.port or 443)
        await exchange.connected()
        path = f"{destination.path or '/'}{query}"
        exchange.request(HttpRequest(request.method, path, HttpHeaders(headers)))
        status, answered = await exchange.head()
        if status != _OK:
            raise await self._refusal(status, answered)
        return _Response(status, tuples_to_fields(answered), exchange)

    async def close(self) -> None:
        """Do nothing: the exchange is closed by its owner."""

    def __deepcopy__(self, memo: dict[int, object]) -> StreamTransport:
        """Stay one: the SDK copies its configuration for each client."""
        return self

    async def _refusal(self, status: int, headers: list[tuple[str, str]]) -> TransportError:
        body = bytearray()
        try:
            async with asyncio.timeout(_ERROR_BODY_S):
                while (chunk := await self._exchange.chunk()) is not None:
                    body += chunk
        except (TimeoutError, TransportError):
            pass
        fields = {name.lower(): value for name, value in headers}
        try:
            parsed = json.loads(body or b"{}")
        except ValueError:
            parsed = {}
        told = parsed if isinstance(parsed, dict) else {}
        kind = fields.get("x-amzn-errortype") or told.get("__type") or f"HTTP{status}"
        # As in `ThrottlingException:http://internal.amazon.com/...` and `namespace#Name`.
        code = str(kind).partition(":")[0].rpartition("#")[2]
        message = str(told.get("message") or told.get("Message") or "")
        request_id = fields.get("x-amzn-requestid")
        return TransportError(code, f"{message} [{request_id}]" if request_id else message)


class _Response(HTTPResponse):
    """The response head; the body is read by the receiver, not through here."""

    def __init__(self, status: int, fields: Fields, exchange: Exchange) -> None:
        self._status = status
        self._fields = fields
        self._exchange = exchange

    @property
    def status(self) -> int:
        return self._status

    @property
    def fields(self) -> Fields:
        return self._fields

    @property
    def reason(self) -> str | None:
        return None

    @property
    def body(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._exchange.chunk()) is not None:
            yield chunk


class StreamProtocol(RestJsonClientProtocol):
    """The SDK's REST JSON protocol with a codec of our own for the events of one stream."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        pinned: Pinned,
        region: str,
        send_s: float,
        utcnow: Callable[[], datetime],
    ) -> None:
        """Serve one stream on `exchange`; a send that cannot go on for `send_s` seconds fails."""
        super().__init__(_SETTINGS)
        self._exchange = exchange
        self._pinned = pinned
        self._region = region
        self._send_s = send_s
        self._utcnow = utcnow

    def create_event_publisher(self, *, request: HTTPRequest, **_: Any) -> Publisher:
        """Make the sender; its signatures continue from that of the request."""
        signed = request.fields["Authorization"].as_string()
        signer = ChunkSigner(
            secret_access_key=self._pinned.secret_access_key,
            region=self._region,
            service=_SERVICE,
            first_signature=signed.rpartition("Signature=")[2],
            utcnow=self._utcnow,
        )
        return Publisher(self._exchange, signer, self._send_s)

    def create_event_receiver(self, **_: Any) -> Receiver:
        """Make the receiver."""
        return Receiver(self._exchange)


class Publisher(EventPublisher[Any]):
    """Sends events: framed, signed and queued in one step, so that their order is the chain's.

    Events that are sent together are written together: handing something to the CRT costs more than the
    event itself, and the history of a long call is hundreds of events.
    """

    def __init__(self, exchange: Exchange, signer: ChunkSigner, send_s: float) -> None:
        self._exchange = exchange
        self._signer = signer
        self._send_s = send_s
        self.closed = False

    async def send(self, *events: bytes) -> None:
        """Send JSON events.

        Raises:
            TransportError: If the connection is gone, the input closed, or nothing is read.
        """
        if not self._exchange.has_room:
            await self._bounded(self._exchange.wait_for_room())
        if self.closed:
            raise TransportError("Closed", "the input was closed")
        self._write(events)

    async def flush(self) -> None:
        """Wait until everything has been written.

        Raises:
            TransportError: If the connection is gone, or nothing is read.
        """
        await self._bounded(self._exchange.wait_until_written())

    async def _bounded(self, wait: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._send_s):
                await wait
        except TimeoutError:
            raise TransportError("SendTimeout", f"{self._send_s} s") from None

    def send_now(self, *events: bytes) -> bool:
        """Send JSON events if that needs no waiting; returns whether they were sent."""
        if self.closed or not self._exchange.has_room:
            return False
        try:
            self._write(events)
        except TransportError:
            return False
        return True

    def _write(self, events: Sequence[bytes]) -> None:
        sign = self._signer.sign
        self._exchange.write(b"".join([sign(chunk_frame(event)) for event in events]))

    async def close(self) -> None:
        """Send the signed empty frame that ends the input. Quiet when the connection is gone."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(TransportError):
                self._exchange.write(self._signer.sign(b""), end=True)


class Receiver(EventReceiver[Any]):
    """Receives events; what is not one becomes a `TransportError` with the service's own name."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._reader = FrameReader()
        self._events: deque[bytes] = deque()
        self._failure: TransportError | None = None

    async def receive(self) -> bytes | None:
        """Wait for the next JSON event; None when the service has ended the stream.

        Raises:
            TransportError: For an exception in the stream, a broken frame, or a lost connection;
                and again at every later call.
        """
        events = self._events
        while not events:
            if self._failure is not None:
                raise self._failure
            chunk = await self._exchange.chunk()
            if chunk is not None:
                self._take(chunk)
            elif not self._is_cut_short():
                return None
        return events.popleft()

    async def listen(self, take: Callable[[bytes], None]) -> None:
        """Give every JSON event to `take` as it comes; returns when the service has ended the stream.

        Raises:
            TransportError: As `receive`.
        """

        def feed(chunk: bytes = b"") -> bool:
            self._take(chunk)
            while self._events:
                take(self._events.popleft())
            return self._failure is None

        if feed():
            await self._exchange.deliver(feed)
        if self._failure is not None or self._is_cut_short():
            assert self._failure is not None
            raise self._failure

    async def close(self) -> None:
        """Do nothing: the exchange is closed by its owner."""

    def _is_cut_short(self) -> bool:
        """Whether the service ended the stream in the middle of a frame; that is a failure."""
        if self._reader.is_inside_frame:
            self._failure = TransportError("Undecodable", "the last frame is cut short")
        return self._failure is not None

    def _take(self, chunk: bytes) -> None:
        try:
            for frame in self._reader.feed(chunk):
                if frame.is_chunk:
                    self._events.append(unwrap_chunk(frame.payload))
                elif (failure := _failure_in(frame.headers, frame.payload)) is not None:
                    self._failure = failure
                    return
        except RemoteProtocolError as error:
            self._failure = TransportError("Undecodable", error.got)


def _failure_in(headers: dict[str, Any], payload: bytes) -> TransportError | None:
    match headers.get(":message-type"):
        case "exception":
            try:
                message = str(json.loads(payload or b"{}").get("message", ""))
            except (ValueError, AttributeError):
                message = ""
            return TransportError(str(headers.get(":exception-type", "")), message)
        case "error":
            return TransportError(
                str(headers.get(":error-code", "")), str(headers.get(":error-message", ""))
            )
        case _:
            return None  # an event that this model of the API does not know
