"""The state of a call, between the tools in their threads, the model, and the next process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from opusagent.agents import load_agent
from opusagent.models.agent import Agent
from opusagent.sonic.peer_brain import PeerContext, Reply, ToolAsk
from tests.bridges.rig import Brain
from tests.test_server_resume import House, Phone, Process
from tests.waiting import eventually, pass_time

MODULE = '''
from opusagent.tools import ToolContext, ToolRegistry

registry = ToolRegistry()


@registry.tool()
def count(context: ToolContext) -> dict[str, object]:
    """Count how often this was asked."""
    n = context.state.get("count", 0) + 1
    context.state.set("count", n)
    return {"count": n, "name": context.state.get("name")}
'''

AGENT = """
system_prompt = "x"
[[tools]]
type = "python"
module = "mine.py"
[[tools]]
type = "telephone"
functions = ["set_state", "get_state"]
"""


class AskingBrain(Brain):
    """Asks for the same tools whatever it hears."""

    def __init__(self, *tools: ToolAsk) -> None:
        self._tools = tools

    def reply(self, heard: str, context: PeerContext) -> Reply:
        return Reply((), self._tools)


def agent_of(folder: Path) -> Agent:
    (folder / "mine.py").write_text(MODULE, encoding="utf-8")
    file = folder / "default.toml"
    file.write_text(AGENT, encoding="utf-8")
    return load_agent(file)


def test_what_tools_and_the_model_keep_they_both_know_in_the_next_process_too(
    tmp_path: Path,
) -> None:
    agent = agent_of(tmp_path)
    first_asks = (ToolAsk("set_state", {"key": "name", "value": "Ann"}), ToolAsk("count", {}))
    then_asks = (ToolAsk("count", {}), ToolAsk("get_state", {}))

    async def results(process: Process, phone: Phone, n: int) -> list[dict[str, Any]]:
        key = {"id": "2", "type": "event", "name": "DTMF", "value": "1"}
        await phone.say("activities", activities=[key])
        peer = process.services.peers[-1]
        assert await eventually(lambda: len(peer.record.tool_results) == n)
        return [one.value.result for one in peer.record.tool_results]

    async def main(house: House) -> None:
        options: dict[str, Any] = {"agents": {"default": agent}, "dtmf_pause_seconds": 0.1}
        async with house.process(brain=AskingBrain(*first_asks), **options) as old:
            phone = await old.call()
            assert await results(old, phone, 2) == [
                {"status": "kept"},
                {"count": 1, "name": "Ann"},
            ]
            await pass_time(0.2)
            assert (await house.stored()).variables == {"name": "Ann", "count": 1}
            async with house.process(brain=AskingBrain(*then_asks), ids="other", **options) as new:
                back = await new.resume()
                told = await results(new, back, 2)
                assert {"count": 2, "name": "Ann"} in told
                assert any("state" in one for one in told)
                await back.say("session.end")
                await pass_time(0.5)
                assert (await house.stored()).variables == {"name": "Ann", "count": 2}

    async def whole() -> None:
        async with asyncio.TaskGroup() as tasks:
            await main(House(tasks))

    asyncio.run(whole())
