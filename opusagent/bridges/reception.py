"""Who answers a call, with which plan and which tools: by the agents' files as they are now."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from pydantic import ValidationError

from opusagent.agents.directory import AgentDirectory
from opusagent.agents.folder import AgentFolder
from opusagent.bridges.planning import make_plan
from opusagent.call.plan import CallPlan
from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.models.agent import Agent, AgentTool
from opusagent.models.session_state import SessionState
from opusagent.observability import Metrics
from opusagent.tools.toolbox import AgentTools, Toolbox

__all__ = ["LOOK_S", "Reception"]

_log = structlog.get_logger("opusagent.agents")

LOOK_S: Final = 0.25
"""How long a call waits for the disk to say whether the agents have changed; it goes on with what is known."""


@dataclass(frozen=True, slots=True)
class _Staff:
    """The agents of one moment, ready to answer."""

    directory: AgentDirectory
    plans: Mapping[str, CallPlan]


class Reception:
    """The agents of a process.

    Args:
        settings: What was configured.
        agents: Their folder, or those that answer for good.
        metrics: The process's counts.
        tools: What they can do; without it what their files declare.
    """

    def __init__(
        self,
        settings: Settings,
        agents: AgentFolder | AgentDirectory,
        metrics: Metrics,
        tools: Toolbox | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._folder = agents if isinstance(agents, AgentFolder) else None
        directory = agents.directory if isinstance(agents, AgentFolder) else agents
        self._looking = threading.Lock()
        self._staff = self._newest = self._staffed(directory, None)
        self._tools = tools or Toolbox(_declared(directory), meter=metrics)

    async def start(self) -> None:
        """Connect to what the tools need."""
        await self._tools.start()

    async def stop(self) -> None:
        """Let go of it."""
        await self._tools.stop()

    @property
    def names(self) -> tuple[str, ...]:
        """The agents by name, in order."""
        return self._staff.directory.names

    @property
    def problems(self) -> Mapping[str, str]:
        """What is wrong with files that cannot be used now, by file; their last good state goes on."""
        return self._staff.directory.problems

    async def look(self) -> None:
        """Take over what has changed on disk. In a thread, bounded, and never a reason to refuse a call."""
        if self._folder is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await asyncio.to_thread(self._look, self._folder)
        if self._newest is not self._staff:
            self._take_over(self._newest)

    def at_rest(self) -> None:
        """No call is under way: let go of what only replaced agents needed."""
        self._tools.tidy()

    def plan(
        self, bot_name: str, query: Mapping[str, str], stored: SessionState | None = None
    ) -> CallPlan:
        """Who answers; who answered before goes on, as she was, whatever has become of her file."""
        if stored is not None and stored.agent:
            name = str(stored.metadata.get("agent", ""))
            try:
                return make_plan(self._settings, name, Agent.model_validate(stored.agent))
            except (ValidationError, OSError, ValueError) as error:
                _log.warning("the stored agent cannot be used", agent=name, problem=str(error))
                return self._staff.plans[self._staff.directory.pick(agent=name)[0]]
        return self._picked(bot_name, query, "")

    def plan_by_number(self, bot_name: str, query: Mapping[str, str], called: str) -> CallPlan:
        """Who answers once the called number is known."""
        return self._picked(bot_name, query, called)

    def hangs_on_number(self, query: Mapping[str, str]) -> bool:
        """Whether the called number may decide who answers this call."""
        return self._staff.directory.hangs_on_number(agent=query.get("agent", ""))

    def tools(self, name: str) -> AgentTools:
        """The tools of an agent by her file as it is now: a stored one could name any module."""
        return self._tools.of(name)

    def _picked(self, bot_name: str, query: Mapping[str, str], called: str) -> CallPlan:
        wanted = query.get("agent", "")
        name, _ = self._staff.directory.pick(bot_name, agent=wanted, called=called)
        return self._staff.plans[name]

    def _look(self, folder: AgentFolder) -> None:
        """In a thread; one at a time, and whoever comes second has what is known."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            directory = folder.look()
            if directory is not self._newest.directory:
                self._tools.warm_up(_declared(directory))
                self._newest = self._staffed(directory, self._newest)
        except (ConfigError, OSError, ValueError) as error:
            _log.warning("the agents cannot be read again", problem=str(error))
        finally:
            self._looking.release()

    def _staffed(self, directory: AgentDirectory, last: _Staff | None) -> _Staff:
        """With a plan each; those whose agents have not changed stay."""
        plans = {}
        for name, agent in directory.agents.items():
            known = None if last is None else last.plans.get(name)
            same = known is not None and known.agent is agent
            plans[name] = known if known and same else make_plan(self._settings, name, agent)
        return _Staff(directory, plans)

    def _take_over(self, staff: _Staff) -> None:
        before, self._staff = self._staff.directory, staff
        directory = staff.directory
        self._metrics.agents_broken.set(len(directory.problems))
        for file, problem in directory.problems.items():
            if before.problems.get(file) != problem:
                self._metrics.agent_reloads.labels("failed").inc()
                _log.error(
                    "an agent's file cannot be used; the last good one goes on", problem=problem
                )
        changed = [
            name
            for name in {*directory.agents, *before.agents}
            if directory.agents.get(name) is not before.agents.get(name)
        ]
        if changed:
            self._tools.replace(
                _declared(directory)
            )  # each was built before, when its file was read
            self._metrics.agent_reloads.labels("ok").inc()
            _log.info("agents changed", changed=sorted(changed), agents=list(directory.names))
        elif before.problems and not directory.problems:
            _log.info("the agents' files can be used again")


def _declared(directory: AgentDirectory) -> dict[str, tuple[AgentTool, ...]]:
    return {name: agent.tools for name, agent in directory.agents.items()}
