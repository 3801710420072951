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

TAIL_S = 2.0
"""How much silence is kept after speech that nobody has answered; it ends a turn for the model."""


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
        self._rose_from: int | None = None  # the first frame of what may become speech
        self._spoke_to = 0  # the frame after the newest one with speech
        self._heard_to = 0  # frames below this number have reached a stream by replay
        self._tail = 0  # bytes of silence after the newest speech
        self._lost = 0  # bytes

    def add(self, pcm: bytes, *, speech: bool, heard: bool, rising: bool = False) -> None:
        """Keep a frame. The oldest leave when the ring is full.

        Args:
            pcm: The frame.
            speech: Whether the caller speaks in it.
            heard: Whether a stream gets it as well.
            rising: Whether there is sound in it or shortly before that may become speech.
        """
        if not rising:
            self._rose_from = None
        elif self._rose_from is None:
            self._rose_from = self._next
        if speech and not self._speaking:
            self._speech_began = self._next
        self._speaking = speech
        self._frames.append(_Frame(self._next, pcm, speech, heard))
        self._next += 1
        self._bytes += len(pcm)
        self._tail = 0 if speech else self._tail + len(pcm)
        if speech:
            self._spoke_to = self._next
        elif self.has_unanswered_speech:
            self._shorten_tail()
        while self._bytes > self._capacity and len(self._frames) > 1:
            oldest = self._frames.popleft()
            self._bytes -= len(oldest.pcm)
            if oldest.speech and oldest.number >= self._committed and not self._was_heard(oldest):
                self._lost += len(oldest.pcm)

    @property
    def has_unanswered_speech(self) -> bool:
        """Whether there is speech that is not done with."""
        return self._spoke_to > self._committed

    def unanswered(self) -> bytes:
        """All that would be replayed, as one piece."""
        return b"".join(self.uncommitted())

    def take_lost(self) -> int:
        """How much unanswered speech fell out and reached no stream, in bytes; counts anew then."""
        lost, self._lost = self._lost, 0
        return lost

    def replayed(self) -> None:
        """All of it has reached a stream now."""
        self._heard_to = self._next

    def pause(self) -> None:
        """Nothing more comes for now: what was being said is over."""
        self._speaking = False
        self._rose_from = None

    def commit(self) -> None:
        """Everything the caller has finished saying is done with; what is being said now is not."""
        self._committed = max(self._committed, self._being_said_from())

    def commit_all(self) -> None:
        """All of it is done with, also what is being said now."""
        self._committed = self._next
        self._speech_began = self._next

    def uncommitted(self) -> list[bytes]:
        """The frames to replay, in order: from shortly before the first unanswered speech to the newest.

        Where there is none, what may become speech.
        """
        frames = [frame for frame in self._frames if frame.number >= self._committed]
        first = next((i for i, frame in enumerate(frames) if frame.speech), None)
        if first is None:  # a word may have begun that nobody knows to be one
            begun = self._rose_from
            return [f.pcm for f in frames if begun is not None and f.number >= begun]
        wanted = int(PREROLL_S * self._rate)
        while first > 0 and wanted > 0:
            first -= 1
            wanted -= len(frames[first].pcm)
        return [frame.pcm for frame in frames[first:]]

    def _was_heard(self, frame: _Frame) -> bool:
        return frame.heard or frame.number < self._heard_to

    def _shorten_tail(self) -> None:
        """Silence must not push out speech that is still to be answered."""
        if self._tail <= int(TAIL_S * self._rate):
            return
        at = len(self._frames)
        while at and not self._frames[at - 1].speech:
            at -= 1
        if at < len(self._frames):
            n_bytes = len(self._frames[at].pcm)
            del self._frames[at]
            self._bytes -= n_bytes
            self._tail -= n_bytes

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
