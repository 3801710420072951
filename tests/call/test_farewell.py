"""Whether the bot had said goodbye; how a goodbye is waited for is in `test_call.py` and `test_telephone.py`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opusagent.call.farewell import said_goodbye
from opusagent.call.functions import GOODBYE_TO_COME
from opusagent.models.session_state import (
    ConversationItem,
    FunctionCall,
    SessionState,
    ToolStatus,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def bot(second: int, **more: Any) -> ConversationItem:
    return ConversationItem(type="output", text="Goodbye!", at=at(second), **more)


def caller(second: int) -> ConversationItem:
    return ConversationItem(type="input", text="Bye.", at=at(second))


def hang_up(second: int = 10, **more: Any) -> FunctionCall:
    fields = {
        "tool_use_id": f"t-{second}",
        "name": "hang_up",
        "arguments": '{"reason": "all said"}',
        "started_at": at(second),
    }
    return FunctionCall.model_validate(fields | more)


def asked_for_it(**more: Any) -> FunctionCall:
    """A `hang_up` that came before the goodbye."""
    return hang_up(status=ToolStatus.DONE, result=dict(GOODBYE_TO_COME), **more)


def left(items: list[ConversationItem], *calls: FunctionCall) -> SessionState:
    state = SessionState(
        conversation_id="c",
        created_at=NOON,
        last_activity=NOON,
        conversation_history=items,
        function_calls=list(calls),
    )
    return SessionState.from_dict(state.to_dict())


@pytest.mark.parametrize(
    ("items", "call"),
    [
        ([caller(1), bot(9)], hang_up()),
        ([caller(1), bot(9), bot(11)], hang_up()),
        ([caller(1), bot(9)], hang_up(status=ToolStatus.DONE, result={"status": "x"})),
        ([caller(1), bot(11)], asked_for_it()),
        ([caller(1), bot(9, interrupted=True), bot(11)], asked_for_it()),
    ],
)
def test_it_had_if_nothing_came_after_it(items: list[ConversationItem], call: FunctionCall) -> None:
    assert said_goodbye(left(items, call)) == "all said"


@pytest.mark.parametrize(
    ("items", "calls"),
    [
        ([caller(1), bot(9)], []),
        ([caller(1), bot(9)], [hang_up(name="lookup")]),
        ([caller(1), bot(9)], [hang_up(), hang_up(12, name="lookup")]),
        ([caller(1), bot(9, interrupted=True)], [hang_up(status=ToolStatus.FAILED)]),
        ([caller(1), bot(9), caller(11)], [hang_up()]),
        ([caller(1), bot(9)], [asked_for_it()]),
        ([caller(1), caller(11)], [asked_for_it()]),
        ([caller(1), bot(11, interrupted=True)], [asked_for_it()]),
    ],
)
def test_it_had_not_if_there_is_more_to_say(
    items: list[ConversationItem], calls: list[FunctionCall]
) -> None:
    assert said_goodbye(left(items, *calls)) is None


def test_a_reason_that_cannot_be_read_is_none_to_go_on() -> None:
    assert said_goodbye(left([bot(9)], hang_up(arguments="junk"))) == ""
