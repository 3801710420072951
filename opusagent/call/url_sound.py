"""A sound that VoiceAI Connect fetches and plays by itself: what is known here of its end."""

from __future__ import annotations

__all__ = ["UrlSound"]

ALIKE_S = 0.1
"""What VoiceAI Connect says of how long it has played, and what it was given, differ by less."""


class UrlSound:
    """The newest of them."""

    def __init__(self) -> None:
        """There is none yet."""
        self._began_at = 0.0
        self.ends_at = 0.0
        """When it is over at the latest, or was over, in monotonic seconds."""
        self.cuts = 0
        """How many the caller has cut off."""

    def begin(self, now: float, *, max_s: float) -> None:
        """It was ordered; it takes so long at most."""
        self._began_at, self.ends_at = now, now + max_s

    def plays(self, now: float) -> bool:
        """Whether the caller may be listening to it."""
        return now < self.ends_at

    def over(self, now: float) -> None:
        """It has ended, or cannot be played."""
        self.ends_at = min(self.ends_at, now)

    def cut(self, now: float) -> None:
        """VoiceAI Connect is told to fall silent."""
        if self.plays(now):
            self.over(now)
            self.cuts += 1

    def play_finished(self, played_ms: int | None, now: float, *, turn_s: float) -> None:
        """VoiceAI Connect has played something to its end, and does not say what.

        Args:
            played_ms: How long it was heard; None where that is not told.
            now: The present, in monotonic seconds.
            turn_s: How long the bot's newest turn is: that may be what has ended.
        """
        if played_ms is not None:
            played_s = played_ms / 1000
            began_before = played_s > now - self._began_at + ALIKE_S
            if began_before or abs(played_s - turn_s) < ALIKE_S:
                return
        self.over(now)
