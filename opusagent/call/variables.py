"""Values that are kept for the rest of a call: set by tools and by the model, saved with the session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

__all__ = ["MAX_STATE_BYTES", "MAX_STATE_DEPTH", "Variables", "depth_of"]

MAX_STATE_BYTES: Final = 20_000
"""What the state of a call may hold, as UTF-8 bytes of JSON: it is stored at every change."""

MAX_STATE_DEPTH: Final = 32
"""Lists and objects within each other: a session that is nested too deeply cannot be read back."""

_VALUES: Final = TypeAdapter[dict[str, JsonValue]](dict[str, JsonValue])


class Variables:
    """The key-value state of one call.

    Args:
        values: What was kept so far.
    """

    def __init__(self, values: Mapping[str, JsonValue]) -> None:
        self._values = dict(values)

    @property
    def values(self) -> dict[str, JsonValue]:
        """All of them. Never changed in place: what was saved stays as it was."""
        return self._values

    def set(self, key: str, value: JsonValue) -> bool:
        """Keep a value. False if it is one too many (`MAX_STATE_BYTES`), or cannot be stored and read back."""
        try:
            values = self._values | _VALUES.validate_python({key: value})
            if len(to_json(values)) > MAX_STATE_BYTES or depth_of(values[key]) > MAX_STATE_DEPTH:
                return False
        except (ValidationError, PydanticSerializationError):
            return False
        self._values = values
        return True


def depth_of(value: JsonValue) -> int:
    """How many lists and objects are within each other."""
    if not isinstance(value, dict | list):
        return 0
    within = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, within), default=0)
