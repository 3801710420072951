from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from opusagent.audiocodes.activities import names_caller, read_activity, write_event
from opusagent.audiocodes.events import (
    ActivityReceived,
    BrokenActivity,
    CallStarted,
    DtmfPressed,
    HangupHint,
    NoUserInput,
    PlayFinished,
    TransferStatus,
)
from opusagent.audiocodes.messages import Activity, BotActivity


def event(name: str, value: JsonValue = None, **parameters: JsonValue) -> Activity:
    return Activity(type="event", name=name, value=value, parameters=parameters or None)


def test_a_start_tells_who_calls_whom_and_every_parameter() -> None:
    activity = event("start", caller="+1555", callee="LiveHub", locale="any-CI", myHeader="x")
    assert read_activity(activity, caller="anonymous") == CallStarted(
        {"caller": "+1555", "callee": "LiveHub", "locale": "any-CI", "myHeader": "x"},
        caller="+1555",
        callee="LiveHub",
    )


@pytest.mark.parametrize("parameters", [{}, {"caller": None}, {"caller": 5, "callee": {}}])
def test_a_start_without_caller_and_callee_falls_back_on_the_initiate(
    parameters: dict[str, JsonValue],
) -> None:
    started = read_activity(event("start", **parameters), caller="anonymous")
    assert isinstance(started, CallStarted)
    assert (started.caller, started.callee) == ("anonymous", "")


def test_metadata_of_an_outbound_call_may_be_an_object_or_a_string() -> None:
    both: list[JsonValue] = [{"a": 1}, "a=1"]
    for metadata in both:
        started = read_activity(event("start", dialoutMetadata=metadata), caller="")
        assert isinstance(started, CallStarted)
        assert started.parameters["dialoutMetadata"] == metadata


@pytest.mark.parametrize("spelling", ["DTMF", "dtmf", "Dtmf", "DTMFDigits"])
def test_dtmf_is_read_in_every_spelling(spelling: str) -> None:
    assert read_activity(event(spelling, "5"), caller="") == DtmfPressed("5")


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        ("123#", "123#"),
        ("*", "*"),
        (" 0 ", "0"),
        ("1 2\t3", "123"),
        ("aD", "aD"),
        (7, "7"),
        (5.0, "5"),
        (["5"], "5"),
        (["1", 2, 3.0, "#"], "123#"),
    ],
)
def test_dtmf_may_be_one_key_or_several(value: JsonValue, digits: str) -> None:
    assert read_activity(event("DTMF", value), caller="") == DtmfPressed(digits)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "five",
        True,
        [],
        {},
        1.5,
        -1,
        1e300,
        float("inf"),
        "1" * 65,
        ["5", None],
        ["5", {}],
    ],
)
def test_dtmf_without_keys_is_broken(value: JsonValue) -> None:
    assert read_activity(event("dtmf", value), caller="") == BrokenActivity("DTMF without digits")


def test_what_could_not_be_read_stays_broken() -> None:
    broken = BrokenActivity("activities.name: string_type")
    assert read_activity(broken, caller="") == broken


@pytest.mark.parametrize(
    ("value", "count"), [(1, 1), (3, 3), ("2", 2), (2.0, 2), (None, 1), (True, 1), ({}, 1)]
)
def test_no_user_input_counts_however_the_number_is_written(value: JsonValue, count: int) -> None:
    assert read_activity(event("noUserInput", value), caller="") == NoUserInput(count)


@pytest.mark.parametrize(
    ("value", "finished"),
    [
        ({"playedDurationMS": 3384, "status": "finished"}, PlayFinished(3384, "finished")),
        ({"playedDurationMS": "12.5", "status": "x"}, PlayFinished(None, "x")),
        ({"playedDurationMS": 12.7}, PlayFinished(13, "")),
        ({"playedDurationMS": float("inf")}, PlayFinished(None, "")),
        ({"status": None}, PlayFinished(None, "")),
        (None, PlayFinished(None, "")),
        ("finished", PlayFinished(None, "")),
    ],
)
def test_play_finished_gives_what_it_knows(value: JsonValue, finished: PlayFinished) -> None:
    assert read_activity(event("playFinished", value), caller="") == finished


def test_a_transfer_status_gives_status_and_reasons() -> None:
    value: JsonValue = {"status": "failed", "reasonCode": "busy", "reason": "Busy Here"}
    assert read_activity(event("transferStatus", value), caller="") == TransferStatus(
        "failed", "Busy Here", "busy"
    )
    assert read_activity(event("transferStatus"), caller="") == TransferStatus("", "", "")


def test_a_hangup_event_is_a_hint() -> None:
    assert read_activity(event("hangup"), caller="") == HangupHint()


@pytest.mark.parametrize("activity_type", ["event", "Event", "EVENT"])
def test_the_kind_of_an_activity_is_read_in_any_case(activity_type: str) -> None:
    activity = Activity(type=activity_type, name="NOUSERINPUT", value=1)
    assert read_activity(activity, caller="") == NoUserInput(1)


@pytest.mark.parametrize(
    "name",
    [
        "playUrlFailed",
        "conversationEnd",
        "dialoutInitiated",
        "agentConnected",
        "silenceDetected",
        "voiceDetected",
        "speechHypothesis",
        "speakerVerificationVerifyResult",
        "somethingNew",
        "",
    ],
)
def test_any_other_event_is_passed_on_as_it_came(name: str) -> None:
    assert read_activity(event(name, {"a": None}, p=1), caller="") == ActivityReceived(
        name, {"a": None}, {"p": 1}
    )


def test_a_text_message_is_an_activity_with_its_text() -> None:
    activity = Activity(type="message", text="hello", parameters={"participant": "agent"})
    assert read_activity(activity, caller="") == ActivityReceived(
        "message", "hello", {"participant": "agent"}
    )


@pytest.mark.parametrize(
    ("participants", "named"),
    [
        ([{"participant": "agent"}, {"participant": "caller"}], True),
        ([{"participant": "agent"}, "caller", None], False),
        ([], False),
        ("caller", False),
        (None, False),
    ],
)
def test_the_caller_is_found_among_the_participants(
    participants: JsonValue, *, named: bool
) -> None:
    started = CallStarted({"participants": participants}, caller="", callee="")
    assert names_caller(started) is named


def test_an_event_is_written_with_its_id_and_the_time_in_utc() -> None:
    now = datetime(2025, 12, 18, 20, 1, 41, 668_999, tzinfo=timezone(timedelta(hours=2)))
    assert write_event("transfer", activity_id="a-1", now=now, value=None) == BotActivity(
        type="event", name="transfer", id="a-1", timestamp="2025-12-18T18:01:41.668Z"
    )


@given(
    st.sampled_from(["start", "dtmf", "noUserInput", "playFinished", "transferStatus", "hangup"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["status", "reason", "playedDurationMS", "caller"]), inner
            )
        ),
        max_leaves=8,
    ),
)
def test_no_value_of_an_activity_can_do_worse_than_be_broken(name: str, value: JsonValue) -> None:
    parameters = value if isinstance(value, dict) else {}
    read = read_activity(event(name, value, **parameters), caller="")
    if isinstance(read, BrokenActivity):
        assert read.got == "DTMF without digits"
