from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from opusagent.demo.stage import LogLine, Stage
from opusagent.processes import ProcessFailed
from opusagent.simulators.setup import Setup


@pytest.mark.integration
def test_a_scenario_may_have_several_bridges_and_each_gets_its_settings(tmp_path: Path) -> None:
    heeded: list[LogLine] = []

    async def play(setup: Setup) -> Stage:
        stage = Stage("basic", setup, tmp_path, say=lambda _: None, heed=heeded.append)
        async with stage:
            assert len({bridge.url for bridge in stage.bridges}) == 2
        return stage

    stage = asyncio.run(play(Setup(bridges=2, settings={"session_max_concurrent": 7})))
    assert stage.failures == []
    assert stage.log == heeded
    settings = [line for line in stage.log if "session_max_concurrent" in str(line)]
    assert {line["bridge"] for line in settings} == {1, 2}


@pytest.mark.integration
def test_nothing_is_left_of_a_stage_on_which_a_bridge_does_not_start(tmp_path: Path) -> None:
    stage = Stage("basic", Setup(settings={"bridge_workers": 9}), tmp_path, say=lambda _: None)

    async def play() -> None:
        async with stage:
            pass

    with pytest.raises(ProcessFailed):
        asyncio.run(play())
    assert stage.bridges == []
    assert stage.failures == ["the bridge ended with exit 2"]
    assert any("BRIDGE_WORKERS" in line["event"] for line in stage.log)
