"""How this side ends a call, or lets go of it: never in the middle of what the bot is saying."""

from __future__ import annotations

from opusagent.call.events import CloseReason, EndedBy, HangUpSocket
from opusagent.call.farewell import Farewell
from opusagent.call.line import Line, Timer
from opusagent.call.model_side import GaveUp
from opusagent.call.phase import Phase

__all__ = ["Departure"]

LOOK_AGAIN_S = 0.1
"""How often a call that is to be let go looks whether the bot has been heard."""

SESSION_END_S = 5.0
"""How long VoiceAI Connect may take to end the session that we asked it to hang up."""


class Departure:
    """Hangs up, drains and gives up."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._farewell: Farewell | None = None
        self._reason: str | None = None  # why we hang up, if we do
        self._drain_by: float | None = None

    # Hanging up

    def hang_up(self, reason: str, now: float) -> None:
        """End the call once the goodbye has been heard, or when the caller is back."""
        line = self._line
        if line.phase is Phase.DETACHED:
            self._reason = reason
        elif line.talk is None or line.phase is Phase.STARTING:
            line.refuse(reason, now)
        elif line.phase is Phase.TALKING:
            line.phase = Phase.LEAVING
            self._reason = reason
            self._farewell = Farewell(line.phone, line.talk.bot_is_busy, now)
            self.leave(now)

    def leave(self, now: float, **margin: float) -> None:
        """Hang up once the goodbye has been heard. `margin` is that of `Farewell.wait_until`."""
        line = self._line
        if self._farewell is None or line.talk is None:
            return
        if (again_at := self._farewell.wait_until(now, **margin)) is not None:
            line.timers.set(Timer.LEAVE, again_at)
            return
        line.phase = Phase.ENDING
        line.timers.clear(Timer.LEAVE, Timer.START)
        line.timers.set(Timer.END, now + SESSION_END_S)
        line.talk.end(now)
        # Nothing is to be said any more; the last texts may still come while the session ends.
        line.talk.model.close_all(CloseReason.CALL_ENDED)
        line.phone.wire.hang_up(self._reason or "")

    def hang_up_again(self, now: float) -> None:
        """The caller is back, and the hang-up was lost with the other websocket."""
        self._line.phone.accept()
        self._line.phone.wire.hang_up(self._reason or "")
        self._line.timers.set(Timer.END, now + SESSION_END_S)

    def end_did_not_come(self, now: float) -> None:
        """VoiceAI Connect does not end the session: we do."""
        self._line.last.append(HangUpSocket(1000, "session.end did not come"))
        self._line.end(EndedBy.BOT, self._reason or "", now)

    # A caller whose websocket was lost

    def interrupted(self) -> None:
        """The caller is gone in the middle of the goodbye: hang up when she is back."""
        self._farewell = None

    def caller_is_back(self, now: float) -> None:
        """Do what she was not there for."""
        if self._reason is not None:
            self.hang_up(self._reason, now)

    def did_not_come_back(self, now: float) -> None:
        """Where the bot was about to hang up, there is nothing to come back to."""
        by = EndedBy.SOCKET if self._reason is None else EndedBy.BOT
        self._line.end(by, "the caller did not come back", now)

    # Letting go, giving up

    @property
    def draining(self) -> bool:
        """Whether the caller is to be let go."""
        return self._drain_by is not None

    def drain_by(self, at: float, now: float) -> None:
        """Let go of the caller once the bot has been heard, at the latest then."""
        self._drain_by = at
        self.drain(now)

    def drain(self, now: float) -> None:
        """Let go of the caller if the bot has been heard, or time is up."""
        line = self._line
        if self._drain_by is None or line.phase is Phase.OVER:
            return
        speaks = line.talk is not None and (line.phone.audible(now) or line.talk.bot_is_busy(now))
        if speaks and line.phase is not Phase.DETACHED and now < self._drain_by:
            line.timers.set(Timer.DRAIN, min(now + LOOK_AGAIN_S, self._drain_by))
            return
        if line.talk is not None and line.state is not None:
            speech = line.talk.let_go(now)
            line.state.audio_buffer = [speech] if speech else []
        line.last.append(HangUpSocket(1012, "service restart"))
        line.end(EndedBy.SHUTDOWN, "this process ends", now)

    def give_up(self, verdict: GaveUp, now: float) -> None:
        """No stream can be had."""
        line = self._line
        leaving = None if line.talk is None else line.talk.telephone.leaving
        if leaving is not None:
            self.hang_up(leaving, now)
        if line.phase in (Phase.LEAVING, Phase.ENDING):
            return  # the goodbye is being played out, and needs no model
        # VoiceAI Connect's fail-over (a prompt, a transfer) runs on session.error.
        line.phone.wire.reject(line.plan.agent.goodbye_on_failure)
        line.last.append(HangUpSocket(1000, "the model cannot be reached"))
        line.end(EndedBy.FAILURE, verdict.failure.code, now)
