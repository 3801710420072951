"""What the next stream is told of the conversation so far, and what it owes an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opusagent.call.plan import CallPlan
from opusagent.models.session_state import Turn
from opusagent.sonic import history

__all__ = ["Briefing"]

SUMMARY_BYTES = 1_000
"""How much of the conversation goes into the prompt where a history was refused."""


@dataclass(frozen=True, slots=True)
class _Owed:
    """A text that the model has been given and has not answered: the next stream is given it, too."""

    text: str
    is_turn: bool


class Briefing:
    """The past of one call, ready for another stream.

    Args:
        context: The conversation so far, oldest first; its argument is what will be typed to the
            stream, so that it is not told twice.
    """

    def __init__(self, plan: CallPlan, context: Callable[[Sequence[str]], Sequence[Turn]]) -> None:
        self._plan = plan
        self._context = context
        self._owed: list[_Owed] = []

    @property
    def owed(self) -> tuple[str, ...]:
        """The texts that have no answer, oldest first."""
        return tuple(owed.text for owed in self._owed)

    @property
    def owed_turns(self) -> list[str]:
        """Those of them that the transcript has as the caller's."""
        return [owed.text for owed in self._owed if owed.is_turn]

    def owe(self, text: str, *, is_turn: bool) -> None:
        """A text awaits its answer. `is_turn`: it stands in the transcript as the caller's."""
        self._owed.append(_Owed(text, is_turn))

    def answered(self) -> None:
        """Nothing is owed any more."""
        self._owed.clear()

    def data_used(self) -> None:
        """What no caller has said, such as a result, is owed no longer."""
        self._owed = [owed for owed in self._owed if owed.is_turn]

    def past(self, share: float) -> history.History:
        """The history for a stream, without what is owed.

        Args:
            share: How much of the allowed size may be used; 0 for none of it.
        """
        return history.build(
            self.turns if share else (),
            max_bytes=max(int(self._plan.max_history_bytes * share), history.MIN_BYTES),
            max_part_bytes=self._plan.max_part_bytes,
        )

    def news(self, summary: Sequence[Turn]) -> history.History:
        """The history for a stream whose prompt was given a summary: what has been said since."""
        old = Counter((turn.role, turn.text) for turn in summary)
        new = []
        for turn in self.turns:
            if old[turn.role, turn.text]:
                old[turn.role, turn.text] -= 1
            else:
                new.append(turn)
        return history.build(
            new,
            max_bytes=SUMMARY_BYTES,
            max_part_bytes=self._plan.max_part_bytes,
            opening="[the call goes on]",
        )

    @property
    def turns(self) -> Sequence[Turn]:
        """The conversation so far, oldest first, without what is owed."""
        return self._context(self.owed_turns)

    def with_summary(self, prompt: str) -> str:
        """The prompt and the newest lines of the conversation, for a service that refuses histories."""
        past = history.build(self.turns, max_bytes=SUMMARY_BYTES)
        lines = "\n".join(f"{turn.role}: {turn.text}" for turn in past.turns)
        return f"{prompt}\n\nThe conversation so far, shortened:\n{lines}" if lines else prompt
