"""A conversation as a new Nova Sonic stream accepts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from opusagent.models.session_state import Role, Turn

__all__ = ["MIN_BYTES", "OPENING", "History", "build", "split_utf8"]

OPENING: Final = "[call connected]"
"""Stands in front of a conversation that the bot began."""

MIN_BYTES: Final = 256
"""Less room than this is refused: the line that says what is missing has to fit."""


@dataclass(frozen=True, slots=True)
class History:
    """Turns ready for a prompt.

    Attributes:
        turns: Alternating, the first one USER, none blank; or empty.
        dropped: Oldest turns (after neighbours were merged) that did not fit.
        n_bytes: Size of all texts in UTF-8.
        n_parts: `textInput` events that the texts need.
    """

    turns: tuple[Turn, ...] = ()
    dropped: int = 0
    n_bytes: int = 0
    n_parts: int = 0


def build(
    turns: Iterable[Turn],
    *,
    max_bytes: int = 40_000,
    max_part_bytes: int = 1_000,
    opening: str = OPENING,
) -> History:
    """Keep the newest turns that fit, alternating, starting on a USER turn.

    Blank turns are skipped and neighbours of one role become one turn. A conversation that the bot
    began is put behind the USER line `opening` instead of being cut. Whole turns go, oldest first;
    a USER line then says how many. A single turn that is too large keeps its end. Applying `build`
    to its own result changes nothing.

    Args:
        turns: The conversation, oldest first.
        max_bytes: Room for all texts, in UTF-8.
        max_part_bytes: Largest `textInput`; decides `n_parts` only, a long turn is split when it is
        sent.
        opening: Stands in front of a conversation that the bot began.

    Raises:
        ValueError: If `max_bytes` is less than `MIN_BYTES`, or `opening` would not fit beside a
        turn.

    Source: Nova 2 user guide, chat history (40 KB in all, the first line the user's, roles in
    turn).
    """
    if max_bytes < MIN_BYTES:
        raise ValueError(f"max_bytes is {max_bytes}; it must be at least {MIN_BYTES}")
    if _size(opening) > MIN_BYTES // 4:
        raise ValueError(f"opening is longer than {MIN_BYTES // 4} bytes")
    merged = _merged(turns)
    sizes = [_size(turn.text) for turn in merged]
    rest = sum(sizes)
    for dropped, turn in enumerate(merged):
        header = _header(turn, dropped, opening)
        # A header in front of a USER turn becomes its first line, which costs the line break.
        spent = _size(header) + (1 if header and turn.role is Role.USER else 0)
        if rest + spent <= max_bytes:
            return _headed(merged[dropped:], header, dropped, max_part_bytes)
        rest -= sizes[dropped]
    if not merged:
        return History()
    last, dropped = merged[-1], len(merged) - 1
    header = _header(last, dropped, opening)
    text = _end(last.text, max_bytes - _size(header) - 1)
    return _headed([Turn(role=last.role, text=text)], header, dropped, max_part_bytes)


def split_utf8(text: str, max_bytes: int) -> list[str]:
    """Cut a text into parts of at most `max_bytes` in UTF-8, never inside a character.

    Joined, the parts are the text again. An empty text has no parts.

    Args:
        text: Any text.
        max_bytes: Largest part.

    Raises:
        ValueError: If `max_bytes` is less than 4, the size of the largest character.
    """
    if max_bytes < 4:
        raise ValueError("a part must have room for one character of 4 bytes")
    data = text.encode()
    parts = []
    start = 0
    while start < len(data):
        end = min(start + max_bytes, len(data))
        # A byte 10xxxxxx continues a character: step back to where that began.
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        parts.append(data[start:end].decode())
        start = end
    return parts


def _merged(turns: Iterable[Turn]) -> list[Turn]:
    merged: list[Turn] = []
    for turn in turns:
        text = turn.text.strip()
        if not text:
            continue
        if merged and merged[-1].role is turn.role:
            text = f"{merged.pop().text} {text}"
        merged.append(Turn(role=turn.role, text=text))
    return merged


def _header(first: Turn, dropped: int, opening: str) -> str:
    if dropped:
        return f"[{dropped} earlier {'turns are' if dropped > 1 else 'turn is'} not shown]"
    return opening if first.role is Role.ASSISTANT else ""


def _headed(turns: Sequence[Turn], header: str, dropped: int, max_part_bytes: int) -> History:
    kept = list(turns)
    if header and kept[0].role is Role.USER:
        kept[0] = Turn(role=Role.USER, text=f"{header}\n{kept[0].text}")
    elif header:
        kept.insert(0, Turn(role=Role.USER, text=header))
    return History(
        turns=tuple(kept),
        dropped=dropped,
        n_bytes=sum(_size(turn.text) for turn in kept),
        n_parts=sum(len(split_utf8(turn.text, max_part_bytes)) for turn in kept),
    )


def _end(text: str, max_bytes: int) -> str:
    return text.encode()[-max_bytes:].decode(errors="ignore").strip()


def _size(text: str) -> int:
    return len(text.encode())
