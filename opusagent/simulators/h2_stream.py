"""One stream of the local Nova Sonic service on the wire: event frames over HTTP/2 DATA."""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Final, Protocol

from h2.errors import ErrorCodes

from opusagent.errors import RemoteProtocolError
from opusagent.transports.event_stream import (
    FrameReader,
    chunk_frame,
    client_payload,
    exception_frame,
)

if TYPE_CHECKING:
    from opusagent.simulators.h2_connection import Connection

__all__ = ["MAX_WAITING_BYTES", "StreamHandler", "StreamWriter"]

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""What may wait for a client that does not read; above it its stream is reset."""

_UNREADABLE: Final = (
    "Unable to parse input chunk. Please check input format contains correct format."
)


class StreamHandler(Protocol):
    """The service's side of one stream, above the wire. Methods are called on the event loop."""

    def receive(self, payload: bytes) -> None:
        """Take one JSON event from the client."""

    def end_of_input(self) -> None:
        """The client has ended its input; it still reads."""

    def closed(self) -> None:
        """The stream is gone, for whatever reason. Called once, and last."""


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
