from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from opusagent.hooks.events import (
    CallEnded,
    CallResumed,
    CallStarted,
    Event,
    FunctionCalled,
    StreamSwitched,
    TurnSpoken,
    redacted,
)
from opusagent.models.session_state import ToolStatus
from tests.call.driver import EPOCH

COMMON: dict[str, Any] = {
    "id": "1",
    "at": EPOCH,
    "conversation_id": "c",
    "agent": "bank",
    "tenant": "",
}
STARTED = CallStarted(**COMMON, bot_name="b", caller="+1555", called="+4930")
TURN = TurnSpoken(**COMMON, role="caller", text="my PIN is 4711", interrupted=False)
CALLED = FunctionCalled(
    **COMMON,
    tool_use_id="t",
    name="look",
    status=ToolStatus.DONE,
    arguments='{"pin": "4711"}',
    result={"owner": "4711"},
    started_at=EPOCH,
    ended_at=EPOCH,
)
ENDED = CallEnded(
    **COMMON,
    ended_by="bot",
    reason="she said 4711",
    resumable=False,
    seconds=1.5,
    caller_turns=1,
    bot_turns=2,
    function_calls=3,
    stream_switches=4,
    resumed_count=5,
)
ALL: list[Event] = [
    STARTED,
    TURN,
    CALLED,
    ENDED,
    CallResumed(**COMMON, resumed_count=1),
    StreamSwitched(**COMMON, reason="quiet"),
]


@pytest.mark.parametrize("event", ALL, ids=lambda event: str(event.type))
def test_nothing_that_was_said_and_no_number_is_told_unless_it_is_asked_for(event: Event) -> None:
    assert redacted(event, text=True, numbers=True) == event
    hidden = redacted(event, text=False, numbers=False).model_dump_json()
    assert "4711" not in hidden
    assert "555" not in hidden
    assert "4930" not in hidden
    assert set(json.loads(hidden)) == set(json.loads(event.model_dump_json()))


def test_texts_and_numbers_are_told_apart() -> None:
    assert redacted(STARTED, text=True, numbers=False) != STARTED
    assert redacted(STARTED, text=False, numbers=True) == STARTED
    assert redacted(TURN, text=True, numbers=False) == TURN
    assert redacted(TURN, text=False, numbers=True) != TURN


def test_the_json_is_as_receivers_know_it() -> None:
    assert json.loads(TURN.model_dump_json()) == {
        "id": "1",
        "version": 1,
        "at": "2026-01-01T00:00:00Z",
        "conversation_id": "c",
        "agent": "bank",
        "tenant": "",
        "type": "turn",
        "role": "caller",
        "text": "my PIN is 4711",
        "interrupted": False,
    }


@pytest.mark.parametrize("event", ALL, ids=lambda event: str(event.type))
def test_an_event_survives_the_wire(event: Event) -> None:
    adapter = TypeAdapter[Event](Event)
    assert adapter.validate_json(event.model_dump_json()) == event
