"""The conversation as a new stream is told it."""

from __future__ import annotations

import re
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

type _Line = tuple[datetime, Role, str]

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


def _take_out(text: str, lines: list[_Line]) -> None:
    """Take the newest of the caller's lines that has these words, or a part of it, out of the lines.

    What was said after it, by the bot or in the last words of a stream that was replaced, is about
    something else. Texts of the caller that follow one another are one line.
    """
    words = re.compile(rf"(?<!\S){re.escape(text)}(?!\S)")
    for place in reversed(range(len(lines))):
        at, role, whole = lines[place]
        if role is Role.USER and (found := [*words.finditer(whole)]):
            begin, end = found[-1].span()
            rest = f"{whole[:begin].strip()} {whole[end:].strip()}".strip()
            lines[place : place + 1] = [(at, role, rest)] if rest else []
            return


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
    lines: list[_Line] = [
        (item.at or _LONG_AGO, Role.USER if item.type == "input" else Role.ASSISTANT, item.text)
        for item in items
        if item.text.strip()
    ]
    for text in reversed(owed):
        _take_out(text, lines)
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
