"""Secret digits of a caller, taken out of whatever is kept of the call.

They reach a model or a tool because they have to, and either may repeat them: as an argument of the next
tool, in a result, in a sentence.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import JsonValue

from opusagent.models.session_state import ConversationItem, FunctionCall

__all__ = ["Secrets", "masked"]

MIN_DIGITS: Final = 3
"""Fewer are found in too much that is no secret."""


def masked(digits: str) -> str:
    """Digits as they are shown where they are sensitive: nothing but how many."""
    return "*" * len(digits)


class Secrets:
    """The secret entries of one call. They are in memory only, and only as long as the call."""

    def __init__(self) -> None:
        """Begin with none."""
        self._patterns: dict[str, re.Pattern[str]] = {}

    def learn(self, digits: str) -> None:
        """The caller has entered something secret."""
        if len(digits) >= MIN_DIGITS:
            pattern = r"[\s,.-]*".join(map(re.escape, digits))
            self._patterns[digits] = re.compile(rf"(?<!\d){pattern}(?!\d)")

    def hide(self, text: str) -> str:
        """The text with asterisks in place of them, also where they stand apart: `4, 7, 1, 1`."""
        for digits, pattern in self._patterns.items():
            text = pattern.sub(masked(digits), text)
        return text

    def hide_in(self, value: JsonValue) -> JsonValue:
        """A JSON value in the same way."""
        match value:
            case str():
                return self.hide(value)
            case dict():
                return {self.hide(key): self.hide_in(item) for key, item in value.items()}
            case list():
                return [self.hide_in(item) for item in value]
            case bool() | None:
                return value
            case int() | float():
                shown = self.hide(str(value))
                return value if shown == str(value) else shown

    def hide_in_turn(self, item: ConversationItem) -> ConversationItem:
        """A turn of the transcript in the same way."""
        if not self._patterns:
            return item
        return item.model_copy(update={"text": self.hide(item.text)})

    def hide_in_call(self, call: FunctionCall) -> FunctionCall:
        """A line of the ledger in the same way. It is not run again with what stands in for them."""
        if not self._patterns:
            return call.model_copy()
        arguments, result = self.hide(call.arguments), self.hide_in(call.result)
        secret = call.secret or arguments != call.arguments
        return call.model_copy(update={"arguments": arguments, "result": result, "secret": secret})
