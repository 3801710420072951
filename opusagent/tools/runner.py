"""Runs the tools of one call: each with a deadline, each with a result that the model can speak about."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import structlog
from pydantic import JsonValue

from opusagent.call.events import ToolCall
from opusagent.errors import ToolError
from opusagent.tools.arguments import parse_arguments
from opusagent.tools.results import as_error
from opusagent.tools.tool import CallState, JsonObject, Place, Tool, ToolContext, ToolCrashed

__all__ = ["CallTools", "LateTools", "NoMeter", "ToolMeter"]

_log = structlog.get_logger("opusagent.tools")


class ToolMeter(Protocol):
    """Counts what becomes of tools."""

    def tool_ended(self, name: str, outcome: str, seconds: float) -> None:
        """A tool of that name ended: `done`, `refused` (with a reason), `late`, `failed` or `cancelled`."""
        ...

    def tool_threads_abandoned(self, count: int) -> None:
        """So many threads of tools nobody waits for any more; from any thread."""
        ...


class NoMeter:
    """Counts nothing."""

    def tool_ended(self, name: str, outcome: str, seconds: float) -> None:
        """Not counted."""

    def tool_threads_abandoned(self, count: int) -> None:
        """Not counted."""


class CallTools:
    """What a bridge runs the tools of its call with.

    Args:
        tools: By name.
        context: Of the call.
        place: Where users' functions run.
        meter: Counts.
    """

    def __init__(
        self, tools: Mapping[str, Tool], *, context: ToolContext, place: Place, meter: ToolMeter
    ) -> None:
        self._tools = tools
        self._context = context
        self._place = place
        self._meter = meter

    @property
    def state(self) -> CallState:
        """What tools keep for the rest of the call."""
        return self._context.state

    async def __call__(self, call: ToolCall) -> JsonObject:
        """Run a tool to its end, or until its deadline. Never raises but when it is cancelled itself."""
        tool = self._tools.get(call.name)
        if tool is None:
            return as_error(f"there is no tool named {call.name}")
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome = "cancelled"
        deadline = asyncio.timeout(tool.timeout_s)
        context = replace(self._context, tool_use_id=call.tool_use_id)
        try:
            async with deadline:
                result = await tool.run(parse_arguments(call.arguments), context, self._place)
            outcome = "done"
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            outcome = "failed"  # a tool that cancels itself
            _log_failure(call.name, error)
            return as_error(f"{call.name} failed")
        except ToolError as error:
            outcome = "refused"
            return as_error(str(error) or f"{call.name} failed")
        except Exception as error:  # noqa: BLE001 - somebody else's code: the call goes on
            if deadline.expired() and isinstance(error, TimeoutError):
                outcome = "late"
                _log.warning("tool late", tool=call.name, after_s=tool.timeout_s)
                return as_error(f"{call.name} did not answer within {tool.timeout_s:g} seconds")
            outcome = "failed"
            _log_failure(call.name, error)
            return as_error(f"{call.name} failed")
        finally:
            self._meter.tool_ended(call.name, outcome, loop.time() - began)
        return result


class LateTools:
    """Runs the tools of a call whose agent may become known only after its beginning.

    Attributes:
        of_call: The tools; set before one can be asked for.
    """

    of_call: CallTools

    async def __call__(self, call: ToolCall) -> JsonObject:
        """As `CallTools`."""
        return await self.of_call(call)

    def keep(self, key: str, value: JsonValue) -> None:
        """Let them know of a value that the model has set."""
        self.of_call.state.learn(key, value)


def _log_failure(name: str, error: BaseException) -> None:
    """What failed, and where, is in the log; what was said there may be a caller's."""
    told = ToolCrashed.of(error)
    _log.warning("tool failed", tool=name, error=told.kind, at=told.at, pii={"trace": told.trace})
