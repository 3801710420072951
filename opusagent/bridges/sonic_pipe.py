"""One Nova Sonic stream as a shell sees it: an outbox, one writer, one reader, every wait bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from opusagent.audio.tail import AudioTail
from opusagent.errors import TransportError
from opusagent.transports import SonicTransport

EVENT_S = 1.0
"""The most audio in one event: a replay of ten seconds would come near the service's 1 MB for a part."""

CLOSE_S = 3.0
"""How long a stream that we end may take to say the rest; known clients wait 1 to 2 s."""

AT_ONCE_BYTES = 8_000
"""The most audio that is sent in the step that has it: more is a replay, and goes in pieces of `EVENT_S`."""

TOGETHER = 64
"""So many control events are sent together: some 2 ms of signing. A whole history is hundreds of them; between
its pieces the audio of other calls has its turn."""

TOGETHER_S = 0.005
"""Audio that follows other audio so soon is a burst: it waits for one turn of the loop, and is joined."""

LAST_WORDS_S = 0.2
"""How long the service may still say why, after nothing could be sent any more: an exception and the end
of the connection come together, and the writer may see its end first."""


class SonicPipe:
    """Carries events between a call and one transport.

    Audio that waits is joined, so that a slow moment costs one larger event and no delay that lasts.
    Control events are never dropped and keep their place.

    Args:
        encode: Makes the event that carries audio, just before it is sent.
        audio: Makes an empty tail for audio that waits; its bound is what a stalled service may cost.
        on_opened: Called when the response head has come, with the seconds for which the stream's
            credentials are good; None if they do not expire.
        on_payload: Called for every event of the service.
        on_lost: Called at most once, when the stream fails before `finish`.
        on_dropped: Called with the bytes of caller audio that were dropped because nobody took them.
    """

    def __init__(
        self,
        transport: SonicTransport,
        *,
        encode: Callable[[bytes], bytes],
        audio: Callable[[], AudioTail],
        on_opened: Callable[[float | None], None],
        on_payload: Callable[[bytes], None],
        on_lost: Callable[[TransportError], None],
        on_dropped: Callable[[int], None],
    ) -> None:
        """Prepare; nothing is sent before `run`."""
        self._transport = transport
        self._encode = encode
        self._new_tail = audio
        self._on_opened = on_opened
        self._on_payload = on_payload
        self._on_lost = on_lost
        self._on_dropped = on_dropped
        self._outbox: deque[bytes | AudioTail | Callable[[], None]] = deque()
        self._something = asyncio.Event()
        self._finishing = asyncio.Event()
        self._has_head = False
        self._loop = asyncio.get_running_loop()
        self._writer_waits = False
        self._audio_at = -TOGETHER_S

    def put(self, *payloads: bytes) -> None:
        """Send control events, together, after what waits."""
        together = len(payloads) <= TOGETHER
        if together and self._is_at_rest and self._transport.send_now(*payloads):
            return
        self._outbox.extend(payloads)
        self._something.set()

    def when_sent(self, then: Callable[[], None]) -> None:
        """Have this called, in a later step, when all that was put so far has been sent; not if it is not."""
        self._outbox.append(then)
        self._something.set()

    def put_audio(self, pcm: bytes) -> None:
        """Send caller audio, after what waits; it joins what waits at the end of the queue."""
        if self._is_at_rest and self._goes_at_once(pcm):
            return
        last = self._outbox[-1] if self._outbox else None
        if not isinstance(last, AudioTail):
            last = self._new_tail()
            self._outbox.append(last)
        if dropped := last.append(pcm):
            self._on_dropped(dropped)
        self._something.set()

    def finish(self) -> None:
        """Send what is queued, end the input, and let the service say the rest. `run` ends soon after."""
        self._finishing.set()
        self._something.set()

    @property
    def _is_at_rest(self) -> bool:
        """Whether all was sent, and the writer waits for more."""
        return self._writer_waits and not self._outbox

    def _goes_at_once(self, pcm: bytes) -> bool:
        """Send audio in this very step, unless more of it may come at once and be joined to it."""
        now = self._loop.time()
        if now - self._audio_at < TOGETHER_S or len(pcm) > AT_ONCE_BYTES:
            return False
        self._audio_at = now
        return self._transport.send_now(self._encode(pcm))

    async def run(self) -> None:
        """Carry the stream from its opening to its end. Never raises `TransportError`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                worker = tasks.create_task(self._carry())
                tasks.create_task(self._see_to_the_end(worker))
        finally:
            await self._transport.close()

    async def _carry(self) -> None:
        try:
            await self._transport.open()
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write())
                await self._read()
                writer.cancel()
        except* TransportError as group:
            if not self._finishing.is_set():
                self._on_lost(_first(group))
        finally:
            self._finishing.set()

    async def _see_to_the_end(self, worker: asyncio.Task[None]) -> None:
        await self._finishing.wait()
        if not self._has_head:
            worker.cancel()  # nobody waits for it any more
            return
        await asyncio.wait((worker,), timeout=CLOSE_S)
        worker.cancel()

    async def _read(self) -> None:
        await self._transport.head()
        self._has_head = True
        if not self._finishing.is_set():
            self._on_opened(self._transport.expires_in_s)
        await self._transport.listen(self._on_payload)
        if not self._finishing.is_set():
            raise TransportError("Ended", "the service ended the stream without a word")

    async def _write(self) -> None:
        try:
            await self._send_all()
        except TransportError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await asyncio.Event().wait()  # the reader's end ends this, too
            raise

    async def _send_all(self) -> None:
        while True:
            while self._outbox:
                if callable(then := self._outbox[0]):
                    self._outbox.popleft()
                    if not self._finishing.is_set():
                        await self._transport.flush()
                        self._loop.call_soon(then)
                    continue
                await self._transport.send(*self._next())
                if self._outbox:
                    await self._let_others()
            if self._finishing.is_set():
                await self._transport.close_input()
                return
            self._something.clear()
            self._writer_waits = True
            try:
                await self._something.wait()
            finally:
                self._writer_waits = False

    async def _let_others(self) -> None:
        turn = asyncio.Event()
        self._loop.call_soon(turn.set)
        await turn.wait()

    def _next(self) -> list[bytes]:
        """What goes next, and together: audio in one event, or control events."""
        outbox = self._outbox
        if isinstance(tail := outbox[0], AudioTail):
            pcm = tail.take(EVENT_S)
            if not len(tail):
                outbox.popleft()
            return [self._encode(pcm)]
        events: list[bytes] = []
        while outbox and len(events) < TOGETHER and isinstance(event := outbox[0], bytes):
            events.append(event)
            outbox.popleft()
        return events


def _first(group: BaseExceptionGroup[TransportError]) -> TransportError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, TransportError)
    return error
