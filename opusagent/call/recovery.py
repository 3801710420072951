"""When a stream could not be opened or broke: how soon to try again, with what, and when to give up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opusagent.sonic.failures import Failure, Remedy

__all__ = ["COMFORT_AFTER_S", "GIVE_UP_AFTER_S", "HEAD_TIMEOUT_S", "GaveUp", "Recovery"]

COMFORT_AFTER_S = 2.0
"""Without a stream for this long, the caller hears a soft sign of life."""

GIVE_UP_AFTER_S = 10.0
"""Without a stream for this long, the call is handed back, so that the tenant's fail-over can work."""

HEAD_TIMEOUT_S = 3.0
"""A response head that has not come by then will not come; measured openings take well under a second."""

EARLY_DEATH_S = 10.0
"""A stream that dies this soon after a history was probably killed by it."""

CARRIED_S = 0.5
"""A stream that has carried the caller for this long is replaced at once, so at most twice a second and
`MAX_EARLY_DEATHS` times; after those that die at birth, the next is waited for ever longer."""

MAX_EARLY_DEATHS = 6
"""So many streams in a row that open and die at once: this service is not going to carry the call."""

MAX_REFRESHES = 3
"""Credentials that are refused this often in a row will not get better by asking again."""

MAX_REFUSALS = 2
"""A request that is refused even without a history will be refused again."""

_QUICK_S = (0.0, 0.2, 0.5, 1.0, 2.0)
_SLOW_S = (1.0, 2.0, 4.0, 8.0)  # throttling: jittered, as the service asks for

SLOW_AT_MOST_S = 1.0
"""For a call that a stream has carried: where calls share a full quota, the place that one gives up goes to
whoever asks first, and after `GIVE_UP_AFTER_S` without one its caller is hung up on."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No stream can be had. `failure` is the last thing that went wrong."""

    failure: Failure


class Recovery:
    """Counts the tries since a stream last lived.

    Args:
        random: Uniform in [0, 1), for the jitter.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.history_share = 1.0
        """How much of the allowed history the next stream gets; 0 puts a short summary in the prompt."""
        self.takes_news = True
        """Whether a stream whose prompt holds a summary is given what came after it as a history."""
        self.takes_ahead = True
        """Whether a standby is told what is settled before it is used: none that was has died soon."""
        self._accepted_share = 1.0  # what the service has not refused in this call
        self._was_carried = False  # some stream lived
        self._begin()

    def _begin(self) -> None:
        self.history_share = self._accepted_share
        self._quick = 0
        self._slow = 0
        self._refreshes = 0
        self._refusals = 0
        self._early_deaths = 0
        self._killed_by_history = 0

    def lived(self, lived_s: float) -> None:
        """A stream was replaced after so long: if that was long, what went wrong before is over."""
        if lived_s >= EARLY_DEATH_S:
            self._was_carried = True
            self._begin()

    def standby_lost(self, failure: Failure, *, told_ahead: bool) -> None:
        """A standby broke, or was refused. What it was told may be why."""
        if told_ahead:
            self.takes_ahead = False
            if failure.remedy is Remedy.REOPEN_SHORTER:
                self._shorten(had_history=True)

    def after(
        self,
        failure: Failure,
        *,
        lived_s: float | None,
        had_history: bool,
        told_ahead: bool = False,
    ) -> float | None:
        """Seconds until the next try; None when no other try can work.

        Args:
            failure: Why the stream was lost.
            lived_s: How long the stream had heard the caller; None if it never did.
            had_history: Whether it was given a history.
            told_ahead: Whether some of it while it was a standby.
        """
        lived = lived_s is not None and lived_s >= EARLY_DEATH_S
        if lived_s is not None:
            self.lived(lived_s)
        if lived_s is not None and not lived:
            self._early_deaths += 1
            self.takes_ahead &= not told_ahead
            if had_history:
                self._killed_by_history += 1
                self.takes_news &= self.history_share > 0
            if self._killed_by_history >= 2:
                self.history_share = 0.0
        if lived_s is not None and lived_s >= CARRIED_S:
            self._quick = 0
        if self._early_deaths >= MAX_EARLY_DEATHS:
            return None
        if failure.remedy is Remedy.REOPEN_SHORTER and not lived:
            self._shorten(had_history=had_history)
            if self._refusals >= MAX_REFUSALS:
                return None
        return self._delay_s(failure, lived=lived)

    def _shorten(self, *, had_history: bool) -> None:
        if had_history:
            self.takes_news &= self.history_share > 0
            self.history_share = 0.5 if self.history_share == 1.0 else 0.0
            self._accepted_share = self.history_share
        else:
            self._refusals += 1

    def _delay_s(self, failure: Failure, *, lived: bool) -> float | None:
        match failure.remedy:
            case Remedy.FATAL:
                return None
            case Remedy.REOPEN_LATER if lived:
                return 0.0  # the service has carried the call until now: ask at once, then later
            case Remedy.REOPEN_LATER:
                wait_s = _SLOW_S[min(self._slow, len(_SLOW_S) - 1)]
                self._slow += 1
                if self._was_carried:
                    wait_s = min(wait_s, SLOW_AT_MOST_S)
                return wait_s * (0.5 + 0.5 * self._random())
            case Remedy.REFRESH:
                self._refreshes += 1
                if self._refreshes > MAX_REFRESHES:
                    return None
        wait_s = _QUICK_S[min(self._quick, len(_QUICK_S) - 1)]
        self._quick += 1
        return wait_s
