"""The simulated VoiceAI Connect on real or in-memory websockets: it runs a script of a caller.

steps --> SimulatedCaller --> CallerLine (what VoiceAI Connect does, and when) --> texts
                |                                                                    |
                +---------- sockets, one after another, and the loop's clock --------+
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, assert_never

from opusagent.clock import Clock, SystemClock
from opusagent.errors import TransportError
from opusagent.simulators.caller_line import CallerLine, CallPhase
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import (
    CallerPlan,
    CutSocket,
    HangUp,
    Hold,
    Pause,
    Press,
    Say,
    SendNumbers,
    SendText,
    Stall,
    Step,
    WaitForBot,
    WaitForBotToSpeak,
)
from opusagent.simulators.numbered import NumberedAudio
from opusagent.transports import CallerTransport

__all__ = ["CallerSocket", "Progress", "SimulatedCaller", "until"]

FLUSH_S: Final = 2.0
"""How long the last messages of a call may take to leave."""
_FAST_CHUNKS: Final = 16
"""Chunks that are written before the socket is given the chance to take them."""


class CallerSocket(CallerTransport, Protocol):
    """A websocket that can also be cut."""

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


class SimulatedCaller:
    """One call: VoiceAI Connect, and the person on its line.

    Args:
        plan: How VoiceAI Connect behaves.
        connect: Opens a websocket to the bot; called again for each resume.
        conversation_id: A fresh one by default.
        clock: The calendar of activities. Durations are measured by the loop's clock.
        progress: Told what happens, as it happens.
    """

    def __init__(
        self,
        plan: CallerPlan,
        connect: Connect,
        *,
        conversation_id: str | None = None,
        clock: Clock | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare; nothing happens before `run`."""
        self._plan = plan
        self._connect = connect
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._zero = self._loop.time()
        self.record = CallRecord(began_at=self._zero)
        """What was measured so far."""
        self._line = CallerLine(
            plan,
            self.record,
            conversation_id=conversation_id or str(uuid.uuid4()),
            new_id=lambda: str(uuid.uuid4()),
            utcnow=(clock or SystemClock()).utcnow,
            note=self._note,
        )
        self._tasks: asyncio.TaskGroup
        self._socket: CallerSocket | None = None
        self._half_open: list[CallerSocket] = []
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._raw: deque[str] = deque()
        self._to_send = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._spoke_at = 0.0  # when the caller last wanted something of the bot

    async def run(self, steps: Sequence[Step]) -> CallRecord:
        """Make the call and follow the script; hangs up at its end.

        Whatever goes wrong on the other side ends up in the record. To be used once.
        """
        self._zero = self.record.began_at = self._loop.time()
        async with asyncio.TaskGroup() as self._tasks:
            driver = self._tasks.create_task(self._drive(steps))
            try:
                async with asyncio.timeout(self._plan.limit_s):
                    await self._over.wait()
            except TimeoutError:
                self.record.in_vain.append("the end of the script")
                self._line.hang_up("client-disconnected", "Client Side", self._now())
            finally:
                driver.cancel()
                await self._let_go()
        return self.record

    # The script

    async def _drive(self, steps: Sequence[Step]) -> None:
        try:
            await self._attach(resume=False)
        except TransportError as error:
            self._line.fail(str(error), self._now())
            self._after()
            return
        await self._wait(lambda _: None if self._line.started else math.inf, math.inf)
        for step in steps:
            await self._do(step)
        self._line.hang_up("client-disconnected", "Client Side", self._now())
        self._after()

    async def _do(self, step: Step) -> None:
        match step:
            case Say():
                await self._say(step)
            case WaitForBot(quiet_s=quiet_s, timeout_s=timeout_s):
                if not await self._wait(lambda now: self._bot_done_at(quiet_s, now), timeout_s):
                    self._in_vain("the bot to say something and finish")
            case WaitForBotToSpeak(seconds=seconds, timeout_s=timeout_s):
                if not await self._wait(lambda now: self._bot_speaks_at(seconds, now), timeout_s):
                    self._in_vain("the bot to speak")
            case Pause(seconds=seconds):
                await until(self._loop.time() + seconds)
            case Press():
                await self._press(step)
            case SendNumbers():
                await self._send_numbers(step)
            case CutSocket():
                await self._cut(step)
            case _:
                self._do_at_once(step)
                self._after()

    def _do_at_once(self, step: Stall | Hold | SendText | HangUp) -> None:
        now = self._now()
        match step:
            case Stall(seconds=seconds):
                self._line.stall(seconds, now)
            case Hold(seconds=seconds):
                self._line.hold(seconds, now)
            case SendText(text=text):
                self._raw.append(text)
            case HangUp(reason_code=reason_code, reason=reason):
                self._line.hang_up(reason_code, reason, now)
            case _:
                assert_never(step)

    async def _say(self, step: Say) -> None:
        if not step.over_bot:
            await self._wait_for_ear(step.timeout_s)
        pcm = step.sound(self._line.rate_hz)
        phrase = self._line.say(pcm, step.label, self._now(), expects_answer=step.expects_answer)
        self._after()
        await until(self._zero + self._line.said_until())
        if phrase is not None:
            self._spoke_at = phrase.ended_at

    async def _press(self, step: Press) -> None:
        for keys in [step.digits] if step.together else step.digits:
            self._line.press(keys, step.spelling, self._now())
            self._after()
            await until(self._loop.time() + step.gap_s)
        self._spoke_at = self._now()

    async def _send_numbers(self, step: SendNumbers) -> None:
        await self._wait_for_ear(step.timeout_s)
        audio = NumberedAudio(step.frame_ms, self._line.rate_hz)
        end = step.first + step.count
        self.record.numbers_sent = range(step.first, end)
        self._note("numbered frames", f"{step.count} from {step.first}")
        if not step.fast:
            self._line.say(
                audio.frames(step.first, step.count), "numbers", self._now(), expects_answer=False
            )
            self._after()
            await until(self._zero + self._line.said_until())
        else:
            per_chunk = max(1, self._plan.chunk_ms // step.frame_ms)
            for n, number in enumerate(range(step.first, end, per_chunk)):
                self._line.send_at_once(audio.frames(number, min(per_chunk, end - number)))
                if n % _FAST_CHUNKS == _FAST_CHUNKS - 1:
                    await self._flush()
            await self._flush()
        self._spoke_at = self._now()

    async def _cut(self, step: CutSocket) -> None:
        socket, self._socket = self._socket, None
        self._stop_pipes()
        self._note("socket lost", "half-open" if step.half_open else "")
        if socket is not None:
            if step.half_open:
                self._half_open.append(socket)
            else:
                socket.abort()
        if step.resume_after_s is None:
            self._line.vanish(self._now())
            self._after()
            return
        self._line.lose(self._now())
        await self._come_back(step.resume_after_s)
        await self._wait(lambda _: None if self._line.phase is CallPhase.UP else math.inf, math.inf)

    def _bot_done_at(self, quiet_s: float, now: float) -> float | None:
        quiet_since = self._line.playout.quiet_since()
        if quiet_since is None or self.record.bot_began_after(self._spoke_at) is None:
            return math.inf
        done_at = quiet_since + quiet_s
        return None if now >= done_at else done_at

    def _bot_speaks_at(self, seconds: float, now: float) -> float | None:
        began = self.record.bot_began_after(self._spoke_at)
        if began is None:
            return math.inf
        return None if now >= began + seconds else began + seconds

    async def _wait_for_ear(self, timeout_s: float) -> None:
        if not await self._wait(lambda _: None if self._line.listening else math.inf, timeout_s):
            self._in_vain("VoiceAI Connect to listen")

    async def _wait(self, look: Callable[[float], float | None], timeout_s: float) -> bool:
        """Wait until `look` finds what it looks for.

        Args:
            look: Takes the time; returns None when it has been found, else when to look again if
                nothing happens before.
            timeout_s: How long at most.

        Returns:
            Whether it was found.
        """
        now = self._now()
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
                now = self._now()
            except TimeoutError:
                now = max(self._now(), wake_at)  # the two clocks differ by a rounding
        return True

    def _in_vain(self, what: str) -> None:
        self.record.in_vain.append(what)
        self._note("waited in vain for", what)

    # The sockets

    async def _attach(self, *, resume: bool) -> None:
        socket = self._socket = await self._connect()
        if resume:
            self._line.resume(self._now())
        else:
            self._line.initiate(self._now())
        self._reader = self._tasks.create_task(self._read(socket))
        self._writer = self._tasks.create_task(self._write(socket))
        self._after()

    async def _come_back(self, after_s: float) -> None:
        """Try to resume, until it has worked or the window is over."""
        give_up_at = self._now() + self._plan.resume_window_s
        while self._line.phase is CallPhase.LOST:
            await until(self._loop.time() + after_s)
            try:
                await self._attach(resume=True)
            except TransportError as error:
                if self._now() >= give_up_at:
                    self._line.fail(f"no resume: {error}", self._now())
                    self._after()

    async def _read(self, socket: CallerSocket) -> None:
        while (text := await socket.recv()) is not None:
            self._line.receive(text, self._now())
            self._after()
        self._lost(socket)

    async def _write(self, socket: CallerSocket) -> None:
        try:
            while True:
                texts = self._line.texts_to_send(self._now())
                if not texts and self._raw:
                    texts.append(self._raw.popleft())
                for text in texts:
                    await socket.send(text)
                if texts:
                    continue
                self._all_sent.set()
                if self._line.phase is CallPhase.OVER:
                    return
                self._to_send.clear()
                await self._to_send.wait()
        except TransportError:
            self._lost(socket)

    def _lost(self, socket: CallerSocket) -> None:
        if socket is not self._socket or self._over.is_set():
            return
        self._socket = None
        self._note("socket closed by the bot", "")
        if self._plan.resume_after_s is None:
            self._line.fail("the bot closed the socket without a hang-up", self._now())
        else:
            self._line.lose(self._now())
            self._returning = self._tasks.create_task(self._come_back(self._plan.resume_after_s))
        self._all_sent.set()
        self._stop_pipes()
        self._after()

    def _stop_pipes(self) -> None:
        for task in (self._reader, self._writer):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._reader = self._writer = None

    async def _flush(self) -> None:
        self._all_sent.clear()
        self._to_send.set()
        await self._all_sent.wait()

    async def _let_go(self) -> None:
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

    # Time

    def _now(self) -> float:
        return self._loop.time() - self._zero

    def _after(self) -> None:
        """See to whatever the line wants after something happened to it."""
        self._changed.set()
        self._to_send.set()
        self._disarm()
        if self._line.phase is CallPhase.OVER:
            self._over.set()
        elif (at := self._line.next_timer()) is not None:
            self._timer = self._loop.call_at(self._zero + at, self._fire, at)

    def _fire(self, at: float) -> None:
        self._line.handle_timer(max(self._now(), at))
        self._after()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self, what: str, words: str) -> None:
        if self._progress is not None:
            self._progress(self._now(), what, words)
