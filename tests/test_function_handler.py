from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from opusagent.function_handler import MAX_QUOTED_BYTES, FunctionHandler, as_text
from opusagent.models.session_state import FunctionCall, ToolStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=2)


def test_a_call_is_entered_once() -> None:
    ledger = FunctionHandler()
    assert ledger.begin("t", "look", "{}", at=NOW)
    assert not ledger.begin("t", "look", "{}", at=LATER)
    assert [call.tool_use_id for call in ledger.running] == ["t"]


def test_a_result_is_taken_once_and_only_for_a_known_call() -> None:
    ledger = FunctionHandler()
    ledger.begin("t", "look", "{}", at=NOW)
    assert not ledger.finish("u", {}, at=LATER)
    assert ledger.finish("t", {"n": 1}, at=LATER)
    assert not ledger.finish("t", {"n": 2}, at=LATER)
    (call,) = ledger.get_function_call_history()
    assert (call.status, call.result, call.ended_at) == (ToolStatus.DONE, {"n": 1}, LATER)
    assert ledger.running == []


def test_an_error_is_a_failed_call() -> None:
    ledger = FunctionHandler()
    ledger.begin("t", "look", "{}", at=NOW)
    ledger.finish("t", {"error": "no"}, at=LATER)
    assert ledger.get_function_call_history()[0].status is ToolStatus.FAILED


def test_a_stored_ledger_is_taken_up() -> None:
    ledger = FunctionHandler()
    ledger.begin("old", "look", "{}", at=NOW)
    stored = FunctionCall(tool_use_id="t", name="look", arguments="{}", started_at=NOW)
    ledger.restore_function_calls([stored, {**stored.model_dump(), "tool_use_id": "u"}])
    assert [call.tool_use_id for call in ledger.get_function_call_history()] == ["t", "u"]
    assert not ledger.begin("t", "look", "{}", at=NOW)
    ledger.clear_function_call_history()
    assert ledger.get_function_call_history() == []


def test_the_name_of_a_call_stands_word_for_word_in_its_line() -> None:
    ledger = FunctionHandler()
    ledger.begin("t", "look_up", '{"id": 1}', at=NOW)
    (call,) = ledger.get_function_call_history()
    assert as_text(call) == '[called look_up with {"id": 1}; no result yet]'
    ledger.finish("t", {"status": "gut"}, at=LATER)
    (call,) = ledger.get_function_call_history()
    assert as_text(call) == '[called look_up with {"id": 1}; result: {"status": "gut"}]'


@given(st.text(), st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_a_line_is_never_long_and_always_readable(
    arguments: str, result: dict[str, JsonValue]
) -> None:
    ledger = FunctionHandler()
    ledger.begin("t", "look", arguments * 500, at=NOW)
    ledger.finish("t", result, at=LATER)
    line = as_text(ledger.get_function_call_history()[0])
    assert len(line.encode()) < 2 * MAX_QUOTED_BYTES + 200
    if len(json.dumps(result, ensure_ascii=False).encode()) <= MAX_QUOTED_BYTES:
        assert json.dumps(result, ensure_ascii=False) in line
