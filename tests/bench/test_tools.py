"""What `bench --tools` measures: whole figures of a small load, and the limits that they are held to."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math

import pytest

from opusagent.bench.tools.report import show_tools
from opusagent.bench.tools.run import ToolFigures, run_tools
from opusagent.bench.tools.service import ToolService
from tests.bench.test_targets import GOOD

QUICK = ToolFigures(
    case="quick",
    load=GOOD,
    asked=500,
    done=500,
    failed=0,
    start_p50_ms=1.0,
    start_p99_ms=4.9,
    result_p50_ms=1.0,
    result_p99_ms=4.9,
)


def missed(figures: ToolFigures) -> list[str]:
    return [target.words for target in figures.targets if not target.met]


def test_a_load_that_keeps_its_limits_misses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert missed(QUICK) == []
    assert show_tools([QUICK])
    assert "missed" not in capsys.readouterr().out


def test_audio_that_is_late_and_tools_that_begin_late_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    late = dataclasses.replace(GOOD, to_model_p99_ms=20.0)
    figures = dataclasses.replace(QUICK, load=late, start_p99_ms=5.0)
    assert missed(figures) == ["to the model, p99", "to the tool's start, p99"]
    assert not show_tools([figures])
    assert "tools that quick: to the model, p99: 20 ms" in capsys.readouterr().out


def test_tools_that_compete_with_each_other_are_not_held_to_their_own_times() -> None:
    assert missed(dataclasses.replace(QUICK, case="compute", start_p99_ms=500.0)) == []


def test_what_was_not_measured_is_null_in_json() -> None:
    row = dataclasses.replace(QUICK, case="none", start_p99_ms=math.nan).as_json()
    assert row["start_p99_ms"] is None
    assert json.loads(json.dumps(row, allow_nan=False))["load"]["calls"] == 25


def test_times_count_from_the_request_to_the_start_and_from_the_result_to_its_arrival() -> None:
    service = ToolService(20, ("quick",))
    service.answered({"asked": 1_000_000, "started": 3_000_000, "ended": 4_000_000}, 4_500_000)
    service.answered({"error": "quick failed"}, 5_000_000)
    figures = service.figures()
    assert (figures["start_ms"], figures["result_ms"]) == ([2.0], [0.5])
    assert figures["tools"] == {"done": 1, "failed": 1}
    service.reset()
    assert service.figures()["start_ms"] == []


@pytest.mark.integration
def test_the_figures_of_a_small_load_with_tools_are_whole() -> None:
    (figures,) = asyncio.run(
        run_tools(
            calls=2, seconds=2.5, frame_ms=20, progress=lambda _: None, cases=("all of them",)
        )
    )
    assert figures.asked >= 4
    assert figures.done >= 1
    assert figures.load.caller_frames_lost == figures.load.bot_frames_lost == 0
    assert figures.start_p99_ms > 0
