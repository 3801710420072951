"""The answer that the model is generating: which of its audio may still be heard."""

from __future__ import annotations

__all__ = ["Answer"]

MAX_PAUSE_S = 3.0
"""An answer that has brought no audio for so long is taken as over: its end may never be told."""


class Answer:
    """Follows the audio blocks of one answer after another on the live stream.

    After a barge-in nothing of the old answer may follow, though the model may be slow to notice: its
    blocks are dropped by their ids, and blocks that begin before it has noticed are dropped as well.
    """

    def __init__(self) -> None:
        self._blocks: set[str] = set()
        self._silent: set[str] = set()  # begun, no audio yet
        self._dead: set[str] = set()
        self._muted = False
        self._generating = False
        self._sounded = False
        self._in_block = False
        self._rests = False
        self._active_at = 0.0

    def generating(self, now: float) -> bool:
        """Whether the model is in the middle of an answer; not for ever, where its end never came."""
        return self._generating and now - self._active_at < MAX_PAUSE_S

    def speaking(self, now: float) -> bool:
        """Whether some of the answer that is being generated is to be heard already."""
        return self._sounded and self.generating(now)

    def breaks_off(self, now: float) -> bool:
        """Whether some of the answer is to be heard and, if nothing more came now, the rest would be missing."""
        return self._sounded and (self._in_block or self.generating(now))

    @property
    def ends_by(self) -> float | None:
        """When the answer under way counts as over, if nothing more comes of it; None without one."""
        return self._active_at + MAX_PAUSE_S if self._generating else None

    def begins(self, content_id: str, now: float) -> bool:
        """A block of audio begins. True if it is to be heard."""
        if not self.generating(now):
            self._muted = self._sounded = False
        self._generating = self._in_block = True
        self._rests = False
        self._active_at = now
        if self._muted:
            self._dead.add(content_id)
            return False
        self._blocks.add(content_id)
        self._silent.add(content_id)
        return True

    def sounds(self, content_id: str, now: float) -> bool:
        """Audio of a block came. True if it is to be played."""
        self._active_at = now
        return content_id not in self._dead

    def is_first(self, content_id: str) -> bool:
        """Whether this is the first audio of its block; asking again, it is not."""
        if content_id not in self._silent:
            return False
        self._silent.discard(content_id)
        self._sounded = True
        return True

    def block_ends(self) -> None:
        """All the audio of the block has come."""
        self._in_block = False

    def rests(self) -> None:
        """The model waits for something that it asked for: what begins after that is not what was cut off."""
        if not self._in_block:
            self._rests = True
            self.unmute()

    def ends(self) -> None:
        """The model has finished the answer, or has stopped it."""
        self._generating = self._sounded = self._muted = self._in_block = self._rests = False
        self._blocks.clear()
        self._silent.clear()

    def cut(self, now: float, *, noticed: bool) -> None:
        """The caller has cut the answer off. `noticed` when the model knows: what begins now is new."""
        self._muted = self.generating(now) and not noticed and not self._rests
        self._dead |= self._blocks
        self._blocks.clear()
        self._silent.clear()
        self._in_block = False
        if noticed:
            self._generating = self._sounded = False

    def unmute(self) -> None:
        """The model has taken the caller's turn: what begins now answers that."""
        if self._muted:
            self._muted = self._sounded = False

    def stream_lost(self) -> None:
        """Nothing more comes of it."""
        self.ends()
        self._dead.clear()
