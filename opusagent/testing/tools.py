"""The tools of a play: the agent's own, run in virtual time, and stand-ins for those that are far away."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, override

from pydantic import JsonValue

from opusagent.errors import ConfigError
from opusagent.models.agent import Agent, McpServer
from opusagent.models.session_state import ToolSpec
from opusagent.simulators.virtual_time import VirtualTimeLoop
from opusagent.tools.results import as_object
from opusagent.tools.tool import Arguments, JsonObject, Place, Tool, ToolContext
from opusagent.tools.toolbox import AgentTools, Toolbox
from opusagent.tools.workshop import Workshop

__all__ = ["Fake", "PlayTools", "pass_time"]

type Fake = JsonValue | Callable[..., Any]
"""A result, or a function, plain or async, that takes the arguments by name and returns it."""


async def pass_time(seconds: float) -> None:
    """Let time pass."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


class PlayTools(Toolbox):
    """A toolbox on the loop of a play.

    Args:
        name: The agent's name.
        agent: Its tools are taken; MCP servers are not connected.
        fakes: What stands in for a tool, by the tool's name.
        seconds: How long a tool takes before it does what it does, by its name.

    Raises:
        ConfigError: If the agent has no tool of a name that is given.
    """

    def __init__(
        self,
        name: str,
        agent: Agent,
        *,
        fakes: Mapping[str, Fake],
        seconds: Mapping[str, float],
        loop: VirtualTimeLoop,
    ) -> None:
        here = [tool for tool in agent.tools if not isinstance(tool, McpServer)]
        super().__init__({name: here}, place=_PlayPlace(loop))
        self._fakes = dict(fakes)
        self._seconds = dict(seconds)
        self._loop = loop
        self.running = 0
        """How many run now."""
        known = set(super().of(name).by_name)
        if len(here) < len(agent.tools):  # what a server has is not known without asking it
            known |= set(fakes)
        if unknown := (set(fakes) | set(seconds)) - known:
            listed = ", ".join(sorted(known)) or "no tool"
            raise ConfigError(f"{', '.join(sorted(unknown))}: the agent has {listed}")

    @override
    def of(self, agent: str) -> AgentTools:
        tools = super().of(agent)
        by_name = dict(tools.by_name)
        for name in self._fakes:
            by_name.setdefault(name, _unknown(name))
        return replace(tools, by_name={name: self._played(tool) for name, tool in by_name.items()})

    def _played(self, tool: Tool) -> Tool:
        name = tool.spec.name
        run = _run_of(self._fakes[name]) if name in self._fakes else tool.run

        async def play(arguments: Arguments, context: ToolContext, place: Place) -> JsonObject:
            self.running += 1
            try:
                with self._loop.heeding():
                    if name in self._seconds:
                        await pass_time(self._seconds[name])
                    return await run(arguments, context, place)
            finally:
                self.running -= 1

        return replace(tool, run=play)


class _PlayPlace:
    """Plain functions in threads, one at a time, for which virtual time waits; async ones on the play's loop."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._workshop = Workshop()
        self._one_at_a_time = asyncio.Lock()  # or else a play would not always be the same

    async def plain[T](self, name: str, work: Callable[[], T]) -> T:
        async with self._one_at_a_time:
            with self._loop.heeding(thread=True):
                return await self._workshop.plain(name, work)

    async def coroutine[T](self, name: str, work: Callable[[], Coroutine[object, object, T]]) -> T:
        return await work()


def _unknown(name: str) -> Tool:
    """A tool of an MCP server, as far as it is known without one."""
    spec = ToolSpec(name=name, description=name, input_schema={"type": "object", "properties": {}})

    async def run(_arguments: Arguments, _context: ToolContext, _place: Place) -> JsonObject:
        return {}

    return Tool(spec=spec, run=run)


def _run_of(
    fake: Fake,
) -> Callable[[Arguments, ToolContext, Place], Coroutine[Any, Any, JsonObject]]:
    async def run(arguments: Arguments, _context: ToolContext, _place: Place) -> JsonObject:
        result = fake(**arguments) if callable(fake) else fake
        return as_object(await result if inspect.isawaitable(result) else result)

    return run
