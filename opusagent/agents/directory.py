"""Which agent answers a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opusagent.errors import ConfigError
from opusagent.models.agent import Agent, plain_number

__all__ = ["DEFAULT", "AgentDirectory"]

DEFAULT: Final = "default"
"""The name of the agent that answers where nothing picks another one."""


class AgentDirectory:
    """Agents by name, as they were at one moment.

    Args:
        agents: By name; one is named `default`.
        problems: What is wrong with files that cannot be used now, by file.

    Raises:
        ConfigError: If no agent is named `default`, or two want the same calls.
    """

    def __init__(
        self, agents: Mapping[str, Agent], *, problems: Mapping[str, str] | None = None
    ) -> None:
        if DEFAULT not in agents:
            raise ConfigError(f"no agent is named {DEFAULT!r}")
        self.agents = dict(sorted(agents.items()))
        self.problems = dict(problems or {})
        self._by_name: dict[str, str] = {}
        self._by_number: dict[str, str] = {}
        for name in self.agents:
            if (other := self._by_name.setdefault(name.casefold(), name)) != name:
                raise ConfigError(
                    f"{other} and {name}: two agents have the same name but for upper case"
                )
        for name, agent in self.agents.items():
            for bot_name in agent.bot_names:
                self._enter(self._by_name, bot_name.casefold(), name, f"bot_names: {bot_name}")
            for number in agent.numbers:
                self._enter(self._by_number, _key(number), name, f"numbers: {number}")

    @property
    def names(self) -> tuple[str, ...]:
        """The agents by name, in order."""
        return tuple(self.agents)

    def pick(self, bot_name: str = "", *, agent: str = "", called: str = "") -> tuple[str, Agent]:
        """The agent that answers: the first that is asked for by query, number or bot's name, else `default`.

        A name is that of the file, or one of `bot_names`; upper and lower case are alike.
        """
        name = (
            self._by_name.get(agent.casefold())
            or self._of_number(called)
            or self._by_name.get(bot_name.casefold())
            or DEFAULT
        )
        return name, self.agents[name]

    def hangs_on_number(self, *, agent: str) -> bool:
        """Whether the called number may decide who answers a call with this query."""
        return bool(self._by_number) and agent.casefold() not in self._by_name

    def _enter(self, table: dict[str, str], key: str, name: str, what: str) -> None:
        other = table.setdefault(key, name)
        if self.agents[other] is not self.agents[name]:  # one agent may have two names
            raise ConfigError(f"{other} and {name}: two agents answer for the same {what}")

    def _of_number(self, called: str) -> str | None:
        """Whose the number is: its own, or the longest beginning of it."""
        if not (number := plain_number(called)):
            return None
        if (name := self._by_number.get(number)) is not None:
            return name
        for end in range(len(number), 0, -1):
            if (name := self._by_number.get(f"{number[:end]}*")) is not None:
                return name
        return None


def _key(number: str) -> str:
    return plain_number(number.removesuffix("*")) + ("*" if number.endswith("*") else "")
