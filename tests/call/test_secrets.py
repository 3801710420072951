"""Secret digits, wherever a model or a tool may have put them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import JsonValue

from opusagent.call.secrets import Secrets, masked
from opusagent.models.session_state import ConversationItem, FunctionCall

AT = datetime(2026, 1, 1, tzinfo=UTC)


def knowing(*entries: str) -> Secrets:
    secrets = Secrets()
    for digits in entries:
        secrets.learn(digits)
    return secrets


def test_nothing_is_shown_but_how_many_there_are() -> None:
    assert masked("4711") == "****"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is 4711.", "It is ****."),
        ("4 7 1 1, 4-7-1-1 and 4, 7, 1, 1", "****, **** and ****"),
        ("47.11", "****"),
        ("14711 and 47112", "14711 and 47112"),
        ("471 and 711", "471 and 711"),
    ],
)
def test_they_are_found_in_a_text_though_they_stand_apart(text: str, shown: str) -> None:
    assert knowing("4711").hide(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (4711, "****"),
        (-4711, "-****"),
        (4711.0, "****"),
        (47.11, "****"),
        (4711.5, "****.5"),
        ([4711, ["x", {"n": 4711}]], ["****", ["x", {"n": "****"}]]),
        ({"4711": {"pin 4711": True}}, {"****": {"pin ****": True}}),
        ([4, 7, 1, 1], ["*"] * 4),
        (["4", "7", "1", "1"], ["*"] * 4),
        ({"pressed": [9, "4", 7, 1, 1]}, {"pressed": ["*"] * 5}),
    ],
)
def test_they_are_found_in_json_as_whatever_they_are_written(
    value: JsonValue, shown: JsonValue
) -> None:
    assert knowing("4711").hide_in(value) == shown


@pytest.mark.parametrize(
    "value", [None, True, 1, 0.5, 24711, 1e300, [], [4, 7, 1], ["4", "71", "1"], {"n": [1, {}]}]
)
def test_what_is_none_of_them_stays_as_it_is(value: JsonValue) -> None:
    shown = knowing("4711").hide_in(value)
    assert shown == value
    assert type(shown) is type(value)


def test_a_number_has_lost_the_zeros_before_it() -> None:
    secrets = knowing("00471")
    assert secrets.hide_in([471, 471.0, "00471"]) == ["*****"] * 3
    assert secrets.hide_in("471 euros") == "471 euros"
    assert knowing("0012").hide_in(12) == 12


def test_a_short_one_does_not_leave_the_end_of_a_longer_one() -> None:
    assert knowing("123", "1234").hide("1 2 3 4") == "****"


def test_two_digits_are_found_in_too_much() -> None:
    assert knowing("47").hide("47") == "47"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"pin": 4711}', {"pin": "****"}),
        ('{"pin": "\\u0034711", "by": "Ann"}', {"pin": "****", "by": "Ann"}),
        ('{"pin": "4\\n7\\n1\\n1"}', {"pin": "****"}),
        ('{"pin": ["4", "7", "1", "1"]}', {"pin": ["*"] * 4}),
        (json.dumps('{"pin": 4711}'), '{"pin": ****}'),
    ],
)
def test_arguments_of_a_tool_are_json_still(arguments: str, shown: JsonValue) -> None:
    call = FunctionCall(tool_use_id="t", name="pay", arguments=arguments, started_at=AT)
    (hidden,) = knowing("4711").hide_in_calls([call])
    assert json.loads(hidden.arguments) == shown
    assert hidden.secret
    assert call.arguments == arguments  # what it is run with


@pytest.mark.parametrize("arguments", ["pin 4711", "[" * 100_000 + "4711"])
def test_arguments_that_are_no_json_are_a_text(arguments: str) -> None:
    call = FunctionCall(tool_use_id="t", name="pay", arguments=arguments, started_at=AT)
    (hidden,) = knowing("4711").hide_in_calls([call])
    assert hidden.arguments == arguments.replace("4711", "****")


def test_what_has_nothing_secret_is_as_the_model_wrote_it() -> None:
    call = FunctionCall(tool_use_id="t", name="pay", arguments='{ "n":1.0 }', started_at=AT)
    assert knowing("4711").hide_in_calls([call]) == [call]


def test_a_turn_and_a_result_are_cleaned_and_the_originals_are_not_changed() -> None:
    turn = ConversationItem(type="output", text="You said 4711.")
    call = FunctionCall(
        tool_use_id="t", name="pay", arguments="{}", result={"pin": 4711}, started_at=AT
    )
    secrets = knowing("4711")
    assert [turn.text for turn in secrets.hide_in_turns([turn])] == ["You said ****."]
    assert [call.result for call in secrets.hide_in_calls([call])] == [{"pin": "****"}]
    assert (turn.text, call.result) == ("You said 4711.", {"pin": 4711})


def test_what_was_clean_is_cleaned_again_when_another_secret_is_known() -> None:
    turns = [ConversationItem(type="output", text="You said 4711 and 815.")]
    secrets = knowing("4711")
    assert [turn.text for turn in secrets.hide_in_turns(turns)] == ["You said **** and 815."]
    secrets.learn("815")
    assert [turn.text for turn in secrets.hide_in_turns(turns)] == ["You said **** and ***."]


def test_calls_are_cleaned_again_when_another_secret_is_known() -> None:
    call = FunctionCall(
        tool_use_id="t", name="pay", arguments='{"n":815}', result={"n": 815}, started_at=AT
    )
    secrets = knowing("4711")
    assert secrets.hide_in_calls([call]) == [call]
    secrets.learn("815")
    (hidden,) = secrets.hide_in_calls([call])
    assert "815" not in hidden.model_dump_json()


def test_what_is_clean_is_the_same_thing_for_as_long_as_nothing_else_is_secret() -> None:
    turns = [ConversationItem(type="output", text="You said 4711.")]
    calls = [FunctionCall(tool_use_id="t", name="pay", arguments="4711", started_at=AT)]
    secrets = knowing("4711")
    assert secrets.hide_in_turns(turns)[0] is secrets.hide_in_turns(turns)[0]
    assert secrets.hide_in_calls(calls)[0] is secrets.hide_in_calls(calls)[0]
