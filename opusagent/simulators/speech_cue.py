"""The moment at which the caller is so far into what she says: a cue for faults."""

from __future__ import annotations

from typing import Final

import audioop

from opusagent.sonic.peer_hearing import FRAME_S, Hearing, SpeechBegan

__all__ = ["SpeechCue"]

PAUSE_S: Final = 0.5
"""What is further apart is said at another time."""


class SpeechCue:
    """Listens to a stream's audio until the caller has been speaking for `into_s`, for the `nth` time.

    It strikes while she is heard, never in a pause. Time is audio time: what is replayed to a stream
    in a burst counts like what comes live.
    """

    def __init__(self, into_s: float, nth: int, *, rate_hz: int, threshold_rms: int) -> None:
        self._into_s = into_s
        self._left = nth
        self._threshold_rms = threshold_rms
        self._hearing = Hearing(rate_hz, pause_s=PAUSE_S, threshold_rms=threshold_rms)
        self._frame_bytes = 2 * round(rate_hz * FRAME_S)
        self._partial = b""
        self._heard_s = 0.0
        self._began_s: float | None = None

    def feed(self, pcm: bytes, *, armed: bool = True) -> bool:
        """Take audio in pieces of any size; whether the moment has come.

        Args:
            pcm: 16-bit PCM.
            armed: Whether something that she begins to say now counts.
        """
        data = self._partial + pcm
        whole = len(data) - len(data) % self._frame_bytes
        self._partial = data[whole:]
        come = False
        for start in range(0, whole, self._frame_bytes):
            come |= self._hear(data[start : start + self._frame_bytes], armed=armed)
        return come

    def _hear(self, frame: bytes, *, armed: bool) -> bool:
        self._heard_s += FRAME_S
        for event in self._hearing.feed(frame):
            match event:
                case SpeechBegan(at_s=at_s) if armed:
                    self._began_s = at_s
                case _:
                    self._began_s = None
        if self._began_s is None or self._heard_s - self._began_s < self._into_s - FRAME_S / 2:
            return False
        if audioop.rms(frame, 2) <= self._threshold_rms:
            return False
        self._began_s = None  # once for each time that she speaks
        self._left -= 1
        return self._left == 0
