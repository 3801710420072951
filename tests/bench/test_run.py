import asyncio

import pytest

from opusagent.bench.report import show
from opusagent.bench.run import as_rows, run_bench


@pytest.mark.integration
def test_the_figures_of_a_small_load_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    figures = asyncio.run(run_bench([2], seconds=1.0, frame_ms=20, progress=lambda _: None))
    show(figures)
    (row,) = as_rows(figures)
    assert row["caller_frames_sent"] == 100
    assert row["caller_frames_lost"] == row["bot_frames_lost"] == 0
    assert row["caller_frames_doubled"] == row["bot_frames_doubled"] == 0
    assert row["caller_frames_disordered"] == row["bot_frames_disordered"] == 0
    assert row["bot_frames_arrived"] > 0
    assert 0 < row["anonymous_memory_mb"] < row["memory_mb"]
    assert "20 ms" in capsys.readouterr().out
