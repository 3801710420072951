"""When a stream is replaced before the service ends it: a table of phases and its deadlines.

    STEADY --threshold--> ARMED --bot speaks | nobody speaks | time runs out--> PREPARING
    PREPARING --standby open, and told the past--> READY --good moment--> switch         PREPARING --lost--> again, later
    READY --not used for long--> PREPARING (a fresh one)               any --deadline--> whatever there is

It knows neither audio nor sockets: it is told what the line is like, and says what to do. Its
parameters are those of the AWS session-continuation sample.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from opusagent.call.plan import ContinuationPolicy
from opusagent.call.timers import earliest

__all__ = ["Action", "Continuation", "Decision", "Moment", "Phase"]

SPREAD = 0.1
"""Share of the time from threshold to limit, and of the threshold at most, over which calls are spread,
so that those that began together do not open their next streams together. Those that share credentials
are spread over as much of the time that these leave."""

EXPIRY_S = 180.0
"""How long before its credentials expire a stream counts as past its threshold."""

LAST_CALL_S = 10.0
"""How long before its credentials expire a stream waits for no good moment any more."""

LEAST_LIFE_S = 10.0
"""No stream is replaced sooner for its credentials: the next one may have been given the same."""

SILENCE_S = 5.0
"""Nobody has spoken for this long: the next stream is opened without waiting for the bot."""

LEAD_S = 10.0
"""How long before the deadline the next stream is opened at the latest; a tenth of a short timeout."""

GRACE_S = 3.0
"""How long past its deadline a stream waits for a standby that is being opened."""

CLOSING_S = 30.0
"""How long before its deadline a stream is given up at a good moment, where its next one was refused: there
may be none before this one is closed. At most a third of the wait for a good moment."""

STALE_S = 40.0
"""A standby that has not been used is renewed: the service ends one that hears nothing (55 s)."""

QUIET_S = 0.3
"""How long nobody must have spoken, after an answer that was heard to its end."""

UNANSWERED_QUIET_S = 3.0
"""How long, where the caller has said what nobody has answered: the answer may be about to come."""

_RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0)


class Phase(enum.Enum):
    """How far the replacement of a stream has come."""

    STEADY = "steady"
    ARMED = "armed"
    PREPARING = "preparing"
    READY = "ready"
    DONE = "done"


class Action(enum.Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    ARM = "arm"  # the threshold has passed; nothing but a word of it
    OPEN_STANDBY = "open_standby"
    RENEW_STANDBY = "renew_standby"  # close the one there is, open another
    SWITCH = "switch"
    CLOSE_FIRST = "close_first"  # no standby can be had: close the stream, then open the next


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now, and why."""

    action: Action
    cause: str = ""


NOTHING = Decision(Action.NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the line is like.

    Attributes:
        quiet_from: Since when nobody speaks, or from when on nobody will, once the phone has played
            what it has; None while that is not known.
        owed: Whether the model owes an answer, or a tool its result.
        unanswered: Whether the caller has said something of which the model has shown no sign.
        interrupted: Whether the bot was interrupted and has not spoken since.
    """

    quiet_from: float | None = None
    owed: bool = False
    unanswered: bool = False
    interrupted: bool = False


class Continuation:
    """Says when one stream is to be replaced.

    Args:
        opened_at: When its response head came: its age counts from there.
        spread: In [0, 1): where in the spread of thresholds this call stands.
        expires_at: When its credentials expire; None if they do not.
    """

    def __init__(
        self,
        policy: ContinuationPolicy,
        *,
        opened_at: float,
        spread: float,
        expires_at: float | None = None,
    ) -> None:
        self._policy = policy
        threshold_s = policy.transition_threshold_s
        spread_s = SPREAD * min(policy.limit_s - threshold_s, threshold_s)
        self._threshold_at = opened_at + threshold_s + spread * spread_s
        if expires_at is not None:
            soonest = max(expires_at - EXPIRY_S, opened_at + LEAST_LIFE_S)
            left_s = max(expires_at - LAST_CALL_S - soonest, 0.0)
            self._threshold_at = min(self._threshold_at, soonest + spread * SPREAD * left_s)
        timeout_s = policy.audio_start_timeout_s
        self._force_at = min(self._threshold_at + timeout_s, opened_at + policy.last_s)
        if expires_at is not None:
            self._force_at = max(self._threshold_at, min(self._force_at, expires_at - LAST_CALL_S))
        waits_s = self._force_at - self._threshold_at
        self._prepare_by = self._force_at - min(LEAD_S, waits_s / 10)
        self._grace_s = min(GRACE_S, (policy.limit_s - policy.last_s) / 2)
        self._phase = Phase.STEADY
        self._bot_started = False
        self._asked_at: float | None = None  # of the standby that is being opened
        self._again_at = 0.0
        self._n_lost = 0
        self._standby_at: float | None = None  # when its head came
        self._ready_at = 0.0

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        return self._phase

    @property
    def threshold_at(self) -> float:
        """When it begins to look for a good moment."""
        return self._threshold_at

    @property
    def force_at(self) -> float:
        """When it waits for no good moment any more."""
        return self._force_at

    # What happens

    def bot_started(self) -> None:
        """The bot begins to speak."""
        self._bot_started = self._phase is Phase.ARMED

    def standby_opened(self, now: float) -> None:
        """The response head of the standby came; it is to be told the past."""
        self._standby_at = now

    def standby_ready(self, now: float) -> None:
        """The standby can be put in the place of the stream."""
        if self._phase is Phase.PREPARING:
            self._phase = Phase.READY
            self._ready_at = now
            self._n_lost = 0

    def standby_lost(self, now: float) -> None:
        """The standby could not be opened, or broke."""
        if self._phase in (Phase.PREPARING, Phase.READY):
            self._phase = Phase.PREPARING
            self._asked_at = self._standby_at = None
            self._again_at = now + _RETRY_S[min(self._n_lost, len(_RETRY_S) - 1)]
            self._n_lost += 1

    # What is to be done

    def decide(self, moment: Moment, now: float) -> Decision:
        """What is to be done now; ask again until it is nothing."""
        match self._phase:
            case Phase.STEADY if now >= self._threshold_at:
                self._phase = Phase.ARMED
                return Decision(Action.ARM)
            case Phase.ARMED if cause := self._cause_to_prepare(moment, now):
                return self._ask(Action.OPEN_STANDBY, cause, now)
            case Phase.PREPARING:
                return self._while_preparing(moment, now)
            case Phase.READY:
                return self._while_ready(moment, now)
        return NOTHING

    def next_timer(self, moment: Moment) -> float | None:
        """When `decide` may say something else, if nothing happens before."""
        times: tuple[float | None, ...] = ()
        match self._phase:
            case Phase.STEADY:
                times = (self._threshold_at,)
            case Phase.ARMED:
                quiet_from = moment.quiet_from
                silent_at = None if quiet_from is None else quiet_from + SILENCE_S
                times = (silent_at, self._prepare_by)
            case Phase.PREPARING:
                times = (self._next_try_at, self._give_up_at, self._close_at(moment))
            case Phase.READY:
                times = (self._good_at(moment), self._fresh_until, self._force_at)
        return earliest(*times)

    # Within

    def _cause_to_prepare(self, moment: Moment, now: float) -> str:
        if self._bot_started:
            return "bot_started"
        if moment.quiet_from is not None and now >= moment.quiet_from + SILENCE_S:
            return "silence"
        return "timeout" if now >= self._prepare_by else ""

    def _while_preparing(self, moment: Moment, now: float) -> Decision:
        close_at = self._close_at(moment)
        cause = "deadline" if now >= self._give_up_at else ""
        if close_at is not None and now >= close_at:
            cause = self._cause_to_switch(moment, now)
        if cause:
            self._phase = Phase.DONE
            is_open = self._standby_at is not None  # it can be told the rest when it is used
            return Decision(Action.SWITCH if is_open else Action.CLOSE_FIRST, cause)
        if now < self._next_try_at:
            return NOTHING
        if self._asked_at is None:
            return self._ask(Action.OPEN_STANDBY, "retry", now)
        return self._ask(Action.RENEW_STANDBY, "timeout", now)

    def _while_ready(self, moment: Moment, now: float) -> Decision:
        cause = self._cause_to_switch(moment, now)
        if not cause and now >= self._force_at:
            cause = "deadline"
        if cause:
            self._phase = Phase.DONE
            return Decision(Action.SWITCH, cause)
        if (fresh_until := self._fresh_until) is not None and now >= fresh_until:
            return self._ask(Action.RENEW_STANDBY, "stale", now)
        return NOTHING

    def _cause_to_switch(self, moment: Moment, now: float) -> str:
        good_at = self._good_at(moment)
        if good_at is None or now < good_at:
            return ""
        if moment.interrupted:
            return "interrupted"
        assert moment.quiet_from is not None
        answered = not moment.unanswered and now < moment.quiet_from + SILENCE_S
        return "turn_complete" if answered else "silence"

    def _good_at(self, moment: Moment) -> float | None:
        """From when on this moment is a good one, if nothing changes."""
        if moment.owed:
            return None
        if moment.interrupted:
            return self._ready_at
        if moment.quiet_from is None:
            return None
        return moment.quiet_from + (UNANSWERED_QUIET_S if moment.unanswered else QUIET_S)

    @property
    def _next_try_at(self) -> float:
        """When a standby is opened, again or instead of one that does not come."""
        if self._asked_at is None:
            return self._again_at
        return self._asked_at + self._policy.next_session_ready_timeout_s

    @property
    def _give_up_at(self) -> float:
        """When a standby that is not there is waited for no longer."""
        if self._asked_at is None or self._standby_at is not None:
            return self._force_at
        return max(self._force_at, min(self._asked_at, self._force_at) + self._grace_s)

    def _close_at(self, moment: Moment) -> float | None:
        """When the stream is closed though there is no other, because the moment is good."""
        good_at = self._good_at(moment)
        if good_at is None or self._asked_at is not None or not self._n_lost:
            return None
        waits_s = self._force_at - self._threshold_at
        return max(good_at, self._force_at - min(CLOSING_S, waits_s / 3))

    @property
    def _fresh_until(self) -> float | None:
        """When the standby is to be renewed; None if the deadline comes too soon after it."""
        opened_at = self._ready_at if self._standby_at is None else self._standby_at
        fresh_until = opened_at + STALE_S
        return fresh_until if fresh_until + GRACE_S < self._force_at else None

    def _ask(self, action: Action, cause: str, now: float) -> Decision:
        self._phase = Phase.PREPARING
        self._asked_at, self._standby_at = now, None
        return Decision(action, cause)
