"""The conversation as a new stream is told it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from opusagent.function_handler import as_text
from opusagent.models.session_state import ConversationItem, FunctionCall, Role, Turn

__all__ = ["as_turns"]

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def as_turns(
    items: Sequence[ConversationItem], calls: Sequence[FunctionCall], *, owed: Sequence[str] = ()
) -> list[Turn]:
    """Turns and function calls in the order of their times, oldest first.

    Args:
        items: The transcript, in order; each with its time.
        calls: The ledger, in order.
        owed: Texts of the caller that are still to be answered, oldest first. They are typed to the
            stream, so they are left out here: nothing is told twice.
    """
    lines = [
        (item.at or _LONG_AGO, Role.USER if item.type == "input" else Role.ASSISTANT, item.text)
        for item in items
    ]
    for text in reversed(owed):
        if not lines or lines[-1][1] is not Role.USER or not lines[-1][2].endswith(text):
            break
        at, role, whole = lines.pop()
        if rest := whole.removesuffix(text).strip():
            lines.append((at, role, rest))  # texts that follow one another are one turn
    lines += [(call.started_at, Role.ASSISTANT, as_text(call)) for call in calls]
    lines.sort(key=lambda line: line[0])
    return [Turn(role=role, text=text) for _, role, text in lines]
