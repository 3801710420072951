"""Whether somebody is speaking, by energy alone: good enough to drive telephone timers."""

from __future__ import annotations

import enum

import audioop

__all__ = ["SpeechChange", "SpeechDetector", "rms"]

WINDOW_S = 10.0
"""Nobody speaks so long without a pause between words: the least that is heard in it is noise."""

NOISE_FACTOR = 2
"""How far above the noise speech must be: 6 dB."""

MAX_RAISED = 10
"""The most by which noise raises the threshold: 20 dB, above which speech itself would be noise."""

MAX_RMS = 32_768


def rms(pcm: bytes) -> int:
    """Root mean square of 16-bit samples, 0 to 32768; 0 for no samples."""
    return audioop.rms(pcm, 2)


class SpeechChange(enum.Enum):
    """What a chunk changed."""

    STARTED = "started"
    STOPPED = "stopped"


class SpeechDetector:
    """Says when speech starts and stops in a stream of PCM, one energy measurement per chunk.

    `start_s` of sound above the threshold is a start, so that a click is none; `hang_s` of quiet
    is a stop, so that a pause between words is none. Time is counted in samples; a chunk counts
    as a whole, so the answer is as fine as the chunks are. On a line that is never quiet the
    threshold rises above the noise, and sinks again with it.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        *,
        threshold_rms: int = 300,
        start_s: float = 0.06,
        hang_s: float = 0.4,
    ) -> None:
        """The default threshold is about -41 dBFS: above line noise, below quiet speech."""
        self._least_threshold = self._threshold = threshold_rms
        self._window_samples = round(WINDOW_S * sample_rate_hz)
        self._window = 0  # samples of it that have been heard
        self._quietest = MAX_RMS  # of its chunks
        self._start_samples = round(start_s * sample_rate_hz)
        self._hang_samples = round(hang_s * sample_rate_hz)
        self._loud = 0
        self._quiet = 0
        self._speaking = False

    @property
    def speaking(self) -> bool:
        """Whether speech has started and not stopped."""
        return self._speaking

    @property
    def rising(self) -> bool:
        """Whether sound has been heard of late that may become speech."""
        return self._loud > 0 and not self._speaking

    def feed(self, pcm: bytes) -> SpeechChange | None:
        """Count `pcm` (whole samples) in; says what it changed, if anything."""
        samples = len(pcm) >> 1
        if not samples:
            return None
        loudness = audioop.rms(pcm, 2)
        self._follow_noise(loudness, samples)
        if loudness >= self._threshold:
            self._loud += samples
            self._quiet = 0
            if not self._speaking and self._loud >= self._start_samples:
                self._speaking = True
                return SpeechChange.STARTED
            return None
        self._quiet += samples
        # Sinks as fast as it rose: two syllables with a short gap are one start, rare clicks none.
        self._loud = max(0, self._loud - samples)
        if self._speaking and self._quiet >= self._hang_samples:
            self._speaking = False
            self._loud = 0
            return SpeechChange.STOPPED
        return None

    def _follow_noise(self, loudness: int, samples: int) -> None:
        self._quietest = min(self._quietest, loudness)
        self._window += samples
        if self._window >= self._window_samples:
            above_noise = NOISE_FACTOR * self._quietest
            most = MAX_RAISED * self._least_threshold
            self._threshold = min(max(above_noise, self._least_threshold), most)
            self._window = 0
            self._quietest = MAX_RMS
