"""Agents from files: `config/agents/NAME.toml` answers calls for the bot `NAME`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from pydantic import ValidationError

from opusagent.audio.convert import load_wav
from opusagent.errors import ConfigError
from opusagent.models.agent import Agent, AgentTool, McpServer, PythonTools
from opusagent.tools.toolbox import check_tools

__all__ = ["DEFAULT", "AgentDirectory", "load_agent"]

DEFAULT: Final = "default"
"""The name of the agent that answers when no file is named like the bot."""

_HERE = Path(__file__).parent
_SHIPPED: Final = (
    _HERE / "default.toml",  # put there by the wheel's build
    _HERE.parents[1] / "config" / "agents" / "default.toml",  # a checkout
)


class AgentDirectory:
    """All agents of this bridge, read and checked once, at start-up."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        """Take agents by name.

        Raises:
            ConfigError: If none of them is named `default`.
        """
        if DEFAULT not in agents:
            raise ConfigError(f"no agent is named {DEFAULT!r}")
        self._agents = dict(agents)
        self._by_folded_name = {name.casefold(): name for name in agents}

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read every `*.toml` in `directory`; where it has no `default.toml`, the shipped one answers.

        Raises:
            ConfigError: If the directory is named and missing, or a file in it cannot be used; the
                message has the file, the key and the reason.
        """
        if not directory.is_dir() and directory != Path("config/agents"):
            raise ConfigError(f"AGENT_CONFIG_DIR: {directory} is not a directory")
        agents: dict[str, Agent] = {}
        for path in sorted(directory.glob("*.toml")):
            if path.stem.casefold() in map(str.casefold, agents):
                raise ConfigError(f"{path}: another agent has the same name but for upper case")
            agents[path.stem] = load_agent(path)
        if DEFAULT not in agents:
            agents[DEFAULT] = load_agent(_shipped_default())
        return cls(agents)

    @property
    def names(self) -> tuple[str, ...]:
        """The agents by name, in order."""
        return tuple(sorted(self._agents))

    def pick(self, bot_name: str) -> tuple[str, Agent]:
        """The agent that answers for `bot_name` (upper and lower case alike), else `default`."""
        name = self._by_folded_name.get(bot_name.casefold(), DEFAULT)
        return name, self._agents[name]


def load_agent(path: Path) -> Agent:
    """The agent in the TOML file `path`.

    The prompt stands in `system_prompt`, or in the text file that `system_prompt_file` names. Paths
    in the file are relative to it; the agent holds them absolute, and every recording was read once,
    every module of tools loaded.

    Raises:
        ConfigError: With file, key and reason.
    """
    values = _with_prompt(path, _read_toml(path))
    try:
        agent = Agent.model_validate(values)
    except ValidationError as error:
        problems = [
            ": ".join([*filter(None, [".".join(map(str, detail["loc"]))]), detail["msg"]])
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError(f"{path}: {'; '.join(problems)}") from None
    greeting = agent.greeting
    agent = agent.model_copy(update={"tools": tuple(_placed(path, tool) for tool in agent.tools)})
    try:
        _check_dtmf(agent, check_tools(agent.tools))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return agent.model_copy(
        update={
            "comfort_audio": _recording(path, "comfort_audio", agent.comfort_audio),
            "filler": agent.filler.model_copy(
                update={"audio": _recording(path, "filler.audio", agent.filler.audio)}
            ),
            "failure": agent.failure.model_copy(
                update={"audio": _recording(path, "failure.audio", agent.failure.audio)}
            ),
            "greeting": greeting.model_copy(
                update={"audio": _recording(path, "greeting.audio", greeting.audio)}
            ),
        }
    )


def _shipped_default() -> Path:
    for path in _SHIPPED:
        if path.is_file():
            return path
    raise ConfigError(f"AGENT_CONFIG_DIR: no {DEFAULT}.toml there, and none came with the program")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path, path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _read_text(path: Path, source: Path, key: str = "") -> str:
    place = f"{source}: {key}: {path}" if key else f"{source}"
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read: {error.strerror}") from error


def _with_prompt(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    file = values.pop("system_prompt_file", None)
    if file is not None:
        if "system_prompt" in values:
            raise ConfigError(f"{path}: set system_prompt or system_prompt_file, not both")
        if not isinstance(file, str):
            raise ConfigError(f"{path}: system_prompt_file: must be a path")
        values["system_prompt"] = _read_text(path.parent / file, path, "system_prompt_file")
    prompt = values.get("system_prompt")
    if isinstance(prompt, str) and not prompt.strip():
        raise ConfigError(f"{path}: system_prompt: must not be empty")
    return values


def _check_dtmf(agent: Agent, known: frozenset[str] | None) -> None:
    """See that tools which get digits exist. `known` is None where some tools are not known yet."""
    inputs = {f"inputs.{name}.tool": entry.tool for name, entry in agent.dtmf.inputs.items()}
    for key, tool in {"tool": agent.dtmf.tool, **inputs}.items():
        if tool and known is not None and tool not in known:
            raise ConfigError(f"dtmf.{key}: there is no tool named {tool}")


def _placed(path: Path, tool: AgentTool) -> AgentTool:
    """A tool's declaration with its paths absolute."""
    match tool:
        case PythonTools() if tool.module.endswith(".py"):
            return tool.model_copy(update={"module": str((path.parent / tool.module).resolve())})
        case McpServer() if tool.command:
            return tool.model_copy(update={"folder": str((path.parent / tool.folder).resolve())})
        case _:
            return tool


def _recording(path: Path, key: str, name: str) -> str:
    """The absolute path of a WAV file that can be played, or nothing where none is named."""
    if not name:
        return ""
    recording = (path.parent / name).resolve()
    try:
        load_wav(recording.read_bytes(), 8_000)
    except OSError as error:
        raise ConfigError(f"{path}: {key}: {recording}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {key}: {recording}: {error}") from error
    return str(recording)
