"""What applications are told, made of what is stored."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.hooks.events import (
    CallEnded,
    CallResumed,
    CallStarted,
    Event,
    FunctionCalled,
    StreamSwitched,
    TurnSpoken,
)
from opusagent.hooks.story import events_between
from opusagent.models.session_state import (
    ConversationItem,
    FunctionCall,
    SessionState,
    SessionStatus,
    StreamSwitch,
    ToolStatus,
)
from tests.call.driver import EPOCH


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def state(**fields: Any) -> SessionState:
    plain = {
        "conversation_id": "c",
        "caller": "+1555",
        "bot_name": "bank",
        "status": SessionStatus.ACTIVE,
        "created_at": EPOCH,
        "last_activity": at(60),
        "metadata": {"agent": "bank", "start": {"callee": "+4930"}},
    }
    return SessionState.model_validate(plain | fields)


def said(who: str, seconds: float, text: str = "x", **more: Any) -> ConversationItem:
    return ConversationItem.model_validate(
        {"type": "input" if who == "caller" else "output", "text": text, "at": at(seconds), **more}
    )


def kinds(events: list[Event]) -> list[str]:
    return [event.type for event in events]


def test_a_call_has_started_once_it_is_known_who_was_called() -> None:
    asked = state(status=SessionStatus.INITIATED, metadata={"agent": "bank"})
    accepted = state(metadata={"agent": "bank"})
    assert events_between(None, asked) == []
    assert events_between(asked, accepted) == []
    (event,) = events_between(accepted, state(), tenant="acme")
    assert isinstance(event, CallStarted)
    assert (event.caller, event.called, event.bot_name) == ("+1555", "+4930", "bank")
    assert (event.agent, event.tenant, event.at) == ("bank", "acme", EPOCH)
    assert events_between(state(), state()) == []


def test_who_is_not_known_is_null() -> None:
    (event,) = events_between(None, state(caller="unknown", metadata={"agent": "a", "start": {}}))
    assert isinstance(event, CallStarted)
    assert event.caller is event.called is None


def test_a_call_that_was_refused_is_none() -> None:
    refused = {"agent": "bank", "ended_by": "refused"}
    assert events_between(None, state(status=SessionStatus.ERROR, metadata=refused)) == []


def test_a_turn_is_told_when_nothing_will_be_added_to_it() -> None:
    one, two = said("caller", 1, "Hello"), said("bot", 2, "Yes", interrupted=True)
    first = state(conversation_history=[one])
    assert events_between(state(), first) == []
    second = state(conversation_history=[one, two])
    (turn,) = events_between(first, second)
    assert isinstance(turn, TurnSpoken)
    assert (turn.role, turn.text, turn.interrupted) == ("caller", "Hello", False)
    longer = state(conversation_history=[one, said("bot", 2, "Yes, sir", interrupted=True)])
    assert events_between(second, longer) == []
    over = longer.model_copy(
        update={"status": SessionStatus.ENDED, "metadata": longer.metadata | {"ended_by": "caller"}}
    )
    turn, end = events_between(longer, over)
    assert isinstance(turn, TurnSpoken)
    assert (turn.role, turn.text, turn.interrupted) == ("bot", "Yes, sir", True)
    assert isinstance(end, CallEnded)


def test_a_turn_that_comes_late_between_others_is_told() -> None:
    items = [said("caller", 1), said("bot", 3), said("caller", 4)]
    before = state(conversation_history=items)
    late = state(conversation_history=[items[0], said("caller", 2, "late"), *items[1:]])
    (turn,) = events_between(before, late)
    assert isinstance(turn, TurnSpoken)
    assert turn.text == "late"


def test_a_tool_is_told_when_it_begins_and_when_it_ends() -> None:
    call = FunctionCall(tool_use_id="t", name="look", arguments="{}", started_at=at(1))
    running = state(function_calls=[call])
    (begun,) = events_between(state(), running)
    assert isinstance(begun, FunctionCalled)
    assert (begun.status, begun.result, begun.ended_at) == (ToolStatus.RUNNING, None, None)
    done = call.model_copy(
        update={"status": ToolStatus.FAILED, "result": {"error": "x"}, "ended_at": at(2)}
    )
    (ended,) = events_between(running, state(function_calls=[done]))
    assert isinstance(ended, FunctionCalled)
    assert (ended.status, ended.result, ended.at) == (ToolStatus.FAILED, {"error": "x"}, at(2))
    both = events_between(state(), state(function_calls=[done]))  # stored but once
    assert [event.id for event in both] == [begun.id, ended.id]
    assert both[0] == begun


def test_a_change_of_stream_and_a_caller_who_comes_back_are_told() -> None:
    switched = state(stream_switches=[StreamSwitch(at=at(5), reason="quiet")])
    (event,) = events_between(state(), switched)
    assert isinstance(event, StreamSwitched)
    assert event.reason == "quiet"
    (event,) = events_between(state(), state(resumed_count=1))
    assert isinstance(event, CallResumed)
    assert event.resumed_count == 1


@pytest.mark.parametrize(
    ("status", "by", "resumable"),
    [
        (SessionStatus.ENDED, "caller", False),
        (SessionStatus.ERROR, "failure", False),
        (SessionStatus.PAUSED, "socket", True),
        (SessionStatus.PAUSED, "shutdown", True),
    ],
)
def test_the_end_is_told_with_the_sum_of_the_call(
    status: SessionStatus, by: str, *, resumable: bool
) -> None:
    before = state(conversation_history=[said("caller", 1), said("bot", 2), said("bot", 3)])
    facts = before.metadata | {"ended_by": by, "end_reason": "why"}
    after = before.model_copy(update={"status": status, "metadata": facts})
    end = events_between(before, after)[-1]
    assert isinstance(end, CallEnded)
    assert (end.ended_by, end.reason, end.resumable) == (by, "why", resumable)
    assert (end.seconds, end.caller_turns, end.bot_turns) == (60.0, 1, 2)
    assert events_between(after, after) == []


def test_all_of_a_call_that_was_stored_but_once_is_told_in_order() -> None:
    after = state(
        status=SessionStatus.ENDED,
        metadata={"agent": "a", "ended_by": "caller"},
        conversation_history=[said("bot", 1), said("caller", 3)],
        function_calls=[FunctionCall(tool_use_id="t", name="n", arguments="", started_at=at(4))],
        stream_switches=[StreamSwitch(at=at(2), reason="quiet")],
    )
    expected = ["call.started", "turn", "stream.switched", "turn", "function_call", "call.ended"]
    assert kinds(events_between(None, after)) == expected


_TURNS = [said("caller" if n % 2 else "bot", n, str(n)) for n in range(8)]


@given(st.lists(st.integers(0, 8), max_size=8).map(sorted))
def test_however_often_a_call_is_stored_everything_is_told_once(sizes: list[int]) -> None:
    over = {"status": SessionStatus.ENDED, "metadata": {"agent": "a", "ended_by": "bot"}}
    stored = [None, *(state(conversation_history=_TURNS[:n]) for n in sizes)]
    stored.append(state(conversation_history=_TURNS, **over))
    told = [
        event
        for before, after in itertools.pairwise(stored)
        if after is not None
        for event in events_between(before, after)
    ]
    assert [e.text for e in told if isinstance(e, TurnSpoken)] == [t.text for t in _TURNS]
    assert len({event.id for event in told}) == len(told)
    assert kinds(told)[0] == "call.started"
    assert kinds(told)[-1] == "call.ended"
