"""What the simulated caller says, sample by sample, whether anybody listens or not."""

from __future__ import annotations

from collections import deque
from typing import Final

import audioop

__all__ = ["Mouth", "speech_bounds"]

_FRAME_S: Final = 0.01
_SPEECH_RMS: Final = 200
"""Below is silence: -44 dBFS, far under any voice and above a recording's own noise."""


class Mouth:
    """PCM16 at one rate, silent wherever nothing is said. Positions are samples since its start."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._said: deque[tuple[int, bytes]] = deque()  # begin, PCM
        self.ends_at = 0
        """Where everything that is to be said is over."""

    def say(self, pcm: bytes, at_sample: int) -> int:
        """Say `pcm` from `at_sample` on, or after what is being said; returns where it begins."""
        begin = max(at_sample, self.ends_at)
        self._said.append((begin, pcm))
        self.ends_at = begin + len(pcm) // 2
        return begin

    def sound(self, first: int, n_samples: int) -> bytes:
        """Take the sound from sample `first` on. What lies before is forgotten."""
        said = self._said
        while said and said[0][0] + len(said[0][1]) // 2 <= first:
            said.popleft()
        if not said or said[0][0] >= first + n_samples:
            return bytes(2 * n_samples)
        sound = bytearray(2 * n_samples)
        for begin, pcm in said:
            start, end = max(begin, first), min(begin + len(pcm) // 2, first + n_samples)
            if start < end:
                sound[2 * (start - first) : 2 * (end - first)] = pcm[
                    2 * (start - begin) : 2 * (end - begin)
                ]
        return bytes(sound)


def speech_bounds(pcm: bytes, rate_hz: int) -> tuple[int, int]:
    """The first and one past the last sample of a recording that are no silence, to 10 ms.

    A recording without any sound is taken as a whole.
    """
    n_bytes = 2 * round(_FRAME_S * rate_hz)
    loud = [
        at
        for at in range(0, len(pcm), n_bytes)
        if audioop.rms(pcm[at : at + n_bytes], 2) >= _SPEECH_RMS
    ]
    if not loud:
        return 0, len(pcm) // 2
    return loud[0] // 2, min(loud[-1] + n_bytes, len(pcm)) // 2
