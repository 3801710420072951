"""The model's side of a call: one live stream, kept fed, and replaced when it breaks.

A stream may be lost at any moment; the next one is given the history as text and the caller's
unanswered speech as audio, and then the live audio, in one uninterrupted step.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace

from pydantic import JsonValue

from opusagent.call.events import (
    AudioToSonic,
    CloseReason,
    CloseStream,
    ControlToSonic,
    Effect,
    OpenStream,
    Report,
    StreamId,
    StreamLost,
    ToolCall,
)
from opusagent.call.feed import Feed
from opusagent.call.plan import CallPlan
from opusagent.call.recovery import COMFORT_AFTER_S, GIVE_UP_AFTER_S, HEAD_TIMEOUT_S, Recovery
from opusagent.call.ring import ReplayRing
from opusagent.call.timers import Timers
from opusagent.models.session_state import Turn
from opusagent.sonic import history
from opusagent.sonic.failures import Failure, Remedy, classify
from opusagent.sonic.reader import UsageReported
from opusagent.sonic.stream import SonicConfig, SonicStream

__all__ = ["GaveUp", "Leg", "LegRole", "ModelSide"]

PRIMING_S = 0.1
"""Typed text is ignored on a stream that has heard less than 68 ms of audio (field measurement)."""

SUMMARY_BYTES = 1_000
"""How much of the conversation goes into the prompt where a history was refused."""

KEPT_LEGS = 3
"""Streams that are known still: the live one and the last ones, whose late texts count."""


class LegRole(enum.Enum):
    """What a stream is to the call."""

    OPENING = "opening"
    LIVE = "live"
    CLOSING = "closing"


@dataclass(slots=True)
class Leg:
    """One stream of the call."""

    id: StreamId
    wire: SonicStream
    role: LegRole = LegRole.OPENING
    asked_at: float = 0.0
    opened_at: float | None = None
    had_history: bool = False
    usage: UsageReported | None = None
    typed: list[str] = field(default_factory=list)

    def is_echo(self, text: str) -> bool:
        """Whether this repeats what was typed to the stream; some services say it once more."""
        if text.strip() not in self.typed:
            return False
        self.typed.remove(text.strip())
        return True


@dataclass(frozen=True, slots=True)
class Owed:
    """A text that the model has been given and has not answered: the next stream is given it, too.

    Attributes:
        is_turn: Whether it stands in the transcript as the caller's.
    """

    text: str
    is_turn: bool


class Deadline(enum.Enum):
    """What the model's side waits for."""

    HEAD = "head"
    RETRY = "retry"
    COMFORT = "comfort"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No stream can be had. `failure` is the last thing that went wrong."""

    failure: Failure


class ModelSide:
    """Owns the streams of one call.

    Args:
        context: The conversation so far, oldest first, as the next stream shall be told it; its
            argument is what will be typed to the stream, so that it is not told twice.
        random: Uniform in [0, 1).
        out: Where effects are appended, in order.
    """

    def __init__(
        self,
        plan: CallPlan,
        config: SonicConfig,
        *,
        context: Callable[[Sequence[str]], Sequence[Turn]],
        new_id: Callable[[], str],
        random: Callable[[], float],
        out: list[Effect],
    ) -> None:
        self._plan = plan
        self._config = config
        self._context = context
        self._new_id = new_id
        self._out = out
        self._rate = config.input_rate_hz * 2
        self._priming = bytes(int(PRIMING_S * self._rate) & ~1)
        self._recovery = Recovery(random)
        self._timers: Timers[Deadline] = Timers()
        self._legs: dict[StreamId, Leg] = {}
        self._current: Leg | None = None
        self._failure = classify("NoHead")
        self._owed: list[Owed] = []
        self._ring = ReplayRing(self._rate, plan.audio_buffer_s)
        self._feed = Feed(self._rate)
        self._streams_opened = 0
        self.wants_comfort = False
        """Whether the caller has waited for a stream so long that she should hear something."""

    # Opening and losing

    def open(self, now: float) -> None:
        """Ask for a stream; the caller's audio is kept until it is there."""
        self._streams_opened += 1
        stream = StreamId(self._streams_opened)
        config = self._config
        if self._recovery.history_share == 0.0:
            config = replace(config, system_prompt=self._with_summary(config.system_prompt))
        leg = Leg(stream, SonicStream(config, new_id=self._new_id), asked_at=now)
        self._legs[stream] = self._current = leg
        for old in [number for number in self._legs if number <= stream - KEPT_LEGS]:
            del self._legs[old]
        self._out.append(OpenStream(stream))
        leg.wire.open()
        self._flush(leg)
        self._timers.set(Deadline.HEAD, now + HEAD_TIMEOUT_S)
        self._without_stream(now)

    def opened(self, stream: StreamId, now: float) -> bool:
        """The head of a stream came. True if the stream is the live one from now on."""
        leg = self._legs.get(stream)
        if leg is None or leg is not self._current or leg.role is not LegRole.OPENING:
            return False
        self._timers.clear(Deadline.HEAD, Deadline.COMFORT, Deadline.GIVE_UP)
        self.wants_comfort = False
        leg.opened_at = now
        self._go_live(leg, now)
        return True

    def lost(self, stream: StreamId, failure: Failure, now: float) -> GaveUp | None:
        """The stream could not be opened or broke: plan the next one. `GaveUp` if there is no point."""
        leg = self._legs.get(stream)
        if leg is None or leg is not self._current:
            return None
        age_s = None if leg.opened_at is None else now - leg.opened_at
        self._out.append(
            Report(
                "stream lost",
                {
                    "stream": stream,
                    "code": failure.code,
                    "remedy": failure.remedy.value,
                    "age_s": None if age_s is None else round(age_s, 3),
                },
                {"message": failure.message},
            )
        )
        self._retire(leg, CloseReason.NO_HEAD if failure.code == "NoHead" else CloseReason.LOST)
        self._current = None
        self._failure = failure
        self._timers.clear(Deadline.HEAD)
        if failure.remedy is Remedy.REOPEN_WITHOUT_LAST:
            self._ring.commit_all()
            self._owed.clear()
        delay_s = self._recovery.after(failure, age_s=age_s, had_history=leg.had_history)
        if delay_s is None:
            return GaveUp(failure)
        if delay_s == 0.0:
            self.open(now)
        else:
            self._without_stream(now)
            self._timers.set(Deadline.RETRY, now + delay_s)
        return None

    def handle_timer(self, now: float) -> StreamLost | GaveUp | None:
        """Do what is due: feed silence, try again. Returns one finding; call again until there is none."""
        while (due := self._timers.pop_due(now)) is not None:
            match due:
                case Deadline.HEAD:
                    if self._current is not None:
                        return StreamLost(self._current.id, classify("NoHead"))
                case Deadline.RETRY:
                    if self._current is None:
                        self.open(now)
                case Deadline.COMFORT:
                    self.wants_comfort = True
                case Deadline.GIVE_UP:
                    return GaveUp(self._failure)
        if self.live is not None:
            while silence := self._feed.silence_due(now):
                self._send_audio(silence)
        return None

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        at = self._timers.next()
        if self.live is None:
            return at
        feed_at = self._feed.next_timer()
        return feed_at if at is None else min(at, feed_at)

    def close_all(self, reason: CloseReason) -> None:
        """Close every stream that is not closing yet, properly, and open no other."""
        self._timers.clear_all()
        self.wants_comfort = False
        for leg in self._legs.values():
            if leg.role is not LegRole.CLOSING:
                self._retire(leg, reason)
        self._current = None

    # What goes to the model

    @property
    def live(self) -> Leg | None:
        """The stream that hears the caller, if there is one."""
        leg = self._current
        return leg if leg is not None and leg.role is LegRole.LIVE else None

    def leg(self, stream: StreamId) -> Leg | None:
        """A stream by its number, also one that is closing."""
        return self._legs.get(stream)

    def caller_audio(self, pcm: bytes, *, speech: bool, now: float) -> None:
        """Keep a chunk of the caller's audio and pass it on as it is."""
        self._feed.withheld = False
        self._ring.add(pcm, speech=speech, heard=self.live is not None)
        if self.live is not None:
            self._send_audio(pcm)
            self._feed.fed(len(pcm), now)

    def caller_withheld(self) -> None:
        """The phone withholds the caller's audio until more of it comes."""
        self._feed.withheld = True
        self._ring.pause()

    def type_text(self, text: str, *, is_turn: bool = False) -> None:
        """Give the model a text to answer, now or when there is a stream.

        Args:
            text: What is typed; not blank.
            is_turn: Whether the transcript has it as the caller's newest turn.
        """
        self._owed.append(Owed(text, is_turn=is_turn))
        if self.live is not None:
            self._type(self.live, text)

    def type_greeting(self, text: str, now: float) -> None:
        """Ask for the greeting on the live stream: a new stream is asked anew, so it is not kept."""
        if self.live is not None:
            self._send_audio(self._priming)
            self._feed.fed(len(self._priming), now)
            self._type(self.live, text)

    def note_caller_text(self, text: str) -> None:
        """The model has understood this and owes an answer; its audio is done with."""
        self._ring.commit()
        self._owed.append(Owed(text.strip(), is_turn=True))

    def answered(self) -> None:
        """The bot speaks or acts: nothing that was said or typed before is owed an answer."""
        self._ring.commit()
        self._owed.clear()

    def usage_since(self, leg: Leg, usage: UsageReported) -> UsageReported:
        """What a stream used since it last said so: the service reports totals."""
        before, leg.usage = leg.usage, usage
        if before is None:
            return usage
        pairs = zip(astuple(usage), astuple(before), strict=True)
        return UsageReported(*(new - old for new, old in pairs))

    def tool_result(self, call: ToolCall, result: dict[str, JsonValue], as_data: str) -> None:
        """Deliver a result to the stream that asked, or as typed data to the one that replaced it."""
        leg = self._legs.get(call.stream)
        if leg is None or leg.role is not LegRole.LIVE:
            self.type_text(as_data)
            return
        leg.wire.tool_result(call.tool_use_id, result)
        self._flush(leg)
        self._owed.append(
            Owed(as_data, is_turn=False)
        )  # in case the stream breaks before the answer

    # Within

    def _go_live(self, leg: Leg, now: float) -> None:
        """History, audio, what is owed an answer, then the unanswered speech: nothing in between."""
        share = self._recovery.history_share
        turns = [owed.text for owed in self._owed if owed.is_turn]
        past = history.build(
            self._context(turns) if share else (),
            max_bytes=max(int(self._plan.max_history_bytes * share), history.MIN_BYTES),
            max_part_bytes=self._plan.max_part_bytes,
        )
        leg.had_history = bool(past.turns)
        leg.wire.start_audio(past.turns)
        leg.role = LegRole.LIVE
        leg.wire.note_audio_sent()  # queued below: close() need not add a silent frame
        self._flush(leg)
        self._send_audio(self._priming)
        for owed in self._owed:  # older than the speech that no text covers
            self._type(leg, owed.text)
        replay = self._ring.uncommitted()
        for pcm in replay:
            self._send_audio(pcm)
        self._feed.restart(now)
        self._out.append(
            Report(
                "stream opened",
                {
                    "stream": leg.id,
                    "open_ms": round((now - leg.asked_at) * 1000),
                    "history_items": len(past.turns),
                    "history_bytes": past.n_bytes,
                    "history_trimmed": past.dropped,
                    "replayed_ms": self._ms(sum(map(len, replay))),
                    "lost_ms": self._ms(self._ring.lost_bytes),
                },
            )
        )
        self._ring.lost_bytes = 0

    def _with_summary(self, prompt: str) -> str:
        """The prompt and the newest lines of the conversation, for a service that refuses histories."""
        turns = [owed.text for owed in self._owed if owed.is_turn]
        past = history.build(self._context(turns), max_bytes=SUMMARY_BYTES)
        lines = "\n".join(f"{turn.role}: {turn.text}" for turn in past.turns)
        return f"{prompt}\n\nThe conversation so far, shortened:\n{lines}" if lines else prompt

    def _without_stream(self, now: float) -> None:
        """Nobody hears the caller: count from the first moment of it."""
        if Deadline.GIVE_UP not in self._timers:
            self._timers.set(Deadline.COMFORT, now + COMFORT_AFTER_S)
            self._timers.set(Deadline.GIVE_UP, now + GIVE_UP_AFTER_S)

    def _send_audio(self, pcm: bytes) -> None:
        if self.live is not None:
            self._out.append(AudioToSonic(self.live.id, pcm))

    def _type(self, leg: Leg, text: str) -> None:
        leg.wire.type_text(text)
        leg.typed.append(text.strip())
        self._flush(leg)

    def _retire(self, leg: Leg, reason: CloseReason) -> None:
        leg.role = LegRole.CLOSING
        if leg.opened_at is not None and reason is not CloseReason.LOST:
            leg.wire.close()
            self._flush(leg)
        self._out.append(CloseStream(leg.id, reason))

    def _flush(self, leg: Leg) -> None:
        self._out.extend(ControlToSonic(leg.id, p) for p in leg.wire.payloads_to_send())

    def _ms(self, n_bytes: int) -> int:
        return round(n_bytes / self._rate * 1000)
