"""The caller's audio on its way to the model: kept for a replay, passed on as it is, filled with silence."""

from __future__ import annotations

from opusagent.call.events import Effect, Report
from opusagent.call.feed import Feed
from opusagent.call.legs import Leg, Legs
from opusagent.call.ring import ReplayRing
from opusagent.call.watchdog import MIN_SPEECH_S

__all__ = ["Uplink"]

PRIMING_S = 0.1
"""Typed text is ignored on a stream that has heard less than 68 ms of audio (field measurement)."""


class Uplink:
    """Feeds one stream at a time.

    Args:
        rate: Bytes per second of the caller's audio.
        buffer_s: How much of it is kept for a replay.
        out: Where reports are appended.
    """

    def __init__(self, rate: int, buffer_s: float, legs: Legs, *, out: list[Effect]) -> None:
        self._rate = rate
        self._legs = legs
        self._out = out
        self.ring = ReplayRing(rate, buffer_s)
        self._feed = Feed(rate)
        self._priming = bytes(int(PRIMING_S * rate) & ~1)
        self._said_bytes = 0  # of what the caller is saying
        self._began_at: float | None = None  # when the stream went live, until its first frame

    @property
    def caller_speaks(self) -> bool:
        """Whether the newest frame had speech in it."""
        return bool(self._said_bytes)

    def heard(
        self, pcm: bytes, live: Leg | None, *, speech: bool, rising: bool, now: float
    ) -> bool:
        """Keep a frame and pass it on. True if something that the caller said has ended with it."""
        self._feed.withheld = False
        self.ring.add(pcm, speech=speech, heard=live is not None, rising=rising)
        if live is not None:
            self._legs.audio(live, pcm)
            self._feed.fed(len(pcm), now)
            self._note_first_frame(live, now)
        if not speech:
            return self._speech_ended()
        self._said_bytes += len(pcm)
        return False

    def withheld(self) -> bool:
        """No more comes for now. True if something that the caller said has ended."""
        self._feed.withheld = True
        self._began_at = None  # how long nothing comes is the phone's business
        self.ring.pause()
        return self._speech_ended()

    def prime(self, live: Leg, now: float) -> None:
        """Send as much silence as a stream must have heard before it takes typed text."""
        self._legs.audio(live, self._priming)
        self._feed.fed(len(self._priming), now)

    def refresh(self, live: Leg, now: float) -> None:
        """Do so for a text in the middle of a stream, but not in the middle of what the caller says."""
        if not self.caller_speaks:
            self.prime(live, now)

    def begin(self, live: Leg, now: float) -> int:
        """Give a stream every frame that is to be replayed; the live ones follow. Returns the bytes."""
        replay = self.ring.uncommitted()
        for pcm in replay:
            self._legs.audio(live, pcm)
        self.ring.replayed()
        self._feed.restart(now)
        self._began_at = now
        return sum(map(len, replay))

    def fill(self, live: Leg, now: float) -> None:
        """Send the silence that is due."""
        while silence := self._feed.silence_due(now):
            self._legs.audio(live, silence)

    def next_timer(self) -> float:
        """When `fill` has something to do."""
        return self._feed.next_timer()

    def _speech_ended(self) -> bool:
        """Whether what was being said, and is over now, was more than a cough."""
        said, self._said_bytes = self._said_bytes, 0
        return said >= MIN_SPEECH_S * self._rate

    def _note_first_frame(self, live: Leg, now: float) -> None:
        if self._began_at is not None:
            after_ms = round((now - self._began_at) * 1000)
            self._out.append(Report("first frame", {"stream": live.id, "after_ms": after_ms}))
            self._began_at = None
