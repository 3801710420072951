"""A sign of life for a caller who has to wait because no stream can be had."""

from __future__ import annotations

from opusagent.audio.tones import comfort_tone
from opusagent.call.phone_side import PhoneSide
from opusagent.call.plan import CallPlan

__all__ = ["COMFORT", "Comfort"]

COMFORT = "comfort"
"""Names the sound among the blocks of content that are played."""

GAP_S = 1.0
"""Silence between two sounds; with barge-in off the caller is heard only then."""

LOOK_AGAIN_S = 0.3


class Comfort:
    """Plays the agent's comfort recording, or a tone, again and again, but never over anybody."""

    def __init__(self, plan: CallPlan, phone: PhoneSide) -> None:
        self._plan = plan
        self._phone = phone
        self._next_at: float | None = None
        self._playing = False

    def next_timer(self) -> float | None:
        """When `wanted` has something to do again."""
        return self._next_at

    def wanted(self, now: float) -> None:
        """The caller waits: sound if it is time and nobody speaks."""
        if self._next_at is not None and now < self._next_at:
            return
        if self._phone.audible(now) or self._phone.caller_speaks:
            self._next_at = now + LOOK_AGAIN_S
            return
        rate = self._phone.play_format.sample_rate_hz
        self._phone.play(self._plan.comfort_audio.at(rate) or comfort_tone(rate), COMFORT, now)
        self._phone.complete_turn(now)
        self._playing = True
        self._next_at = now + self._phone.remaining_s(now) + GAP_S

    def not_wanted(self) -> None:
        """Nobody waits any more: what sounds goes on to its end, and nothing comes after it."""
        self._next_at = None

    def say(self, sound: bytes, now: float) -> None:
        """Play a recording once; it falls silent like the other sound."""
        self._phone.play(sound, COMFORT, now)
        self._phone.complete_turn(now)
        self._playing = True

    def stop(self, now: float) -> None:
        """Fall silent: something better comes."""
        if self._playing and self._phone.audible(now):
            self._phone.silence(now)
        self._playing = False
        self._next_at = None
