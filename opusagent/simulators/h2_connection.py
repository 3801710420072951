"""One HTTP/2 connection of the local Nova Sonic service, on `h2` and an asyncio protocol.

An ASGI server would do for the good days. This one can also hold the head back, reset, go away,
cut a frame in half, break a checksum and stop reading, because those are what must be tested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol, cast

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

from opusagent.simulators.h2_stream import StreamHandler, StreamWriter

__all__ = ["Connection", "OpenRequest"]


class OpenRequest(Protocol):
    """Decides what to do with a request; gives the handler, or None when it was answered."""

    def __call__(self, headers: Mapping[str, str], writer: StreamWriter, /) -> StreamHandler | None:
        """Answer one request head."""


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
        if any(isinstance(event, ConnectionTerminated) for event in events):
            self.abort()
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

    # A request and its reset may arrive together, and `h2` has then taken both before we answer the
    # first: what it refuses to send, nobody waits for any more.

    def room(self, stream_id: int) -> int:
        """How many bytes one DATA frame of this stream may hold now."""
        if self._is_over or self._is_paused:
            return 0
        try:
            window = self._h2.local_flow_control_window(stream_id)
        except ProtocolError:
            return 0
        return min(window, self._h2.max_outbound_frame_size)

    def fits(self, stream_id: int, data: bytes) -> bool:
        """Whether all of `data` can be sent as one frame now."""
        return len(data) <= self.room(stream_id)

    def send_headers(self, stream_id: int, headers: list[tuple[str, str]]) -> None:
        """Queue a response head."""
        with self._sending():
            self._h2.send_headers(stream_id, headers)

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Queue a DATA frame that `fits`."""
        with self._sending():
            self._h2.send_data(stream_id, data)

    def end_stream(self, stream_id: int) -> None:
        """Queue END_STREAM."""
        with self._sending():
            self._h2.end_stream(stream_id)
        self._forget_if_done(stream_id)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Queue RST_STREAM."""
        self._streams.pop(stream_id, None)
        with self._sending():
            self._h2.reset_stream(stream_id, code)

    def acknowledge(self, stream_id: int, count: int) -> None:
        """Open the client's window again."""
        if count:
            with self._sending():
                self._h2.acknowledge_received_data(count, stream_id)

    @contextmanager
    def _sending(self) -> Iterator[None]:
        with suppress(ProtocolError):
            yield
        self.flush_soon()

    def flush_soon(self) -> None:
        """Write once per turn of the loop what all streams had to say in it."""
        if not self._is_flushing and not self._is_over:
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
                self._take_data(stream_id, event.data or b"", event.flow_controlled_length or 0)
            case RequestReceived(stream_id=int(stream_id)):
                self._begin(stream_id, dict(cast("list[tuple[str, str]]", event.headers)))
            case StreamEnded(stream_id=int(stream_id)):
                self._end_input(stream_id)
            case StreamReset(stream_id=int(stream_id)):
                self._forget(stream_id)
            case WindowUpdated() | SettingsAcknowledged():
                for stream in tuple(self._streams.values()):
                    stream.window_opened()
            case _:
                pass

    def _take_data(self, stream_id: int, data: bytes, controlled_length: int) -> None:
        if (stream := self._streams.get(stream_id)) is not None:
            stream.take(data, controlled_length)
        else:
            self.acknowledge(stream_id, controlled_length)

    def _end_input(self, stream_id: int) -> None:
        if (stream := self._streams.get(stream_id)) is not None:
            stream.input_ended()
        self._forget_if_done(stream_id)

    def _begin(self, stream_id: int, headers: Mapping[str, str]) -> None:
        stream = self._streams[stream_id] = StreamWriter(self, stream_id)
        handler = self._open_request(headers, stream)
        if handler is not None:
            stream.start(handler)

    def _is_done(self, stream_id: int) -> bool:
        stream = self._h2.streams.get(stream_id)
        return stream is None or bool(stream.closed)

    def _forget_if_done(self, stream_id: int) -> None:
        if stream_id in self._streams and self._is_done(stream_id):
            self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        if (stream := self._streams.pop(stream_id, None)) is not None:
            stream.lost()
