from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from opusagent.demo.report import show, write_files
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


@pytest.mark.integration
def test_the_rest_of_a_sentence_comes_on_the_next_websocket(tmp_path: Path) -> None:
    result = asyncio.run(run_demo("reconnect", say=lambda _: None))
    assert result.broken == []
    (comeback,) = result.comebacks
    assert comeback.what == "socket cut"
    assert len(result.streams) == 1
    (broken_off,) = [i for i, span in enumerate(result.record.played) if span.lost_at is not None]
    begun, rest = result.words_at_phone[broken_off : broken_off + 2]
    assert begun.startswith("Account four five two seven is open.")
    assert begun.endswith(" …")
    assert rest.startswith("… ")
    assert rest.endswith("nine dollars.")
    _, transcript, picture = write_files(result, tmp_path)
    figures = json.loads(transcript.read_text())["figures"]
    assert (figures["turns_lost"], len(figures["comebacks"])) == (0, 1)
    assert ">socket cut</text>" in picture.read_text()
    assert ">resume</text>" in picture.read_text()


@pytest.mark.integration
def test_another_bridge_goes_on_with_what_the_killed_one_stored(tmp_path: Path) -> None:
    told: list[str] = []
    result = asyncio.run(run_demo("failover", say=told.append))
    assert result.broken == []
    assert any("bridge 2 goes on with the call (other process)" in line for line in told)
    (comeback,) = result.comebacks
    assert comeback.what == "bridge 1 killed"
    before, after = result.streams
    assert comeback.stream == after.stream
    assert "My name is Alice Miller." in {turn.text for turn in after.history}
    assert "My name is Alice Miller." not in {one.text for one in after.heard}
    assert "Alice Miller" in result.transcript[-1].text
    assert [result.bridge_of(one) for one in (before, after)] == [1, 2]
    _, _, picture = write_files(result, tmp_path)
    drawn = picture.read_text()
    for shown in ("kill -9 of bridge 1", "resume on bridge 2", "1, bridge 1", "stream cut"):
        assert f">{shown}</text>" in drawn
    printed = io.StringIO()
    show(result, [], Console(width=80, file=printed))
    assert "turns that stream 2 was told" in printed.getvalue()
    assert "every promise kept" in printed.getvalue()


@pytest.mark.integration
def test_a_caller_cannot_tell_that_her_call_went_over_five_streams(tmp_path: Path) -> None:
    told: list[str] = []
    result = asyncio.run(run_demo("long-call", say=told.append))
    assert result.broken == []
    assert sum("takes over" in line for line in told) == 4
    silent, cut, forced, complete = result.switches
    assert (silent.replayed_ms, complete.replayed_ms) == (0, 0)
    assert 500 < cut.replayed_ms < 2_500
    assert 3_000 < forced.replayed_ms < 8_500
    assert "Do you still know my name?" in {one.text for one in result.streams[-1].heard}
    assert "Alice Miller" in result.transcript[-1].text
    _, transcript, picture = write_files(result, tmp_path)
    assert len(json.loads(transcript.read_text())["figures"]["switches"]) == 4
    drawn = picture.read_text()
    for shown in ("stream switch deadline", "standby", "replayed to it", "stream cut"):
        assert f">{shown}</text>" in drawn
    printed = io.StringIO()
    show(result, [], Console(width=80, file=printed))
    assert "turn_complete" in printed.getvalue()
    assert "every promise kept" in printed.getvalue()
