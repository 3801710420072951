"""When a stream could not be opened or broke: how soon to try again, with what, and when to give up."""

from __future__ import annotations

from collections.abc import Callable

from opusagent.sonic.failures import Failure, Remedy

COMFORT_AFTER_S = 2.0
"""Without a stream for this long, the caller hears a soft sign of life."""

GIVE_UP_AFTER_S = 10.0
"""Without a stream for this long, the call is handed back, so that the tenant's fail-over can work."""

HEAD_TIMEOUT_S = 3.0
"""A response head that has not come by then will not come; measured openings take well under a second."""

EARLY_DEATH_S = 10.0
"""A stream that dies this soon after a history was probably killed by it."""

MAX_REFRESHES = 3
"""Credentials that are refused this often in a row will not get better by asking again."""

_QUICK_S = (0.0, 0.2, 0.5, 1.0, 2.0)
_SLOW_S = (1.0, 2.0, 4.0, 8.0)  # throttling: jittered, as the service asks for


class Recovery:
    """Counts the tries since a stream last lived.

    Args:
        random: Uniform in [0, 1), for the jitter.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._quick = 0
        self._slow = 0
        self._refreshes = 0
        self._early_deaths = 0
        self.history_share = 1.0
        """How much of the allowed history the next stream gets; 0 puts a short summary in the prompt."""

    def delay_s(self, failure: Failure) -> float | None:
        """Seconds until the next try; None when no other try can work."""
        match failure.remedy:
            case Remedy.FATAL:
                return None
            case Remedy.REOPEN_LATER:
                wait_s = _SLOW_S[min(self._slow, len(_SLOW_S) - 1)]
                self._slow += 1
                return wait_s * (0.5 + 0.5 * self._random())
            case Remedy.REFRESH:
                self._refreshes += 1
                if self._refreshes > MAX_REFRESHES:
                    return None
            case Remedy.REOPEN_SHORTER:
                self.history_share = 0.5 if self.history_share == 1.0 else 0.0
        wait_s = _QUICK_S[min(self._quick, len(_QUICK_S) - 1)]
        self._quick += 1
        return wait_s

    def died(self, *, age_s: float | None, had_history: bool) -> None:
        """A stream was lost `age_s` seconds after its head, or before it (None)."""
        if age_s is None:
            return
        if age_s < EARLY_DEATH_S and had_history:
            self._early_deaths += 1
            if self._early_deaths >= 2:
                self.history_share = 0.0
        elif age_s >= EARLY_DEATH_S:
            self._early_deaths = 0
            self.history_share = 1.0
            self._quick = self._slow = self._refreshes = 0
