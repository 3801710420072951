"""Named deadlines: the only clock a core has."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Timers", "earliest", "ms"]


def earliest(*times: float | None) -> float | None:
    """The first of these points in time; None where there is none. Asked at every event of a call."""
    first: float | None = None
    for at in times:
        if at is not None and (first is None or at < first):
            first = at
    return first


def ms(seconds: float) -> int:
    """Whole milliseconds, as reports tell them."""
    return round(seconds * 1000)


class Timers[Name: Hashable]:
    """At most one deadline a name, in monotonic seconds."""

    def __init__(self) -> None:
        self._at: dict[Name, float] = {}
        self._next: float | None = None  # kept: it is asked for far more often than it changes

    def set(self, name: Name, at: float) -> None:
        """Set or move a deadline."""
        self._at[name] = at
        self._next = min(self._at.values())

    def clear(self, *names: Name) -> None:
        """Forget deadlines; those that are not set are no error."""
        if self._at:
            for name in names:
                self._at.pop(name, None)
            self._next = min(self._at.values(), default=None)

    def clear_all(self) -> None:
        """Forget every deadline."""
        self._at.clear()
        self._next = None

    def __contains__(self, name: Name) -> bool:
        return name in self._at

    def next(self) -> float | None:
        """The earliest deadline."""
        return self._next

    def pop_due(self, now: float) -> Name | None:
        """Take the earliest deadline that has passed."""
        if self._next is None or self._next > now:
            return None
        name = min(self._at, key=self._at.__getitem__)
        self.clear(name)
        return name
