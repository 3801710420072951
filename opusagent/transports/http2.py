"""One HTTP/2 request with both bodies open, on the AWS common runtime (CRT) and its own thread.

The CRT calls back on its thread for every body chunk and every finished write. Waking the event
loop costs more than the work itself: so a chunk is put down where the loop will find it, and the
loop is woken only while somebody waits. Nobody ever awaits (and so nobody can cancel) a future of
the CRT, which would raise inside native code.

    CRT's thread   chunk -> deque -> wake, if the reader waits      head, end, loss -> the loop
    event loop     chunk()           write() -> wait_for_room()     close()
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future as CrtFuture
from functools import partial
from io import BytesIO
from typing import Final

from awscrt import http
from awscrt.exceptions import AwsCrtError

from opusagent.errors import TransportError
from opusagent.transports.crt_thread import keep_thread_state
from opusagent.transports.nodelay import send_at_once

__all__ = ["Exchange", "Head"]

MAX_IN_FLIGHT_BYTES: Final = 128 * 1024
"""What may be handed to the CRT and not be written yet: 64 kB of window, and as much again."""

type Head = tuple[int, list[tuple[str, str]]]
"""Status and headers of a response."""


class _Phase(enum.Enum):
    CONNECTING = enum.auto()
    CONNECTED = enum.auto()
    REQUESTED = enum.auto()
    REMOTE_ENDED = enum.auto()  # the response is complete; the request may go on
    OVER = enum.auto()


_CRT_ERRORS: Final = (AwsCrtError, RuntimeError)
"""What calls into the CRT raise: a stream that its thread has seen the end of is a plain RuntimeError."""


class Exchange:
    """A request and its response, both streaming. Belongs to the event loop it was made on.

    Every failure is `TransportError("ConnectionLost", the CRT's name for it)`.
    """

    def __init__(self) -> None:
        """Prepare; `Http2Connector.connect` begins."""
        self._loop = asyncio.get_running_loop()
        self._phase = _Phase.CONNECTING
        self._error: TransportError | None = None
        self._connection: http.Http2ClientConnection | None = None
        self._stream: http.Http2ClientStream | None = None
        self._connected: asyncio.Future[None] = self._quiet_future()
        self._requested: asyncio.Future[None] = self._quiet_future()
        self._responded: asyncio.Future[Head] = self._quiet_future()
        self._shut: asyncio.Future[None] = self._quiet_future()
        self._in_flight = 0
        self._has_unwritten = False
        self._writes: deque[tuple[CrtFuture[None], int]] = deque()
        # These three are touched by both threads, each step of it atomic.
        self._chunks: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._taker: Callable[[bytes], bool] | None = None
        self._wake_is_due = False

    async def connected(self) -> None:
        """Wait for TCP and TLS.

        Raises:
            TransportError: If there will be no connection.
        """
        await asyncio.shield(self._connected)

    async def requested(self) -> None:
        """Wait until the request head is on its way, from when on `write` can be used.

        Raises:
            TransportError: If the connection is lost before that.
        """
        await asyncio.shield(self._requested)

    async def head(self) -> Head:
        """Wait for the response head.

        Raises:
            TransportError: If the connection is lost before it came.
        """
        return await asyncio.shield(self._responded)

    def request(self, request: http.HttpRequest) -> None:
        """Send the request head; the body follows with `write`.

        Raises:
            TransportError: If the connection is gone.
        """
        if self._connection is None or self._phase is not _Phase.CONNECTED:
            raise self._gone()
        try:
            stream = self._connection.request(
                request,
                on_response=self._on_response,
                on_body=self._on_body,
                manual_write=True,
            )
            stream.completion_future.add_done_callback(self._on_complete)
            stream.remote_end_stream_future.add_done_callback(self._on_remote_end)
            stream.activate()
        except _CRT_ERRORS as error:
            self._fail(_lost(error))
            raise self._gone() from error
        self._stream = stream
        self._phase = _Phase.REQUESTED
        _resolve(self._requested)

    def write(self, data: bytes, *, end: bool = False) -> None:
        """Queue a part of the request body. Order is kept; see `wait_for_room`.

        Raises:
            TransportError: If the connection is gone.
        """
        if self._stream is None or self._phase is _Phase.OVER:
            raise self._gone()
        try:
            future = self._stream.write_data(BytesIO(data), end)
        except _CRT_ERRORS as error:
            raise _lost(error) from error
        self._writes.append((future, len(data)))
        self._in_flight += len(data)
        self._forget_finished_writes()

    async def wait_for_room(self) -> None:
        """Wait while too much is queued, without bound. Never waits once the connection is gone."""
        await self._wait_for(MAX_IN_FLIGHT_BYTES)

    async def wait_until_written(self) -> None:
        """Wait, without bound, until nothing is queued any more.

        Raises:
            TransportError: If the connection is gone.
        """
        self._forget_finished_writes()
        await self._wait_for(0)
        if self._has_unwritten or self._phase is _Phase.OVER:
            raise self._gone()

    async def _wait_for(self, in_flight_bytes: int) -> None:
        while self._in_flight > in_flight_bytes and self._phase is not _Phase.OVER:
            written: asyncio.Future[None] = self._loop.create_future()
            self._writes[0][0].add_done_callback(partial(self._on_written, written))
            await written
            self._forget_finished_writes()

    @property
    def has_room(self) -> bool:
        """Whether `wait_for_room` would return at once."""
        return self._in_flight <= MAX_IN_FLIGHT_BYTES

    async def chunk(self) -> bytes | None:
        """Wait for the next part of the response body, without bound; None when it is complete.

        Raises:
            TransportError: If the connection is lost, after everything that came before.
        """
        while True:
            if self._chunks:
                return self._chunks.popleft()
            if self._phase is _Phase.REMOTE_ENDED:
                return None
            if self._error is not None:
                raise self._error
            self._reader = self._loop.create_future()
            try:
                # Look again, now that the CRT's thread can see that somebody waits.
                if not self._chunks:
                    await self._reader
            finally:
                self._reader = None

    async def deliver(self, take: Callable[[bytes], bool]) -> None:
        """Give every part of the response body to `take` in the step in which the loop learns of it.

        Returns when the body is complete, or `take` wants no more.

        Raises:
            TransportError: If the connection is lost, after everything that came before.
            Exception: What `take` raises, which gets no more then.
        """
        while True:
            while self._chunks:
                if not take(self._chunks.popleft()):
                    return
            if self._phase is _Phase.REMOTE_ENDED:
                return
            if self._error is not None:
                raise self._error
            self._taker = take
            self._reader = self._loop.create_future()
            try:
                if not self._chunks:
                    await self._reader
                if self._taker is None:
                    return
            finally:
                self._taker = self._reader = None

    async def close(self, *, limit_s: float) -> None:
        """Close the connection and wait for that, at most `limit_s` seconds."""
        self._fail(TransportError("Closed"))
        if self._connection is not None:
            self._connection.close()
            await asyncio.wait((self._shut,), timeout=limit_s)
            self._connection = None

    # On the CRT's thread:

    def on_connected(self, future: CrtFuture[http.Http2ClientConnection]) -> None:
        """Take the outcome of connecting; for `Http2Connector`."""
        keep_thread_state()
        error = future.exception()
        if error is not None:
            self._post(partial(self._fail, _lost(error)))
        elif not self._post(partial(self._connect, future.result())):
            future.result().close()

    def _on_response(
        self, *, status_code: int, headers: list[tuple[str, str]], **_: object
    ) -> None:
        self._post(partial(_resolve_with, self._responded, (status_code, headers)))

    def _on_body(self, *, chunk: bytes, **_: object) -> None:
        self._chunks.append(chunk)
        if self._reader is not None and not self._wake_is_due:
            self._wake_is_due = True
            self._post(self._wake)

    def _on_written(self, waiter: asyncio.Future[None], _: CrtFuture[None]) -> None:
        self._post(partial(_resolve, waiter))

    def _on_remote_end(self, future: CrtFuture[None]) -> None:
        if future.exception() is None:
            self._post(self._remote_end)

    def _on_complete(self, future: CrtFuture[int]) -> None:
        error = future.exception()
        lost = _lost(error) if error is not None else TransportError("ConnectionLost", "completed")
        self._post(partial(self._complete, lost))

    def _on_shutdown(self, future: CrtFuture[None]) -> None:
        self._post(partial(self._shut_down, _lost(future.exception())))

    def _post(self, callback: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False  # the loop is closed: nobody is left to tell
        return True

    # On the event loop:

    def _connect(self, connection: http.Http2ClientConnection) -> None:
        if self._phase is _Phase.OVER:
            connection.close()
            return
        self._connection = connection
        self._phase = _Phase.CONNECTED
        send_at_once(connection.port)
        connection.shutdown_future.add_done_callback(self._on_shutdown)
        _resolve(self._connected)

    def _remote_end(self) -> None:
        if self._phase is _Phase.REQUESTED:
            self._phase = _Phase.REMOTE_ENDED
        self._wake()

    def _complete(self, error: TransportError) -> None:
        self._stream = None
        if self._phase is not _Phase.REMOTE_ENDED:
            self._fail(error)

    def _shut_down(self, error: TransportError) -> None:
        _resolve(self._shut)
        if self._phase is not _Phase.REMOTE_ENDED:
            self._fail(error)

    def _fail(self, error: TransportError) -> None:
        if self._error is None:
            self._error = error
        self._phase = _Phase.OVER
        self._in_flight = 0
        self._writes.clear()
        for future in (self._connected, self._requested, self._responded):
            if not future.done():
                future.set_exception(error)
        self._wake()

    def _wake(self) -> None:
        self._wake_is_due = False
        if self._taker is not None and self._phase is _Phase.REQUESTED and self._give(self._taker):
            return  # taken, and nothing else to tell
        if self._reader is not None:
            _resolve(self._reader)

    def _give(self, take: Callable[[bytes], bool]) -> bool:
        """Give what there is; returns whether it wants more."""
        try:
            while self._chunks and self._taker is not None:
                if not take(self._chunks.popleft()):
                    self._taker = None
        except Exception as error:  # noqa: BLE001 - a bug; `deliver` raises it, where somebody waits
            self._taker = None
            if self._reader is not None and not self._reader.done():
                self._reader.set_exception(error)
        return self._taker is not None

    def _forget_finished_writes(self) -> None:
        while self._writes and self._writes[0][0].done():
            future, count = self._writes.popleft()
            self._in_flight -= count
            self._has_unwritten |= future.exception() is not None

    def _gone(self) -> TransportError:
        return self._error or TransportError("ConnectionLost", "not connected")

    def _quiet_future[T](self) -> asyncio.Future[T]:
        """Make a future whose error need not be looked at."""
        future: asyncio.Future[T] = self._loop.create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _resolve_with[T](future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _lost(error: BaseException | None) -> TransportError:
    match error:
        case AwsCrtError():
            return TransportError("ConnectionLost", f"{error.name}: {error.message}")
        case None:
            return TransportError("ConnectionLost", "the connection was closed")
        case _:
            return TransportError("ConnectionLost", repr(error))
