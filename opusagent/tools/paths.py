"""A small part of JSONPath: `$.order.items[0].name`, `$.items[*].id`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from opusagent.errors import ConfigError

__all__ = ["find", "parse_path"]

_STEP: Final = re.compile(r"\.(?P<name>[\w-]+)|\[(?P<index>-?\d{1,6})\]|\[(?P<all>\*)\]")

type Step = str | int | None
"""The name of a field, the number of an item, or None for every item."""


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path.

    Raises:
        ConfigError: If it is none.
    """
    steps: list[Step] = []
    at = 1
    while at < len(text) and text.startswith("$"):
        match = _STEP.match(text, at)
        if match is None:
            break
        steps.append(match["name"] or (int(match["index"]) if match["index"] else None))
        at = match.end()
    if not text.startswith("$") or at < len(text):
        raise ConfigError(f"{text!r} is no path like $.order.items[0].name")
    return tuple(steps)


def find(value: JsonValue, steps: Sequence[Step]) -> JsonValue:
    """What is at the end of a path.

    Raises:
        LookupError: If there is nothing.
    """
    for i, step in enumerate(steps):
        match value, step:
            case dict(), str():
                value = value[step]
            case list(), int():
                value = value[step]
            case list(), None:
                return [find(item, steps[i + 1 :]) for item in value]
            case _:
                raise LookupError
    return value
