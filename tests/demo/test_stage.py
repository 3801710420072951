from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opusagent.demo.stage import LogLine, Stage, read_line
from opusagent.processes import ProcessFailed
from opusagent.simulators.setup import Setup


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ('{"event": "call failed", "level": "error"}', "error"),
        ("looking up 4527", "info"),
        ("4527", "info"),
        ("Warning: none of 4527 is left", "info"),
        ('["4527"]', "info"),
        ('{"order": 4527}', "info"),
        ("Traceback (most recent call last):", "error"),
        ("Exception ignored in: <function f>", "error"),
        ("/a.py:1: RuntimeWarning: coroutine 'f' was never awaited", "error"),
    ],
)
def test_what_a_tool_prints_is_no_error_and_what_python_says_of_itself_is(
    text: str, level: str
) -> None:
    line = read_line(f"{text}\n", datetime(2026, 1, 1, tzinfo=UTC))
    assert line["level"] == level
    assert line["event"] in {text, "call failed"}


@pytest.mark.integration
def test_a_scenario_may_have_several_bridges_with_settings_and_a_store(tmp_path: Path) -> None:
    heeded: list[LogLine] = []
    setup = Setup(bridges=2, store=True, settings={"session_max_concurrent": 7})
    stage = Stage("basic", setup, tmp_path, say=lambda _: None, heed=heeded.append)

    async def play() -> set[str]:
        async with stage:
            return {bridge.url for bridge in stage.bridges}

    assert len(asyncio.run(play())) == 2
    assert stage.failures == []
    assert stage.log == heeded
    settings = [line for line in stage.log if line["event"] == "settings"]
    assert sorted((line["bridge"], line["session_max_concurrent"]) for line in settings) == [
        (1, 7),
        (2, 7),
    ]
    assert all(line["redis_url"] for line in settings)
    troubles = [line for line in stage.log if line["level"] in {"warning", "error"}]
    assert not any("store" in line["event"] for line in troubles), troubles


@pytest.mark.integration
def test_a_bridge_that_the_scenario_killed_has_not_failed(tmp_path: Path) -> None:
    stage = Stage("basic", Setup(bridges=2), tmp_path, say=lambda _: None)

    async def play() -> None:
        async with stage:
            stage.kill(1)

    asyncio.run(play())
    assert stage.bridges[0].child.returncode == -9
    assert stage.bridges[1].child.returncode == 0
    assert stage.failures == []


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
