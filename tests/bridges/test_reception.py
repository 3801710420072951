"""Who answers, by the files as they are now."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import structlog
from pydantic import JsonValue

from opusagent.agents import AgentDirectory, AgentFolder
from opusagent.bridges.reception import LOOK_S, Reception
from opusagent.config import Settings
from opusagent.models.agent import Agent
from opusagent.models.session_state import SessionState
from opusagent.observability import Metrics, configure_logging
from tests.agents.test_files import TOOLS, agent_file, recording
from tests.call.driver import EPOCH
from tests.tools.rig import asks

WITH_TOOL = 'system_prompt = "x"\n[[tools]]\ntype = "python"\nmodule = "orders.py"\n'


class Desk:
    """A reception over a folder."""

    def __init__(self, home: Path, **settings: object) -> None:
        self.metrics = Metrics()
        self.folder = AgentFolder.open(home)
        chosen = Settings.model_validate(settings)
        self.reception = Reception(chosen, self.folder, self.metrics)

    def prompt(self, bot_name: str = "") -> str:
        return self.reception.plan(bot_name, {}).agent.system_prompt

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"opusagent_{name}", labels)


def at_a_desk(home: Path, main: Callable[[Desk], Awaitable[None]]) -> list[dict[str, object]]:
    """Run a test at a desk; returns what was logged."""
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)

    async def whole() -> None:
        desk = Desk(home)
        await desk.reception.start()
        try:
            await main(desk)
        finally:
            await desk.reception.stop()

    try:
        asyncio.run(whole())
    finally:
        structlog.reset_defaults()
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_change_on_disk_is_used_for_the_next_call(tmp_path: Path) -> None:
    path = agent_file(tmp_path)

    async def main(desk: Desk) -> None:
        before = desk.reception.plan("", {})
        await desk.reception.look()
        assert desk.reception.plan("", {}) is before
        path.write_text('system_prompt = "Changed"', encoding="utf-8")
        await desk.reception.look()
        assert desk.prompt() == "Changed"
        assert before.agent.system_prompt == "Hi"  # a call under way keeps hers
        assert desk.count("agent_reloads_total", outcome="ok") == 1

    (line,) = at_a_desk(tmp_path, main)
    assert (line["event"], line["changed"]) == ("agents changed", ["default"])


def test_a_broken_file_is_said_in_log_stats_and_metrics_and_its_last_good_state_goes_on(
    tmp_path: Path,
) -> None:
    path = agent_file(tmp_path)

    async def main(desk: Desk) -> None:
        path.write_text("system_prompt = 'You are {callr}.'", encoding="utf-8")
        for _ in range(3):
            await desk.reception.look()
        assert desk.prompt() == "Hi"
        assert "unknown variable {callr}" in desk.reception.problems[str(path)]
        assert desk.count("agents_broken") == 1
        assert desk.count("agent_reloads_total", outcome="failed") == 1
        path.write_text("system_prompt = 'Mended'", encoding="utf-8")
        await desk.reception.look()
        assert desk.prompt() == "Mended"
        assert desk.reception.problems == {}
        assert desk.count("agents_broken") == 0

    lines = at_a_desk(tmp_path, main)
    assert [line["level"] for line in lines] == ["error", "info"]
    assert str(lines[0]["problem"]).startswith(f"{path}: system_prompt: unknown variable {{callr}}")


def test_a_file_that_is_as_it_was_after_all_is_no_change(tmp_path: Path) -> None:
    path = agent_file(tmp_path)

    async def main(desk: Desk) -> None:
        path.write_text("=", encoding="utf-8")
        await desk.reception.look()
        agent_file(tmp_path)
        await desk.reception.look()

    lines = at_a_desk(tmp_path, main)
    assert [line["level"] for line in lines] == ["error", "info"]


def test_tools_change_with_their_file_and_a_call_under_way_keeps_hers(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(TOOLS, encoding="utf-8")
    path = agent_file(tmp_path)

    async def main(desk: Desk) -> None:
        assert desk.reception.tools("default").specs == ()
        path.write_text(WITH_TOOL, encoding="utf-8")
        await desk.reception.look()
        of_call = desk.reception.tools("default")
        assert [spec.name for spec in of_call.specs] == ["find_order"]
        agent_file(tmp_path)
        await desk.reception.look()
        desk.reception.at_rest()
        assert desk.reception.tools("default").specs == ()
        assert [spec.name for spec in of_call.specs] == ["find_order"]

    at_a_desk(tmp_path, main)


@pytest.mark.integration
def test_a_file_of_tools_that_changes_is_used_by_the_next_call(tmp_path: Path) -> None:
    orders = tmp_path / "orders.py"
    orders.write_text(TOOLS, encoding="utf-8")
    agent_file(tmp_path, text=WITH_TOOL)
    given = '{"order_id": "471"}'

    async def main(desk: Desk) -> None:
        async def found() -> JsonValue:
            call = desk.reception.tools("default").for_call("c1")
            return (await call(asks("find_order", given))).get("result")

        assert await found() == "471"
        orders.write_text(TOOLS.replace("return order_id", "return order_id * 2"), encoding="utf-8")
        await desk.reception.look()
        assert await found() == "471471"
        orders.write_text("1 / 0", encoding="utf-8")
        await desk.reception.look()
        assert await found() == "471471"
        assert "ZeroDivisionError" in next(iter(desk.reception.problems.values()))

    at_a_desk(tmp_path, main)


@pytest.mark.integration
def test_a_file_of_tools_that_came_later_changes_as_well(tmp_path: Path) -> None:
    for name in ("orders", "payments"):
        text = TOOLS.replace("find_order", f"find_{name}")
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    agent_file(tmp_path, text=WITH_TOOL)
    payments = tmp_path / "payments.py"

    async def main(desk: Desk) -> None:
        async def found(agent: str, tool: str) -> JsonValue:
            call = desk.reception.tools(agent).for_call("c1")
            return (await call(asks(tool, '{"order_id": "471"}'))).get("result")

        assert await found("default", "find_orders") == "471"
        agent_file(tmp_path, "other", WITH_TOOL.replace("orders", "payments"))
        await desk.reception.look()
        assert await found("other", "find_payments") == "471"
        text = payments.read_text(encoding="utf-8")
        payments.write_text(
            text.replace("return order_id", "return order_id * 2"), encoding="utf-8"
        )
        await desk.reception.look()
        assert await found("other", "find_payments") == "471471"
        assert await found("default", "find_orders") == "471"

    at_a_desk(tmp_path, main)


def test_an_agent_that_has_not_followed_its_file_of_tools_keeps_those_that_she_has(
    tmp_path: Path,
) -> None:
    orders = tmp_path / "orders.py"
    orders.write_text(TOOLS, encoding="utf-8")
    agent_file(tmp_path, text=WITH_TOOL + 'only = ["find_order"]')

    async def main(desk: Desk) -> None:
        orders.write_text(TOOLS.replace("find_order", "look_up"), encoding="utf-8")
        agent_file(tmp_path, "other")
        await desk.reception.look()
        assert "there is no find_order" in next(iter(desk.reception.problems.values()))
        assert [spec.name for spec in desk.reception.tools("default").specs] == ["find_order"]
        assert desk.reception.names == ("default", "other")

    lines = at_a_desk(tmp_path, main)
    kept = [line for line in lines if line["event"] == "an agent keeps the tools that she had"]
    assert [line["agent"] for line in kept] == ["default"]


def test_a_recording_that_changes_is_heard_as_it_is_now(tmp_path: Path) -> None:
    agent_file(tmp_path, text='system_prompt = "x"\ncomfort_audio = "a.wav"')
    wav = recording(tmp_path / "a.wav")

    async def main(desk: Desk) -> None:
        before = desk.reception.plan("", {}).comfort_audio
        data = bytearray(wav.read_bytes())
        data[-400:] = b"\x40" * 400
        wav.unlink()
        wav.write_bytes(data + bytes(2))
        await desk.reception.look()
        assert desk.reception.plan("", {}).comfort_audio != before

    at_a_desk(tmp_path, main)


class _SlowFolder(AgentFolder):
    """A disk that answers when it is let."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.look()
        self.asked = 0
        self.let = threading.Event()

    def look(self) -> AgentDirectory:
        if hasattr(self, "let"):
            self.asked += 1
            self.let.wait()
        return super().look()


def test_a_disk_that_hangs_holds_no_call_up_and_is_asked_once(tmp_path: Path) -> None:
    path = agent_file(tmp_path)

    async def main() -> None:
        folder = _SlowFolder(tmp_path)
        reception = Reception(Settings(), folder, Metrics())
        path.write_text('system_prompt = "Changed"', encoding="utf-8")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await reception.look()
        assert loop.time() - began >= LOOK_S * 0.9
        await reception.look()
        assert folder.asked == 1
        assert reception.plan("", {}).agent.system_prompt == "Hi"
        folder.let.set()
        async with asyncio.timeout(5):
            while reception.plan("", {}).agent.system_prompt != "Changed":
                await reception.look()

    asyncio.run(main())


def test_agents_that_answer_for_good_need_no_disk() -> None:
    async def main() -> None:
        agents = AgentDirectory({"default": Agent(system_prompt="Hi")})
        reception = Reception(Settings(), agents, Metrics())
        await reception.look()
        assert reception.names == ("default",)

    asyncio.run(main())


def stored(**fields: object) -> SessionState:
    state = {"conversation_id": "c", "created_at": EPOCH, "last_activity": EPOCH}
    return SessionState.model_validate(state | fields)


@pytest.mark.parametrize(
    ("state", "prompt", "name"),
    [
        (stored(agent={"system_prompt": "Old"}, metadata={"agent": "sales"}), "Old", "sales"),
        (stored(agent={"system_prompt": "{nobody}"}, metadata={"agent": "sales"}), "Sell", "sales"),
        (stored(agent={"no": "agent"}, metadata={"agent": "gone"}), "Hi", "default"),
        (stored(bot_name="sales"), "Sell", "sales"),
    ],
)
def test_who_answered_before_goes_on_as_she_was(
    state: SessionState, prompt: str, name: str, tmp_path: Path
) -> None:
    agent_file(tmp_path)
    agent_file(tmp_path, "sales", 'system_prompt = "Sell"')

    async def main(desk: Desk) -> None:
        plan = desk.reception.plan(state.bot_name, {}, state)
        assert (plan.agent.system_prompt, plan.agent_name) == (prompt, name)

    at_a_desk(tmp_path, main)


def test_an_agent_may_have_a_model_of_her_own(tmp_path: Path) -> None:
    agent_file(tmp_path)
    agent_file(tmp_path, "new", 'system_prompt = "x"\nmodel = "amazon.nova-2-5-sonic-v1:0"')
    desk = Desk(tmp_path, bedrock_model_id="amazon.nova-sonic-v1:0")
    assert desk.reception.plan("new", {}).model_id == "amazon.nova-2-5-sonic-v1:0"
    assert desk.reception.plan("", {}).model_id == "amazon.nova-sonic-v1:0"
