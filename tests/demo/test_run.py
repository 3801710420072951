from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from opusagent.demo.report import write_files
from opusagent.demo.run import run_demo

SHORT = """
name = "basic"
description = "Named like a shipped one, and another."
[[typed]]
pattern = "greet"
answer = ["Short bank."]
[[phrase]]
id = "hello"
text = "Hello there."
answer = ["Hello to you."]
[[step]]
do = "wait"
answer_contains = ["short bank"]
[[step]]
do = "say"
phrase = "hello"
[[step]]
do = "wait"
answer_contains = ["hello to you"]
[[step]]
do = "hang_up"
"""


@pytest.mark.integration
def test_a_scenario_of_ones_own_is_played_whatever_is_set_for_the_real_bridge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SHORT)
    monkeypatch.setenv("BRIDGE_TOKEN", "secret")
    monkeypatch.setenv("SESSION_MAX_CONCURRENT", "none")
    result = asyncio.run(run_demo(str(path), say=lambda _: None))
    assert result.broken == []
    (stream,) = result.streams
    assert (stream.cut, stream.replayed_s) == ("", 0.0)
    assert [text.text for text in stream.heard] == ["Hello there."]
    _, transcript, picture = write_files(result, tmp_path / "files")
    assert json.loads(transcript.read_text())["figures"]["ok"] is True
    assert "<title>stream 1 (0." in picture.read_text()
