"""The Dockerfile, carried out without Docker: each stage is a directory, each step is done in it.

What cannot be done without a container (users, images) is recorded instead, for the test to check.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One instruction, e.g. `RUN` with the rest of its line; continued lines are joined."""

    name: str
    rest: str


def steps(text: str) -> list[Step]:
    """The instructions of a Dockerfile in order, without comments."""
    code = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", code).splitlines()
    return [Step(*line.split(maxsplit=1)) for line in lines if line.strip()]


@dataclass
class Stage:
    """What one `FROM` begins."""

    name: str
    image: str
    root: Path
    workdir: Path = Path("/")
    user: str = "root"
    users: set[str] = field(default_factory=set)
    env: dict[str, str] = field(default_factory=dict)
    ports: set[int] = field(default_factory=set)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def path(self, inside: str | Path) -> Path:
        """Where a path of the container lies on this machine."""
        return self.root / (self.workdir / inside).relative_to("/")


class Build:
    """Runs the steps; afterwards `stages` holds what came of them, the image last."""

    def __init__(self, text: str, *, context: Path, workspace: Path) -> None:
        self.stages: list[Stage] = []
        for step in steps(text):
            if step.name == "FROM":
                image, _, name = step.rest.partition(" AS ")
                root = workspace / f"stage{len(self.stages)}"
                root.mkdir()
                self.stages.append(Stage(name, image, root))
            else:
                self._do(step, self.stages[-1], context)

    @property
    def image(self) -> Stage:
        """The stage that becomes the image."""
        return self.stages[-1]

    def _do(self, step: Step, stage: Stage, context: Path) -> None:
        match step.name:
            case "WORKDIR":
                stage.workdir /= step.rest
                stage.path(".").mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(step.rest, stage, context)
            case "RUN":
                self._run(step.rest, stage)
            case "ENV":
                stage.env |= dict(pair.split("=", 1) for pair in shlex.split(step.rest))
            case "USER":
                stage.user = step.rest
            case "EXPOSE":
                stage.ports |= {int(port) for port in step.rest.split()}
            case "CMD":
                stage.command = json.loads(step.rest)
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(step.rest.partition("CMD ")[2])
            case _:
                raise AssertionError(f"the test does not know {step.name}; teach it")

    def _copy(self, rest: str, stage: Stage, context: Path) -> None:
        words = shlex.split(rest)
        source_root = context
        if words[0].startswith("--from="):
            wanted = words.pop(0).removeprefix("--from=")
            source_root = next(s.root for s in self.stages if s.name == wanted)
        *sources, target = words
        for source in sources:
            origin = source_root / source.removeprefix("/")
            goal = stage.path(target)
            if origin.is_dir():
                shutil.copytree(origin, goal, symlinks=True, dirs_exist_ok=True)
                self._relocate(source_root, stage.root, goal)
            else:
                shutil.copy(origin, goal / origin.name if target.endswith("/") else goal)

    def _relocate(self, before: Path, after: Path, directory: Path) -> None:
        """Scripts of a virtual environment hold its path; in Docker it is the same in all stages."""
        for script in directory.glob("bin/*"):
            if script.is_file() and not script.is_symlink():
                script.write_bytes(script.read_bytes().replace(bytes(before), bytes(after)))

    def _run(self, rest: str, stage: Stage) -> None:
        command = shlex.split(rest)
        stage.ran.append(rest)
        if command[0] == "useradd":
            stage.users.add(command[-1])
            return
        subprocess.run(
            here(command, stage), cwd=stage.path("."), check=True, env=environment(stage)
        )


def here(command: list[str], stage: Stage) -> list[str]:
    """A command of the container with the paths of this machine."""
    placed = [re.sub(r"(?<![\w.])/opt/", f"{stage.root}/opt/", word) for word in command]
    if placed[0] == "python":
        found = shutil.which("python", path=environment(stage)["PATH"])
        placed[0] = found or sys.executable
    return placed


def environment(stage: Stage) -> dict[str, str]:
    """The container's variables over what installing needs of this machine's."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in {"HOME", "LANG"} or name.startswith(("PIP_", "SSL_"))
    }
    path = stage.env.get("PATH", "").replace("$PATH", "").replace("/opt/", f"{stage.root}/opt/")
    return inherited | stage.env | {"PATH": path}
