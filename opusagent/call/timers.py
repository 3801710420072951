"""Named deadlines: the only clock a core has."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Timers"]


class Timers[Name: Hashable]:
    """At most one deadline a name, in monotonic seconds."""

    def __init__(self) -> None:
        self._at: dict[Name, float] = {}

    def set(self, name: Name, at: float) -> None:
        """Set or move a deadline."""
        self._at[name] = at

    def clear(self, *names: Name) -> None:
        """Forget deadlines; those that are not set are no error."""
        for name in names:
            self._at.pop(name, None)

    def clear_all(self) -> None:
        """Forget every deadline."""
        self._at.clear()

    def __contains__(self, name: Name) -> bool:
        return name in self._at

    def next(self) -> float | None:
        """The earliest deadline."""
        return min(self._at.values(), default=None)

    def pop_due(self, now: float) -> Name | None:
        """Take the earliest deadline that has passed."""
        if not self._at:
            return None
        name = min(self._at, key=self._at.__getitem__)
        if self._at[name] > now:
            return None
        del self._at[name]
        return name
