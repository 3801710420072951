"""One HTTP/2 connection of the local Nova Sonic service, on `h2` and an asyncio protocol.

An ASGI server would do for the good days. This one can also hold the head back, reset, go away,
cut a frame in half, break a checksum and stop reading, because those are what must be tested.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from opusagent.errors import RemoteProtocolError
from opusagent.transports.event_stream import (
    FrameReader,
    chunk_frame,
    client_payload,
    exception_frame,
)

__all__ = ["MAX_WAITING_BYTES", "Connection", "OpenRequest", "StreamHandler", "StreamWriter"]

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""What may wait for a client that does not read; above it its stream is reset."""

_UNREADABLE: Final = "Unable to parse input chunk. Please check input format contains correct format."


class StreamHandler(Protocol):
    """The service's side of one stream, above the wire. Methods are called on the event loop."""

    def receive(self, payload: bytes) -> None:
        """Take one JSON event from the client."""

    def end_of_input(self) -> None:
        """The client has ended its input; it still reads."""

    def closed(self) -> None:
        """The stream is gone, for whatever reason. Called once, and last."""


class OpenRequest(Protocol):
    """Decides what to do with a request; gives the handler, or None when it was answered."""

    def __call__(
        self, headers: Mapping[str, str], writer: StreamWriter, /
    ) -> StreamHandler | None: ...


class _Head(enum.Enum):
    WAITING = enum.auto()  # nothing has been sent; what the handler sends queues up
    SENT = enum.auto()
    ENDED = enum.auto()  # END_STREAM has been sent; the client may still send
    GONE = enum.auto()  # the stream is over


class StreamWriter:
    """What a handler can do to its stream. Every method is quiet once the stream is gone."""

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self._connection = connection
        self._id = stream_id
        self._head = _Head.WAITING
        self._headers: list[tuple[str, str]] = []
        self._waiting = bytearray()
        self._ending = False
        self._reading = True
        self._unacknowledged = 0
        self._reader = FrameReader()
        self._handler: StreamHandler | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_delay_s: float | None = 0.0

    @property
    def is_open(self) -> bool:
        """Whether anything can still be sent."""
        return not self._ending and self._head in (_Head.WAITING, _Head.SENT)

    def hold_head(self, delay_s: float | None) -> None:
        """Send the response head `delay_s` later, or never with None. For use in `open_stream`."""
        self._head_delay_s = delay_s

    def send(self, payload: bytes) -> None:
        """Send one JSON event."""
        self._write(chunk_frame(payload))

    def fail(self, exception_type: str, message: str, *, leave_open: bool = False) -> None:
        """Send an exception, e.g. `validationException`, and end the stream after it."""
        self._write(exception_frame(exception_type, message))
        if not leave_open:
            self.end()

    def end(self) -> None:
        """End the output once everything before it has been sent."""
        if self.is_open:
            self._ending = True
            self._pump()

    def send_half_frame(self, payload: bytes) -> None:
        """Send the first half of an event's frame; the stream goes on as if it were whole."""
        frame = chunk_frame(payload)
        self._write(frame[: len(frame) // 2])

    def send_bad_crc(self, payload: bytes) -> None:
        """Send one event with a wrong checksum."""
        frame = chunk_frame(payload)
        self._write(frame[:-1] + bytes((frame[-1] ^ 0xFF,)))

    def reset(self, code: int = ErrorCodes.NO_ERROR) -> None:
        """Send RST_STREAM at once; what waits is lost."""
        if self._head is not _Head.GONE:
            self._connection.reset_stream(self._id, code)
            self.lost()

    def abort(self) -> None:
        """Cut the TCP connection without a word."""
        self._connection.abort()

    def go_away(self) -> None:
        """Send GOAWAY as if this stream had never been seen; the TCP connection stays."""
        self._connection.go_away()

    def stop_reading(self) -> None:
        """Open the client's flow-control window no further; it is used up after 64 kB."""
        self._reading = False

    def resume_reading(self) -> None:
        """Open the window again by everything that was received meanwhile."""
        self._reading = True
        count, self._unacknowledged = self._unacknowledged, 0
        self._connection.acknowledge(self._id, count)

    # Below: for the connection.

    def start(self, handler: StreamHandler) -> None:
        """Take the handler and send the head of a success, when `hold_head` says so."""
        self._handler = handler
        headers = [
            (":status", "200"),
            ("content-type", "application/vnd.amazon.eventstream"),
            ("x-amzn-requestid", self._connection.new_id()),
        ]
        self._respond_after(self._head_delay_s, headers)

    def refuse(
        self, headers: list[tuple[str, str]], body: bytes, *, leave_open: bool, delay_s: float
    ) -> None:
        """Answer with an error instead of a stream."""
        self._write(body)
        self._ending = not leave_open
        self._respond_after(delay_s, headers)

    def _respond_after(self, delay_s: float | None, headers: list[tuple[str, str]]) -> None:
        if delay_s:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._respond, headers)
        elif delay_s is not None:
            self._respond(headers)

    def _respond(self, headers: list[tuple[str, str]]) -> None:
        if self._head is _Head.WAITING:
            self._head = _Head.SENT
            self._connection.send_headers(self._id, headers)
            self._pump()

    def take(self, data: bytes, controlled_length: int) -> None:
        """Take received bytes."""
        if self._reading:
            self._connection.acknowledge(self._id, controlled_length)
        else:
            self._unacknowledged += controlled_length
        handler = self._handler
        if handler is None:
            return
        try:
            for frame in self._reader.feed(data):
                payload = client_payload(frame)
                if payload is not None:
                    handler.receive(payload)
        except RemoteProtocolError:
            self.fail("validationException", _UNREADABLE)

    def input_ended(self) -> None:
        """The client sent END_STREAM."""
        if self._handler is not None:
            self._handler.end_of_input()

    def lost(self) -> None:
        """Nothing can be sent or received any more."""
        if self._head is _Head.GONE:
            return
        self._head = _Head.GONE
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._handler is not None:
            self._handler.closed()

    def window_opened(self) -> None:
        """The client reads again."""
        self._pump()

    def _write(self, data: bytes) -> None:
        if not self.is_open:
            return
        if not self._waiting and self._head is _Head.SENT and self._connection.fits(self._id, data):
            self._connection.send_data(self._id, data)  # the usual case: not copied
            return
        self._waiting += data
        self._pump()
        if len(self._waiting) > MAX_WAITING_BYTES:
            self.reset(ErrorCodes.ENHANCE_YOUR_CALM)

    def _pump(self) -> None:
        if self._head is not _Head.SENT:
            return
        while self._waiting:
            room = self._connection.room(self._id)
            if room <= 0:
                return
            self._connection.send_data(self._id, bytes(self._waiting[:room]))
            del self._waiting[:room]
        if self._ending:
            self._head = _Head.ENDED
            self._connection.end_stream(self._id)


class Connection(asyncio.Protocol):
    """Turns bytes into requests and their streams into bytes."""

    def __init__(
        self,
        *,
        open_request: OpenRequest,
        new_id: Callable[[], str],
        go_away_at_once: Callable[[asyncio.Transport], bool],
        made: Callable[[Connection], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self._open_request = open_request
        self._go_away_at_once = go_away_at_once
        self._made = made
        self._lost = lost
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._streams: dict[int, StreamWriter] = {}
        self._transport: asyncio.Transport | None = None
        self._is_flushing = False
        self._is_paused = False
        self._is_over = False
        self.new_id = new_id

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client; without HTTP/2 there is nothing to say to it."""
        self._transport = cast("asyncio.Transport", transport)
        self._made(self)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is None or ssl_object.selected_alpn_protocol() != "h2":
            self.abort()
            return
        self._h2.initiate_connection()
        if self._go_away_at_once(self._transport):
            self.go_away()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the network."""
        if self._is_over:
            return
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._flush()
            self.abort()
            return
        for event in events:
            self._take(event)
        self.flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every stream."""
        self._is_over = True
        for stream in tuple(self._streams.values()):
            stream.lost()
        self._streams.clear()
        self._lost(self)

    def pause_writing(self) -> None:
        """The socket is full: what comes now waits in its stream, where it is bounded."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The socket has room."""
        self._is_paused = False
        for stream in tuple(self._streams.values()):
            stream.window_opened()

    def abort(self) -> None:
        """Cut the TCP connection."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    def go_away(self) -> None:
        """Send GOAWAY that disowns every stream; nothing else is sent on this connection."""
        if not self._is_over:
            self._h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=0)
            self._flush()
            self._is_over = True

    def room(self, stream_id: int) -> int:
        """How many bytes one DATA frame of this stream may hold now."""
        if self._is_over or self._is_paused:
            return 0
        window = self._h2.local_flow_control_window(stream_id)
        return min(window, self._h2.max_outbound_frame_size)

    def fits(self, stream_id: int, data: bytes) -> bool:
        """Whether all of `data` can be sent as one frame now."""
        return len(data) <= self.room(stream_id)

    def send_headers(self, stream_id: int, headers: list[tuple[str, str]]) -> None:
        """Queue a response head."""
        if not self._is_over:
            self._h2.send_headers(stream_id, headers)
            self.flush_soon()

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Queue a DATA frame that `fits`."""
        self._h2.send_data(stream_id, data)
        self.flush_soon()

    def end_stream(self, stream_id: int) -> None:
        """Queue END_STREAM."""
        if not self._is_over:
            self._h2.end_stream(stream_id)
            self.flush_soon()
            self._forget_if_done(stream_id)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Queue RST_STREAM."""
        self._streams.pop(stream_id, None)
        if not self._is_over:
            self._h2.reset_stream(stream_id, code)
            self.flush_soon()

    def acknowledge(self, stream_id: int, count: int) -> None:
        """Open the client's window again."""
        if count and not self._is_over:
            self._h2.acknowledge_received_data(count, stream_id)
            self.flush_soon()

    def flush_soon(self) -> None:
        """Write once per turn of the loop what all streams had to say in it."""
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._transport is None or self._transport.is_closing() or self._is_over:
            return
        if data := self._h2.data_to_send():
            self._transport.write(data)

    def _take(self, event: Event) -> None:
        match event:
            case DataReceived(stream_id=int(stream_id)):
                data, length = event.data or b"", event.flow_controlled_length or 0
                if (stream := self._streams.get(stream_id)) is not None:
                    stream.take(data, length)
                else:
                    self.acknowledge(stream_id, length)
            case RequestReceived(stream_id=int(stream_id)):
                self._begin(stream_id, dict(cast("list[tuple[str, str]]", event.headers)))
            case StreamEnded(stream_id=int(stream_id)):
                if (stream := self._streams.get(stream_id)) is not None:
                    stream.input_ended()
                self._forget_if_done(stream_id)
            case StreamReset(stream_id=int(stream_id)):
                if (stream := self._streams.pop(stream_id, None)) is not None:
                    stream.lost()
            case WindowUpdated() | SettingsAcknowledged():
                for stream in tuple(self._streams.values()):
                    stream.window_opened()
            case ConnectionTerminated():
                self.abort()
            case _:
                pass

    def _begin(self, stream_id: int, headers: Mapping[str, str]) -> None:
        stream = self._streams[stream_id] = StreamWriter(self, stream_id)
        handler = self._open_request(headers, stream)
        if handler is not None:
            stream.start(handler)

    def _forget_if_done(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and self._h2.streams[stream_id].closed:
            del self._streams[stream_id]
            stream.lost()
