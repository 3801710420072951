"""Notices a stream that is alive but deaf or dumb: open, without an error, and of no use."""

from __future__ import annotations

from typing import Literal

__all__ = ["MIN_SPEECH_S", "Kind", "Watchdog"]

MIN_SPEECH_S = 1.0
"""Shorter sounds, with the quiet by which their end is noticed, may be a cough, which a model that works
may pass over without a word."""

DUMB_FACTOR = 2.5
"""How much longer an answer may take than a first sign of life."""

LIVELY_S = 1.0
"""A model that was heard of so shortly before the caller's end was noticed may have answered already."""

MAX_PATIENCE = 8.0
"""The most by which the waits grow, where new streams prove no better."""

type Kind = Literal["deaf", "dumb", "stalled"]


class Watchdog:
    """Watches the live stream.

    Args:
        deaf_after_s: How long after the caller has spoken the model may give no sign of life at all;
            0 watches nothing.
    """

    def __init__(self, deaf_after_s: float) -> None:
        self._wait_s = deaf_after_s
        self._patience = 1.0
        self._since: dict[Kind, float] = {}
        self._alive_at: float | None = None

    def caller_spoke(self, now: float) -> None:
        """The caller has finished saying something."""
        if self._alive_at is None or now - self._alive_at > LIVELY_S:
            self._watch("deaf", now)

    def model_shows_life(self, now: float) -> None:
        """The model has sent an event, whatever it says."""
        self._alive_at = now
        self._since.pop("deaf", None)

    def answer_is_owed(self, now: float) -> None:
        """The model has understood the caller, or was given a text, and should answer."""
        self._watch("dumb", now)

    def sentence_began(self, now: float) -> None:
        """The model has announced the audio of a sentence: it comes faster than it is heard, or not at all."""
        self._watch("stalled", now)

    def sentence_goes_on(self, until: float) -> None:
        """More of its audio has come: the caller hears it until then."""
        if "stalled" in self._since:
            self._since["stalled"] = until

    def sentence_ended(self) -> None:
        """All of its audio has come."""
        self._since.pop("stalled", None)

    def answered(self) -> None:
        """The model speaks or acts."""
        self._since.pop("deaf", None)
        self._since.pop("dumb", None)
        self._patience = 1.0

    def stream_lost(self) -> None:
        """There is nothing to watch."""
        self._since.clear()
        self._alive_at = None

    def next_timer(self) -> float | None:
        """When `verdict` may find something."""
        return min(map(self._due_at, self._since)) if self._since else None

    def verdict(self, now: float) -> Kind | None:
        """What is wrong with the stream, if anything; it is told once, and waited longer for then."""
        for kind in tuple(self._since):
            if now >= self._due_at(kind):
                self._since.clear()
                self._patience = min(2 * self._patience, MAX_PATIENCE)
                return kind
        return None

    def _watch(self, kind: Kind, now: float) -> None:
        if self._wait_s:
            self._since.setdefault(kind, now)

    def _due_at(self, kind: Kind) -> float:
        factor = DUMB_FACTOR if kind == "dumb" else 1.0
        return self._since[kind] + self._wait_s * factor * self._patience
