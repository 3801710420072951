"""The tools of all agents of a process: built from what their files declare."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self

import structlog
from pydantic import JsonValue

from opusagent.errors import ConfigError
from opusagent.models.agent import AgentTool, HttpTool, McpServer, PythonTools
from opusagent.models.session_state import ToolSpec
from opusagent.models.telephone import TelephoneTools
from opusagent.tools.http_client import HttpClient
from opusagent.tools.http_tools import http_tool
from opusagent.tools.mcp_tools import CONNECT_S, MAX_NAME, McpConnection, unlike
from opusagent.tools.modules import staying_here, tools_in
from opusagent.tools.runner import CallTools, NoMeter, ToolMeter
from opusagent.tools.tool import CallState, Place, Tool, ToolContext, at_key
from opusagent.tools.tool_process import ToolProcess
from opusagent.tools.workshop import Workshop

__all__ = ["AgentTools", "Toolbox", "check_tools"]

_log = structlog.get_logger("opusagent.tools")


@dataclass(frozen=True, slots=True)
class AgentTools:
    """The tools of one agent as they are now, for one call."""

    by_name: Mapping[str, Tool]
    place: Place
    meter: ToolMeter

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told of them."""
        return tuple(tool.spec for tool in self.by_name.values())

    def for_call(
        self,
        conversation_id: str,
        *,
        caller: str = "",
        agent: str = "",
        state: Mapping[str, JsonValue] | None = None,
        on_state: Callable[[str, JsonValue], None] = lambda *_: None,
    ) -> CallTools:
        """What a bridge runs the tools of its call with.

        Args:
            conversation_id: AudioCodes' id of the call.
            caller: The caller's number.
            agent: The agent's name.
            state: What tools have kept so far.
            on_state: Called with each value that they set, by the event loop.
        """
        loop = asyncio.get_running_loop()

        def changed(key: str, value: JsonValue) -> None:
            with suppress(RuntimeError):  # the loop is closed: the call is long over
                loop.call_soon_threadsafe(on_state, key, value)

        context = ToolContext(
            conversation_id=conversation_id,
            caller=caller,
            agent=agent,
            state=CallState(state, changed),
        )
        return CallTools(self.by_name, context=context, place=self.place, meter=self.meter)


@dataclass(slots=True)
class _Declared:
    """What one agent's file declares."""

    tools: dict[str, Tool] = field(default_factory=dict)
    servers: list[McpConnection] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def add(self, tools: Sequence[Tool]) -> None:
        """Enter tools. Raises `ConfigError` if there is one of the name."""
        self.reserve(tool.spec.name for tool in tools)
        self.tools |= {tool.spec.name: tool for tool in tools}

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for tools. Raises `ConfigError` if one is taken."""
        for name in names:
            if name in self.names:
                raise ConfigError(f"there is another tool named {name}")
            self.names.add(name)

    def now(self) -> dict[str, Tool]:
        """Every tool; those of a server get its name before theirs where that is not the only one."""
        listed = [(server.name, tool) for server in self.servers for tool in server.tools]
        names = Counter([*self.names, *(tool.spec.name for _, tool in listed)])
        tools = dict(self.tools)
        for server, tool in listed:
            name = tool.spec.name
            if names[name] > 1:
                name = f"{server}_{name}"[:MAX_NAME]
            name = unlike({*self.names, *tools}, name)
            spec = tool.spec.model_copy(update={"name": name})
            tools[name] = replace(tool, spec=spec)
        return tools


class Toolbox:
    """All tools of a process.

    Args:
        agents: What each agent's file declares, by the agent's name.
        meter: Counts.
        environ: What `${NAME}` is taken from.
        place: Where users' functions run; without it in a process of their own, or, where the file says so,
            in threads of this one.

    Raises:
        ConfigError: As `check_tools`.
    """

    def __init__(
        self,
        agents: Mapping[str, Sequence[AgentTool]],
        *,
        meter: ToolMeter | None = None,
        environ: Mapping[str, str] = os.environ,
        place: Place | None = None,
    ) -> None:
        self._meter = meter or NoMeter()
        self._workshop = Workshop(self._meter.tool_threads_abandoned)
        self._place = place or self._workshop
        self._process = ToolProcess(self._meter.tool_threads_abandoned) if place is None else None
        self._building = _Building(environ, self._process)
        self._agents = {name: self._building.build(tools) for name, tools in agents.items()}
        self._tasks: asyncio.TaskGroup | None = None
        self._keepers: dict[McpConnection, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Connect to the MCP servers, and wait until each has listed its tools or could not; bounded."""
        if self._process is not None and self._process.is_needed:
            await self._process.start()
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._serve()
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                for server in self._keepers:
                    await server.tried()

    async def stop(self) -> None:
        """Let go of everything."""
        for keeper in self._keepers.values():
            keeper.cancel()
        if self._tasks is not None:
            await self._tasks.__aexit__(None, None, None)
        if self._building.http is not None:
            await self._building.http.close()
        if self._process is not None:
            await self._process.stop()
        self._workshop.stop()

    def replace(self, agents: Mapping[str, Sequence[AgentTool]]) -> None:
        """Take other declarations; calls under way go on with the tools that they have.

        A server that is new is connected to, and its tools are there once it has listed them. One that no
        agent declares any more stays until `tidy`. Where a file of Python tools was loaded anew, its functions
        run in another process from then on, those of calls under way, too.

        An agent whose tools can be made no more (a file of functions has changed, and hers has not followed)
        keeps those that she has.

        Raises:
            ConfigError: As `check_tools`, for an agent that is new; nothing is changed then.
        """
        if self._process is not None:
            self._process.forget_modules()
        self._agents = {name: self._rebuilt(name, tools) for name, tools in agents.items()}
        self._serve()
        if self._process is not None and self._tasks is not None and self._process.renew():
            self._tasks.create_task(self._begin(self._process))

    async def _begin(self, process: ToolProcess) -> None:
        try:
            await process.start()
        except OSError as error:  # the next tool tries again
            _log.error("the process of the tools cannot be started", problem=error.strerror)

    def _rebuilt(self, name: str, tools: Sequence[AgentTool]) -> _Declared:
        try:
            return self._building.build(tools)
        except ConfigError as error:
            if name not in self._agents:
                raise
            _log.error("an agent keeps the tools that she had", agent=name, problem=str(error))
            return self._agents[name]

    def warm_up(self, agents: Mapping[str, Sequence[AgentTool]]) -> None:
        """Make what takes tens of milliseconds to make, before `replace`; in a thread."""
        if any(isinstance(tool, HttpTool) for tools in agents.values() for tool in tools):
            self._building.http = self._building.http or HttpClient()
            self._building.http.warm_up()

    def tidy(self) -> None:
        """Let go of the servers that no agent declares any more; no call is under way."""
        declared = {server for agent in self._agents.values() for server in agent.servers}
        self._building.forget_others(declared)
        for server in self._keepers.keys() - declared:
            self._keepers.pop(server).cancel()

    def _serve(self) -> None:
        if self._tasks is None:
            return
        if self._building.http is not None:
            self._building.http.warm_up()
        for server in self._building.servers.values():
            if server not in self._keepers:
                self._keepers[server] = self._tasks.create_task(server.run())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def of(self, agent: str) -> AgentTools:
        """The tools of the agent of that name, as they are now; none where there is no such agent."""
        declared = self._agents.get(agent, _Declared())
        return AgentTools(declared.now(), self._place, self._meter)

    def away(self, agent: str) -> dict[str, str]:
        """The agent's MCP servers that are not there now, and why."""
        servers = self._agents.get(agent, _Declared()).servers
        return {server.name: server.problem for server in servers if server.problem}

    def lacking(self, agent: str) -> dict[str, tuple[str, ...]]:
        """The agent's MCP servers that do not have all tools which her file names, and those tools."""
        servers = self._agents.get(agent, _Declared()).servers
        return {server.name: server.lacks for server in servers if server.lacks}

    @property
    def unloaded(self) -> Mapping[str, str]:
        """Modules of Python tools that cannot be loaded in their process, and why."""
        return {} if self._process is None else self._process.unloaded


def check_tools(
    declared: Sequence[AgentTool], environ: Mapping[str, str] = os.environ
) -> dict[str, ToolSpec]:
    """See that what an agent's file declares can work, as far as that shows without connecting to anything.

    Files of Python tools that have changed are loaded anew.

    Returns:
        The tools that a call would run, by name; those of servers are not known yet.

    Raises:
        ConfigError: If it cannot: no such module, a variable of the environment is missing, a package is not
            installed, two tools have one name; names the key.
    """
    with staying_here():
        built = _Building(environ, None, again=True).build(declared)
    return {name: tool.spec for name, tool in built.tools.items()}


class _Building:
    """Makes tools of declarations. Agents that declare the same server share it."""

    def __init__(
        self, environ: Mapping[str, str], process: ToolProcess | None, *, again: bool = False
    ) -> None:
        self._environ = environ
        self._process = process
        self._again = again
        self.http: HttpClient | None = None
        self.servers: dict[str, McpConnection] = {}

    def build(self, declarations: Sequence[AgentTool]) -> _Declared:
        built = _Declared()
        for i, declared in enumerate(declarations):
            with at_key(f"tools.{i}"):
                match declared:
                    case PythonTools():
                        built.add(self._of_module(declared))
                    case HttpTool():
                        self.http = self.http or HttpClient()
                        built.add([http_tool(declared, self._environ, self.http)])
                    case TelephoneTools():  # the call itself does what they say
                        built.reserve(dict.fromkeys(declared.functions))
                    case McpServer():
                        built.servers.append(self._server(declared))
        return built

    def forget_others(self, servers: Collection[McpConnection]) -> None:
        """Share none but these with what is built from now on."""
        self.servers = {key: server for key, server in self.servers.items() if server in servers}

    def _server(self, declared: McpServer) -> McpConnection:
        key = declared.model_dump_json()
        if key not in self.servers:
            self.servers[key] = McpConnection(declared, self._environ)
        return self.servers[key]

    def _of_module(self, declared: PythonTools) -> list[Tool]:
        with at_key("module"):
            tools = tools_in(declared.module, again=self._again)
        for name in declared.only:
            if name not in tools:
                raise ConfigError(f"only: there is no {name}; there are {', '.join(sorted(tools))}")
        wanted = [t for t in tools.values() if not declared.only or t.spec.name in declared.only]
        if self._process is None or declared.run_in == "thread":
            return wanted
        return [self._process.tool_of(declared.module, tool) for tool in wanted]
