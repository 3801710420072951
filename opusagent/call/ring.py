"""The caller's last seconds, kept for a stream that has to be replaced in the middle of a word."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

PREROLL_S = 0.5
"""How much audio before the first unanswered speech is replayed with it: an energy detector hears a
word only after it has begun."""


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    pcm: bytes
    speech: bool


class ReplayRing:
    """Caller audio of the last `seconds`, each frame numbered, with a mark up to where it is done with.

    A frame is committed when the model has told its text or answered it; it is never replayed then.

    Args:
        bytes_per_second: Of 16-bit PCM at the rate of the model's input.
        seconds: How much is kept.
    """

    def __init__(self, bytes_per_second: int, seconds: float) -> None:
        self._rate = bytes_per_second
        self._capacity = int(seconds * bytes_per_second)
        self._frames: deque[_Frame] = deque()
        self._bytes = 0
        self._next = 0
        self._committed = 0  # frames below this number are done with
        self._speech_began = 0  # number of the first frame of the newest speech
        self._speaking = False
        self.overflowed_bytes = 0
        """Unanswered speech that fell out of the ring, in bytes."""

    def add(self, pcm: bytes, *, speech: bool) -> None:
        """Keep a frame. The oldest leave when the ring is full."""
        if speech and not self._speaking:
            self._speech_began = self._next
        self._speaking = speech
        self._frames.append(_Frame(self._next, pcm, speech))
        self._next += 1
        self._bytes += len(pcm)
        while self._bytes > self._capacity and len(self._frames) > 1:
            oldest = self._frames.popleft()
            self._bytes -= len(oldest.pcm)
            if oldest.speech and oldest.number >= self._committed:
                self.overflowed_bytes += len(oldest.pcm)

    def commit(self) -> None:
        """Everything the caller has finished saying is done with; what is being said now is not."""
        done = self._speech_began - self._preroll_frames() if self._speaking else self._next
        self._committed = max(self._committed, done)

    def commit_all(self) -> None:
        """All of it is done with, also what is being said now."""
        self._committed = self._next

    def uncommitted(self) -> list[bytes]:
        """The frames to replay, in order: from shortly before the first unanswered speech to the newest."""
        frames = [frame for frame in self._frames if frame.number >= self._committed]
        first = next((i for i, frame in enumerate(frames) if frame.speech), None)
        if first is None:
            return []
        wanted = int(PREROLL_S * self._rate)
        while first > 0 and wanted > 0:
            first -= 1
            wanted -= len(frames[first].pcm)
        return [frame.pcm for frame in frames[first:]]

    @property
    def speaking(self) -> bool:
        """Whether the newest frame was speech."""
        return self._speaking

    def _preroll_frames(self) -> int:
        """How many frames before the newest speech belong to it."""
        count, wanted = 0, int(PREROLL_S * self._rate)
        for frame in reversed(self._frames):
            if frame.number >= self._speech_began:
                continue
            if wanted <= 0 or frame.speech:
                break
            wanted -= len(frame.pcm)
            count += 1
        return count
