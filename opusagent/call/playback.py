"""Paces the bot's audio: VoiceAI Connect buffers what it is given, and nothing flushes it reliably.

`playStream.stop` means that no more audio will come, not that what was sent falls silent (seen on a
live capture). So only a short lead is ever handed over, and a barge-in drops the rest here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Cut", "Playback"]

QUANTUM_S = 0.1
"""When audio waits, it leaves in pieces of about this length: few messages, and a steady lead."""

MIN_QUANTUM_S = 0.01
"""A piece is never shorter, whatever the lead: each costs a message."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What a barge-in left of one play stream.

    Attributes:
        heard_s: How long the caller listened.
        heard: The blocks of content that she heard, in part at least.
        unheard: The blocks of which she heard nothing.
        dropped_s: How much was dropped before it was handed over.
    """

    heard_s: float
    heard: frozenset[str]
    unheard: frozenset[str]
    dropped_s: float


class Playback:
    """One play stream after another, each kept at most `lead_s` ahead of the caller's ear.

    Args:
        bytes_per_second: Of 16-bit PCM at the play rate.
        lead_s: How far audio may run ahead of real time, in seconds.
    """

    def __init__(self, bytes_per_second: int, *, lead_s: float = 0.3) -> None:
        self._rate = bytes_per_second
        quantum_s = max(min(QUANTUM_S, lead_s / 2), MIN_QUANTUM_S)
        self._lead_s = max(lead_s, quantum_s)
        self._quantum = int(quantum_s * bytes_per_second) & ~1
        self._queue: deque[memoryview] = deque()
        self._queued = 0  # bytes
        self._given = 0  # bytes handed over in this play stream
        self._added = 0  # bytes added in this play stream
        self._marks: list[tuple[int, str]] = []  # where each block of content begins, in bytes
        self._n_begun = 0  # of the marks
        self._begun: list[str] = []
        self._ends_at = 0.0  # when the phone will have played what it was given

    def begin(self) -> None:
        """Start the count of another play stream. What the phone still plays is not forgotten."""
        self._given = self._added = self._n_begun = 0
        self._marks.clear()

    def add(self, pcm: bytes, content_id: str) -> None:
        """Queue audio of one content block."""
        if not self._marks or self._marks[-1][1] != content_id:
            self._marks.append((self._added, content_id))
        self._queue.append(memoryview(pcm))
        self._queued += len(pcm)
        self._added += len(pcm)

    def due(self, now: float) -> bytes:
        """Take what may be handed over now; empty when the phone has enough."""
        due_at = self.next_timer()
        if due_at is None or now < due_at:
            return b""
        room = int((self._lead_s - max(self._ends_at - now, 0.0)) * self._rate) & ~1
        # At the very moment of the timer, rounding may leave `room` a sample short of a piece.
        taken = self._take(min(max(room, self._piece), self._queued))
        self._ends_at = max(self._ends_at, now) + len(taken) / self._rate
        self._given += len(taken)
        while self._n_begun < len(self._marks) and self._marks[self._n_begun][0] < self._given:
            self._begun.append(self._marks[self._n_begun][1])
            self._n_begun += 1
        return taken

    def begun(self) -> list[str]:
        """The blocks of which the first audio was handed over since this was asked last."""
        begun, self._begun = self._begun, []
        return begun

    def put_back(self, pcm: bytes) -> None:
        """Hand over again, before all that waits, what was handed over last: it never reached the phone."""
        self._queue.appendleft(memoryview(pcm))
        self._queued += len(pcm)
        self._ends_at -= len(pcm) / self._rate
        of_before = max(len(pcm) - self._given, 0)  # it belonged to another play stream
        self._given -= len(pcm) - of_before
        self._added += of_before
        self._marks = [(start + of_before, content_id) for start, content_id in self._marks]

    def interrupt(self, now: float, *, flushed: bool) -> Cut:
        """Drop what has not been handed over; what the phone has is silenced as well if `flushed`."""
        unplayed_s = max(self._ends_at - now, 0.0)
        heard_bytes = max(self._given - int(unplayed_s * self._rate), 0)
        heard = frozenset(content_id for start, content_id in self._marks if start < heard_bytes)
        cut = Cut(
            heard_s=heard_bytes / self._rate,
            heard=heard,
            unheard=frozenset(content_id for _, content_id in self._marks) - heard,
            dropped_s=self._queued / self._rate,
        )
        self._queue.clear()
        self._queued = 0
        if flushed:
            self._ends_at = min(self._ends_at, now)
        return cut

    @property
    def empty(self) -> bool:
        """Whether everything added has been handed over."""
        return not self._queued

    @property
    def given_s(self) -> float:
        """How much was handed over in this play stream, in seconds."""
        return self._given / self._rate

    @property
    def ends_at(self) -> float:
        """When the phone will have played what it was given, in monotonic seconds."""
        return self._ends_at

    @property
    def all_played_at(self) -> float:
        """When the phone will have played all that was added, in monotonic seconds."""
        return self._ends_at + self._queued / self._rate

    def audible(self, now: float) -> bool:
        """Whether the caller still hears the bot, or is about to."""
        return bool(self._queued) or self._ends_at > now

    def remaining_s(self, now: float) -> float:
        """Seconds until all that was added has been played."""
        return self._queued / self._rate + max(self._ends_at - now, 0.0)

    def next_timer(self) -> float | None:
        """When `due` has something to give again."""
        if not self._queued:
            return None
        return self._ends_at - self._lead_s + self._piece / self._rate

    @property
    def _piece(self) -> int:
        """The least that is worth a message, in bytes."""
        return min(self._quantum, self._queued)

    def _take(self, n_bytes: int) -> bytes:
        pieces: list[memoryview] = []
        wanted = n_bytes
        while wanted:
            head = self._queue[0]
            if len(head) <= wanted:
                pieces.append(self._queue.popleft())
            else:
                pieces.append(head[:wanted])
                self._queue[0] = head[wanted:]
            wanted -= len(pieces[-1])
        self._queued -= n_bytes
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
