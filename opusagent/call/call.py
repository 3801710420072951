"""One phone call: three sources drive it - the caller, the model, a timer.

`Call` gives each input to the part that it concerns. It awaits nothing and reads no clock: what it is
told comes in as inputs with the time, what it wants leaves as effects, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from pydantic import JsonValue

from opusagent.audiocodes import events as phone_events
from opusagent.call.comeback import Comeback
from opusagent.call.conversation import Conversation
from opusagent.call.departure import Departure
from opusagent.call.events import (
    BegunAnew,
    CallerAttached,
    CallerLost,
    CallInput,
    Drain,
    Effect,
    EndedBy,
    Fenced,
    FromCaller,
    FromSonic,
    HangUp,
    HangUpSocket,
    Report,
    StateChanged,
    StreamId,
    StreamLost,
    StreamOpened,
    StreamSent,
    ToolFinished,
)
from opusagent.call.legs import LegRole
from opusagent.call.line import Line, Timer
from opusagent.call.notes import note_of
from opusagent.call.opening import Opening
from opusagent.call.phase import Phase
from opusagent.call.plan import Ambient, CallPlan
from opusagent.call.recovery import GaveUp
from opusagent.call.timers import earliest
from opusagent.errors import LocalProtocolError, RemoteProtocolError
from opusagent.models.session_state import SessionState
from opusagent.sonic.failures import Failure

__all__ = ["Ambient", "Call", "Phase"]


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
        self._plan = plan
        self._line = Line(plan, ambient, goes_on=resume_from is not None or start_afresh)
        self._phone = self._line.phone
        self._timers = self._line.timers
        self._departure = Departure(self._line)
        self._opening = Opening(self._line, self._departure)
        self._comeback = Comeback(
            self._line,
            self._opening,
            self._departure,
            resume_from=resume_from,
            start_afresh=start_afresh,
        )

    # The three sources

    def handle(self, event: CallInput, now: float) -> list[Effect]:
        """Take an input; returns what is to be done, in order."""
        if self.phase is Phase.OVER:
            return self._too_late(event)
        match event:
            case FromCaller(text):
                self._from_caller(text, now)
            case FromSonic(stream, payload):
                self._from_sonic(stream, payload, now)
            case StreamOpened(stream, expires_at):
                self._stream_opened(stream, expires_at, now)
            case StreamSent(stream):
                if self._talk is not None:
                    self._talk.model.sent(stream, now)
            case StreamLost(stream, failure):
                self._stream_lost(stream, failure, now)
            case ToolFinished(call, result):
                if self._talk is not None:
                    self._talk.actions.tool_finished(call, result, now)
            case StateChanged(key, value):
                if self._talk is not None:
                    self._talk.actions.state_changed(key, value)
            case CallerAttached(text, unsent):
                self._caller_attached(text, unsent, now)
            case CallerLost() | BegunAnew() | HangUp() | Drain() | Fenced():
                self._must_end(event, now)
            case _:
                assert_never(event)
        self._look(now)
        return self._line.effects()

    def handle_timer(self, now: float) -> list[Effect]:
        """Do what is due by now."""
        while self.phase is not Phase.OVER and (due := self._timers.pop_due(now)) is not None:
            self._timer(due, now)
        if self.phase is not Phase.OVER:
            self._phone.pump(now)
        if self._talk is not None:
            self._model_timer(self._talk, now)
            if self.phase is not Phase.OVER:
                self._talk.handle_timer(now)
        self._look(now)
        return self._line.effects()

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do, in monotonic seconds."""
        if self.phase is Phase.OVER:
            return None
        own, phone, talk = self._timers.next(), self._phone.next_timer(), self._talk
        if talk is None:
            return earliest(own, phone)
        return earliest(own, phone, talk.next_timer(), talk.model.next_timer())

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
    def model_id(self) -> str:
        """Which model its streams are opened to."""
        return self._line.plan.model_id

    @property
    def phase(self) -> Phase:
        """How far the call has come."""
        return self._line.phase

    @property
    def state(self) -> SessionState | None:
        """What is known of the conversation; None before `session.initiate`."""
        return self._line.state

    @property
    def _talk(self) -> Conversation | None:
        return self._line.talk

    # The caller

    def _from_caller(self, text: str | bytes, now: float) -> None:
        try:
            events = self._phone.wire.receive(text)
        except RemoteProtocolError as error:
            self._line.report("broken message", wire=error.wire, got=error.got)
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
                if self._talk is not None and not self._opening.keeps(event):
                    self._talk.caller_event(event, now)
            case (
                phone_events.TransferStatus()
                | phone_events.ActivityReceived()
                | phone_events.NoUserInput()
            ):
                self._line.out.append(note_of(event))
                if isinstance(event, phone_events.TransferStatus):
                    self._departure.transfer_status(event, now)
                if self._talk is not None and self.phase is not Phase.OVER:
                    self._talk.caller_event(event, now)
            case phone_events.SessionRequested():
                self._opening.requested(event, now)
            case phone_events.ResumeRequested():
                self._comeback.requested(event, now)
            case phone_events.CallStarted():
                private: dict[str, JsonValue] = {"caller": event.caller, "callee": event.callee}
                self._line.out.append(Report("call started", {}, private))
                self._opening.start_came({"callee": event.callee, **event.parameters}, now)
            case phone_events.CallerHungUp():
                self._line.last.append(HangUpSocket(1000, "session ended"))
                if self._talk is not None:
                    self._talk.actions.telephone.session_ended(event.reason_code, now)
                by = self._departure.by if self.phase is Phase.ENDING else EndedBy.CALLER
                if event.reason_code == "transferred":
                    by = EndedBy.TRANSFERRED
                self._line.end(by, event.reason_code, now, words=event.reason)
            case phone_events.PlayFinished():
                self._line.out.append(note_of(event))
                self._phone.play_finished(event.played_ms, now)
                if self.phase is Phase.LEAVING:
                    self._departure.leave(now, margin_s=0.0)
            case _:
                self._line.out.append(note_of(event))

    def _caller_attached(self, text: str | bytes, unsent: Sequence[str], now: float) -> None:
        """The caller is back: a websocket that is still open loses to the new one."""
        if self._talk is None:
            return
        if self.phase not in (Phase.DETACHED, Phase.ENDING):
            self._comeback.detach(now, unsent)
        elif self.phase is Phase.ENDING:
            self._phone.detach(now, unsent)
        self._phone.attach()
        self._from_caller(text, now)

    # The model

    def _stream_opened(self, stream: StreamId, expires_at: float | None, now: float) -> None:
        if self._talk is not None and self._talk.model.opened(stream, now, expires_at):
            self._opening.accept(now)
            self._talk.stream_opened(now)

    def _stream_lost(self, stream: StreamId, failure: Failure, now: float) -> None:
        leg = None if self._talk is None else self._talk.model.leg(stream)
        if self._talk is None or leg is None or leg.role is LegRole.CLOSING:
            return
        was_live = leg is self._talk.model.live
        self._talk.stream_lost(leg, failure, now)
        if (gave_up := self._talk.model.lost(stream, failure, now)) is not None:
            self._departure.give_up(gave_up, now)
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
            self._line.report("broken message", wire=error.wire, got=error.got)
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
        return self._line.effects()

    def _model_timer(self, talk: Conversation, now: float) -> None:
        while self.phase is not Phase.OVER:
            match talk.model.handle_timer(now):
                case StreamLost(stream, failure):
                    self._stream_lost(stream, failure, now)
                case GaveUp() as verdict:
                    self._departure.give_up(verdict, now)
                case None:
                    return

    def _look(self, now: float) -> None:
        if self._talk is not None and self.phase is not Phase.OVER:
            self._talk.look(now)

    # Ending

    def _must_end(
        self, event: CallerLost | BegunAnew | HangUp | Drain | Fenced, now: float
    ) -> None:
        match event:
            case CallerLost(unsent):
                self._caller_lost(unsent, now)
            case BegunAnew():
                if self.phase is Phase.DETACHED:
                    self._departure.did_not_come_back("the caller began anew", now)
            case HangUp(reason):
                self._departure.hang_up(reason, now)
            case Drain(within_s):
                self._departure.drain_by(now + within_s, now)
            case Fenced():
                self._line.fenced = True
                self._phone.wire.lost()
                self._line.last.append(HangUpSocket(1000, "resumed elsewhere"))
                self._line.end(EndedBy.FENCED, "another process has the conversation", now)

    def _caller_lost(self, unsent: Sequence[str], now: float) -> None:
        if self.phase is Phase.DETACHED:
            return
        goes_on = self._talk is not None and self.phase is not Phase.ENDING
        if goes_on and self._departure.draining:
            self._comeback.detach(now, unsent)
            self._departure.drain_by(now, now)
        elif goes_on and self._plan.resume_grace_s > 0:
            self._comeback.detach(now, unsent)
        else:
            by = self._departure.by if self.phase is Phase.ENDING else EndedBy.SOCKET
            self._line.end(by, "the websocket closed without session.end", now)

    def _timer(self, due: Timer, now: float) -> None:
        match due:
            case Timer.ACCEPT:
                self._opening.accept(now)
            case Timer.START:
                self._opening.start(now)
            case Timer.LEAVE:
                self._departure.leave(now)
            case Timer.DRAIN:
                self._departure.drain(now)
            case Timer.GRACE:
                self._departure.did_not_come_back("the caller did not come back", now)
            case Timer.END:
                self._departure.end_did_not_come(now)
            case _:
                assert_never(due)
