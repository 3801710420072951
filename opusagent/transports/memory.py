"""Both byte pipes without a network: for tests of shells, on a virtual clock too.

SonicTransport  <-- MemoryConnector -->  ServiceEnd      what the service does is up to the test
CallerTransport <--- caller_pair() --->  CallerTransport
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from opusagent.errors import TransportError

__all__ = ["MemoryCaller", "MemoryConnector", "MemorySonic", "ServiceEnd", "caller_pair"]


class _Pipe[T]:
    """One direction: unbounded, with an end, and a failure that comes after what was put before."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._error: TransportError | None = None
        self._is_ended = False

    def put(self, item: T) -> None:
        if not self._is_ended:
            self._items.append(item)
            self._changed.set()

    def end(self, error: TransportError | None = None) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._error = error
            self._changed.set()

    @property
    def is_ended(self) -> bool:
        return self._is_ended

    async def get(self) -> T | None:
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._is_ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()


class _Link:
    """What the two ends of a stream share."""

    def __init__(self) -> None:
        self.to_service: _Pipe[bytes] = _Pipe()
        self.to_client: _Pipe[bytes] = _Pipe()
        self.head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.head.add_done_callback(lambda head: head.cancelled() or head.exception())
        self.service_reads = asyncio.Event()
        self.service_reads.set()
        self.client_is_gone = False


class ServiceEnd:
    """The other end of a `MemorySonic`; a test or a peer plays the service with it."""

    def __init__(self, link: _Link) -> None:
        self._link = link

    @property
    def is_closed(self) -> bool:
        """Whether the client has let go of the stream."""
        return self._link.client_is_gone

    def accept(self) -> None:
        """Send the head."""
        if not self._link.head.done():
            self._link.head.set_result(None)

    def refuse(self, code: str, message: str = "") -> None:
        """Answer with an error instead of a head."""
        if not self._link.head.done():
            self._link.head.set_exception(TransportError(code, message))

    async def receive(self) -> bytes | None:
        """Wait for the client's next event; None at the end of its input."""
        return await self._link.to_service.get()

    def send(self, payload: bytes) -> None:
        """Send one event."""
        self._link.to_client.put(payload)

    def fail(self, code: str, message: str = "") -> None:
        """End the stream with an exception."""
        self._link.to_client.end(TransportError(code, message))

    def end(self) -> None:
        """End the stream without a word."""
        self._link.to_client.end()

    def stop_reading(self) -> None:
        """Let the client's sends wait."""
        self._link.service_reads.clear()

    def resume_reading(self) -> None:
        """Let them go on."""
        self._link.service_reads.set()


class MemorySonic:
    """A `SonicTransport` whose service is a `ServiceEnd`."""

    def __init__(
        self, link: _Link, *, head_s: float, send_s: float, expires_in_s: float | None = None
    ) -> None:
        self.expires_in_s = expires_in_s
        self._link = link
        self._head_s = head_s
        self._send_s = send_s
        self._is_ending = False

    async def open(self) -> None:
        """Do nothing: there is nothing to connect."""

    async def head(self) -> None:
        """Wait for `accept` or `refuse`.

        Raises:
            TransportError: As refused; `NoHead` if neither comes in time.
        """
        head = self._link.head
        done, _ = await asyncio.wait((head,), timeout=self._head_s)
        if not done:
            raise TransportError("NoHead", f"no answer within {self._head_s} s")
        head.result()

    async def send(self, *payloads: bytes) -> None:
        """Give events to the service.

        Raises:
            TransportError: `Closed`, or `SendTimeout` while the service does not read.
        """
        await self._until_it_reads()
        if self._link.to_service.is_ended:
            raise TransportError("Closed", "the input was closed")
        for payload in payloads:
            self._link.to_service.put(payload)

    async def _until_it_reads(self) -> None:
        try:
            async with asyncio.timeout(self._send_s):
                await self._link.service_reads.wait()
        except TimeoutError:
            raise TransportError("SendTimeout", f"{self._send_s} s") from None

    async def flush(self) -> None:
        """Wait until the service reads.

        Raises:
            TransportError: `Closed`, or `SendTimeout` while it does not.
        """
        await self.send()

    def send_now(self, *payloads: bytes) -> bool:
        """Give events to the service if it reads; returns whether they were given."""
        reads = self._link.service_reads.is_set() and not self._link.to_service.is_ended
        for payload in payloads if reads else ():
            self._link.to_service.put(payload)
        return reads

    async def listen(self, take: Callable[[bytes], None]) -> None:
        """Give every event to `take`, until the end that we asked for.

        Raises:
            TransportError: As `receive`.
        """
        while (payload := await self.receive()) is not None:
            take(payload)

    async def receive(self) -> bytes | None:
        """Wait for the next event; None is the end that we asked for.

        Raises:
            TransportError: For `fail`, and `Ended` for an end that we did not ask for.
        """
        payload = await self._link.to_client.get()
        if payload is None and not self._is_ending:
            raise TransportError("Ended", "the service ended the stream")
        return payload

    async def close_input(self) -> None:
        """End the input."""
        self._is_ending = True
        self._link.to_service.end()

    async def close(self) -> None:
        """Let go of the stream."""
        self._is_ending = True
        self._link.client_is_gone = True
        self._link.to_service.end()
        self._link.to_client.end()


class MemoryConnector:
    """A `SonicConnector`; the service's ends of its streams are in `streams`, in order, their models in `models`.

    Args:
        accepts: Whether heads are sent at once.
        expires_in_s: For how long the credentials of each stream are good.
    """

    def __init__(
        self,
        *,
        accepts: bool = True,
        head_s: float = 10.0,
        send_s: float = 5.0,
        expires_in_s: float | None = None,
    ) -> None:
        self._accepts = accepts
        self._expires_in_s = expires_in_s
        self._head_s = head_s
        self._send_s = send_s
        self.streams: list[ServiceEnd] = []
        self.models: list[str] = []

    def connect(self, model_id: str = "", *, can_wait: bool = False) -> MemorySonic:
        """Give a transport for a new stream."""
        del can_wait  # there is room for all
        link = _Link()
        end = ServiceEnd(link)
        self.streams.append(end)
        self.models.append(model_id)
        if self._accepts:
            end.accept()
        return MemorySonic(
            link, head_s=self._head_s, send_s=self._send_s, expires_in_s=self._expires_in_s
        )


class MemoryCaller:
    """One end of `caller_pair`: a `CallerTransport`.

    Attributes:
        closed_with: Code and reason that the other end closed with, or None.
    """

    def __init__(self, inward: _Pipe[str], outward: _Pipe[str]) -> None:
        self._inward = inward
        self._outward = outward
        self._other: MemoryCaller | None = None
        self.closed_with: tuple[int, str] | None = None

    async def recv(self) -> str | bytes | None:
        """Wait for the next message; None once the pair is closed."""
        return await self._inward.get()

    async def listen(self, take: Callable[[str | bytes], None]) -> None:
        """Give every message to `take`; returns once the pair is closed."""
        while (text := await self.recv()) is not None:
            take(text)

    def send_now(self, text: str) -> bool:
        """Send one message unless the pair is closed; returns whether it was sent."""
        if self._outward.is_ended:
            return False
        self._outward.put(text)
        return True

    async def send(self, text: str) -> None:
        """Send one message.

        Raises:
            TransportError: If the pair is closed.
        """
        if self._outward.is_ended:
            raise TransportError("ConnectionLost", "the websocket is closed")
        self._outward.put(text)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close both directions."""
        if self._other is not None and not self._outward.is_ended:
            self._other.closed_with = (code, reason)
        self._outward.end()
        self._inward.end()

    def abort(self) -> None:
        """Lose the connection without a word, as a crash would."""
        self._outward.end()
        self._inward.end()

    @staticmethod
    def join(one: MemoryCaller, other: MemoryCaller) -> None:
        """Make two ends know each other; `caller_pair` does it."""
        one._other, other._other = other, one


def caller_pair() -> tuple[MemoryCaller, MemoryCaller]:
    """Give both ends of a websocket without a network."""
    there: _Pipe[str] = _Pipe()
    back: _Pipe[str] = _Pipe()
    one, other = MemoryCaller(there, back), MemoryCaller(back, there)
    MemoryCaller.join(one, other)
    return one, other
