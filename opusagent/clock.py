"""Time as an argument: shells take a `Clock`, so that tests can turn it by hand."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "FakeClock", "SystemClock"]


class Clock(Protocol):
    """What a shell may know of time."""

    def monotonic(self) -> float:
        """Seconds since an unknown moment; never goes back. For whatever is measured in one process."""
        ...

    def utcnow(self) -> datetime:
        """The time of day, with time zone UTC. For whatever is compared across processes."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds since an unknown moment; never goes back."""
        return time.monotonic()

    def utcnow(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(UTC)  # noqa: TID251  this is the clock that the ban points to


class FakeClock:
    """A clock that stands still until it is advanced."""

    def __init__(
        self, *, monotonic: float = 0.0, utcnow: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    ) -> None:
        self._monotonic = monotonic
        self._utcnow = utcnow

    def monotonic(self) -> float:
        """Seconds: the start value plus everything that was advanced."""
        return self._monotonic

    def utcnow(self) -> datetime:
        """The start time plus everything that was advanced."""
        return self._utcnow

    def advance(self, seconds: float) -> None:
        """Move both clocks forward.

        Raises:
            ValueError: If `seconds` is negative: a clock does not go back.
        """
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self._monotonic += seconds
        self._utcnow += timedelta(seconds=seconds)
