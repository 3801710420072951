"""Tools of an agent's file, asked for by the model over the real wires."""

from __future__ import annotations

from pathlib import Path

import pytest

from opusagent.agents import load_agent
from opusagent.simulators.caller_script import Pause, WaitForBot
from opusagent.sonic.peer_brain import ToolAsk
from tests.end_to_end.rig import Line, ToneBrain, run, say
from tests.waiting import eventually

MODULE = '''
import threading

from opusagent.tools import ToolContext, ToolRegistry

registry = ToolRegistry()


@registry.tool()
def look_up(order_id: str, context: ToolContext) -> dict[str, str]:
    """Look an order up.

    Args:
        order_id: Its number.
    """
    return {"order": order_id, "call": context.conversation_id, "agent": context.agent}


@registry.tool(timeout_s=0.2)
def never_returns() -> None:
    """Take too long."""
    threading.Event().wait()


@registry.tool()
async def breaks() -> None:
    """Break."""
    raise RuntimeError("the caller said 471147114711")
'''


def test_tools_are_told_to_the_model_run_and_answered_once_each(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE, encoding="utf-8")
    file = tmp_path / "default.toml"
    file.write_text(
        'system_prompt = "x"\n[[tools]]\ntype = "python"\nmodule = "mine.py"\n', encoding="utf-8"
    )

    async def main(line: Line) -> None:
        caller = line.caller(conversation_id="c-1")
        record = await caller.run([say(), WaitForBot(quiet_s=0.1, timeout_s=6)])
        assert record.in_vain == []
        stream = line.stream(1)
        assert stream.prompt is not None
        assert stream.prompt.tool_configuration is not None
        told = [tool.tool_spec for tool in stream.prompt.tool_configuration.tools]
        assert [spec.name for spec in told] == ["look_up", "never_returns", "breaks"]
        assert "Its number." in told[0].input_schema.text
        results = {result.value.name: result.value.result for result in stream.tool_results}
        assert len(stream.tool_results) == 4
        assert results["look_up"] == {"order": "A1", "call": "c-1", "agent": "default"}
        assert results["never_returns"] == {
            "error": "never_returns did not answer within 0.2 seconds"
        }
        assert results["breaks"] == {"error": "breaks failed"}
        assert "no tool named other" in str(results["other"]["error"])
        (failed,) = line.logged("tool failed")
        assert (failed["tool"], failed["conversation_id"]) == ("breaks", "c-1")
        assert "471147114711" not in line.log.getvalue()
        counts = line.metrics.snapshot()["tool_seconds_count"]
        assert counts == {"done": 1, "late": 1, "failed": 1}

    tools = (
        ToolAsk("look_up", {"order_id": "A1"}),
        ToolAsk("never_returns", {}),
        ToolAsk("breaks", {}),
        ToolAsk("other", {}),
    )
    run(main, agent=load_agent(file), brain=lambda: ToneBrain(tools=tools))


TELEPHONE = """
system_prompt = "x"
[[tools]]
type = "telephone"
functions = ["hang_up", "transfer_call"]
[tools.targets.support]
to = "tel:+15551234"
"""


@pytest.mark.parametrize(
    ("asks", "code", "by"),
    [
        (ToolAsk("transfer_call", {"target": "support"}), "transferred", "transferred"),
        (ToolAsk("hang_up", {"reason": "all said"}), "bot-disconnected", "bot"),
    ],
)
def test_the_model_transfers_or_ends_the_call(
    asks: ToolAsk, code: str, by: str, tmp_path: Path
) -> None:
    file = tmp_path / "default.toml"
    file.write_text(TELEPHONE, encoding="utf-8")

    async def main(line: Line) -> None:
        record = await line.call(say(), Pause(8.0))
        assert record.end_reason == code
        assert await eventually(lambda: len(line.logged("call ended")) == 1)
        assert line.logged("call ended")[0]["by"] == by

    run(main, agent=load_agent(file), brain=lambda: ToneBrain(tools=(asks,)))
