"""Demos with tools: what was run, what is secret, how the call ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opusagent.demo.promises import broken_promises
from opusagent.demo.report import write_files
from opusagent.demo.result import DemoResult
from opusagent.demo.run import run_demo
from opusagent.demo.script import complaints
from opusagent.demo.tool_runs import ToolRun, tools_in
from opusagent.models.session_state import ConversationItem, Role, Turn
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.scenario import load_scenario
from opusagent.simulators.stream_report import Spoken, StreamReport
from opusagent.simulators.verdict import Verdict

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

SCENARIO = """
name = "secret"
description = "Keys that are collected, and a transfer."
end = "transferred"
[[phrase]]
id = "hello"
text = "Hello."
answer = ["Your PIN."]
[[step]]
do = "dtmf"
digits = "4711"
collected = true
secret = true
"""


def line(event: str, at_s: float, **fields: object) -> dict[str, object]:
    return {"event": event, "at_s": at_s, **fields}


def test_a_tool_and_its_result_are_one_run() -> None:
    log = [
        line("tool requested", 1.0, name="a"),
        line("tool requested", 2.0, name="b"),
        line("tool finished", 2.5, name="b", failed=True),
        line("tool requested", 3.0, name="a"),
        line("tool finished", 4.0, name="a", failed=False),
    ]
    assert tools_in(log) == [
        ToolRun(name="a", at_s=1.0, seconds=3.0),
        ToolRun(name="b", at_s=2.0, seconds=0.5, failed=True),
        ToolRun(name="a", at_s=3.0),
    ]


def test_the_tool_that_gets_the_keys_stands_with_the_one_that_collected_them() -> None:
    log = [
        line("tool requested", 1.0, name="collect_digits"),
        line("tool finished", 4.0, name="check_pin", failed=False),
    ]
    assert tools_in(log) == [ToolRun(name="collect_digits, check_pin", at_s=1.0, seconds=3.0)]


@pytest.fixture
def result(tmp_path: Path) -> DemoResult:
    """A call in which every promise was kept."""
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    moment = BEGAN + timedelta(seconds=1)
    stream = StreamReport(
        stream=1, model_id="any", asked_at=BEGAN, head_at=BEGAN, ended_at=moment, closed_at=moment
    )
    return DemoResult(
        scenario=load_scenario(path),
        record=CallRecord(began_at=0.0, ended_at=9.0, end_reason="transferred"),
        verdict=Verdict(()),
        transcript=[],
        heard=[],
        at_phone=[],
        streams=[stream],
        switches=[],
        log=[line("dtmf", 1.0, count=4)],
        began=BEGAN,
    )


def told(result: DemoResult, **fields: object) -> None:
    result.streams = [result.streams[0].model_copy(update=fields)]


def test_a_call_with_secret_keys_that_stand_nowhere_breaks_no_promise(result: DemoResult) -> None:
    assert broken_promises(result) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda r: r.transcript.append(ConversationItem(type="output", text="It is 4711.")),
            "stand in the transcript",
        ),
        (
            lambda r: told(r, history=(Turn(role=Role.USER, text="keys: 4 7 1 1"),)),
            "stand in the history of a stream",
        ),
        (
            lambda r: told(r, typed=(Spoken(at=BEGAN, text="keys: 4 7 1 1"),)),
            "stand in what was typed to the model",
        ),
        (
            lambda r: told(r, tool_results=(Spoken(at=BEGAN, text='collect {"digits": "4711"}'),)),
            "stand in the result of a tool",
        ),
        (lambda r: r.log.append({"event": "dtmf", "pii.digits": "4711"}), "stand in the log"),
        (
            lambda r: setattr(r, "record", replace(r.record, end_reason="client-disconnected")),
            "ended with 'client-disconnected', not with 'transferred'",
        ),
    ],
)
def test_a_promise_is_broken_by_what_it_is_about(
    result: DemoResult, spoil: Callable[[DemoResult], object], words: str
) -> None:
    spoil(result)
    assert words in " ".join(broken_promises(result))


def test_a_tool_without_a_result_breaks_a_promise_unless_the_call_was_over(
    result: DemoResult,
) -> None:
    result.tools = [ToolRun(name="find", at_s=1.0)]
    assert broken_promises(result) == []
    result.scenario = result.scenario.model_copy(update={"end": "caller"})
    assert "find, asked for at 1.0 s, had no result" in broken_promises(result)


def test_longer_numbers_are_not_the_secret(result: DemoResult) -> None:
    result.log.append({"event": "other", "pii.number": "+15547110001"})
    assert result.secrets_in == []


def test_keys_that_a_tool_collects_are_no_turn_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    steps = (
        '[[step]]\ndo = "say"\nphrase = "hello"\n[[step]]\ndo = "wait"\n'
        '[[step]]\ndo = "dtmf"\ndigits = "12"\ncollected = true\n'
        '[[step]]\ndo = "wait"\nanswer_contains = ["thank you"]\n'
    )
    path.write_text(SCENARIO.split("[[step]]", maxsplit=1)[0] + steps)
    said = [
        ConversationItem(type="input", text="Hello."),
        ConversationItem(type="output", text="Your PIN."),
        ConversationItem(type="output", text="Thank you."),
    ]
    assert complaints(load_scenario(path), said) == []
    assert complaints(load_scenario(path), said[:2]) != []


@pytest.mark.integration
def test_the_bank_keeps_every_promise(tmp_path: Path) -> None:
    result = asyncio.run(run_demo("tools", say=lambda _: None))
    assert result.broken == []
    assert [run.name for run in result.tools] == [
        "collect_digits, find_customer",
        "collect_digits, check_pin",
        "get_balance",
        "list_payments",
        "find_payment",
        "transfer_call",
    ]
    (switch,) = result.switches
    slow = next(run for run in result.tools if run.name == "find_payment")
    assert slow.seconds is not None
    assert slow.at_s < switch.at_s < slow.at_s + slow.seconds
    assert "find_payment, called before, has returned" in result.streams[1].typed[-1].text
    assert result.has_secrets
    _, transcript, picture = write_files(result, tmp_path)
    figures = json.loads(transcript.read_text())["figures"]
    assert (figures["ok"], figures["ended"], figures["secrets_in"]) == (True, "transferred", [])
    assert "tool asked for" in picture.read_text()


@pytest.mark.integration
def test_the_restaurant_keeps_every_promise() -> None:
    result = asyncio.run(run_demo("restaurant", say=lambda _: None))
    assert result.broken == []
    assert [run.name for run in result.tools] == ["find_table", "book_table", "hang_up"]
    assert result.record.end_reason == "bot-disconnected"
