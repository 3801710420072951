"""The time in which no stream hears the caller: what is waited for, and how long."""

from __future__ import annotations

import enum

from opusagent.call.recovery import COMFORT_AFTER_S, GIVE_UP_AFTER_S, HEAD_TIMEOUT_S
from opusagent.call.timers import Timers

__all__ = ["Due", "Waiting"]


class Due(enum.Enum):
    """What is waited for."""

    HEAD = "head"
    RETRY = "retry"
    COMFORT = "comfort"
    GIVE_UP = "give_up"


class Waiting:
    """Counts from the first moment of it, however many streams are tried."""

    def __init__(self) -> None:
        self._timers: Timers[Due] = Timers()
        self._unheard_from: float | None = None
        self.wants_comfort = False
        """Whether the caller has waited for a stream so long that she should hear something."""

    def for_head(self, asked_at: float, now: float) -> None:
        """A stream was asked for."""
        self._timers.set(Due.HEAD, asked_at + HEAD_TIMEOUT_S)
        self._begin(now)

    def for_retry(self, delay_s: float, now: float) -> None:
        """None is to be asked for before that."""
        self._timers.set(Due.RETRY, now + delay_s)
        self._begin(now)

    def stream_left(self, now: float, *, was_open: bool) -> None:
        """The live stream, or the one that should become it, is no more."""
        self._timers.clear(Due.HEAD)
        if was_open and self._unheard_from is None:
            self._unheard_from = now

    def over(self, now: float) -> float:
        """A stream hears the caller. Returns for how many seconds none did that did before."""
        self.end()
        unheard_from, self._unheard_from = self._unheard_from, None
        return 0.0 if unheard_from is None else now - unheard_from

    def end(self) -> None:
        """Nothing is waited for any more."""
        self._timers.clear_all()
        self.wants_comfort = False

    def pop_due(self, now: float) -> Due | None:
        """What is due, each once; asked again until there is nothing."""
        due = self._timers.pop_due(now)
        self.wants_comfort |= due is Due.COMFORT
        return due

    def next_timer(self) -> float | None:
        """When `pop_due` has something to say."""
        return self._timers.next()

    def _begin(self, now: float) -> None:
        if Due.GIVE_UP not in self._timers:
            self._timers.set(Due.COMFORT, now + COMFORT_AFTER_S)
            self._timers.set(Due.GIVE_UP, now + GIVE_UP_AFTER_S)
