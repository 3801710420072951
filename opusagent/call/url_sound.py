"""A sound that VoiceAI Connect fetches and plays by itself: what is known here of its end."""

from __future__ import annotations

__all__ = ["UrlSound"]

ALIKE_S = 0.1
"""What VoiceAI Connect says of how long it has played, and what it was given, differ by less."""

MAX_S = 60.0
"""The longest that one counts as playing whose length and end nobody tells."""

WAIT_S = 15.0
"""The longest that a hang-up waits for such a one: where ends are not told, it is silence as a rule."""


class UrlSound:
    """The newest of them."""

    def __init__(self) -> None:
        """There is none yet."""
        self._began_at = 0.0
        self._wait_until = 0.0
        self._ended_turn = 0  # the newest turn of the bot of which the end was told
        self.ends_are_told = False
        """Whether VoiceAI Connect has told in this call that something was played to its end."""
        self.ends_at = 0.0
        """When it is over at the latest, or was over, in monotonic seconds."""
        self.cuts = 0
        """How many the caller has cut off, of those that are known to have been playing."""

    def begin(self, now: float, *, max_s: float | None) -> None:
        """It was ordered; it takes so long at most, where that is known."""
        self._began_at = now
        self.ends_at = now + (MAX_S if max_s is None else max_s)
        self._wait_until = now + (WAIT_S if max_s is None else max_s)

    def plays(self, now: float) -> bool:
        """Whether the caller may be listening to it."""
        return now < self.ends_at

    def surely_plays(self, now: float) -> bool:
        """Whether she is listening to it: where ends are told, it has not ended."""
        return self.ends_are_told and self.plays(now)

    def is_waited_for(self, now: float) -> bool:
        """Whether what would cut it off has to wait."""
        return self.plays(now) and (self.ends_are_told or now < self._wait_until)

    def over(self, now: float) -> None:
        """It has ended, or cannot be played."""
        self.ends_at = min(self.ends_at, now)

    def cut(self, now: float) -> None:
        """VoiceAI Connect is told to fall silent."""
        self.cuts += self.surely_plays(now)
        self.over(now)

    def play_finished(self, played_ms: int | None, now: float, *, turn: int, turn_s: float) -> None:
        """VoiceAI Connect has played something to its end, and does not say what.

        Args:
            played_ms: How long it was heard; None where that is not told.
            now: The present, in monotonic seconds.
            turn: The number of the bot's newest turn: that may be what has ended, once.
            turn_s: How long it is.
        """
        self.ends_are_told = True
        if played_ms is not None:
            played_s = played_ms / 1000
            began_before = played_s > now - self._began_at + ALIKE_S
            is_turn = turn != self._ended_turn and abs(played_s - turn_s) < ALIKE_S
            if is_turn:
                self._ended_turn = turn
            if began_before or is_turn:
                return
        self.over(now)
