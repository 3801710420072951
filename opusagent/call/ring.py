"""The caller's last seconds, kept for a stream that has to be replaced in the middle of a word."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["ReplayRing"]

PREROLL_S = 0.5
"""How much audio before the first unanswered speech is replayed with it: an energy detector hears a
word only after it has begun."""

OVERLAP_S = 2.0
"""How far a text may lag behind the speech that it covers. Where the model tells a part of what the
caller is still saying, older speech is done with: its text and its audio must not both be given."""


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    pcm: bytes
    speech: bool
    heard: bool


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
        self.lost_bytes = 0
        """Speech that fell out of the ring and reached no stream, in bytes."""

    def add(self, pcm: bytes, *, speech: bool, heard: bool) -> None:
        """Keep a frame. The oldest leave when the ring is full.

        Args:
            pcm: The frame.
            speech: Whether the caller speaks in it.
            heard: Whether a stream gets it as well.
        """
        if speech and not self._speaking:
            self._speech_began = self._next
        self._speaking = speech
        self._frames.append(_Frame(self._next, pcm, speech, heard))
        self._next += 1
        self._bytes += len(pcm)
        while self._bytes > self._capacity and len(self._frames) > 1:
            oldest = self._frames.popleft()
            self._bytes -= len(oldest.pcm)
            if oldest.speech and not oldest.heard and oldest.number >= self._committed:
                self.lost_bytes += len(oldest.pcm)

    def pause(self) -> None:
        """Nothing more comes for now: what was being said is over."""
        self._speaking = False

    def commit(self) -> None:
        """Everything the caller has finished saying is done with; what is being said now is not."""
        self._committed = max(self._committed, self._being_said_from())

    def commit_all(self) -> None:
        """All of it is done with, also what is being said now."""
        self._committed = self._next
        self._speech_began = self._next

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

    def _being_said_from(self) -> int:
        """The first frame of what is being said now, with its preroll.

        While nobody speaks, that is a preroll alone: the next word may have begun already.
        """
        number = self._next
        overlap, preroll = int(OVERLAP_S * self._rate), int(PREROLL_S * self._rate)
        for frame in reversed(self._frames):
            if self._speaking and frame.number >= self._speech_began:
                if overlap <= 0:
                    break
                overlap -= len(frame.pcm)
            elif frame.speech or preroll <= 0:
                break
            else:
                preroll -= len(frame.pcm)
            number = frame.number
        return number
