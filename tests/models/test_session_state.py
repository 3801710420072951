from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from opusagent.models.session_state import (
    ConversationItem,
    FunctionCall,
    SessionState,
    SessionStatus,
    ToolStatus,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_times = st.integers(0, 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds))
_text = st.text(st.characters(codec="utf-8"), max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
)
_items = st.builds(
    ConversationItem,
    type=st.sampled_from(["input", "output"]),
    text=_text,
    at=st.none() | _times,
    interrupted=st.booleans(),
)
_calls = st.builds(
    FunctionCall,
    tool_use_id=_text,
    name=_text,
    arguments=_text,
    status=st.sampled_from(ToolStatus),
    result=st.none() | st.dictionaries(_text, _json, max_size=3),
    started_at=_times,
    ended_at=st.none() | _times,
)
_states = st.builds(
    SessionState,
    conversation_id=_text,
    session_id=st.none() | _text,
    status=st.sampled_from(SessionStatus),
    created_at=_times,
    last_activity=_times,
    resumed_count=st.integers(0, 9),
    owner_epoch=st.integers(0, 9),
    conversation_history=st.lists(_items, max_size=4),
    function_calls=st.lists(_calls, max_size=3),
)


def new(**fields: object) -> SessionState:
    return SessionState.model_validate(
        {"conversation_id": "c", "created_at": NOW, "last_activity": NOW, **fields}
    )


@given(_states)
def test_a_state_survives_storage(state: SessionState) -> None:
    assert SessionState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


def test_fields_of_others_are_kept() -> None:
    data: dict[str, JsonValue] = {**new().to_dict(), "theirs": {"a": [1]}}
    assert SessionState.from_dict(data).to_dict()["theirs"] == {"a": [1]}


def test_another_version_of_the_schema_is_refused() -> None:
    with pytest.raises(ValidationError):
        SessionState.from_dict({**new().to_dict(), "schema_version": 2})


def test_a_wrong_value_is_refused_when_it_is_set() -> None:
    state = new()
    with pytest.raises(ValidationError):
        state.status = "asleep"  # type: ignore[assignment]


@pytest.mark.parametrize("status", SessionStatus)
def test_a_conversation_that_has_ended_is_not_resumed(status: SessionStatus) -> None:
    ended = status in (SessionStatus.ENDED, SessionStatus.ERROR)
    assert new(status=status).can_resume(NOW) is not ended


def test_a_conversation_expires_by_its_last_activity() -> None:
    state = new(created_at=NOW - timedelta(days=1))
    assert state.can_resume(NOW + timedelta(minutes=59))
    assert not state.can_resume(NOW + timedelta(minutes=61))
    assert state.is_expired(NOW + timedelta(seconds=11), max_age_seconds=10)


def test_an_age_does_not_depend_on_the_zone_of_the_clock() -> None:
    local = NOW.astimezone()
    assert not new().is_expired(local + timedelta(seconds=9), max_age_seconds=10)
