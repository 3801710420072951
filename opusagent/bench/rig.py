"""The bridge and a load service as processes of their own, as `bench` and its soak need them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opusagent.bench.load_callers import BEARER
from opusagent.processes import SETTINGS, Child

__all__ = ["Rig", "rig"]

ANSWER_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Rig:
    """What is running: `load callers (this process) <-> bridge <-> load service`."""

    bridge: Child
    service: Child
    url: str
    admin_url: str

    async def reset_service(self) -> None:
        """Let the service forget what has arrived so far."""
        await self.service.tell("reset")
        await self._answer()

    async def heard(self) -> dict[str, Any]:
        """What has arrived at the service."""
        await self.service.tell("figures")
        figures: dict[str, Any] = json.loads(await self._answer())
        return figures

    async def _answer(self) -> str:
        async with asyncio.timeout(ANSWER_S):
            return await self.service.line()

    async def stats(self) -> dict[str, Any]:
        """What the bridge says of itself on its admin port."""
        host, _, port = self.admin_url.rpartition("/")[2].rpartition(":")
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        stats: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return stats


@asynccontextmanager
async def rig(
    n_calls: int,
    frame_ms: int,
    *,
    service: Sequence[str] = ("opusagent.bench.load_service",),
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Rig]:
    """Start both; they end with the block.

    Args:
        n_calls: How many the bridge takes at once.
        frame_ms: Length of one event of bot audio.
        service: The module of the load service, and what it is told besides.
        environ: Settings of the bridge besides.

    Raises:
        ProcessFailed: If one of them does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        module, *more = service
        async with Child(module, str(ca_file), str(frame_ms), *more) as running:
            endpoint = (await running.ready()).split()[1]
            settings = {
                "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": endpoint,
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
                "DRAIN_SECONDS": "3",
                "LOG_LEVEL": "WARNING",
                **(environ or {}),
            }
            config = Path(folder) / "bridge.toml"
            config.touch()
            arguments = ("serve", "--config", str(config))
            async with Child("opusagent", *arguments, environ=settings, hide=SETTINGS) as bridge:
                _, url, _, admin_url = (await bridge.ready()).split()
                yield Rig(bridge, running, url, admin_url)
