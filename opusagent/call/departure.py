"""How this side ends a call, or lets go of it: never in the middle of what the bot is saying."""

from __future__ import annotations

from opusagent.audiocodes.events import TransferStatus
from opusagent.call.conversation import Conversation
from opusagent.call.events import CloseReason, EndedBy, HangUpSocket
from opusagent.call.farewell import Farewell
from opusagent.call.line import Line, Timer
from opusagent.call.phase import Phase
from opusagent.call.plan import Recording
from opusagent.call.recovery import GaveUp
from opusagent.call.telephone import TRANSFER_S, transfer_params

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
        self._failure: str | None = None  # why no stream can be had
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
        """Go once the goodbye has been heard. `margin` is that of `Farewell.wait_until`."""
        line = self._line
        if self._farewell is None or line.talk is None:
            return
        if (again_at := self._farewell.wait_until(now, **margin)) is not None:
            line.timers.set(Timer.LEAVE, again_at)
        else:
            self._part(line.talk, now)

    def _part(self, talk: Conversation, now: float) -> None:
        """The goodbye was heard, or there is no time for it."""
        line = self._line
        on_failure = line.plan.agent.failure
        if self._failure is not None and on_failure.then == "error":
            self._fail_over(now)
            return
        self._await_end(SESSION_END_S, now)
        # Nothing is to be said any more; the last texts may still come while the session ends.
        talk.model.close_all(CloseReason.CALL_ENDED)
        self._send_away(now)

    def _send_away(self, now: float) -> None:
        """Have VoiceAI Connect end the call, or take the caller to somebody else."""
        line = self._line
        on_failure = line.plan.agent.failure
        if self._failure is not None and on_failure.then == "transfer":
            line.timers.set(Timer.END, now + TRANSFER_S)
            to = line.plan.agent.telephone.targets[on_failure.target]
            params = transfer_params(to, self._reason or "")
            line.phone.wire.send_activity("transfer", activity_params=params)
        else:
            line.timers.set(Timer.END, now + SESSION_END_S)
            line.phone.wire.hang_up(self._reason or "")

    def _await_end(self, seconds: float, now: float) -> None:
        """All is said: VoiceAI Connect has the last word."""
        line = self._line
        line.phase = Phase.ENDING
        line.timers.clear(Timer.LEAVE, Timer.START)
        line.timers.set(Timer.END, now + seconds)
        if line.talk is not None:
            line.talk.end(now)

    def hang_up_again(self, now: float) -> None:
        """The caller is back, and the hang-up or transfer was lost with the other websocket.

        So was what never left of the goodbye: it comes first.
        """
        line = self._line
        line.phone.accept()
        line.phone.go_on(now)
        line.phase = Phase.LEAVING
        line.timers.clear(Timer.END)
        self._farewell = Farewell(line.phone, lambda _: False, now)
        self.leave(now)

    def end_did_not_come(self, now: float) -> None:
        """VoiceAI Connect does not end the session: we do."""
        self._line.last.append(HangUpSocket(1000, "session.end did not come"))
        # The model's reason is for AudioCodes: it may have the caller's words in it, and this is logged.
        self._line.end(self.by, self._failure or "session.end did not come", now)

    @property
    def by(self) -> EndedBy:
        """Who ends a call that is about to end."""
        return EndedBy.BOT if self._failure is None else EndedBy.FAILURE

    # A caller whose websocket was lost

    def interrupted(self) -> None:
        """The caller is gone in the middle of the goodbye: hang up when she is back."""
        self._farewell = None

    def caller_is_back(self, now: float) -> None:
        """Do what she was not there for."""
        if self._reason is not None:
            self.hang_up(self._reason, now)

    def did_not_come_back(self, reason: str, now: float) -> None:
        """Where the bot was about to hang up, there is nothing to come back to."""
        by = EndedBy.SOCKET if self._reason is None else EndedBy.BOT
        self._line.end(by, reason, now)

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
        if self._drain_by is None or line.phase in (Phase.ENDING, Phase.OVER):
            return  # where we have hung up already, the end comes by itself
        talk = line.talk
        busy = talk is not None and (talk.bot_is_busy(now) or talk.actions.tools_running)
        speaks = (
            line.phase is Phase.LEAVING or busy or (talk is not None and line.phone.audible(now))
        )
        if speaks and line.phase is not Phase.DETACHED and now < self._drain_by:
            line.timers.set(Timer.DRAIN, min(now + LOOK_AGAIN_S, self._drain_by))
            return
        if self._farewell is not None and line.talk is not None:
            self._part(line.talk, now)
            return
        if line.talk is not None and line.state is not None:
            speech = line.talk.let_go(now)
            line.state.audio_buffer = [speech] if speech else []
        line.last.append(HangUpSocket(1012, "service restart"))
        # A bot that has said goodbye is not to be found silent by a caller who comes back elsewhere.
        by = EndedBy.SHUTDOWN if self._reason is None else EndedBy.BOT
        line.end(by, "this process ends", now)

    def give_up(self, verdict: GaveUp, now: float) -> None:
        """No stream can be had: do what the agent's file says."""
        line = self._line
        if line.talk is not None and line.talk.actions.telephone.leaving is not None:
            self.hang_up(line.talk.actions.telephone.leaving, now)
        if line.phase in (Phase.LEAVING, Phase.ENDING):
            return  # the goodbye is being played out, and needs no model
        self._failure = verdict.failure.code
        self._reason = line.plan.agent.goodbye_on_failure
        on_failure, sound = line.plan.agent.failure, line.plan.failure_audio
        if line.talk is None or line.phase is Phase.DETACHED:
            self._fail_over(now)
        elif line.talk.actions.telephone.transferring:
            line.talk.model.close_all(CloseReason.CALL_ENDED)
            self._await_end(TRANSFER_S, now)
        elif on_failure.then == "error" and not sound.by_rate:
            self._fail_over(now)
        else:
            self._apologise(line.talk, sound, now)

    def _apologise(self, talk: Conversation, sound: Recording, now: float) -> None:
        """Have the caller hear a recording before she is let go; one whose call was not taken yet, too."""
        line = self._line
        if line.phase is Phase.STARTING:
            line.phone.accept()
        talk.model.close_all(CloseReason.CALL_ENDED)
        if pcm := sound.at(line.phone.play_format.sample_rate_hz):
            line.phone.play(pcm, "failure", now)
            line.phone.complete_turn(now)
        line.phase = Phase.LEAVING
        line.timers.clear(Timer.ACCEPT, Timer.START)
        line.phone.sound.over(now)  # nobody is to wait for it
        self._farewell = Farewell(line.phone, lambda _: False, now)
        self.leave(now)

    def transfer_status(self, status: TransferStatus, now: float) -> None:
        """What became of the transfer of a caller whom no model can serve."""
        transfers = self._failure is not None and self._line.phase is Phase.ENDING
        if transfers and status.status.lower() != "answered":
            self._fail_over(now)

    def _fail_over(self, now: float) -> None:
        """VoiceAI Connect's fail-over (a prompt, a transfer) runs on `session.error`."""
        line = self._line
        line.phone.wire.reject(line.plan.agent.goodbye_on_failure)
        line.last.append(HangUpSocket(1000, "the model cannot be reached"))
        line.end(EndedBy.FAILURE, self._failure or "", now)
