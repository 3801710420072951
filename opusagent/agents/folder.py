"""The folder of agents' files, read again where something in it has changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from opusagent.agents.directory import DEFAULT, AgentDirectory
from opusagent.agents.files import load_agent, shipped_default, sources_of
from opusagent.errors import ConfigError
from opusagent.models.agent import Agent
from opusagent.tools.modules import FileStamp, file_stamp

__all__ = ["AgentFolder"]

_USUAL: Final = Path("config/agents")


@dataclass(frozen=True, slots=True)
class _Read:
    """One agent's file as it was read last.

    Attributes:
        sources: The files that it is made of.
        stamps: What they looked like just before that.
        agent: As it was when the file could last be used.
        problem: Why the file cannot be used now.
    """

    sources: tuple[Path, ...]
    stamps: tuple[FileStamp, ...]
    agent: Agent | None
    problem: str = ""


class AgentFolder:
    """All agents of a folder: of a file that cannot be used any more its last good state goes on.

    Where the folder has no `default.toml`, the one that came with the program answers.
    """

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path = path
        self._files: dict[Path, _Read] = {}
        self._directory: AgentDirectory | None = None
        self._was_there = self._is_away = False

    @classmethod
    def open(cls, path: Path) -> Self:
        """The folder, read once.

        Raises:
            ConfigError: If it is named and missing, or anything in it cannot be used; the message has file,
                key and reason.
        """
        folder = cls(path)
        if problems := folder.look().problems:
            raise ConfigError("; ".join(problems.values()))
        return folder

    @property
    def directory(self) -> AgentDirectory:
        """As it was looked at last."""
        return self._directory or self.look()

    def look(self) -> AgentDirectory:
        """The agents as they are on disk now; the same object as long as nothing has changed.

        Blocks for as long as the disk takes: some 20 us a file where nothing has changed (measured). Must not
        be called twice at once.

        Raises:
            ConfigError: If there is no agent at all to answer.
        """
        if self._directory is not None and self._was_there and not self._path.is_dir():
            if (
                not self._is_away
            ):  # a volume that is being changed; nobody is sent to another agent for it
                problems = {str(self._path): self._missing}
                self._directory = AgentDirectory(self._directory.agents, problems=problems)
            self._is_away = True
            return self._directory
        # Not what editors and archives put beside a file: `.#bank.toml`, `._bank.toml`.
        files = (path for path in self._path.glob("*.toml") if not path.name.startswith("."))
        found = {path: self._read(path) for path in sorted(files)}
        if self._directory is None or self._is_away or found != self._files:
            self._files = found
            self._is_away, self._was_there = False, self._path.is_dir()
            self._directory = self._built()
        return self._directory

    @property
    def _missing(self) -> str:
        return f"AGENT_CONFIG_DIR: {self._path} is not a directory"

    def _built(self) -> AgentDirectory:
        """What the files make together."""
        files = self._files.items()
        agents = {path.stem: read.agent for path, read in files if read.agent is not None}
        if DEFAULT not in agents:
            agents[DEFAULT] = load_agent(shipped_default())
        problems = {str(path): read.problem for path, read in files if read.problem}
        if not self._was_there and self._path != _USUAL:
            problems[str(self._path)] = self._missing
        try:
            return AgentDirectory(agents, problems=problems)
        except ConfigError as error:  # each file is fine, but they do not go together
            problems[str(self._path)] = f"{self._path}: {error}"
            last = {DEFAULT: agents[DEFAULT]} if self._directory is None else self._directory.agents
            return AgentDirectory(last, problems=problems)

    def _read(self, path: Path) -> _Read:
        last = self._files.get(path)
        if last is not None and last.stamps == _stamps(last.sources):
            return last
        stamp = file_stamp(path)  # before it is read: what changes meanwhile is seen next time
        sources = sources_of(path)
        stamps = (stamp, *_stamps(sources[1:]))
        try:
            return _Read(sources, stamps, load_agent(path))
        except ConfigError as error:
            return _Read(sources, stamps, None if last is None else last.agent, str(error))


def _stamps(sources: tuple[Path, ...]) -> tuple[FileStamp, ...]:
    return tuple(map(file_stamp, sources))
