"""One agent's file, `config/agents/NAME.toml`, and all that it names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from opusagent.audio.convert import load_wav
from opusagent.errors import ConfigError
from opusagent.models.agent import Agent, AgentTool, McpServer, PythonTools
from opusagent.models.session_state import ToolSpec
from opusagent.models.telephone import Entry, TelephoneFunction
from opusagent.tools.toolbox import check_tools

__all__ = ["check_entries", "load_agent", "shipped_default", "sources_of"]

_HERE = Path(__file__).parent
_SHIPPED: Final = (
    _HERE / "default.toml",  # put there by the wheel's build
    _HERE.parents[1] / "config" / "agents" / "default.toml",  # a checkout
)


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
            ": ".join(
                [
                    *filter(None, [".".join(map(str, detail["loc"]))]),
                    detail["msg"].removeprefix("Value error, "),
                ]
            )
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError(f"{path}: {'; '.join(problems)}") from None
    greeting = agent.greeting
    agent = agent.model_copy(update={"tools": tuple(_placed(path, tool) for tool in agent.tools)})
    try:
        # The tools of MCP servers are not known yet.
        all_known = not any(isinstance(tool, McpServer) for tool in agent.tools)
        check_entries(agent, check_tools(agent.tools), all_known=all_known)
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


def sources_of(path: Path) -> tuple[Path, ...]:
    """The files that the agent in `path` is made of, also those that are missing.

    Of a file that is no TOML only the file itself. Never raises.
    """
    try:
        values = _read_toml(path)
    except ConfigError:
        return (path,)
    return (path, *(path.parent / name for name in _named(values)))


def shipped_default() -> Path:
    """The agent that comes with the program.

    Raises:
        ConfigError: If none came.
    """
    for path in _SHIPPED:
        if path.is_file():
            return path
    raise ConfigError("AGENT_CONFIG_DIR: no default.toml there, and none came with the program")


def _named(values: dict[str, Any]) -> Iterator[str]:
    """Files that the TOML names, whatever else is wrong with it."""
    names = [values.get("system_prompt_file"), values.get("comfort_audio")]
    for key in ("greeting", "filler", "failure"):
        section = values.get(key)
        names.append(section.get("audio") if isinstance(section, dict) else None)
    yield from (name for name in names if isinstance(name, str) and name)
    tools = values.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        module = tool.get("module") if isinstance(tool, dict) else None
        if isinstance(module, str) and module.endswith(".py"):
            yield module


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path, path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _read_text(path: Path, source: Path, key: str = "") -> str:
    place = f"{source}: {key}: {path}" if key else f"{source}"
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors put a mark at the beginning
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


def check_entries(agent: Agent, tools: Mapping[str, ToolSpec], *, all_known: bool) -> None:
    """See that what is to be entered can be asked for, and that tools which get it exist and take it.

    Args:
        agent: Whose keys they are.
        tools: By name.
        all_known: Whether there are no others.

    Raises:
        ConfigError: If not; names the key.
    """
    inputs = {f"dtmf.inputs.{name}": entry for name, entry in agent.dtmf.inputs.items()}
    if inputs and TelephoneFunction.COLLECT_DIGITS not in agent.telephone.functions:
        functions = "collect_digits among the functions of a tool of type telephone"
        raise ConfigError(f"{next(iter(inputs))}: cannot be asked for without {functions}")
    for key, entry in {"dtmf": agent.dtmf, **inputs}.items():
        if entry.tool in tools:
            _check_argument(key, entry, tools[entry.tool].input_schema)
        elif entry.tool and all_known:
            raise ConfigError(f"{key}.tool: there is no tool named {entry.tool}")


def _check_argument(key: str, entry: Entry, schema: Mapping[str, Any]) -> None:
    """See that a tool which gets digits takes them, and needs nothing else."""
    there_are = [*schema.get("properties", {})]
    if entry.argument not in there_are:
        takes = f"takes {', '.join(there_are)}" if there_are else "takes none"
        raise ConfigError(
            f"{key}.argument: {entry.tool} has no argument {entry.argument}; it {takes}"
        )
    if others := [name for name in schema.get("required", []) if name != entry.argument]:
        raise ConfigError(
            f"{key}.tool: {entry.tool} cannot be run without {', '.join(others)};"
            f" it gets {entry.argument} only"
        )


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
