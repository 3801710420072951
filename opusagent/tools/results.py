"""Whatever a tool returns becomes one JSON object of bounded size."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, time
from typing import Final

from pydantic import BaseModel, JsonValue, RootModel
from pydantic.dataclasses import is_pydantic_dataclass

from opusagent.tools.tool import JsonObject

__all__ = ["MAX_RESULT_BYTES", "SHORTENED", "as_error", "as_object"]

MAX_RESULT_BYTES: Final = 20_000
"""A result as UTF-8 bytes of JSON. No limit of Nova Sonic is published; under 4 kB is what was tried most."""

SHORTENED: Final = "shortened"
"""The key that says that a result was too long."""

_NOTE: Final = "This is the beginning of a longer result."
# The note, and the longest number, which may be begun with one byte left.
_RESERVE_BYTES: Final = len(json.dumps({"result": 0, SHORTENED: _NOTE})) + 32
_MAX_DEPTH: Final = 32
_MAX_ERROR_CHARS: Final = 500
_SAFE_INT_BITS: Final = 64


def as_object(value: object, max_bytes: int = MAX_RESULT_BYTES) -> JsonObject:
    """A result as the model gets it: a JSON object of at most `max_bytes` of UTF-8.

    What is no object is put into one, under `result`. Dataclasses, pydantic models, enumerations, dates and
    iterables become what JSON has for them, other things their text, NaN and infinity null. What is too long
    is cut, and `shortened` says so. The time that this takes depends on `max_bytes`, not on the value, but for
    pydantic models and dataclasses, which are dumped whole.
    """
    copier = _Copier(max_bytes - _RESERVE_BYTES)
    copy = copier.copy(value, 0)
    result: JsonObject = copy if isinstance(copy, dict) else {"result": copy}
    if copier.is_cut:
        result[SHORTENED] = _NOTE
    return result


def as_error(words: str) -> JsonObject:
    """A failure as the model gets it."""
    return {"error": _clean(words[:_MAX_ERROR_CHARS])}


class _Copier:
    """Copies a value until its room is used up."""

    def __init__(self, room: int) -> None:
        self._room = room
        self.is_cut = False

    def copy(self, value: object, depth: int) -> JsonValue:
        if depth > _MAX_DEPTH:
            self.is_cut = True
            self._room -= 4
            return None
        match value:  # the plain types of JSON first: looking for the others takes long
            case dict():
                return self._items(value.items(), depth)
            case list() | tuple():
                return self._list(value, depth)
            case enum.Enum():
                return self.copy(value.value, depth + 1)
            case None | bool():
                self._room -= 5
                return value
            case int() if value.bit_length() <= _SAFE_INT_BITS:
                self._room -= len(int.__repr__(value))
                return int(value)
            case float():
                self._room -= len(float.__repr__(value)) + 1
                return float(value) if math.isfinite(value) else None
            case str():
                return self._text(value)
            case bytes() | bytearray() | memoryview():
                return self._text(bytes(value[: max(self._room, 0) + 4]).decode(errors="replace"))
            case date() | time():
                return self._text(value.isoformat())
            case BaseModel():  # as it shows itself: without what it excludes, with what it computes
                return self.copy(value.model_dump(warnings=False), depth + 1)
            case Mapping():
                return self._items(value.items(), depth)
            case _ if is_pydantic_dataclass(type(value)):
                return self.copy(RootModel(value).model_dump(warnings=False), depth + 1)
            case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
                names = (f.name for f in dataclasses.fields(value))
                return self._items(((name, getattr(value, name)) for name in names), depth)
            case Iterable():
                return self._list(value, depth)
            case _:
                return self._text(_words(value))

    def _items(self, items: Iterable[tuple[object, object]], depth: int) -> JsonValue:
        self._room -= 2
        copy: dict[str, JsonValue] = {}
        for key, item in items:
            if self._is_full:
                break
            name = self._text(key if isinstance(key, str) else _words(key))
            self._room -= 4
            if self._is_full:
                break
            copy[name] = self.copy(item, depth + 1)
        return copy

    def _list(self, items: Iterable[object], depth: int) -> JsonValue:
        self._room -= 2
        copy: list[JsonValue] = []
        for item in items:
            if self._is_full:
                break
            self._room -= 2
            copy.append(self.copy(item, depth + 1))
        return copy

    @property
    def _is_full(self) -> bool:
        self.is_cut = self.is_cut or self._room <= 0
        return self._room <= 0

    def _text(self, text: str) -> str:
        kept = _clean(text[: max(self._room, 0)])
        while (size := _size(kept)) > max(self._room, 2):
            kept = kept[: min(len(kept) - 1, len(kept) * self._room // size)]
        self.is_cut = self.is_cut or len(kept) < len(text)
        self._room -= size
        return kept


def _size(text: str) -> int:
    if text.isascii() and text.isprintable():
        return len(text) + 2 + text.count('"') + text.count("\\")
    return len(json.dumps(text, ensure_ascii=False).encode())


def _clean(text: str) -> str:
    """The text without halves of characters, which cannot be encoded."""
    return str(text) if text.isascii() else str(text).encode(errors="replace").decode()


def _words(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - somebody else's `__str__`, and numbers of too many digits
        return f"<{type(value).__name__}>"
