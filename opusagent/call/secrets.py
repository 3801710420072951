"""Secret digits of a caller, taken out of whatever is kept of the call.

They reach a model or a tool because they have to, and either may repeat them: as an argument of the next
tool, in a result, in a sentence.
"""

from __future__ import annotations

import json
import re
from typing import Final

from pydantic import JsonValue

from opusagent.models.remembered import Remembered
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
        self._patterns: dict[str, re.Pattern[str]] = {}  # the longest first
        self._numbers: dict[float, str] = {}  # those that are numbers, and what stands in for them
        self._turns = Remembered(self._hide_in_turn)
        self._calls = Remembered(self._hide_in_call)

    def learn(self, digits: str) -> None:
        """The caller has entered something secret."""
        if len(digits) < MIN_DIGITS:
            return
        pattern = re.compile(rf"(?<!\d){r'[\s,.-]*'.join(map(re.escape, digits))}(?!\d)")
        patterns = self._patterns | {digits: pattern}
        self._patterns = {key: patterns[key] for key in sorted(patterns, key=len, reverse=True)}
        if len(digits.lstrip("0")) >= MIN_DIGITS and digits.isdecimal():
            self._numbers[int(digits)] = masked(digits)  # a number has no zeros before it
        self._turns.forget()
        self._calls.forget()

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
            case list() if self._are_spelled_in(value):
                return ["*" for _ in value]
            case list():
                return [self.hide_in(item) for item in value]
            case bool() | None:
                return value
            case int() | float() if value in self._numbers:
                return self._numbers[value]
            case int() | float():
                shown = self.hide(str(value))
                return value if shown == str(value) else shown

    def _are_spelled_in(self, items: list[JsonValue]) -> bool:
        """Whether a list has one of them in it, digit by digit."""
        text = ",".join(map(str, items))
        return len(text) == 2 * len(items) - 1 and self.hide(text) != text

    def _hide_in_arguments(self, text: str) -> str:
        """JSON in the same way, and JSON still; what is none, as a text."""
        try:
            value = json.loads(text)
            hidden = self.hide_in(value)
        except (ValueError, RecursionError):
            return self.hide(text)
        return text if hidden == value else json.dumps(hidden, ensure_ascii=False)

    def hide_in_turns(self, items: list[ConversationItem]) -> list[ConversationItem]:
        """Turns of the transcript in the same way."""
        return self._turns.of(items) if self._patterns else items

    def hide_in_calls(self, calls: list[FunctionCall]) -> list[FunctionCall]:
        """Lines of the ledger in the same way. Those are not run again with what stands in for them."""
        return self._calls.of(calls) if self._patterns else calls

    def _hide_in_turn(self, item: ConversationItem) -> ConversationItem:
        return item.model_copy(update={"text": self.hide(item.text)})

    def _hide_in_call(self, call: FunctionCall) -> FunctionCall:
        arguments = self._hide_in_arguments(call.arguments)
        result = self.hide_in(call.result)
        secret = call.secret or arguments != call.arguments
        return call.model_copy(update={"arguments": arguments, "result": result, "secret": secret})
