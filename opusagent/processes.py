"""Verbs of this program as processes of their own, for `demo` and `bench`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final, Self

from opusagent.config import Settings
from opusagent.errors import OpusAgentError

SETTINGS: Final = frozenset(
    {*(name.upper() for name in Settings.model_fields), "AWS_DEFAULT_REGION"}
)
"""What is set for the bridge that takes real calls is not for one that is tried out."""
READY_S = 60.0
END_S = 10.0

_LIMIT = 64 * 1024 * 1024


class ProcessFailed(OpusAgentError):
    """A process ended before it was ready, or did not answer."""


class Child:
    """A Python module run as a process; ended when the block ends.

        async with Child("opusagent", "serve", environ={...}) as bridge:
            url = (await bridge.ready()).split()[1]

    Args:
        module: What `python -m` runs.
        arguments: Its arguments.
        environ: Added to this process's environment.
        hide: Names in this process's environment that it does not get, in upper case.
        log: Takes each line of its standard error; without it they go to ours.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environ: dict[str, str] | None = None,
        hide: Collection[str] = (),
        log: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare; the process starts with the block."""
        self._command = (sys.executable, "-m", module, *arguments)
        kept = {name: value for name, value in os.environ.items() if name.upper() not in hide}
        self._environ = kept | (environ or {})
        self._log = log
        self._process: asyncio.subprocess.Process
        self._tasks = asyncio.TaskGroup()
        self.returncode: int | None = None
        """The exit code, once the block has ended."""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def ready(self) -> str:
        """The line that begins with READY.

        Raises:
            ProcessFailed: If it ends, or `READY_S` pass, without one.
        """
        try:
            async with asyncio.timeout(READY_S):
                while line := await self.line():
                    if line.startswith("READY"):
                        return line
        except TimeoutError:
            pass
        raise ProcessFailed(f"{' '.join(self._command[2:4])} did not become ready")

    async def line(self) -> str:
        """Its next line of standard output; empty at the end."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode()

    async def tell(self, words: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n".encode())
        await self._process.stdin.drain()

    def kill(self) -> None:
        """Have it end at once (SIGKILL), as a crash would, without a word to anybody."""
        if self._process.returncode is None:
            self._process.kill()

    async def gone(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()

    async def end(self) -> int:
        """Ask it to end (SIGTERM), and make it (SIGKILL) after `END_S`; returns the exit code."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(END_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        self.returncode = await self._process.wait()
        return self.returncode

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if self._log is None else asyncio.subprocess.PIPE,
            limit=_LIMIT,
        )
        await self._tasks.__aenter__()
        if self._log is not None:
            self._tasks.create_task(self._read_log(self._log))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.end()
        await self._tasks.__aexit__(None, None, None)

    async def _read_log(self, log: Callable[[str], None]) -> None:
        assert self._process.stderr is not None
        while line := (await self._process.stderr.readline()).decode(errors="replace"):
            log(line)
