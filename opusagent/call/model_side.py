"""The model's side of a call: one live stream, kept fed, and replaced when it breaks or grows old.

A stream may be lost at any moment, and none may live longer than eight minutes; the next one is given
the history as text, if it stood by most of it before, and then in one uninterrupted step the rest of it,
the caller's unanswered speech as audio, and the live audio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pydantic import JsonValue

from opusagent.call.briefing import Briefing
from opusagent.call.context import Past
from opusagent.call.continuation import Decision, Moment
from opusagent.call.debts import Debts
from opusagent.call.events import CloseReason, Effect, Report, StreamId, StreamLost, ToolCall
from opusagent.call.handover import Handover
from opusagent.call.legs import ALL, Leg, LegRole, Legs
from opusagent.call.plan import CallPlan
from opusagent.call.recovery import HEAD_TIMEOUT_S, GaveUp, Recovery
from opusagent.call.stream_reports import history_figures, lost_report, switch_report
from opusagent.call.timers import earliest, ms
from opusagent.call.uplink import Uplink
from opusagent.call.waiting import Due, Waiting
from opusagent.call.watchdog import Watchdog
from opusagent.sonic.failures import Failure, Remedy, classify
from opusagent.sonic.stream import SonicConfig

__all__ = ["ModelSide"]


class ModelSide:
    """Owns the streams of one call.

    Args:
        prompt: What a stream that is opened now is told before all else.
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
        prompt: Callable[[], str],
        context: Callable[[Sequence[str]], Past],
        new_id: Callable[[], str],
        random: Callable[[], float],
        out: list[Effect],
    ) -> None:
        self._config = config
        self._prompt = prompt
        self._out = out
        self._rate = config.input_rate_hz * 2
        self._recovery = Recovery(random)
        self.waiting = Waiting()
        self._legs = Legs(new_id=new_id, out=out)
        self._handover = Handover(
            plan.continuation,
            self._legs,
            rate=self._rate,
            open_leg=partial(self._open_leg, can_wait=True),
            random=random,
            out=out,
        )
        self._current: Leg | None = None
        self._failure = classify("NoHead")
        self._briefing = Briefing(plan, context)
        self._uplink = Uplink(self._rate, plan.audio_buffer_s, self._legs, out=out)
        self._watchdog = Watchdog(plan.deaf_after_s)
        self.debts = Debts(self._uplink.ring, self._briefing, self._watchdog)
        """What the model was given and has not answered."""

    # Opening and losing

    def open(self, now: float) -> None:
        """Ask for a stream; the caller's audio is kept until it is there."""
        self._await_head(self._open_leg(now), now)

    def opened(self, stream: StreamId, now: float, expires_at: float | None = None) -> bool:
        """The head of a stream came. True if the stream is the live one from now on.

        Args:
            stream: Which.
            now: The present, in monotonic seconds.
            expires_at: When the credentials that sign it expire, on the same clock.
        """
        leg = self._legs.get(stream)
        if leg is None or leg.role is not LegRole.OPENING:
            return False
        leg.opened_at = now
        leg.expires_at = expires_at
        if self._handover.is_standby(leg):
            ahead = self._briefing.ahead(self._recovery) if leg.told is None else None
            self._handover.standby_opened(leg, ahead, now)
            return False
        figures = self._go_live(leg, now)
        open_ms = ms(now - leg.asked_at)
        self._out.append(Report("stream opened", {"stream": leg.id, "open_ms": open_ms, **figures}))
        return True

    def sent(self, stream: StreamId, now: float) -> None:
        """A stream has been sent what was ordered for it: if it stands by, it knows what is settled."""
        leg = self._legs.get(stream)
        if leg is not None and self._handover.is_standby(leg):
            self._handover.standby_ready(leg, now)

    def lost(self, stream: StreamId, failure: Failure, now: float) -> GaveUp | None:
        """The stream could not be opened or broke: plan the next one. `GaveUp` if there is no point."""
        leg = self._legs.get(stream)
        if leg is None or leg.role is LegRole.CLOSING:
            return None
        if self._handover.is_standby(leg):
            self._recovery.standby_lost(failure, told_ahead=leg.was_told_ahead)
            self._handover.standby_lost(leg, failure, now)
            return None
        if leg is not self._current:
            overdue = failure.code == "DrainTimeout"
            self._handover.drained(CloseReason.REPLACED if overdue else CloseReason.LOST)
            return None
        self._out.append(lost_report(leg, failure, now))
        self._leave(leg, CloseReason.NO_HEAD if failure.code == "NoHead" else CloseReason.LOST, now)
        self._failure = failure
        if failure.remedy is Remedy.REOPEN_WITHOUT_LAST:
            self.debts.given_up()
        lived_s = None if leg.live_at is None else now - leg.live_at
        delay_s = self._recovery.after(
            failure, lived_s=lived_s, had_history=leg.had_history, told_ahead=leg.was_told_ahead
        )
        if (standby := self._standby_to_use(now)) is not None:
            self._adopt(standby, leg, now)
        elif delay_s is None:
            return GaveUp(failure)
        elif delay_s == 0.0:
            self.open(now)
        else:
            self.waiting.for_retry(delay_s, now)
        return None

    def handle_timer(self, now: float) -> StreamLost | GaveUp | None:
        """Do what is due: feed silence, try again. Returns one finding; call again until there is none."""
        while (due := self.waiting.pop_due(now)) is not None:
            match due:
                case Due.HEAD:
                    if self._current is not None:
                        return StreamLost(self._current.id, classify("NoHead"))
                case Due.RETRY:
                    if self._current is None:
                        self.open(now)
                case Due.COMFORT:
                    pass  # `Waiting.wants_comfort`
                case Due.GIVE_UP:
                    return GaveUp(self._failure)
        if (old := self._handover.overdue(now)) is not None:
            return StreamLost(old.id, classify("DrainTimeout"))
        self._handover.feed(now)
        if self.live is not None:
            if (kind := self._watchdog.verdict(now)) is not None:
                self._out.append(Report("stream deaf", {"stream": self.live.id, "kind": kind}))
                return StreamLost(self.live.id, classify("Deaf", kind))
            self._uplink.fill(self.live, now)
        return None

    def next_timer(self) -> float | None:
        """When `handle_timer` or `decide` has something to do."""
        waited_for, handover = self.waiting.next_timer(), self._handover.next_timer()
        if self.live is None:
            return earliest(waited_for, handover)
        silence, verdict = self._uplink.next_timer(), self._watchdog.next_timer()
        return earliest(waited_for, handover, silence, verdict)

    def close_all(self, reason: CloseReason) -> None:
        """Close every stream that is not closing yet, properly, and open no other."""
        if self.live is not None:
            self.live.late_turns = ALL
        self._handover.end()
        self.waiting.end()
        for leg in self._legs:
            self._legs.retire(leg, reason)
        self._current = None

    # Replacing

    def is_old(self, now: float) -> bool:
        """Whether `decide` could say anything: the live stream has passed its threshold."""
        return self._handover.is_due(now)

    def decide(self, moment: Moment, now: float) -> Decision:
        """Prepare the next stream if it is time; returns what is to be done with the live one."""
        return self._handover.decide(moment, now)

    def switch(self, cause: str, now: float, *, drain: bool) -> None:
        """Put the standby in the place of the live stream.

        Args:
            cause: Why now; for the log.
            now: The present, in monotonic seconds.
            drain: Whether the old stream is in the middle of an answer that is to be heard.
        """
        old, new = self.live, self._handover.take_standby()
        assert old is not None
        assert new is not None
        self._recovery.lived(old.lived_s(now))
        old.late_turns = old.untold if self.debts.unanswered_speech else ALL
        figures = self._go_live(new, now)
        self._out.append(switch_report(old, new, cause, figures, now))
        if drain:
            self._handover.drain(old, now)
        else:
            self._legs.retire(old, CloseReason.REPLACED)

    def close_first(self, now: float) -> None:
        """No standby can be had while the live stream is open: close it, and keep the caller's audio."""
        old = self.live
        assert old is not None
        self._recovery.lived(old.lived_s(now))
        age_s = round(old.age_s(now) or 0.0, 3)
        self._out.append(Report("closed first", {"stream": old.id, "age_s": age_s}))
        self._leave(old, CloseReason.REPLACED, now)
        if (standby := self._standby_to_use(now)) is None:
            self.open(now)
        else:
            self._adopt(standby, old, now)

    def drained(self, leg: Leg) -> None:
        """A stream has finished its answer; one that has been replaced is not needed any more."""
        if leg is self._handover.draining:
            self._handover.drained()

    def stop_draining(self) -> None:
        """Nobody wants to hear the rest of the old answer."""
        self._handover.drained()

    def is_standby(self, leg: Leg) -> bool:
        """Whether a stream waits to replace the live one."""
        return self._handover.is_standby(leg)

    # What goes to the model

    @property
    def live(self) -> Leg | None:
        """The stream that hears the caller, if there is one."""
        leg = self._current
        return leg if leg is not None and leg.role is LegRole.LIVE else None

    def unanswered_audio(self) -> bytes:
        """What the caller has said that has neither text nor answer; 16-bit PCM at the stream's rate."""
        return self._uplink.ring.unanswered()

    def restore_speech(self, pcm: bytes) -> None:
        """Have the next stream hear what was said to another process and answered by nobody."""
        if pcm:
            self._uplink.ring.add(pcm, speech=True, heard=False)
            self._uplink.ring.pause()

    def leg(self, stream: StreamId) -> Leg | None:
        """A stream by its number, also one that is closing."""
        return self._legs.get(stream)

    def caller_audio(self, pcm: bytes, *, speech: bool, rising: bool = False, now: float) -> None:
        """Keep a chunk of the caller's audio and pass it on as it is.

        Args:
            pcm: At the rate of the streams.
            speech: Whether the caller speaks in it.
            rising: Whether there is sound in it that may become speech.
            now: The present, in monotonic seconds.
        """
        if self._uplink.heard(pcm, self.live, speech=speech, rising=rising, now=now):
            self._expect_life(now)

    def caller_withheld(self, now: float) -> None:
        """The phone withholds the caller's audio until more of it comes."""
        if self._uplink.withheld():
            self._expect_life(now)

    def type_text(self, text: str, now: float, *, shown: str = "") -> None:
        """Give the model a text to answer, now or when there is a stream.

        Args:
            text: What is typed; not blank.
            now: The present, in monotonic seconds.
            shown: How it stands in the transcript, as the caller's newest words; empty if it does not.
        """
        self.debts.owe(text, now, shown=shown, live=self.live is not None)
        if self.live is not None:
            self._legs.type(self.live, text)

    def prompt(self, text: str, now: float) -> None:
        """Ask for the greeting on the live stream: a new stream is asked anew, so it is not kept."""
        if self.live is not None:
            self._uplink.refresh(self.live, now)
            self._legs.type(self.live, text)

    def tool_result(
        self, call: ToolCall, result: dict[str, JsonValue], as_data: str, now: float
    ) -> None:
        """Deliver a result to the stream that asked, or as typed data to the one that replaced it."""
        leg = self._legs.get(call.stream)
        if leg is None or leg.role is not LegRole.LIVE:
            self.type_text(as_data, now)
            return
        leg.wire.tool_result(call.tool_use_id, result)
        self._legs.flush(leg)
        self.debts.owe(as_data, now, live=True)  # if it breaks before the answer

    # What comes from the model

    def shows_life(self, leg: Leg, now: float) -> None:
        """A stream has sent an event, whatever it says."""
        if leg is self._current:
            self._watchdog.model_shows_life(now)

    def bot_started(self, now: float) -> None:
        """The bot begins a sentence."""
        self._handover.bot_started()
        self.debts.sentence_began(now)

    # Within

    def _open_leg(self, now: float, *, can_wait: bool = False) -> Leg:
        prompt, told = self._briefing.prompt(self._prompt(), self._recovery.history_share)
        leg = self._legs.open(replace(self._config, system_prompt=prompt), now, can_wait=can_wait)
        leg.told = told
        return leg

    def _await_head(self, leg: Leg, now: float) -> None:
        self._current = leg
        self.waiting.for_head(leg.asked_at, now)

    def _standby_to_use(self, now: float) -> Leg | None:
        """The standby, unless it cannot be told what was said or its head should have come."""
        leg = self._handover.take_standby()
        if leg is None:
            return None
        overdue = leg.role is LegRole.OPENING and now >= leg.asked_at + HEAD_TIMEOUT_S
        if leg.suits(self._recovery.history_share) and not overdue:
            return leg
        self._legs.retire(leg, CloseReason.NO_HEAD if overdue else CloseReason.REPLACED)
        return None

    def _adopt(self, standby: Leg, old: Leg, now: float) -> None:
        """Go on with a stream that was opened to replace the one that is gone."""
        if standby.role is LegRole.OPENING:
            self._await_head(standby, now)
        else:
            figures = self._go_live(standby, now)
            self._out.append(switch_report(old, standby, "lost", figures, now))

    def _leave(self, leg: Leg, reason: CloseReason, now: float) -> None:
        """The live stream, or the one that should become it, is no more."""
        self._legs.retire(leg, reason)
        self._current = None
        self.waiting.stream_left(now, was_open=leg.opened_at is not None)
        self._handover.live_ended()
        self._watchdog.stream_lost()

    def _go_live(self, leg: Leg, now: float) -> dict[str, JsonValue]:
        """History, audio, what is owed an answer, then the unanswered speech: nothing in between.

        Returns:
            What there is to be reported of it.
        """
        past = self._briefing.rest(leg.told, self._recovery)
        leg.had_history = leg.was_told_ahead or bool(past.turns)
        leg.wire.start_audio(past.turns)
        leg.role = LegRole.LIVE
        leg.live_at = now
        self._current = leg
        gap_s = self.waiting.over(now)
        self.debts.stream_begins(now)
        leg.wire.note_audio_sent()  # queued below: close() need not add a silent frame
        self._legs.flush(leg)
        self._uplink.prime(leg, now)
        for text in self._briefing.owed:  # older than the speech that no text covers
            self._legs.type(leg, text)
        replayed_bytes = self._uplink.begin(leg, now)
        self._handover.live_began(leg)
        if replayed_bytes and not self._uplink.caller_speaks:
            self._watchdog.caller_spoke(now)
        if self._briefing.owed:
            self._watchdog.answer_is_owed(now)
        return {
            "gap_ms": ms(gap_s),
            **history_figures(leg.ahead, past),
            "replayed_ms": ms(replayed_bytes / self._rate),
            "lost_ms": ms(self._uplink.ring.take_lost() / self._rate),
        }

    def _expect_life(self, now: float) -> None:
        """The caller has said something: the model must show that it heard."""
        if self.live is not None:
            self._watchdog.caller_spoke(now)
