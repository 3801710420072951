"""The answer that the model is generating: which of its audio may still be heard."""

from __future__ import annotations


class Answer:
    """Follows the audio blocks of one answer after another on the live stream.

    After a barge-in nothing of the old answer may follow, though the model may be slow to notice: its
    blocks are dropped by their ids, and blocks that begin before it has noticed are dropped as well.
    """

    def __init__(self) -> None:
        self._blocks: set[str] = set()
        self._dead: set[str] = set()
        self._muted = False
        self.generating = False
        """Whether the model is in the middle of an answer."""

    def begins(self, content_id: str) -> bool:
        """A block of audio begins. True if it is to be heard."""
        self.generating = True
        if self._muted:
            self._dead.add(content_id)
            return False
        self._blocks.add(content_id)
        return True

    def heard(self, content_id: str) -> bool:
        """Whether audio of this block is to be played."""
        return content_id not in self._dead

    def ends(self) -> None:
        """The model has finished the answer, or has stopped it."""
        self.generating = self._muted = False
        self._blocks.clear()

    def cut(self, *, noticed: bool) -> None:
        """The caller has cut the answer off. `noticed` when the model knows: what begins now is new."""
        self._dead |= self._blocks
        self._blocks.clear()
        self._muted = self.generating and not noticed
        if noticed:
            self.generating = False

    def new_turn(self) -> None:
        """The caller's turn has reached the model: what begins now answers that."""
        self._muted = False

    def stream_lost(self) -> None:
        """Nothing more comes of it."""
        self.ends()
        self._dead.clear()
