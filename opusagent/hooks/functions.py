"""Python functions that are told of calls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from opusagent.errors import ConfigError
from opusagent.hooks.events import Event
from opusagent.hooks.lanes import Outcome
from opusagent.hooks.workplace import Crowded
from opusagent.tools.modules import load_module, staying_here
from opusagent.tools.tool import Place, ToolCrashed

__all__ = ["DEADLINE_S", "FunctionSink", "load_function"]

_log = structlog.get_logger("opusagent.hooks")

DEADLINE_S: Final = 10.0
"""What a function may take for an event."""


def load_function(name: str) -> Callable[[Event], Any]:
    """The function `module:function`, or `FILE.py:function`.

    Raises:
        ConfigError: If there is none, or it does not take one argument.
    """
    module, _, attribute = name.rpartition(":")
    try:
        with staying_here():
            function = getattr(load_module(module), attribute, None)
    except ConfigError as error:
        raise ConfigError(f"EVENT_HOOKS: {error}") from None
    if not callable(function):
        raise ConfigError(f"EVENT_HOOKS: {module} has no function {attribute}")
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        raise ConfigError(f"EVENT_HOOKS: {name} must take one argument, the event") from None
    return function  # type: ignore[no-any-return]  # whatever it returns is not looked at


class FunctionSink:
    """Calls one function, plain or async, apart from the loop that carries audio.

    Args:
        name: As it is configured.
        function: What is called.
        place: Where it runs.
        deadline_s: What it may take for an event.
    """

    kind: Final = "function"

    def __init__(
        self,
        name: str,
        function: Callable[[Event], Any],
        place: Place,
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._name = name
        self._function = function
        self._place = place
        self._deadline_s = deadline_s

    async def deliver(self, event: Event, hurry: asyncio.Event) -> Outcome:
        """Call it once: what it has done before it failed, nobody knows."""

        async def awaited(pending: Awaitable[object]) -> None:
            await pending

        def call() -> Any:
            return self._function(event)

        try:
            async with asyncio.timeout(self._deadline_s):
                if inspect.iscoroutinefunction(self._function):
                    await self._place.coroutine(self._name, lambda: awaited(call()))
                elif inspect.isawaitable(begun := await self._place.plain(self._name, call)):
                    # An object with an async `__call__`, or a plain function around an async one.
                    await self._place.coroutine(self._name, lambda: awaited(begun))
        except Crowded:
            return "failed"
        except Exception as error:  # noqa: BLE001 - somebody else's code
            told = ToolCrashed.of(error)
            _log.warning(
                "hook failed",
                hook=self._name,
                error=told.kind,
                at=told.at,
                pii={"trace": told.trace},  # may say what a caller said
            )
            return "failed"
        return "delivered"
