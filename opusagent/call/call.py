"""One phone call: three sources drive it - the caller, the model, a timer.

`Call` begins and ends the call and gives each input to the side that it concerns. It awaits nothing and
reads no clock: what it is told comes in as inputs with the time, what it wants leaves as effects, in order.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import assert_never

from pydantic import JsonValue

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes import events as phone_events
from opusagent.call.conversation import Conversation
from opusagent.call.events import (
    CallerAttached,
    CallerLost,
    CallInput,
    CallOutcome,
    CloseReason,
    Drain,
    Effect,
    EndedBy,
    Fenced,
    Finish,
    FromCaller,
    FromSonic,
    HangUp,
    HangUpSocket,
    Report,
    Save,
    StreamId,
    StreamLost,
    StreamOpened,
    ToCaller,
    ToolFinished,
)
from opusagent.call.farewell import Farewell
from opusagent.call.legs import LegRole
from opusagent.call.model_side import GaveUp
from opusagent.call.notes import differs, note_of, transcript_of
from opusagent.call.phase import Phase, status_after
from opusagent.call.phone_side import PhoneSide
from opusagent.call.plan import Ambient, CallPlan
from opusagent.call.timers import Timers
from opusagent.errors import LocalProtocolError, NoCommonFormat, RemoteProtocolError
from opusagent.models.session_state import SessionState, SessionStatus
from opusagent.sonic.failures import Failure

__all__ = ["Ambient", "Call", "Phase"]

ACCEPT_AFTER_S = 1.0
"""VoiceAI Connect was answered after 0.7 s on a live capture; how long it waits is not documented."""

START_AFTER_S = 1.5
"""The `start` activity came 60 ms after the answer on a live capture; a tenant may suppress it."""

LOOK_AGAIN_S = 0.1
"""How often a call that is to be let go looks whether the bot has been heard."""

SESSION_END_S = 5.0
"""How long VoiceAI Connect may take to end the session that we asked it to hang up."""


class Timer(enum.Enum):
    """What the call waits for, apart from its parts."""

    ACCEPT = "accept"
    START = "start"
    LEAVE = "leave"
    GRACE = "grace"
    DRAIN = "drain"
    END = "end"


class Call:
    """The whole of one telephone call between its websocket and its streams.

    Args:
        plan: The agent and the settings of the line.
        ambient: Ids, calendar and chance.
        resume_from: The conversation as another process left it, if the caller comes back to it here.
        start_afresh: Whether a caller who comes back to an unknown conversation gets a new one.
    """

    def __init__(
        self,
        plan: CallPlan,
        *,
        ambient: Ambient,
        resume_from: SessionState | None = None,
        start_afresh: bool = False,
    ) -> None:
        """Wait for the first message."""
        self._resume_from = resume_from
        self._start_afresh = start_afresh
        self._detached_at = 0.0
        self._fenced = False
        self._drain_by: float | None = None
        self._hang_up_reason: str | None = None  # to be done when the caller is back
        self._plan = plan
        self._ambient = ambient
        self._out: list[Effect] = []
        self._last: list[Effect] = []  # what must come after every text to the caller
        self._timers: Timers[Timer] = Timers()
        goes_on = resume_from is not None or start_afresh
        self._phone = PhoneSide(
            plan,
            new_id=ambient.new_id,
            utcnow=ambient.utcnow,
            out=self._out,
            # Nobody here knows which play streams there were: the clock has passed them all.
            first_play=round(ambient.utcnow().timestamp() * 1000) if goes_on else 1,
        )
        self._talk: Conversation | None = None
        self._farewell: Farewell | None = None
        self._state: SessionState | None = None
        self._saved: SessionState | None = None
        self._start_came = False
        self._started = False  # the start activity came, or is taken as come
        self._initiated_at = 0.0
        self._phase = Phase.WAITING

    # The three sources

    def handle(self, event: CallInput, now: float) -> list[Effect]:
        """Take an input; returns what is to be done, in order."""
        if self._phase is Phase.OVER:
            return self._too_late(event)
        match event:
            case FromCaller(text):
                self._from_caller(text, now)
            case FromSonic(stream, payload):
                self._from_sonic(stream, payload, now)
            case StreamOpened(stream, expires_at):
                self._stream_opened(stream, expires_at, now)
            case StreamLost(stream, failure):
                self._stream_lost(stream, failure, now)
            case ToolFinished(call, result):
                if self._talk is not None:
                    self._talk.tool_finished(call, result, now)
            case CallerAttached(text):
                self._caller_attached(text, now)
            case CallerLost() | HangUp() | Drain() | Fenced():
                self._must_end(event, now)
            case _:
                assert_never(event)
        self._look(now)
        return self._effects()

    def handle_timer(self, now: float) -> list[Effect]:
        """Do what is due by now."""
        while self._phase is not Phase.OVER and (due := self._timers.pop_due(now)) is not None:
            self._timer(due, now)
        if self._phase is not Phase.OVER:
            self._phone.pump(now)
        if self._talk is not None:
            self._model_timer(self._talk, now)
            if self._phase is not Phase.OVER:
                self._talk.handle_timer(now)
        self._look(now)
        return self._effects()

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do, in monotonic seconds."""
        if self._phase is Phase.OVER:
            return None
        sources = [self._timers.next(), self._phone.next_timer()]
        if self._talk is not None:
            sources += [self._talk.next_timer(), self._talk.model.next_timer()]
        return min((at for at in sources if at is not None), default=None)

    def audio_encoder(self, stream: StreamId) -> Callable[[bytes], bytes]:
        """What makes the event that carries audio on a stream, just before it is sent.

        Raises:
            LocalProtocolError: If the stream is not of this call.
        """
        leg = None if self._talk is None else self._talk.model.leg(stream)
        if leg is None:
            raise LocalProtocolError(f"stream {stream} is not of this call")
        return leg.wire.encode_audio

    @property
    def caller_bytes_per_second(self) -> int:
        """Of the audio that goes to the streams: 16-bit PCM at the negotiated rate."""
        return self._phone.caller_format.sample_rate_hz * 2

    @property
    def phase(self) -> Phase:
        """How far the call has come."""
        return self._phase

    @property
    def state(self) -> SessionState | None:
        """What is known of the conversation; None before `session.initiate`."""
        return self._state

    # The caller

    def _from_caller(self, text: str | bytes, now: float) -> None:
        try:
            events = self._phone.wire.receive(text)
        except RemoteProtocolError as error:
            self._report("broken message", wire=error.wire, got=error.got)
            return
        for event in events:
            self._caller_event(event, now)

    def _caller_event(self, event: phone_events.CallerEvent, now: float) -> None:
        match event:
            case (
                phone_events.CallerAudio()
                | phone_events.UserStreamOpened()
                | phone_events.UserStreamClosed()
                | phone_events.DtmfPressed()
            ):
                if self._talk is not None:
                    self._talk.caller_event(event, now)
            case phone_events.SessionRequested():
                self._session_requested(event, now)
            case phone_events.ResumeRequested():
                self._resume_requested(event, now)
            case phone_events.CallStarted():
                private: dict[str, JsonValue] = {"caller": event.caller, "callee": event.callee}
                self._out.append(Report("call started", {}, private))
                self._start_came = True
                self._call_started(now)
            case phone_events.CallerHungUp():
                self._last.append(HangUpSocket(1000, "session ended"))
                by = EndedBy.BOT if self._phase is Phase.ENDING else EndedBy.CALLER
                self._end(by, f"{event.reason_code} {event.reason}".strip(), now)
            case phone_events.PlayFinished():
                self._out.append(note_of(event))
                if self._phase is Phase.LEAVING:
                    self._leave(now, margin_s=0.0)
            case _:
                self._out.append(note_of(event))

    def _session_requested(self, event: phone_events.SessionRequested, now: float) -> None:
        if self._phase is not Phase.WAITING:
            return
        at = self._ambient.utcnow()
        self._state = SessionState(
            conversation_id=event.conversation_id,
            bot_name=event.bot_name or "voice-bot",
            caller=event.caller or "unknown",
            agent=self._plan.agent.model_dump(mode="json"),
            metadata={"agent": self._plan.agent_name},
            created_at=at,
            last_activity=at,
        )
        if not event.expects_audio:
            self._refuse(
                "this bot speaks: the bot connection needs voice streaming (directTTS)", now
            )
            return
        try:
            self._phone.choose_formats(event.offered)
        except NoCommonFormat as error:
            self._refuse(str(error), now)
            return
        self._state.media_format = self._phone.caller_format
        self._state.play_format = self._phone.play_format
        self._phase = Phase.STARTING
        self._initiated_at = now
        self._timers.set(Timer.ACCEPT, now + ACCEPT_AFTER_S)
        self._talk = self._new_conversation(now)
        self._talk.model.open(now)
        self._talk.changed = True

    def _new_conversation(self, now: float) -> Conversation:
        return Conversation(
            self._plan,
            ambient=self._ambient,
            phone=self._phone,
            out=self._out,
            save=self._save,
            now=now,
        )

    def _accept(self, now: float) -> None:
        """Answer the caller: the stream is there, or VoiceAI Connect has waited long enough."""
        if self._phase is not Phase.STARTING or self._state is None:
            return
        self._phase = Phase.TALKING
        self._timers.clear(Timer.ACCEPT)
        self._timers.set(Timer.START, now if self._start_came else now + START_AFTER_S)
        self._phone.accept()
        self._state.status = SessionStatus.ACTIVE
        self._report(
            "call accepted",
            after_ms=round((now - self._initiated_at) * 1000),
            caller_format=self._phone.caller_format,
            play_format=self._phone.play_format,
        )

    def _call_started(self, now: float) -> None:
        if self._started or self._phase is not Phase.TALKING or self._talk is None:
            return
        self._started = True
        self._timers.clear(Timer.START)
        if self._plan.barge_in:
            self._phone.wire.configure({"bargeIn": True})
        self._talk.start(now)

    # A caller whose websocket was lost

    def _caller_attached(self, text: str | bytes, now: float) -> None:
        """The caller is back: a websocket that is still open loses to the new one."""
        if self._talk is None:
            return
        if self._phase not in (Phase.DETACHED, Phase.ENDING):
            self._detach(now)
        self._phone.attach()
        self._from_caller(text, now)

    def _detach(self, now: float) -> None:
        if self._farewell is not None:
            self._hang_up_reason, self._farewell = self._farewell.reason, None
        self._phase = Phase.DETACHED
        self._detached_at = now
        self._timers.clear(Timer.ACCEPT, Timer.START, Timer.LEAVE)
        self._timers.set(Timer.GRACE, now + self._plan.resume_grace_s)
        self._report("caller lost")
        if self._talk is not None:
            self._talk.caller_lost(now)
        if self._state is not None:
            self._state.status = SessionStatus.PAUSED

    def _resume_requested(self, event: phone_events.ResumeRequested, now: float) -> None:
        if self._phase in (Phase.DETACHED, Phase.ENDING):
            self._resume_here(event, now)
        elif self._resume_from is not None and self._phase is Phase.WAITING:
            self._resume_stored(self._resume_from, event, now)
        elif self._start_afresh and self._phase is Phase.WAITING:
            self._report("started afresh")
            asked = phone_events.SessionRequested(
                conversation_id=event.conversation_id,
                caller="",
                bot_name="",
                offered=event.offered or tuple(MediaFormat),
                expects_audio=True,
            )
            self._session_requested(asked, now)
        else:
            self._refuse("the conversation is not known here", now)

    def _resume_here(self, event: phone_events.ResumeRequested, now: float) -> None:
        """The streams have lived on: nothing is lost and nothing is opened."""
        if self._talk is None or self._state is None:
            return
        if not self._phone.can_go_on(event.offered):
            self._refuse("the media formats of this conversation are not offered again", now)
            return
        if self._phase is Phase.ENDING:  # the hang-up was lost with the other websocket
            self._phone.accept()
            self._phone.wire.hang_up(self._farewell.reason if self._farewell else "")
            self._timers.set(Timer.END, now + SESSION_END_S)
            return
        self._timers.clear(Timer.GRACE)
        self._phase = Phase.TALKING
        self._state.resumed_count += 1
        self._go_on(self._state, "same process", away_s=now - self._detached_at, now=now)
        if not self._started:
            self._timers.set(Timer.START, now if self._start_came else now + START_AFTER_S)
        self._talk.caller_found(now)
        if self._hang_up_reason is not None:
            reason, self._hang_up_reason = self._hang_up_reason, None
            self._hang_up(reason, now)

    def _resume_stored(
        self, stored: SessionState, event: phone_events.ResumeRequested, now: float
    ) -> None:
        """A new stream is told all that is known of the conversation."""
        self._state = stored.model_copy(update={"audio_buffer": []})
        try:
            self._phone.restore_formats(stored.media_format, stored.play_format, event.offered)
        except NoCommonFormat as error:
            self._refuse(str(error), now)
            return
        self._initiated_at = now
        self._phase = Phase.TALKING
        self._talk = self._new_conversation(now)
        if stored.conversation_history or stored.function_calls or stored.audio_buffer:
            self._started = True
            self._talk.restore(stored, now)
        else:  # nobody has said anything: the call is still to begin
            self._timers.set(Timer.START, now + START_AFTER_S)
        self._saved = stored
        self._talk.changed = True
        self._talk.model.open(now)
        self._go_on(self._state, "other process", away_s=None, now=now)

    def _go_on(self, state: SessionState, where: str, *, away_s: float | None, now: float) -> None:
        self._phone.accept()
        state.status = SessionStatus.ACTIVE
        state.media_format, state.play_format = self._phone.caller_format, self._phone.play_format
        self._report(
            "session resumed",
            where=where,
            away_ms=None if away_s is None else round(away_s * 1000),
            caller_format=state.media_format,
            play_format=state.play_format,
            history_items=len(state.conversation_history),
            resumed_count=state.resumed_count,
        )

    # The model

    def _stream_opened(self, stream: StreamId, expires_at: float | None, now: float) -> None:
        if self._talk is not None and self._talk.model.opened(stream, now, expires_at):
            self._accept(now)
            self._talk.stream_opened(now)

    def _stream_lost(self, stream: StreamId, failure: Failure, now: float) -> None:
        leg = None if self._talk is None else self._talk.model.leg(stream)
        if self._talk is None or leg is None or leg.role is LegRole.CLOSING:
            return
        was_live = leg is self._talk.model.live
        self._talk.stream_lost(leg, failure, now)
        if (gave_up := self._talk.model.lost(stream, failure, now)) is not None:
            self._give_up(gave_up, now)
        elif was_live and self._talk.model.live is not None:  # the standby took over at once
            self._talk.stream_opened(now)

    def _from_sonic(self, stream: StreamId, payload: bytes, now: float | None) -> None:
        """Take an event of a stream; `now` is None once the call is over."""
        leg = None if self._talk is None else self._talk.model.leg(stream)
        if self._talk is None or leg is None:
            return
        try:
            events = leg.wire.receive(payload)
        except RemoteProtocolError as error:
            self._report("broken message", wire=error.wire, got=error.got)
            return
        for event in events:
            if now is None:
                self._talk.late_event(leg, event)
            else:
                self._talk.model_event(leg, event, now)

    def _too_late(self, event: CallInput) -> list[Effect]:
        """The call is over: only what a stream says while it is closed still counts."""
        if isinstance(event, FromSonic):
            self._from_sonic(event.stream, event.payload, None)
        return self._effects()

    def _model_timer(self, talk: Conversation, now: float) -> None:
        while self._phase is not Phase.OVER:
            match talk.model.handle_timer(now):
                case StreamLost(stream, failure):
                    self._stream_lost(stream, failure, now)
                case GaveUp() as verdict:
                    self._give_up(verdict, now)
                case None:
                    return

    def _look(self, now: float) -> None:
        if self._talk is not None and self._phase is not Phase.OVER:
            self._talk.look(now)

    # Ending

    def _must_end(self, event: CallerLost | HangUp | Drain | Fenced, now: float) -> None:
        match event:
            case CallerLost():
                self._caller_lost(now)
            case HangUp(reason):
                self._hang_up(reason, now)
            case Drain(within_s):
                self._drain_by = now + within_s
                self._drain(now)
            case Fenced():
                self._fenced = True
                self._phone.wire.lost()
                self._last.append(HangUpSocket(1000, "resumed elsewhere"))
                self._end(EndedBy.FENCED, "another process has the conversation", now)

    def _caller_lost(self, now: float) -> None:
        if self._phase is Phase.DETACHED:
            return
        goes_on = self._talk is not None and self._phase is not Phase.ENDING
        if goes_on and self._drain_by is not None:
            self._drain_by = now
            self._detach(now)
            self._drain(now)
        elif goes_on and self._plan.resume_grace_s > 0:
            self._detach(now)
        else:
            by = EndedBy.BOT if self._phase is Phase.ENDING else EndedBy.SOCKET
            self._end(by, "the websocket closed without session.end", now)

    def _drain(self, now: float) -> None:
        """Let go of the caller once the bot has been heard, or time is up."""
        if self._drain_by is None or self._phase in (Phase.ENDING, Phase.OVER):
            return  # where we have hung up already, the end comes by itself
        speaks = self._phase is Phase.LEAVING or (
            self._talk is not None and (self._phone.audible(now) or self._talk.bot_is_busy(now))
        )
        if speaks and self._phase is not Phase.DETACHED and now < self._drain_by:
            self._timers.set(Timer.DRAIN, min(now + LOOK_AGAIN_S, self._drain_by))
            return
        if self._farewell is not None and self._talk is not None:
            self._part(self._farewell, self._talk, now)
            return
        if self._talk is not None and self._state is not None:
            speech = self._talk.let_go(now)
            self._state.audio_buffer = [speech] if speech else []
        self._last.append(HangUpSocket(1012, "service restart"))
        # A bot that has said goodbye is not to be found silent by a caller who comes back elsewhere.
        by = EndedBy.SHUTDOWN if self._hang_up_reason is None else EndedBy.BOT
        self._end(by, "this process ends", now)

    def _hang_up(self, reason: str, now: float) -> None:
        if self._phase is Phase.DETACHED:
            self._hang_up_reason = reason
        elif self._talk is None or self._phase is Phase.STARTING:
            self._refuse(reason, now)
        elif self._phase is Phase.TALKING:
            self._phase = Phase.LEAVING
            self._farewell = Farewell(reason, self._phone, self._talk, now)
            self._leave(now)

    def _leave(self, now: float, **margin: float) -> None:
        """Hang up once the goodbye has been heard. `margin` is that of `Farewell.wait_until`."""
        if self._farewell is None or self._talk is None:
            return
        if (again_at := self._farewell.wait_until(now, **margin)) is not None:
            self._timers.set(Timer.LEAVE, again_at)
        else:
            self._part(self._farewell, self._talk, now)

    def _part(self, farewell: Farewell, talk: Conversation, now: float) -> None:
        self._phase = Phase.ENDING
        self._timers.clear(Timer.LEAVE, Timer.START)
        self._timers.set(Timer.END, now + SESSION_END_S)
        talk.end(now)
        # Nothing is to be said any more; the last texts may still come while the session ends.
        talk.model.close_all(CloseReason.CALL_ENDED)
        self._phone.wire.hang_up(farewell.reason)

    def _refuse(self, reason: str, now: float) -> None:
        self._phone.wire.reject(reason)
        self._last.append(HangUpSocket(1000, "refused"))
        self._end(EndedBy.REFUSED, reason, now)

    def _give_up(self, verdict: GaveUp, now: float) -> None:
        if self._phase in (Phase.LEAVING, Phase.ENDING):
            return  # the goodbye is being played out, and needs no model
        # VoiceAI Connect's fail-over (a prompt, a transfer) runs on session.error.
        self._phone.wire.reject(self._plan.agent.goodbye_on_failure)
        self._last.append(HangUpSocket(1000, "the model cannot be reached"))
        self._end(EndedBy.FAILURE, verdict.failure.code, now)

    def _end(self, by: EndedBy, reason: str, now: float) -> None:
        if self._talk is not None:
            self._talk.end(now)
            self._talk.model.close_all(CloseReason.CALL_ENDED)
        self._timers.clear_all()
        self._phase = Phase.OVER
        if self._state is not None:
            self._state.status = status_after(by)
        self._last.append(Finish(CallOutcome(by, reason)))

    # Within

    def _timer(self, due: Timer, now: float) -> None:
        match due:
            case Timer.ACCEPT:
                self._accept(now)
            case Timer.START:
                self._call_started(now)
            case Timer.LEAVE:
                self._leave(now)
            case Timer.DRAIN:
                self._drain(now)
            case Timer.GRACE:
                # Where the bot was about to hang up, there is nothing to come back to.
                by = EndedBy.SOCKET if self._hang_up_reason is None else EndedBy.BOT
                self._end(by, "the caller did not come back", now)
            case Timer.END:
                self._last.append(HangUpSocket(1000, "session.end did not come"))
                self._end(EndedBy.BOT, self._farewell.reason if self._farewell else "", now)
            case _:
                assert_never(due)

    def _save(self) -> None:
        if self._talk is not None and self._state is not None:
            self._saved = self._talk.snapshot(self._state)
            self._out.append(Save(self._saved))

    def _report(self, event: str, **fields: JsonValue) -> None:
        self._out.append(Report(event, fields))

    def _effects(self) -> list[Effect]:
        """All that has gathered: what the streams get, the texts to the caller, the state, the end."""
        effects = self._out.copy()
        self._out.clear()
        effects += [ToCaller(text) for text in self._phone.wire.texts_to_send()]
        talk = self._talk
        if talk is not None and self._state is not None and (talk.changed or self._last):
            talk.changed = False
            state = talk.snapshot(self._state)
            if not self._fenced and (self._last or differs(state, self._saved)):
                self._saved = state
                effects.append(Save(state))
        if self._last and self._phase is Phase.OVER and self._saved is not None:
            effects.append(transcript_of(self._saved))
        effects += self._last
        self._last.clear()
        return effects
