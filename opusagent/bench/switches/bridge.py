"""The bridge with a tool that takes its time, as a process of its own: `serve` has none.

`python -m opusagent.bench.switches.bridge FILE` takes its settings from the environment and FILE, and prints the `READY` line
of `serve`, without an admin port.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import uvloop
from pydantic import JsonValue

from opusagent.agents import AgentFolder
from opusagent.bench.switches.mind import TOOL
from opusagent.bridges.audiocodes_bridge import AudioCodesBridge
from opusagent.bridges.planning import make_plan
from opusagent.bridges.reporting import Reporter
from opusagent.call.events import ToolCall
from opusagent.call.plan import CallPlan
from opusagent.clock import SystemClock
from opusagent.config import Settings, load
from opusagent.models.session_state import ToolSpec
from opusagent.observability import Metrics, configure_logging
from opusagent.transports import CallerTransport, SonicConnector
from opusagent.transports.bedrock import BedrockConnector
from opusagent.transports.credentials import Credentials
from opusagent.transports.websocket import WebSocketServer

__all__ = ["LOOK_UP", "LOOK_UP_S", "ToolBridge", "look_up"]

LOOK_UP_S: Final = 1.5
LOOK_UP: Final = ToolSpec(
    name=TOOL,
    description="Looks something up for a turn.",
    input_schema={"type": "object", "properties": {"turn": {"type": "string"}}},
)


async def look_up(call: ToolCall, *, seconds: float = LOOK_UP_S) -> dict[str, JsonValue]:
    """Give the turn back, after a while."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    return {"turn": json.loads(call.arguments)["turn"]}


class ToolBridge:
    """Carries calls whose agent has the tool; each socket is one call."""

    def __init__(
        self,
        plan: CallPlan,
        sonic: SonicConnector,
        metrics: Metrics,
        *,
        look_up_s: float = LOOK_UP_S,
    ) -> None:
        """`plan` without the tool, which takes `look_up_s`."""
        self._look_up_s = look_up_s
        self._plan = dataclasses.replace(plan, tools=(LOOK_UP,))
        self._sonic = sonic
        self._metrics = metrics

    async def carry(self, caller: CallerTransport, tenant: str, query: Mapping[str, str]) -> None:
        """One call."""
        del tenant, query
        first = await caller.recv()
        if first is None:
            return
        reporter = Reporter(
            self._metrics, conversation_id=json.loads(first).get("conversationId", "")
        )
        bridge = AudioCodesBridge(
            platform_websocket=caller,
            realtime_websocket=self._sonic,
            session_config=self._plan,
            report=reporter.report,
            tool=partial(look_up, seconds=self._look_up_s),
        )
        await bridge.run(first)

    def server(self, settings: Settings) -> WebSocketServer:
        """What callers connect to."""
        return WebSocketServer(
            self.carry,
            host=settings.bridge_host,
            port=settings.bridge_port,
            tokens=settings.tenants(),
            refuse_new=lambda: False,
        )


async def _main(file: Path) -> None:
    settings = load(file=file)
    configure_logging(settings)
    clock = SystemClock()
    sonic = BedrockConnector(
        region=settings.aws_region,
        model_id=settings.bedrock_model_id,
        credentials=Credentials(utcnow=clock.utcnow),
        utcnow=clock.utcnow,
        endpoint=settings.aws_endpoint_url_bedrock_runtime,
        ca_file=settings.aws_ca_bundle,
    )
    await sonic.prepare()
    agent = AgentFolder.open(settings.agent_config_dir).directory.pick()
    server = ToolBridge(make_plan(settings, *agent), sonic, Metrics()).server(settings)
    port = await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sys.stdout.write(f"READY ws://{settings.bridge_host}:{port}\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    uvloop.run(_main(Path(sys.argv[1])))
