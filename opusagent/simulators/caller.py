"""The simulated VoiceAI Connect and the person on its line: it follows a script.

steps --> SimulatedCaller --> LiveLine --> CallerLine (what VoiceAI Connect does, and when)
                                 |
                                 +-- sockets, one after another, and the loop's clock
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable
from typing import Final, assert_never

from opusagent.clock import Clock, SystemClock
from opusagent.simulators.caller_line import CallPhase
from opusagent.simulators.caller_live import CallerSocket, Connect, LiveLine, Progress, until
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import (
    CallerPlan,
    CutSocket,
    HangUp,
    Hold,
    LoseBot,
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

__all__ = ["CallerSocket", "Connect", "Progress", "SimulatedCaller", "until"]

_CHUNK_S: Final = 1.0
"""A bot that has not sent a chunk for so long has nothing more to say."""
_FAST_CHUNKS: Final = 16
"""Chunks that are written before the socket is given the chance to take them."""


class SimulatedCaller:
    """One call. To be used once.

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
        self._conversation_id = conversation_id or str(uuid.uuid4())
        self._clock = clock or SystemClock()
        self._progress = progress
        self.record = CallRecord(began_at=math.nan)
        """What was measured so far."""
        self._live: LiveLine
        self._spoke_at = 0.0  # when the caller last wanted something of the bot

    async def run(self, steps: Iterable[Step]) -> CallRecord:
        """Make the call and follow the script, each step once the one before is done; hangs up at its end.

        Whatever goes wrong on the other side ends up in the record.
        """
        self.record.began_at = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            self._live = LiveLine(
                self._plan,
                self._connect,
                self.record,
                tasks,
                conversation_id=self._conversation_id,
                clock=self._clock,
                progress=self._progress,
            )
            driver = tasks.create_task(self._drive(steps))
            try:
                async with asyncio.timeout(self._plan.limit_s):
                    await self._live.over.wait()
            except TimeoutError:
                self.record.in_vain.append("the end of the script")
                self._hang_up(HangUp())
            finally:
                driver.cancel()
                await self._live.close()
        return self.record

    async def _drive(self, steps: Iterable[Step]) -> None:
        await self._live.open()
        await self._live.wait(
            lambda _: None if self._live.line.started else math.inf, timeout_s=math.inf
        )
        for step in steps:
            await self._do(step)
        self._hang_up(HangUp())

    async def _do(self, step: Step) -> None:
        live = self._live
        match step:
            case Say():
                await self._say(step)
            case WaitForBot(quiet_s=quiet_s, timeout_s=timeout_s):
                if not await live.wait(lambda now: self._bot_done_at(quiet_s, now), timeout_s):
                    self._in_vain("the bot to say something and finish")
            case WaitForBotToSpeak(seconds=seconds, timeout_s=timeout_s):
                if not await live.wait(lambda now: self._bot_spoke_at(seconds, now), timeout_s):
                    self._in_vain("the bot to speak")
            case Pause(seconds=seconds):
                await live.until(live.now() + seconds)
            case Press():
                await self._press(step)
            case SendNumbers():
                await self._send_numbers(step)
            case CutSocket():
                await self._cut(step)
            case LoseBot():
                await self._lose_bot(step)
            case _:
                self._do_at_once(step)

    def _do_at_once(self, step: Stall | Hold | SendText | HangUp) -> None:
        live = self._live
        match step:
            case Stall(seconds=seconds):
                live.line.stall(seconds, live.now())
            case Hold(seconds=seconds):
                live.line.hold(seconds, live.now())
            case SendText(text=text):
                live.send_raw(text)
            case HangUp():
                self._hang_up(step)
            case _:
                assert_never(step)
        live.after()

    async def _say(self, step: Say) -> None:
        live = self._live
        if not step.over_bot:
            await self._wait_for_ear(step.timeout_s)
        phrase = live.line.say(
            step.sound(live.line.rate_hz),
            step.label,
            live.now(),
            expects_answer=step.expects_answer,
        )
        live.after()
        await live.until(live.line.said_until())
        if phrase is not None:
            self._spoke_at = phrase.ended_at

    async def _press(self, step: Press) -> None:
        live = self._live
        for keys in [step.digits] if step.together else step.digits:
            live.line.press(keys, step.spelling, live.now())
            live.after()
            await live.until(live.now() + step.gap_s)
        self._spoke_at = live.now()

    async def _send_numbers(self, step: SendNumbers) -> None:
        await self._wait_for_ear(step.timeout_s)
        live = self._live
        audio = NumberedAudio(step.frame_ms, live.line.rate_hz)
        end = step.first + step.count
        self.record.numbers_sent = range(step.first, end)
        live.note("numbered frames", f"{step.count} from {step.first}")
        if step.fast:
            per_chunk = max(1, self._plan.chunk_ms // step.frame_ms)
            for n, number in enumerate(range(step.first, end, per_chunk), start=1):
                live.line.send_at_once(audio.frames(number, min(per_chunk, end - number)))
                if n % _FAST_CHUNKS == 0:
                    await live.flush()
            await live.flush()
        else:
            frames = audio.frames(step.first, step.count)
            live.line.say(frames, "numbers", live.now(), expects_answer=False)
            live.after()
            await live.until(live.line.said_until())
        self._spoke_at = live.now()

    async def _cut(self, step: CutSocket) -> None:
        live = self._live
        if step.behind_chunk:
            await self._wait_for_chunk()
        self._spoke_at = live.now()
        live.cut(half_open=step.half_open)
        if step.resume_after_s is None:
            live.line.vanish(live.now())
            live.after()
            return
        live.line.lose(live.now())
        live.after()
        await live.come_back(step.resume_after_s)
        await self._wait_for(CallPhase.UP)

    async def _lose_bot(self, step: LoseBot) -> None:
        live = self._live
        self._spoke_at = live.now()
        live.resume_after_s = step.resume_after_s
        step.kill()
        live.note("bot killed")
        await self._wait_for(CallPhase.LOST)
        await self._wait_for(CallPhase.UP)

    async def _wait_for(self, phase: CallPhase) -> None:
        line = self._live.line
        await self._live.wait(lambda _: None if line.phase is phase else math.inf, math.inf)

    async def _wait_for_chunk(self) -> None:
        """Until the next chunk of what the bot plays has come; not longer than it plays."""
        playing = self._live.line.playout.open
        if playing is not None:
            came_s, playout = playing.received_s, self._live.line.playout
            await self._live.wait(
                lambda _: (
                    math.inf if playout.open is playing and playing.received_s == came_s else None
                ),
                _CHUNK_S,
            )

    def _hang_up(self, step: HangUp) -> None:
        live = self._live
        live.line.hang_up(step.reason_code, step.reason, live.now())
        live.after()

    def _bot_done_at(self, quiet_s: float, now: float) -> float | None:
        quiet_since = self._live.line.playout.quiet_since()
        if quiet_since is None or self.record.bot_began_after(self._spoke_at) is None:
            return math.inf
        done_at = quiet_since + quiet_s
        return None if now >= done_at else done_at

    def _bot_spoke_at(self, seconds: float, now: float) -> float | None:
        began = self.record.bot_began_after(self._spoke_at)
        if began is None:
            return math.inf
        return None if now >= began + seconds else began + seconds

    async def _wait_for_ear(self, timeout_s: float) -> None:
        line = self._live.line
        if not await self._live.wait(lambda _: None if line.listening else math.inf, timeout_s):
            self._in_vain("VoiceAI Connect to listen")

    def _in_vain(self, what: str) -> None:
        self.record.in_vain.append(what)
        self._live.note("waited in vain for", what)
