"""When somebody speaks: an energy detector that only knows audio time.

A burst of ten seconds that arrives at once is heard as ten seconds, and a pause of the network is
no pause of the speaker: nothing here knows the time of day.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import audioop

__all__ = ["Hearing", "SpeechBegan", "Utterance"]

FRAME_S: Final = 0.02
ONSET_S: Final = 0.06
LEAD_S: Final = 0.3
TRAIL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """Somebody has been speaking for `ONSET_S`. `at_s` is the audio time of the onset."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """Somebody has spoken and then been quiet for the endpointing time.

    Attributes:
        pcm: The speech with up to `LEAD_S` before and `TRAIL_S` after it.
        from_s: Audio time at which the speech began.
        until_s: Audio time at which it ended.
    """

    pcm: bytes
    from_s: float
    until_s: float


class Hearing:
    """Cuts a stream of audio into utterances.

    Args:
        rate_hz: Of the audio: 16-bit little-endian mono PCM.
        pause_s: How long it must be quiet after speech for the utterance to be over.
        threshold_rms: Louder than this is speech; a quiet telephone line has an RMS of 10 to 100.
        deaf_s: Audio at the beginning that is not heard; a fresh stream of the real service misses
            about half a second.
    """

    def __init__(
        self, rate_hz: int, *, pause_s: float, threshold_rms: int = 300, deaf_s: float = 0.0
    ) -> None:
        self._rate_hz = rate_hz
        self._pause_s = pause_s
        self._threshold_rms = threshold_rms
        self._deaf_frames = round(deaf_s / FRAME_S)
        self._frame_bytes = 2 * round(rate_hz * FRAME_S)
        self._partial = b""
        self._frames = 0
        self._loud_run = 0
        self._quiet_run = 0
        self._lead: deque[bytes] = deque(maxlen=_frames(LEAD_S + ONSET_S))
        self._speech: list[bytes] | None = None
        self._began_s = 0.0

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way, its closing pause included."""
        return self._speech is not None

    def feed(self, pcm: bytes) -> list[SpeechBegan | Utterance]:
        """Take audio in pieces of any size and say what became clear in it, in order."""
        data = self._partial + pcm if self._partial else pcm
        whole = len(data) - len(data) % self._frame_bytes
        self._partial = data[whole:]
        found: list[SpeechBegan | Utterance] = []
        for start in range(0, whole, self._frame_bytes):
            event = self._hear(data[start : start + self._frame_bytes])
            if event is not None:
                found.append(event)
        return found

    def flush(self) -> Utterance | None:
        """End the utterance that is under way, if there is one."""
        return None if self._speech is None else self._over()

    def _hear(self, frame: bytes) -> SpeechBegan | Utterance | None:
        self._frames += 1
        loud = self._frames > self._deaf_frames and audioop.rms(frame, 2) > self._threshold_rms
        self._loud_run = self._loud_run + 1 if loud else 0
        self._quiet_run = 0 if loud else self._quiet_run + 1
        if self._speech is None:
            self._lead.append(frame)
            if self._loud_run < _frames(ONSET_S):
                return None
            self._speech = list(self._lead)
            self._began_s = (self._frames - self._loud_run) * FRAME_S
            return SpeechBegan(self._began_s)
        self._speech.append(frame)
        return self._over() if self._quiet_run * FRAME_S >= self._pause_s else None

    def _over(self) -> Utterance:
        frames, self._speech = self._speech or [], None
        silent = max(0, self._quiet_run - _frames(TRAIL_S))
        self._lead.clear()
        self._lead.extend(frames[-1:])
        return Utterance(
            pcm=b"".join(frames[: len(frames) - silent]),
            from_s=self._began_s,
            until_s=(self._frames - self._quiet_run) * FRAME_S,
        )


def _frames(seconds: float) -> int:
    return round(seconds / FRAME_S)
