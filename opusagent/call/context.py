"""The conversation as a new stream is told it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from opusagent.function_handler import as_text
from opusagent.models.session_state import (
    ConversationItem,
    FunctionCall,
    Role,
    ToolStatus,
    Turn,
)

__all__ = ["Past", "as_past"]

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Past:
    """The conversation so far.

    Attributes:
        turns: Oldest first.
        n_settled: So many of the oldest are settled. The last of them is the bot's, and a turn of the
            caller's follows.
        hide: Takes out of a text what must not be kept of it, as it was taken out of these.
    """

    turns: Sequence[Turn]
    n_settled: int = 0
    hide: Callable[[str], str] = str

    @property
    def settled(self) -> Sequence[Turn]:
        """Those that are."""
        return self.turns[: self.n_settled]


def as_past(
    items: Sequence[ConversationItem],
    calls: Sequence[FunctionCall],
    *,
    owed: Sequence[str] = (),
    settled_at: datetime = _LONG_AGO,
    hide: Callable[[str], str] = str,
) -> Past:
    """Turns and function calls in the order of their times, oldest first; those without words are left out.

    Args:
        items: The transcript, in order; each with its time.
        calls: The ledger, in order.
        owed: Texts of the caller that are still to be answered, oldest first. They are typed to the
            stream, so they are left out here: nothing is told twice.
        settled_at: What came before a turn that the caller began by then is settled, unless a function
            in it has no result yet.
        hide: See `Past`.
    """
    lines = [
        (item.at or _LONG_AGO, Role.USER if item.type == "input" else Role.ASSISTANT, item.text)
        for item in items
        if item.text.strip()
    ]
    for text in reversed(owed):
        # What the bot said after it may be about something else still.
        place = next((n for n in reversed(range(len(lines))) if lines[n][1] is Role.USER), None)
        if place is None or not lines[place][2].endswith(text):
            break
        at, role, whole = lines.pop(place)
        if rest := whole.removesuffix(text).strip():
            lines.insert(place, (at, role, rest))  # texts that follow one another are one turn
    lines += [(call.started_at, Role.ASSISTANT, as_text(call)) for call in calls]
    lines.sort(key=lambda line: line[0])
    running = [call.started_at for call in calls if call.status is ToolStatus.RUNNING]
    settled_at = min([settled_at, *running])
    n_settled = next(
        (
            place
            for place in range(len(lines) - 1, 0, -1)
            if lines[place][1] is Role.USER
            and lines[place - 1][1] is Role.ASSISTANT
            and lines[place][0] <= settled_at
        ),
        0,
    )
    return Past([Turn(role=role, text=text) for _, role, text in lines], n_settled, hide)
