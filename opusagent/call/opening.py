"""How a call begins: asked for, accepted, started."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from pydantic import JsonValue

from opusagent.audiocodes import events as phone_events
from opusagent.call.conversation import Conversation
from opusagent.call.departure import Departure
from opusagent.call.line import Line, Timer
from opusagent.call.phase import Phase
from opusagent.call.privacy import RECENT_S
from opusagent.call.script import Script, kept_parameters
from opusagent.errors import NoCommonFormat
from opusagent.models.session_state import SessionState, SessionStatus

__all__ = ["Opening"]

ACCEPT_AFTER_S = 1.0
"""VoiceAI Connect was answered after 0.7 s on a live capture; how long it waits is not documented."""

START_AFTER_S = 1.5
"""The `start` activity came 60 ms after the answer on a live capture; a tenant may suppress it."""

MAX_EARLY = 500
"""What is kept of what the caller does before it is settled who answers: 10 s of frames of 20 ms."""


class Opening:
    """Takes a call, and begins the conversation once the line is through."""

    def __init__(self, line: Line, departure: Departure) -> None:
        self._line = line
        self._departure = departure
        self._started = False  # the start activity came, or is taken as come
        self._initiated_at = 0.0
        self._configured_at: float | None = None
        self._in_doubt = False  # whether the settings went into a line that was dead already
        self._early: deque[phone_events.CallerDid] = deque(maxlen=MAX_EARLY)

    def requested(self, event: phone_events.SessionRequested, now: float) -> None:
        """Somebody calls."""
        line, agent = self._line, self._line.plan.agent
        if line.phase is not Phase.WAITING:
            return
        at = line.ambient.utcnow()
        state = line.state = SessionState(
            conversation_id=event.conversation_id,
            bot_name=event.bot_name or "voice-bot",
            caller=event.caller or "unknown",
            agent=agent.model_dump(mode="json"),
            metadata={"agent": line.plan.agent_name, "query": dict(line.plan.query)},
            created_at=at,
            last_activity=at,
        )
        if not event.expects_audio:
            line.refuse(
                "this bot speaks: the bot connection needs voice streaming (directTTS)", now
            )
            return
        try:
            line.phone.choose_formats(event.offered)
        except NoCommonFormat as error:
            line.refuse(str(error), now)
            return
        state.media_format, state.play_format = line.phone.caller_format, line.phone.play_format
        line.phase = Phase.STARTING
        self._initiated_at = now
        line.timers.set(Timer.ACCEPT, now + ACCEPT_AFTER_S)
        talk = self.begin_conversation(now)
        talk.changed = True
        if line.plan.waits_for_start:  # which comes once the call is answered
            self.accept(now)
        else:
            talk.model.open(now)

    def begin_conversation(self, now: float) -> Conversation:
        """Join both sides, now that the formats are settled."""
        line = self._line
        line.talk = Conversation(
            line.plan,
            ambient=line.ambient,
            script=Script(
                line.plan, state=lambda: line.state, utcnow=line.ambient.utcnow, out=line.out
            ),
            phone=line.phone,
            out=line.out,
            save=line.save,
            hang_up=self._departure.hang_up,
            variables={} if line.state is None else line.state.variables,
            now=now,
        )
        return line.talk

    def accept(self, now: float) -> None:
        """Answer the caller: the stream is there, or VoiceAI Connect has waited long enough."""
        line = self._line
        if line.phase is not Phase.STARTING or line.state is None:
            return
        line.phase = Phase.TALKING
        line.timers.clear(Timer.ACCEPT)
        self.await_start(now)
        line.phone.accept()
        line.state.status = SessionStatus.ACTIVE
        line.report(
            "call accepted",
            after_ms=round((now - self._initiated_at) * 1000),
            caller_format=line.phone.caller_format,
            play_format=line.phone.play_format,
        )

    def await_start(self, now: float) -> None:
        """Take the call as started soon, if it has not started; else see to it that its settings are known."""
        if not self._started:
            self._line.timers.set(Timer.START, now if self._is_through else now + START_AFTER_S)
        elif self._in_doubt:
            self._configure(now)

    def caller_lost(self, now: float) -> None:
        """Her line is gone, and with it perhaps what was sent shortly before."""
        sent_at = self._configured_at
        self._in_doubt = sent_at is not None and now - sent_at <= RECENT_S

    def start_came(self, parameters: Mapping[str, JsonValue], now: float) -> None:
        """VoiceAI Connect says that the call is through, and who was called."""
        self._line.note(start=kept_parameters(parameters))
        self.start(now)

    def start(self, now: float) -> None:
        """Let the bot speak first, once."""
        line = self._line
        if self._started or line.phase is not Phase.TALKING or line.talk is None:
            return
        self._started = True
        line.timers.clear(Timer.START)
        if not self._is_through:
            line.note(start={})
        talk = self._settle(line.talk, now) if line.plan.waits_for_start else line.talk
        talk.changed = True
        self._configure(now)
        talk.start(now)

    def _configure(self, now: float) -> None:
        """Tell VoiceAI Connect how the call is to be; twice does no harm."""
        if self._line.plan.barge_in:
            self._line.phone.wire.configure({"bargeIn": True})
            self._configured_at = now

    def _settle(self, talk: Conversation, now: float) -> Conversation:
        """All is known that decides who answers, and what she is told: open the stream."""
        line = self._line
        if line.plan.settle is not None and line.state is not None:
            start = line.state.metadata["start"]
            called = start.get("callee") if isinstance(start, dict) else None
            line.plan = line.plan.settle(called if isinstance(called, str) else "")
            line.state.agent = line.plan.agent.model_dump(mode="json")
            line.note(agent=line.plan.agent_name)
            talk = self.begin_conversation(now)
        talk.model.open(now)
        while self._early:
            talk.caller_event(self._early.popleft(), now)
        return talk

    def keeps(self, event: phone_events.CallerDid) -> bool:
        """Whether it is kept for who answers, because that is not settled yet."""
        if self._line.plan.settle is None or self._started:
            return False
        self._early.append(event)
        return True

    @property
    def _is_through(self) -> bool:
        """Whether the start activity came, here or to another process: it does not come again."""
        return self._line.state is not None and "start" in self._line.state.metadata

    @property
    def waits(self) -> bool:
        """Whether its stream is opened once it has started, and it has not."""
        return self._line.plan.waits_for_start and not self._started

    def has_started(self) -> None:
        """Another process has begun this call: nobody is greeted twice."""
        self._started = True
