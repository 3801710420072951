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
    StateDump,
    StreamSwitch,
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
    tenant=_text,
    agent=st.dictionaries(_text, _json, max_size=2),
    current_turn=st.integers(0, 9),
    stream_switches=st.lists(st.builds(StreamSwitch, at=_times, reason=_text), max_size=2),
    variables=st.dictionaries(_text, _json, max_size=3),
    audio_buffer=st.lists(st.binary(max_size=9), max_size=3),
    audio_metadata=st.dictionaries(_text, _json, max_size=2),
    error_count=st.integers(0, 9),
    last_error=st.none() | _text,
    metadata=st.dictionaries(_text, _json, max_size=2),
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


@given(_states, st.lists(st.tuples(st.lists(_items, max_size=2), st.lists(_calls, max_size=2))))
def test_states_that_follow_one_another_are_dumped_as_each_would_be(
    state: SessionState, more: list[tuple[list[ConversationItem], list[FunctionCall]]]
) -> None:
    dump = StateDump()
    assert dump.of(state) == state.to_dict()
    for turns, calls in more:
        state = state.model_copy(
            update={
                "conversation_history": [*state.conversation_history[1:], *turns],
                "function_calls": [*state.function_calls[1:], *calls],
            }
        )
        assert dump.of(state) == state.to_dict()


def test_a_turn_that_two_states_have_is_dumped_once() -> None:
    turn = ConversationItem(type="input", text="Hello.")
    state, dump = new(conversation_history=[turn]), StateDump()
    (first,) = dump.of(state)["conversation_history"]
    more = ConversationItem(type="output", text="Good morning.")
    second, _ = dump.of(new(conversation_history=[turn, more]))["conversation_history"]
    assert first is second


def test_a_function_call_that_two_states_have_is_dumped_once() -> None:
    call = FunctionCall(tool_use_id="t", name="look", arguments="{}", started_at=NOW)
    dump = StateDump()
    (first,), (second,) = (dump.of(new(function_calls=[call]))["function_calls"] for _ in range(2))
    assert first is second


def test_what_states_share_cannot_be_changed() -> None:
    call = FunctionCall(tool_use_id="t", name="look", arguments="{}", started_at=NOW)
    turn = ConversationItem(type="input", text="Hello.")
    for item in (call, turn):
        with pytest.raises(ValidationError):
            setattr(item, "at", NOW)  # noqa: B010 - mypy knows that it cannot be set


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


def test_the_defaults_are_the_published_ones() -> None:
    assert new().model_dump(exclude={"created_at", "last_activity"}) == {
        "conversation_id": "c",
        "session_id": None,
        "bridge_type": "audiocodes",
        "tenant": "",
        "bot_name": "voice-bot",
        "caller": "unknown",
        "media_format": "raw/lpcm16",
        "play_format": "raw/lpcm16_24",
        "agent": {},
        "status": SessionStatus.INITIATED,
        "resumed_count": 0,
        "owner": "",
        "owner_epoch": 0,
        "conversation_history": [],
        "current_turn": 0,
        "function_calls": [],
        "stream_switches": [],
        "variables": {},
        "audio_buffer": [],
        "audio_metadata": {},
        "error_count": 0,
        "last_error": None,
        "metadata": {},
        "schema_version": 1,
    }


def test_a_session_of_the_published_shape_is_read_with_what_belongs_to_other_vendors() -> None:
    data: dict[str, JsonValue] = {
        "conversation_id": "c",
        "created_at": "2026-01-01T10:00:00",
        "last_activity": "2026-01-01T11:00:00+02:00",
        "status": "paused",
        "conversation_history": [{"type": "input", "text": "hello"}],
        "function_calls": [],
        "audio_buffer": ["00ff", ""],
        "openai_session_id": "theirs",
        "active_response_id": None,
    }
    state = SessionState.from_dict(data)
    assert state.created_at == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert state.last_activity == datetime(2026, 1, 1, 9, tzinfo=UTC)
    assert state.audio_buffer == [b"\x00\xff", b""]
    written = state.to_dict()
    assert written["audio_buffer"] == ["00ff", ""]
    assert written["openai_session_id"] == "theirs"
    assert "openai_session_id" not in SessionState.model_fields


def test_a_time_without_a_zone_gets_one_when_it_is_set() -> None:
    state = new()
    state.last_activity = datetime(2026, 1, 1, 12)  # noqa: DTZ001  that is the case
    assert state.last_activity.tzinfo is UTC


def test_activity_and_resumes_are_noted() -> None:
    state = new()
    state.update_activity(NOW + timedelta(seconds=5))
    state.increment_resume_count()
    state.increment_resume_count()
    assert state.last_activity == NOW + timedelta(seconds=5)
    assert state.resumed_count == 2


@pytest.mark.parametrize("field", ["resumed_count", "owner_epoch", "current_turn", "error_count"])
def test_no_count_is_negative(field: str) -> None:
    with pytest.raises(ValidationError):
        new(**{field: -1})
