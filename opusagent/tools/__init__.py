"""What an agent can do besides talking: functions in Python, requests over HTTP, the tools of MCP servers.

    from opusagent.tools import ToolContext, ToolRegistry

    registry = ToolRegistry()

    @registry.tool()
    def find_order(order_id: str, context: ToolContext) -> dict[str, str]:
        \"\"\"Look an order up.\"\"\"

A `[[tools]]` section of an agent's file names the module. None of them runs on the loop that carries audio;
each has a deadline, and whatever becomes of it is one JSON object that the model can speak about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from opusagent.errors import ConfigError, ToolError
from opusagent.models.session_state import ToolSpec
from opusagent.tools.arguments import parse_arguments
from opusagent.tools.python_tools import tool_of
from opusagent.tools.tool import DEFAULT_TIMEOUT_S, CallState, JsonObject, Tool, ToolContext

__all__ = ["CallState", "ToolContext", "ToolError", "ToolRegistry"]


class ToolRegistry:
    """The functions of a module that are tools."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tools: dict[str, Tool] = {}

    def tool[F: Callable[..., object]](
        self,
        function: None = None,
        /,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        repeatable: bool = False,
    ) -> Callable[[F], F]:
        """Make a tool of a function, plain or async. The function itself stays as it is.

        Args:
            function: None: the brackets of `@registry.tool()` belong there, also where they are empty.
            timeout_s: Its deadline in seconds, at most 30.
            repeatable: Whether it may be run again where nobody knows whether it has run, e.g. because it
                only looks something up.

        Raises:
            ConfigError: If the function has no docstring or an argument without a type, its arguments cannot
                be described in JSON, or there is a tool of its name.
        """
        if function is not None:
            name = getattr(function, "__name__", function)
            raise ConfigError(f"{name}: write @registry.tool(), with its brackets")

        def enter(function: F) -> F:
            tool = tool_of(function, timeout_s=timeout_s, repeatable=repeatable)
            if tool.spec.name in self._tools:
                raise ConfigError(f"{tool.spec.name}: there is a tool of this name")
            self._tools[tool.spec.name] = tool
            return function

        return enter

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All of them, in the order of the module."""
        return tuple(self._tools.values())

    def specs(self) -> list[ToolSpec]:
        """What the model is told of them."""
        return [tool.spec for tool in self._tools.values()]

    async def invoke(
        self, name: str, arguments: str, context: ToolContext | None = None
    ) -> JsonObject:
        """Run a tool as a call would, without its deadline: for tests of your own.

        Args:
            name: Which one.
            arguments: A JSON object.
            context: What it is told of the call.

        Raises:
            ToolError: If there is no such tool, or it does not take these arguments.
        """
        if name not in self._tools:
            raise ToolError(f"there is no tool named {name}")
        run = self._tools[name].run
        return await run(parse_arguments(arguments), context or ToolContext(), _Here())


class _Here:
    """Async functions on the loop that asks, plain ones in a thread."""

    async def plain[T](self, _name: str, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    async def coroutine[T](self, _name: str, work: Callable[[], Coroutine[object, object, T]]) -> T:
        return await work()
