"""A `CallerLine` on sockets, one after another, and on the loop's clock."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from opusagent.clock import Clock
from opusagent.errors import TransportError
from opusagent.simulators.caller_line import CallerLine, CallPhase
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import CallerPlan

__all__ = ["CallerSocket", "Connect", "LiveLine", "Progress", "until"]

FLUSH_S: Final = 2.0
"""How long the last messages of a call may take to leave."""


class CallerSocket(Protocol):
    """The caller's end of a websocket, which can also be cut."""

    async def recv(self) -> str | bytes | None:
        """Wait for the next message; None once the socket is closed."""
        ...

    async def send(self, text: str) -> None:
        """Send one text message.

        Raises:
            TransportError: If the socket is closed.
        """
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket, bounded."""
        ...

    def abort(self) -> None:
        """Lose the connection without a word, as a crash would."""
        ...


type Connect = Callable[[], Awaitable[CallerSocket]]
type Progress = Callable[[float, str, str], None]
"""Takes seconds since the call began, what happened, and words."""


async def until(when: float) -> None:
    """Wait until the loop's clock says `when`."""
    never = asyncio.Event()
    try:
        async with asyncio.timeout_at(when):
            await never.wait()
    except TimeoutError:
        return


class LiveLine:
    """Moves texts between a `CallerLine` and its socket, and wakes it in time.

    Use: `open`, then what the line offers, each time followed by `after`, then `close`.

    Args:
        tasks: Where readers and writers are born.
    """

    def __init__(
        self,
        plan: CallerPlan,
        connect: Connect,
        record: CallRecord,
        tasks: asyncio.TaskGroup,
        *,
        conversation_id: str,
        clock: Clock,
        progress: Progress | None,
    ) -> None:
        self._plan = plan
        self._connect = connect
        self._tasks = tasks
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._zero = record.began_at
        self._latest = 0.0
        self.line = CallerLine(
            plan,
            record,
            conversation_id=conversation_id,
            new_id=lambda: str(uuid.uuid4()),
            utcnow=clock.utcnow,
            note=self.note,
        )
        self.resume_after_s = plan.resume_after_s
        """If the bot closes the socket: how soon VoiceAI Connect comes back; None is never."""
        self.over = asyncio.Event()
        """Set once the call is over for VoiceAI Connect."""
        self._socket: CallerSocket | None = None
        self._half_open: list[CallerSocket] = []
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._raw: deque[str] = deque()
        self._to_send = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    # Time

    def now(self) -> float:
        """Seconds since the call began; never goes back, not even behind a timer that came early."""
        self._latest = max(self._latest, self._loop.time() - self._zero)
        return self._latest

    async def until(self, when: float) -> None:
        """Wait until that second of the call."""
        await until(self._zero + when)

    async def wait(self, look: Callable[[float], float | None], timeout_s: float) -> bool:
        """Wait until `look` finds what it looks for.

        Args:
            look: Takes the time; returns None when it has been found, else when to look again if
                nothing happens before.
            timeout_s: How long at most.

        Returns:
            Whether it was found.
        """
        now = self.now()
        deadline = now + timeout_s
        while (look_at := look(now)) is not None:
            if now >= deadline:
                return False
            self._changed.clear()
            wake_at = min(look_at, deadline)
            try:
                async with asyncio.timeout_at(
                    None if wake_at == math.inf else self._zero + wake_at
                ):
                    await self._changed.wait()
            except TimeoutError:
                self._reach(wake_at)
            now = self.now()
        return True

    def after(self) -> None:
        """See to whatever the line wants after something happened to it."""
        self._changed.set()
        self._to_send.set()
        self._disarm()
        if self.line.phase is CallPhase.OVER:
            self.over.set()
        elif (at := self.line.next_timer()) is not None:
            self._timer = self._loop.call_at(self._zero + at, self._fire, at)

    def _fire(self, at: float) -> None:
        self._reach(at)
        self.line.handle_timer(self.now())
        self.after()

    def _reach(self, when: float) -> None:
        """A timer has come: it is `when`, though the loop's clock may be short of it by a rounding."""
        self._latest = max(self._latest, when)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note(self, what: str, words: str = "") -> None:
        """Tell whoever watches."""
        if self._progress is not None:
            self._progress(self.now(), what, words)

    # The sockets

    async def open(self) -> None:
        """Connect and ask for the call; a bot that is not there is the end of it."""
        try:
            await self._attach(resume=False)
        except TransportError as error:
            self.line.fail(str(error), self.now())
            self.after()

    def cut(self, *, half_open: bool) -> None:
        """Lose the socket, or leave it open and never look at it again."""
        socket, self._socket = self._socket, None
        self._stop_pipes()
        self.note("socket lost", "half-open" if half_open else "")
        if socket is not None and half_open:
            self._half_open.append(socket)
        elif socket is not None:
            socket.abort()

    async def come_back(self, after_s: float) -> None:
        """Try to resume, until it has worked or the window is over."""
        give_up_at = self.now() + self._plan.resume_window_s
        while self.line.phase is CallPhase.LOST:
            await self.until(self.now() + after_s)
            try:
                await self._attach(resume=True)
            except TransportError as error:
                if self.now() >= give_up_at:
                    self.line.fail(f"no resume: {error}", self.now())
                    self.after()

    def send_raw(self, text: str) -> None:
        """Send any text, after what waits."""
        self._raw.append(text)
        self._to_send.set()

    async def flush(self) -> None:
        """Wait until the socket has taken everything."""
        self._all_sent.clear()
        self._to_send.set()
        await self._all_sent.wait()

    async def close(self) -> None:
        """Send what is left, close every socket, stop every task. Bounded."""
        self._disarm()
        if self._returning is not None:
            self._returning.cancel()
        socket, self._socket = self._socket, None
        self._to_send.set()
        if self._writer is not None:
            await asyncio.wait((self._writer,), timeout=FLUSH_S)
        for one in (socket, *self._half_open):
            if one is not None:
                await one.close()
        self._stop_pipes()

    async def _attach(self, *, resume: bool) -> None:
        socket = self._socket = await self._connect()
        if resume:
            self.line.resume(self.now())
        else:
            self.line.initiate(self.now())
        self._reader = self._tasks.create_task(self._read(socket))
        self._writer = self._tasks.create_task(self._write(socket))
        self.after()

    async def _read(self, socket: CallerSocket) -> None:
        while (text := await socket.recv()) is not None:
            self.line.receive(text, self.now())
            self.after()
        self._lost(socket)

    async def _write(self, socket: CallerSocket) -> None:
        try:
            while True:
                texts = self.line.texts_to_send(self.now())
                if not texts and self._raw:
                    texts.append(self._raw.popleft())
                for text in texts:
                    await socket.send(text)
                if texts:
                    continue
                self._all_sent.set()
                if self.line.phase is CallPhase.OVER:
                    return
                self._to_send.clear()
                await self._to_send.wait()
        except TransportError:
            self._lost(socket)

    def _lost(self, socket: CallerSocket) -> None:
        if socket is not self._socket or self.over.is_set():
            return
        self._socket = None
        self.note("socket closed by the bot")
        if self.resume_after_s is None:
            self.line.fail("the bot closed the socket without a hang-up", self.now())
        else:
            self.line.lose(self.now())
            self._returning = self._tasks.create_task(self.come_back(self.resume_after_s))
        self._all_sent.set()
        self._stop_pipes()
        self.after()

    def _stop_pipes(self) -> None:
        for task in (self._reader, self._writer):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._reader = self._writer = None
