"""The ledger of a call's function calls: each is answered exactly once, and none is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import JsonValue

from opusagent.models.session_state import FunctionCall, ToolStatus

MAX_QUOTED_BYTES = 4_000
"""How much of arguments or a result is quoted in the history, which may have 40 KB (Nova 2 user guide)."""


class FunctionHandler:
    """What the model asked for, and what it was told."""

    def __init__(self) -> None:
        self._calls: dict[str, FunctionCall] = {}

    def begin(
        self, tool_use_id: str, name: str, arguments: str, *, at: datetime, secret: bool = False
    ) -> bool:
        """Enter a call. False if this id was entered before: it must not run twice.

        `secret`: its arguments are not those that it is run with.
        """
        if tool_use_id in self._calls:
            return False
        self._calls[tool_use_id] = FunctionCall(
            tool_use_id=tool_use_id, name=name, arguments=arguments, started_at=at, secret=secret
        )
        return True

    def finish(self, tool_use_id: str, result: dict[str, JsonValue], *, at: datetime) -> bool:
        """Enter a result. False if the call is unknown or has its result already."""
        call = self._calls.get(tool_use_id)
        if call is None or call.status is not ToolStatus.RUNNING:
            return False
        status = ToolStatus.FAILED if "error" in result else ToolStatus.DONE
        ended = {"status": status, "result": result, "ended_at": at}
        self._calls[tool_use_id] = call.model_copy(update=ended)
        return True

    @property
    def running(self) -> list[FunctionCall]:
        """The calls that have no result yet, oldest first."""
        return [call for call in self._calls.values() if call.status is ToolStatus.RUNNING]

    def get_function_call_history(self) -> list[FunctionCall]:
        """Every call, oldest first."""
        return list(self._calls.values())

    def restore_function_calls(
        self, function_calls: Iterable[FunctionCall | Mapping[str, JsonValue]]
    ) -> None:
        """Start from a stored ledger, replacing what is here."""
        self._calls.clear()
        for raw in function_calls:
            data = raw.model_dump() if isinstance(raw, FunctionCall) else raw
            call = FunctionCall.model_validate(data)
            self._calls[call.tool_use_id] = call

    def clear_function_call_history(self) -> None:
        """Forget every call."""
        self._calls.clear()


def as_text(call: FunctionCall) -> str:
    """The call as one line of history: the model gets no tool events replayed, only text."""
    head = f"[called {call.name} with {_quoted(call.arguments)}"
    if call.result is None:
        return f"{head}; no result yet]"
    return f"{head}; result: {_quoted(json.dumps(call.result, ensure_ascii=False))}]"


def _quoted(text: str) -> str:
    raw = text.encode()
    if len(raw) <= MAX_QUOTED_BYTES:
        return text
    return raw[:MAX_QUOTED_BYTES].decode(errors="ignore") + " (shortened)"
