"""What was made of things that do not change, so that it need not be made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["Remembered"]


class Remembered[T, Made]:
    """Makes something of each thing, once, and forgets it when it is not asked for the next time.

    Args:
        make: Makes it. It is given things that nobody changes afterwards, and what it makes is shared.
    """

    def __init__(self, make: Callable[[T], Made]) -> None:
        self._make = make
        # With the thing itself, so that nothing else gets its id.
        self._known: dict[int, tuple[T, Made]] = {}

    def of(self, things: Sequence[T]) -> list[Made]:
        """What was made of each of them, in order."""
        known = self._known
        self._known = {id(t): known.get(id(t)) or (t, self._make(t)) for t in things}
        return [self._known[id(thing)][1] for thing in things]

    def forget(self) -> None:
        """Make everything anew from now on."""
        self._known = {}
