"""What the model wants a tool called with, read from its JSON."""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue
from pydantic_core import from_json

from opusagent.errors import ToolError

__all__ = ["parse_arguments"]

_MAX_ENCODINGS: Final = 3


def parse_arguments(text: str) -> dict[str, JsonValue]:
    """The arguments in the text that the model sent; nothing at all means none.

    JSON that was encoded more than once is decoded (seen with Nova Sonic).

    Raises:
        ToolError: If there is no JSON object in it.
    """
    value: JsonValue = text
    for _ in range(_MAX_ENCODINGS):
        if not isinstance(value, str) or not value.strip():
            break
        try:
            value = from_json(value, allow_inf_nan=False)
        except ValueError:
            raise ToolError("the arguments are not JSON") from None
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    if not isinstance(value, dict):
        raise ToolError("the arguments are not a JSON object")
    return value
