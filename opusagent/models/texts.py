"""Texts of an agent's file with variables in them: `{called}`, `{state.name|nobody}`.

    {NAME}            what is known under that name; empty where nothing is
    {NAME|default}    the default where nothing is known
    {{NAME}}          the letters {NAME} themselves; any other brace is a brace

A value comes from outside, a caller's display name for example: it is put in as one line of at most
`MAX_VALUE` characters, so that it cannot pass for a paragraph of the prompt.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, JsonValue

__all__ = ["MAX_VALUE", "FullTemplate", "Template", "fill", "is_zone", "needs_start", "time_of_day"]

MAX_VALUE: Final = 500
"""Characters of one value."""

_OF_TIME: Final = ("date", "time", "weekday", "part_of_day", "time_zone")
_OF_START: Final = ("called", "caller_name")
_PLAIN: Final = ("caller", "bot_name", "conversation_id", "agent", *_OF_START, *_OF_TIME)
_GROUPS: Final = ("query", "start", "state")
_NAME: Final = r"[A-Za-z_][\w.-]*"
_PLACE: Final = re.compile(
    rf"\{{\{{(?P<literal>{_NAME}(?:\|[^{{}}]*)?)\}}\}}|\{{(?P<name>{_NAME})(?:\|(?P<default>[^{{}}]*))?\}}"
)
_BREAKS: Final = re.compile(r"[\s\x00-\x1f\x7f]+")


def _checked(text: str) -> str:
    for name in _names(text):
        group, dot, rest = name.partition(".")
        if name in _PLAIN or (group in _GROUPS and dot and rest):
            continue
        known = [*_PLAIN, *(f"{group}.NAME" for group in _GROUPS)]
        near = difflib.get_close_matches(name, _PLAIN, n=1)
        hint = f"did you mean {{{near[0]}}}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"unknown variable {{{name}}}; {hint} (write {{{{{name}}}}} for the text)")
    return text


type Template = Annotated[str, AfterValidator(_checked)]
"""A text whose variables are all known ones."""
type FullTemplate = Annotated[str, Field(min_length=1), AfterValidator(_checked)]
"""The same, and not empty: a bound put on `Template` from outside would speak of items."""


def needs_start(text: str, time_zone: str = "") -> bool:
    """Whether it has a variable that is known only once AudioCodes' `start` activity has come.

    Its variables of time may have one in the text that is their `time_zone`.

    Source: AudioCodes Bot API; on a live capture `session.initiate` had the caller and the bot's name,
    and `start`, after the answer, all the rest.
    """
    names = _names(text)
    if not set(names).isdisjoint(_OF_TIME):
        names += _names(time_zone)
    return any(name in _OF_START or name.startswith("start.") for name in names)


def fill(text: str, values: Mapping[str, JsonValue]) -> str:
    """The text with these values in it; `state.a.b` is looked up in the object `state`, under `a.b` or `a`, `b`."""

    def put(match: re.Match[str]) -> str:
        if match["literal"] is not None:
            return f"{{{match['literal']}}}"
        return _as_line(_find(values, match["name"])) or match["default"] or ""

    return _PLACE.sub(put, text)


def is_zone(name: str) -> bool:
    """Whether it is a time zone's IANA name."""
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True


def time_of_day(now: datetime, time_zone: str) -> dict[str, JsonValue]:
    """The variables of time, in that zone.

    Args:
        now: The present, aware of its zone.
        time_zone: An IANA name.
    """
    local = now.astimezone(ZoneInfo(time_zone))
    return {
        "date": local.date().isoformat(),
        "time": f"{local:%H:%M}",
        "weekday": _WEEKDAYS[local.weekday()],
        "part_of_day": _part_of_day(local.hour),
        "time_zone": time_zone,
    }


_WEEKDAYS: Final = (
    *("Monday", "Tuesday", "Wednesday", "Thursday"),  # not by the locale of the machine
    *("Friday", "Saturday", "Sunday"),
)


def _part_of_day(hour: int) -> str:
    if 5 <= hour < 12:
        return "morning"
    if 12 <= hour < 18:
        return "afternoon"
    return "evening" if 18 <= hour < 22 else "night"


def _names(text: str) -> list[str]:
    return [match["name"] for match in _PLACE.finditer(text) if match["name"]]


def _find(values: JsonValue | Mapping[str, JsonValue], name: str) -> JsonValue:
    """What is known under a name with dots in it; the longest key wins."""
    if isinstance(values, list):
        head, _, rest = name.partition(".")
        if not head.isdecimal() or int(head) >= len(values):
            return None
        return _find(values[int(head)], rest) if rest else values[int(head)]
    if not isinstance(values, Mapping):
        return None
    if name in values:
        return values[name]
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if (key := ".".join(parts[:count])) in values:
            return _find(values[key], ".".join(parts[count:]))
    return None


def _as_line(value: JsonValue) -> str:
    match value:
        case None:
            text = ""
        case str():
            text = value
        case _:
            text = json.dumps(value, ensure_ascii=False)
    return _BREAKS.sub(" ", text).strip()[:MAX_VALUE]
