"""One phone call: three sources drive it - the caller, the model, a timer.

`Call` begins and ends the call and gives each input to the side that it concerns. It awaits nothing and
reads no clock: what it is told comes in as inputs with the time, what it wants leaves as effects, in order.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import assert_never

from pydantic import JsonValue

from opusagent.audiocodes import events as phone_events
from opusagent.audiocodes.codec import UnknownMessage
from opusagent.call.conversation import Ambient, Conversation
from opusagent.call.events import (
    CallerLost,
    CallInput,
    CallOutcome,
    CloseReason,
    Drain,
    Effect,
    EndedBy,
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
from opusagent.call.model_side import GaveUp, LegRole, ModelSide
from opusagent.call.phone_side import PhoneSide
from opusagent.call.plan import CallPlan
from opusagent.call.timers import Timers
from opusagent.errors import LocalProtocolError, NoCommonFormat, RemoteProtocolError
from opusagent.models.session_state import SessionState, SessionStatus
from opusagent.sonic.failures import Failure
from opusagent.sonic.stream import SonicConfig

__all__ = ["Ambient", "Call", "Phase"]

ACCEPT_AFTER_S = 1.0
"""VoiceAI Connect was answered after 0.7 s on a live capture; how long it waits is not documented."""

START_AFTER_S = 1.5
"""The `start` activity came 60 ms after the answer on a live capture; a tenant may suppress it."""

SESSION_END_S = 5.0
"""How long VoiceAI Connect may take to end the session that we asked it to hang up."""

MAX_GOODBYE_S = 15.0
"""The longest that a hang-up waits for the bot to finish speaking."""

GOODBYE_MARGIN_S = 0.4
"""VoiceAI Connect began to play up to 230 ms after the first chunk on a live capture."""


class Phase(enum.Enum):
    """How far the call has come."""

    WAITING = "waiting"  # nothing has been asked for
    STARTING = "starting"  # a session was asked for and is not accepted yet
    TALKING = "talking"  # accepted
    LEAVING = "leaving"  # we want to hang up and the goodbye is being played
    ENDING = "ending"  # the hang-up was sent; the session's end is awaited
    OVER = "over"


class Timer(enum.Enum):
    """What the call waits for, apart from its parts."""

    ACCEPT = "accept"
    START = "start"
    LEAVE = "leave"
    END = "end"


class Call:
    """The whole of one telephone call between its websocket and its streams.

    Args:
        plan: The agent and the settings of the line.
        ambient: Ids, calendar and chance.
    """

    def __init__(self, plan: CallPlan, *, ambient: Ambient) -> None:
        """Wait for the first message."""
        self._plan = plan
        self._ambient = ambient
        self._out: list[Effect] = []
        self._last: list[Effect] = []  # what must come after every text to the caller
        self._timers: Timers[Timer] = Timers()
        self._phone = PhoneSide(plan, new_id=ambient.new_id, utcnow=ambient.utcnow)
        self._talk: Conversation | None = None
        self._model: ModelSide | None = None
        self._state: SessionState | None = None
        self._started = False  # the start activity came, or is taken as come
        self._initiated_at = 0.0
        self._leave_by = 0.0
        self._hang_up_reason = ""
        self._phase = Phase.WAITING

    # The three sources

    def handle(self, event: CallInput, now: float) -> list[Effect]:
        """Take an input; returns what is to be done, in order."""
        if self._phase is Phase.OVER:
            return []
        match event:
            case FromCaller(text):
                self._from_caller(text, now)
            case FromSonic(stream, payload):
                self._from_sonic(stream, payload, now)
            case StreamOpened(stream):
                self._stream_opened(stream, now)
            case StreamLost(stream, failure):
                self._stream_lost(stream, failure, now)
            case ToolFinished(call, result):
                if self._talk is not None:
                    self._talk.tool_finished(call, result)
            case CallerLost():
                by = EndedBy.BOT if self._phase is Phase.ENDING else EndedBy.SOCKET
                self._end(by, "the websocket closed without session.end")
            case HangUp(reason):
                self._hang_up(reason, now)
            case Drain():
                self._last.append(HangUpSocket(1012, "service restart"))
                self._end(EndedBy.SHUTDOWN, "this process ends")
            case _:
                assert_never(event)
        return self._effects()

    def handle_timer(self, now: float) -> list[Effect]:
        """Do what is due by now."""
        while self._phase is not Phase.OVER and (due := self._timers.pop_due(now)) is not None:
            self._timer(due, now)
        if self._phase is not Phase.OVER:
            self._phone.pump(now)
            if self._model is not None and self._talk is not None:
                gave_up = self._model.handle_timer(now)
                self._talk.handle_timer(now)
                if gave_up is not None:
                    self._give_up(gave_up)
        return self._effects()

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do, in monotonic seconds."""
        if self._phase is Phase.OVER:
            return None
        sources = (
            self._timers.next(),
            self._phone.next_timer(),
            None if self._talk is None else self._talk.next_timer(),
            None if self._model is None else self._model.next_timer(),
        )
        return min((at for at in sources if at is not None), default=None)

    def audio_encoder(self, stream: StreamId) -> Callable[[bytes], bytes]:
        """What makes the event that carries audio on a stream, just before it is sent.

        Raises:
            LocalProtocolError: If the stream is not of this call.
        """
        leg = None if self._model is None else self._model.leg(stream)
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
            case phone_events.CallerAudio(pcm=pcm):
                if self._talk is not None:
                    self._talk.caller_audio(pcm, now)
            case phone_events.SessionRequested():
                self._session_requested(event, now)
            case phone_events.ResumeRequested():
                self._refuse("the conversation is not known here")
            case phone_events.CallStarted():
                private: dict[str, JsonValue] = {"caller": event.caller, "callee": event.callee}
                self._out.append(Report("call started", {}, private))
                self._call_started(now)
            case phone_events.UserStreamOpened() | phone_events.UserStreamClosed():
                if self._talk is not None:
                    closed = isinstance(event, phone_events.UserStreamClosed)
                    self._talk.caller_withheld(now, withheld=closed)
            case phone_events.DtmfPressed(digits=digits):
                if self._talk is not None:
                    self._talk.dtmf(digits, now)
            case phone_events.CallerHungUp():
                self._last.append(HangUpSocket(1000, "session ended"))
                by = EndedBy.BOT if self._phase is Phase.ENDING else EndedBy.CALLER
                self._end(by, f"{event.reason_code} {event.reason}".strip())
            case phone_events.PlayFinished():
                self._report("play finished", ms=event.played_ms, status=event.status)
                if self._phase is Phase.LEAVING and self._bot_is_quiet(now):
                    self._say_hang_up(now)
            case UnknownMessage(type=kind):
                self._report("unknown message", wire="audiocodes", type=kind)
            case phone_events.ConnectionValidated():
                self._report("connection validated")
            case phone_events.NoUserInput(count=count):
                self._report("no user input", count=count)
            case phone_events.TransferStatus(status=status):
                self._report("transfer status", status=status)
            case phone_events.ActivityReceived(name=name):
                self._report("activity ignored", name=name)
            case phone_events.HangupHint():
                self._report("activity ignored", name="hangup")
            case _:
                assert_never(event)

    def _session_requested(self, event: phone_events.SessionRequested, now: float) -> None:
        if self._phase is not Phase.WAITING:
            return
        at = self._ambient.utcnow()
        self._state = SessionState(
            conversation_id=event.conversation_id,
            bot_name=event.bot_name or "voice-bot",
            caller=event.caller or "unknown",
            created_at=at,
            last_activity=at,
        )
        if not event.expects_audio:
            self._refuse("this bot speaks: the bot connection needs voice streaming (directTTS)")
            return
        try:
            self._phone.choose_formats(event.offered)
        except NoCommonFormat as error:
            self._refuse(str(error))
            return
        self._state.media_format = self._phone.caller_format
        self._state.play_format = self._phone.play_format
        self._phase = Phase.STARTING
        self._initiated_at = now
        self._talk = Conversation(
            self._plan, ambient=self._ambient, phone=self._phone, out=self._out, now=now
        )
        self._model = ModelSide(
            self._plan,
            self._sonic_config(),
            context=self._talk.context,
            new_id=self._ambient.new_id,
            random=self._ambient.random,
            out=self._out,
        )
        self._talk.attach(self._model)
        self._timers.set(Timer.ACCEPT, now + ACCEPT_AFTER_S)
        self._model.open(now)

    def _accept(self, now: float) -> None:
        """Answer the caller: the stream is there, or VoiceAI Connect has waited long enough."""
        if self._phase is not Phase.STARTING or self._state is None:
            return
        self._phase = Phase.TALKING
        self._timers.clear(Timer.ACCEPT)
        self._timers.set(Timer.START, now + START_AFTER_S)
        self._phone.wire.accept(self._phone.caller_format, self._phone.play_format)
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

    # The model

    def _stream_opened(self, stream: StreamId, now: float) -> None:
        if self._model is None or self._talk is None or not self._model.opened(stream, now):
            return
        self._accept(now)
        self._talk.stream_opened(now)

    def _stream_lost(self, stream: StreamId, failure: Failure, now: float) -> None:
        if self._model is None or self._talk is None:
            return
        leg = self._model.leg(stream)
        if leg is None or leg.role is LegRole.CLOSING:
            return
        self._talk.stream_lost(stream, failure, now)
        if (gave_up := self._model.lost(stream, failure, now)) is not None:
            self._give_up(gave_up)

    def _from_sonic(self, stream: StreamId, payload: bytes, now: float) -> None:
        leg = None if self._model is None else self._model.leg(stream)
        if leg is None or self._talk is None:
            return
        try:
            events = leg.wire.receive(payload)
        except RemoteProtocolError as error:
            self._report("broken message", wire=error.wire, got=error.got)
            return
        for event in events:
            self._talk.model_event(leg, event, now)

    # Ending

    def _hang_up(self, reason: str, now: float) -> None:
        if self._phase in (Phase.WAITING, Phase.STARTING):
            self._refuse(reason)
        elif self._phase is Phase.TALKING:
            self._phase = Phase.LEAVING
            self._hang_up_reason = reason
            self._leave_by = now + MAX_GOODBYE_S
            self._leave(now)

    def _leave(self, now: float) -> None:
        """Hang up once the goodbye has been heard, but not later than we may wait for it."""
        if now >= self._leave_by or self._bot_is_quiet(now - GOODBYE_MARGIN_S):
            self._say_hang_up(now)
            return
        wait_s = max(self._phone.remaining_s(now) + GOODBYE_MARGIN_S, 0.1)
        self._timers.set(Timer.LEAVE, min(now + wait_s, self._leave_by))

    def _bot_is_quiet(self, now: float) -> bool:
        busy = self._talk is not None and self._talk.bot_is_busy(now)
        return not busy and not self._phone.audible(now)

    def _say_hang_up(self, now: float) -> None:
        self._phase = Phase.ENDING
        self._timers.clear(Timer.LEAVE)
        self._phone.wire.hang_up(self._hang_up_reason)
        self._timers.set(Timer.END, now + SESSION_END_S)

    def _refuse(self, reason: str) -> None:
        self._phone.wire.reject(reason)
        self._last.append(HangUpSocket(1000, "refused"))
        self._end(EndedBy.REFUSED, reason)

    def _give_up(self, verdict: GaveUp) -> None:
        # VoiceAI Connect's fail-over (a prompt, a transfer) runs on session.error.
        self._phone.wire.reject(self._plan.agent.goodbye_on_failure)
        self._last.append(HangUpSocket(1000, "the model cannot be reached"))
        self._end(EndedBy.FAILURE, verdict.failure.code)

    def _end(self, by: EndedBy, reason: str) -> None:
        if self._model is not None:
            self._model.close_all(CloseReason.CALL_ENDED)
        self._timers.clear_all()
        self._phase = Phase.OVER
        if self._state is not None:
            failed = by in (EndedBy.FAILURE, EndedBy.REFUSED)
            self._state.status = SessionStatus.ERROR if failed else SessionStatus.ENDED
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
            case Timer.END:
                self._last.append(HangUpSocket(1000, "session.end did not come"))
                self._end(EndedBy.BOT, self._hang_up_reason)
            case _:
                assert_never(due)

    def _sonic_config(self) -> SonicConfig:
        agent = self._plan.agent
        return SonicConfig(
            system_prompt=agent.system_prompt,
            model_id=self._plan.model_id,
            voice=agent.voice,
            tools=self._plan.tools,
            input_rate_hz=self._phone.caller_format.sample_rate_hz,
            output_rate_hz=self._phone.play_format.sample_rate_hz,
            inference=agent.inference,
            endpointing=agent.endpointing,
            max_part_bytes=self._plan.max_part_bytes,
        )

    def _report(self, event: str, **fields: JsonValue) -> None:
        self._out.append(Report(event, fields))

    def _effects(self) -> list[Effect]:
        """All that has gathered: what the streams get, the texts to the caller, the state, the end."""
        effects = self._out.copy()
        self._out.clear()
        effects += [ToCaller(text) for text in self._phone.wire.texts_to_send()]
        if self._state is not None and self._talk is not None:
            if self._talk.changed or self._last:
                self._talk.changed = False
                effects.append(Save(self._talk.snapshot(self._state)))
        effects += self._last
        self._last.clear()
        return effects
