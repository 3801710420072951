"""A caller whose websocket was lost, and who comes back on another."""

from __future__ import annotations

from collections.abc import Sequence

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes import events as phone_events
from opusagent.call.departure import Departure
from opusagent.call.farewell import said_goodbye
from opusagent.call.line import Line, Timer
from opusagent.call.opening import Opening
from opusagent.call.phase import Phase
from opusagent.errors import NoCommonFormat
from opusagent.models.session_state import SessionState, SessionStatus

__all__ = ["Comeback"]


class Comeback:
    """Lets a conversation go on, in this process or from what another has stored.

    Args:
        resume_from: The conversation as another process left it, if the caller comes back to it here.
        start_afresh: Whether a caller who comes back to an unknown conversation gets a new one.
    """

    def __init__(
        self,
        line: Line,
        opening: Opening,
        departure: Departure,
        *,
        resume_from: SessionState | None,
        start_afresh: bool,
    ) -> None:
        self._line = line
        self._opening = opening
        self._departure = departure
        self._resume_from = resume_from
        self._start_afresh = start_afresh
        self._detached_at = 0.0

    def detach(self, now: float, unsent: Sequence[str]) -> None:
        """The websocket is gone; she has a while to come back. For `unsent` see `CallerLost`."""
        line = self._line
        self._departure.interrupted()
        line.phase = Phase.DETACHED
        self._detached_at = now
        line.timers.clear(Timer.ACCEPT, Timer.START, Timer.LEAVE)
        line.timers.set(Timer.GRACE, now + line.plan.resume_grace_s)
        line.report("caller lost")
        self._opening.caller_lost(now)
        if line.talk is not None:
            line.talk.caller_lost(now, unsent)
        if line.state is not None:
            line.state.status = SessionStatus.PAUSED

    def requested(self, event: phone_events.ResumeRequested, now: float) -> None:
        """She is back."""
        line = self._line
        if line.phase in (Phase.DETACHED, Phase.ENDING):
            self._go_on_here(event, now)
        elif self._resume_from is not None and line.phase is Phase.WAITING:
            self._go_on_from(self._resume_from, event, now)
        elif self._start_afresh and line.phase is Phase.WAITING:
            line.report("started afresh")
            asked = phone_events.SessionRequested(
                conversation_id=event.conversation_id,
                caller="",
                bot_name="",
                offered=event.offered or tuple(MediaFormat),
                expects_audio=True,
            )
            self._opening.requested(asked, now)
        else:
            line.refuse("the conversation is not known here", now)

    def _go_on_here(self, event: phone_events.ResumeRequested, now: float) -> None:
        """The streams have lived on: nothing is lost and nothing is opened."""
        line = self._line
        if line.talk is None or line.state is None:
            return
        if not line.phone.can_go_on(event.offered):
            line.refuse("the media formats of this conversation are not offered again", now)
            return
        if line.phase is Phase.ENDING:
            self._departure.hang_up_again(now)
            return
        line.timers.clear(Timer.GRACE)
        line.phase = Phase.TALKING
        line.state.resumed_count += 1
        self._accept(line.state, "same process", away_s=now - self._detached_at)
        self._opening.await_start(now)
        line.talk.caller_found(now)
        self._departure.caller_is_back(now)

    def _go_on_from(
        self, stored: SessionState, event: phone_events.ResumeRequested, now: float
    ) -> None:
        """A new stream is told all that is known of the conversation."""
        line = self._line
        state = line.state = stored.model_copy(update={"audio_buffer": []})
        try:
            line.phone.restore_formats(stored.media_format, stored.play_format, event.offered)
        except NoCommonFormat as error:
            line.refuse(str(error), now)
            return
        line.phase = Phase.TALKING
        talk = self._opening.begin_conversation(now)
        if stored.conversation_history or stored.function_calls or stored.audio_buffer:
            self._opening.has_started()
            talk.restore(stored, now)
        else:  # nobody has said anything: the call is still to begin
            self._opening.await_start(now)
        line.saved = stored
        talk.changed = True
        self._accept(state, "other process", away_s=None)
        if (reason := said_goodbye(stored)) is not None:
            self._departure.hang_up(reason, now)
        elif not self._opening.waits:
            talk.model.open(now)

    def _accept(self, state: SessionState, where: str, *, away_s: float | None) -> None:
        phone = self._line.phone
        phone.accept()
        state.status = SessionStatus.ACTIVE
        facts = state.metadata.items()
        state.metadata = {key: fact for key, fact in facts if key not in ("ended_by", "end_reason")}
        state.media_format, state.play_format = phone.caller_format, phone.play_format
        self._line.report(
            "session resumed",
            where=where,
            away_ms=None if away_s is None else round(away_s * 1000),
            caller_format=state.media_format,
            play_format=state.play_format,
            history_items=len(state.conversation_history),
            resumed_count=state.resumed_count,
        )
