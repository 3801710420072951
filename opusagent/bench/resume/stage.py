"""The processes around the phones: bridges that come and go, one Valkey, one service."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from opusagent.bench.load_callers import BEARER
from opusagent.bench.resume.phone import Door, Phone
from opusagent.bench.resume.service import TalkingService
from opusagent.processes import SETTINGS, Child
from opusagent.simulators.valkey import LocalValkey
from opusagent.simulators.wire import WireServer

__all__ = ["Bridge", "Log", "Stage", "stage"]

ANSWER_S: Final = 30.0


@dataclass(slots=True)
class Log:
    """What a bridge says of itself.

    Attributes:
        open_ms: How long it took to open its streams, by conversation, in order.
        trouble: Its lines, from warnings on.
    """

    open_ms: dict[str, list[float]] = field(default_factory=dict)
    trouble: list[dict[str, Any]] = field(default_factory=list)

    def take(self, line: str) -> None:
        """Read one line."""
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"event": line.rstrip(), "level": "error"}
        if entry["event"] == "stream opened":
            self.open_ms.setdefault(entry["conversation_id"], []).append(entry["open_ms"])
        elif entry.get("level") != "info":
            self.trouble.append(entry)


@dataclass(slots=True)
class Bridge:
    """One bridge process; `url` and `admin_url` are empty until it is ready."""

    child: Child
    log: Log
    url: str = ""
    admin_url: str = ""

    async def ready(self) -> None:
        """Wait until it takes calls."""
        _, self.url, _, self.admin_url = (await self.child.ready()).split()

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of its admin port."""
        host, _, port = self.admin_url.rpartition("/")[2].rpartition(":")
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            answer = (await reader.read()).decode()
            writer.close()
            await writer.wait_closed()
        status, _, body = answer.partition("\r\n\r\n")
        return int(status.split()[1]), body

    async def metric(self, name: str) -> float:
        """A sample of its metrics, by name and labels as they stand there; 0 if there is none."""
        _, page = await self.get("/metrics")
        found = (line for line in page.splitlines() if line.startswith(f"opusagent_{name} "))
        return float(next(found, "0").split()[-1])


class Stage:
    """What a measurement is played on. Made by `stage`.

    Attributes:
        service: The model.
        door: The bridges that phones find.
        store_url: Of the Valkey.
        bridges: Those that are up, or about to be.
    """

    def __init__(
        self, service: TalkingService, store: LocalValkey, folder: Path, environ: dict[str, str]
    ) -> None:
        """Nothing is started here."""
        self.service = service
        self.store = store
        self.door = Door()
        self.bridges: list[Bridge] = []
        self._folder = folder
        self._environ = environ
        self._calls: asyncio.TaskGroup
        self._n_phones = 0

    async def start(self, environ: Mapping[str, str] | None = None) -> Bridge:
        """Begin to start a bridge; `admit` waits until it takes calls."""
        settings = self._folder / "bridge.toml"
        settings.touch()
        log = Log()
        child = Child(
            "opusagent",
            *("serve", "--config", str(settings)),
            environ=self._environ | dict(environ or {}),
            hide=SETTINGS,
            log=log.take,
        )
        bridge = Bridge(child, log)
        await child.__aenter__()
        self.bridges.append(bridge)
        return bridge

    async def admit(self, bridge: Bridge) -> None:
        """Let callers find a bridge, once it is ready."""
        await bridge.ready()
        self.door.urls.append(bridge.url)

    async def add(self, environ: Mapping[str, str] | None = None) -> Bridge:
        """Start a bridge that callers find."""
        bridge = await self.start(environ)
        await self.admit(bridge)
        return bridge

    async def kill(self, bridge: Bridge) -> float:
        """End a process at once (SIGKILL), and hide it from callers; returns when, in monotonic seconds."""
        self.door.urls.remove(bridge.url)
        at = time.monotonic()
        bridge.child.kill()
        await bridge.child.gone()
        await self._gone(bridge)
        return at

    async def let_go(self, bridge: Bridge) -> int:
        """End a process in good order (SIGTERM); returns its exit code."""
        self.door.urls.remove(bridge.url)
        await bridge.child.end()
        return await self._gone(bridge)

    async def _gone(self, bridge: Bridge) -> int:
        self.bridges.remove(bridge)
        await bridge.child.__aexit__(None, None, None)
        assert bridge.child.returncode is not None
        return bridge.child.returncode

    def prefer(self, bridge: Bridge) -> None:
        """Let callers who come find this one first."""
        self.door.urls.sort(key=lambda url: url != bridge.url)

    async def call(self, *, frame_ms: int = 20) -> Phone:
        """Somebody calls; gives her once the model hears her."""
        phone = Phone(self._n_phones, self.door, frame_ms=frame_ms)
        self._n_phones += 1
        self._calls.create_task(phone.run())
        await self.service.until_heard(phone.number, 1)
        return phone

    @asynccontextmanager
    async def calls(self) -> AsyncIterator[None]:
        """Where calls may be made; they are over when the block is, if each was hung up."""
        async with asyncio.TaskGroup() as self._calls:
            yield

    async def close(self) -> None:
        """End every bridge."""
        for bridge in tuple(self.bridges):
            await bridge.child.end()
            await self._gone(bridge)


@asynccontextmanager
async def stage(
    *, n_calls: int = 100, stored: bool = True, seed: int = 0, **environ: str
) -> AsyncIterator[Stage]:
    """Start Valkey and the service; all has ended with the block.

    Args:
        n_calls: How many calls a bridge takes.
        stored: Whether sessions are kept in the Valkey, or by nobody.
        seed: Of what the model says, and when.
        environ: Settings of the bridges.

    Raises:
        ConfigError: If the extra `simulate` is not installed.
        ProcessFailed: If a process does not start.
    """
    service = TalkingService(seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        async with LocalValkey() as valkey, WireServer(service, ca_file=ca_file) as wire:
            settings = {
                "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": wire.url,
                "AWS_CA_BUNDLE": str(ca_file),
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_SECRET_ACCESS_KEY": "local",
                "AWS_REGION": "us-east-1",
                "BRIDGE_HOST": "127.0.0.1",
                "BRIDGE_PORT": "0",
                "BRIDGE_TOKEN": BEARER,
                "ADMIN_HOST": "127.0.0.1",
                "ADMIN_PORT": "0",
                "SESSION_MAX_CONCURRENT": str(n_calls),
                "DRAIN_SECONDS": "9",
                "LOG_LEVEL": "INFO",
                "LOG_FORMAT": "json",
            }
            if stored:
                settings["REDIS_URL"] = valkey.url
            played = Stage(service, valkey, Path(folder), settings | environ)
            try:
                async with played.calls():
                    yield played
            finally:
                await played.close()
