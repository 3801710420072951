"""From one stream to the next: the standby that waits its turn, and the old stream's last words."""

from __future__ import annotations

import enum
from collections.abc import Callable

from opusagent.call.briefing import Told
from opusagent.call.continuation import NOTHING, Action, Continuation, Decision, Moment
from opusagent.call.events import CloseReason, Effect, NoteSent, Report
from opusagent.call.feed import Feed
from opusagent.call.legs import Leg, LegRole, Legs
from opusagent.call.plan import ContinuationPolicy
from opusagent.call.stream_reports import standby_lost_report
from opusagent.call.timers import Timers, earliest
from opusagent.sonic.failures import Failure

__all__ = ["Handover"]

DRAIN_S = 5.0
"""How long a replaced stream may take over the rest of its answer; half the margin of a short limit."""


class Deadline(enum.Enum):
    """What a handover waits for."""

    DRAINED = "drained"


class Handover:
    """Keeps at most one standby and at most one draining stream.

    Args:
        rate: Bytes per second of the caller's audio.
        open_leg: Opens a stream that is told who it is, and nothing else.
        random: Uniform in [0, 1).
        out: Where reports are appended.
    """

    def __init__(
        self,
        policy: ContinuationPolicy,
        legs: Legs,
        *,
        rate: int,
        open_leg: Callable[[float], Leg],
        random: Callable[[], float],
        out: list[Effect],
    ) -> None:
        self._policy = policy
        self._legs = legs
        self._open_leg = open_leg
        self._random = random
        self._out = out
        self._live: Leg | None = None
        self._continuation: Continuation | None = None
        self._moment = Moment()
        self._standby: Leg | None = None
        self._draining: Leg | None = None
        self._sends_slowly = False  # a standby was not told the past in its time
        self._feed = Feed(rate)
        self._timers: Timers[Deadline] = Timers()

    # The live stream

    def live_began(self, live: Leg) -> None:
        """A stream hears the caller from now on."""
        assert live.opened_at is not None
        self._live = live
        self._continuation = Continuation(
            self._policy,
            opened_at=live.opened_at,
            spread=self._random(),
            expires_at=live.expires_at,
        )

    def live_ended(self) -> None:
        """It does not any more: there is nothing to replace."""
        self._live = self._continuation = None

    def bot_started(self) -> None:
        """The bot begins to speak."""
        if self._continuation is not None:
            self._continuation.bot_started()

    def is_due(self, now: float) -> bool:
        """Whether `decide` could say anything: not before the threshold."""
        return self._continuation is not None and now >= self._continuation.threshold_at

    def decide(self, moment: Moment, now: float) -> Decision:
        """Do what concerns the standby alone; returns what concerns the live stream, or nothing."""
        self._moment = moment
        while self._continuation is not None and self._live is not None:
            decision = self._continuation.decide(moment, now)
            match decision.action:
                case Action.ARM:
                    self._report_threshold(self._live, now)
                case Action.OPEN_STANDBY | Action.RENEW_STANDBY:
                    self._prepare(decision.cause, now)
                case _:
                    return decision
        return NOTHING

    def next_timer(self) -> float | None:
        """When `decide`, `overdue` or `feed` has something to do."""
        going_on, draining = self._continuation, self._draining
        return earliest(
            self._timers.next(),
            None if going_on is None else going_on.next_timer(self._moment),
            None if draining is None else self._feed.next_timer(),
        )

    def overdue(self, now: float) -> Leg | None:
        """The draining stream, once, if it has had its time."""
        return None if self._timers.pop_due(now) is None else self._draining

    def feed(self, now: float) -> None:
        """Give the draining stream the silence that is due."""
        while self._draining is not None and (silence := self._feed.silence_due(now)):
            self._legs.audio(self._draining, silence)

    # The standby

    def is_standby(self, leg: Leg) -> bool:
        """Whether this stream waits its turn."""
        return leg is self._standby

    def standby_opened(self, leg: Leg, ahead: Told | None, now: float) -> None:
        """Its response head came. It is ready when it has been told what there is to tell `ahead`."""
        leg.role = LegRole.STANDBY
        open_ms = round((now - leg.asked_at) * 1000)
        self._out.append(Report("standby opened", {"stream": leg.id, "open_ms": open_ms}))
        if self._continuation is not None:
            self._continuation.standby_opened(now)
        if ahead is None or self._sends_slowly:
            self.standby_ready(leg, now)
            return
        leg.told = ahead
        leg.wire.tell(ahead.ahead.turns)
        self._legs.flush(leg)
        self._out.append(NoteSent(leg.id))

    def standby_ready(self, leg: Leg, now: float) -> None:
        """It can be put in the place of the live stream at any moment."""
        told = len(leg.ahead.turns)
        self._out.append(Report("standby ready", {"stream": leg.id, "history_items": told}))
        if self._continuation is not None:
            self._continuation.standby_ready(now)

    def standby_lost(self, leg: Leg, failure: Failure, now: float) -> None:
        """It was refused, or broke; another is opened later."""
        self._standby = None
        self._legs.retire(leg, CloseReason.LOST)
        self._out.append(standby_lost_report(leg, failure))
        if self._continuation is not None:
            self._continuation.standby_lost(now)

    def take_standby(self) -> Leg | None:
        """The stream that waits its turn, open or being opened; it is the caller's from now on."""
        leg, self._standby = self._standby, None
        return leg

    def drop_standby(self) -> None:
        """Close it, if there is one."""
        if (leg := self.take_standby()) is not None:
            self._legs.retire(leg, CloseReason.REPLACED)

    # The old stream

    @property
    def draining(self) -> Leg | None:
        """The replaced stream whose answer is still to be heard to its end."""
        return self._draining

    def drain(self, leg: Leg, now: float) -> None:
        """Let a replaced stream finish its answer. It hears silence."""
        self.drained()
        leg.role = LegRole.DRAINING
        self._draining = leg
        self._feed.restart(now)
        margin_s = self._policy.limit_s - self._policy.last_s
        self._timers.set(Deadline.DRAINED, now + min(DRAIN_S, margin_s / 2))

    def drained(self, reason: CloseReason = CloseReason.REPLACED) -> None:
        """It owes nothing more, or has had its time, or broke."""
        self._timers.clear(Deadline.DRAINED)
        leg, self._draining = self._draining, None
        if leg is not None:
            self._legs.retire(leg, reason)

    def end(self) -> None:
        """The call is over: whoever owns the streams closes them all."""
        self.live_ended()
        self._standby = self._draining = None
        self._timers.clear(Deadline.DRAINED)

    # Within

    def _prepare(self, cause: str, now: float) -> None:
        if cause == "timeout" and self._standby is not None:
            self._sends_slowly |= self._standby.was_told_ahead
        self.drop_standby()
        self._standby = self._open_leg(now)
        self._out.append(Report("standby asked", {"stream": self._standby.id, "cause": cause}))

    def _report_threshold(self, live: Leg, now: float) -> None:
        age_s = round(live.age_s(now) or 0.0, 3)
        self._out.append(Report("threshold reached", {"stream": live.id, "age_s": age_s}))
