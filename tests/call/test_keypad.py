"""Digits that callers enter: what the model gets of them, and where they never are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from opusagent.models.agent import Agent, Greeting
from opusagent.models.session_state import ToolSpec, ToolStatus
from opusagent.models.telephone import Dtmf, Entry, Target, TelephoneFunction, TelephoneTools
from opusagent.sonic.reader import StopReason
from tests.call.driver import LOOKUP, PLAN, CallDriver, stops
from tests.call.test_telephone import activities, ask, result

CHECK = ToolSpec(
    name="check_pin",
    description="Checks.",
    input_schema={"type": "object"},
    repeatable=True,
)
KEYPAD = TelephoneTools(type="telephone", functions=(TelephoneFunction.COLLECT_DIGITS,))
PIN = Entry(count=4, sensitive=True, tool="check_pin", argument="pin")
SECRET = "4711"


def a_call(
    dtmf: Dtmf | None = None, telephone: TelephoneTools = KEYPAD, **changes: Any
) -> CallDriver:
    agent = Agent(
        system_prompt="You answer the telephone.",
        tools=(telephone,),
        dtmf=dtmf or Dtmf(),
    )
    plan = replace(PLAN, agent=agent, tools=(LOOKUP, CHECK), resume_grace_s=30.0, **changes)
    call = CallDriver(plan=plan)
    call.answer()
    call.quiet(0.1)
    call.hears("Hello.")
    return call


def press(call: CallDriver, digits: str) -> None:
    for digit in digits:
        call.phone.dtmf(digit)
        call.flush()


def collect(call: CallDriver, **arguments: JsonValue) -> None:
    ask(call, "collect_digits", arguments)


def kept_of(call: CallDriver) -> str:
    """All that would be stored or logged of a call: states, reports, and the history of a new stream."""
    states = [json.dumps(state.to_dict()) for state in call.saves]
    reports = [f"{report.fields}{report.private}" for _, report in call.reports]
    told = [text for service in call.services.values() for _, text in service.told]
    return "\n".join([*states, *reports, *told])


# Unasked


def test_an_entry_is_complete_with_its_last_digit() -> None:
    call = a_call(Dtmf(count=3))
    press(call, "12")
    assert call.live.typed == []
    press(call, "3")
    assert call.live.typed == ["The caller pressed these keys on the telephone: 1 2 3"]


def test_an_entry_is_complete_with_its_terminator_which_is_no_part_of_it() -> None:
    call = a_call(Dtmf(terminator="#"))
    press(call, "12#")
    assert call.live.typed == ["The caller pressed these keys on the telephone: 1 2"]


def test_an_entry_is_complete_after_the_agents_own_pause() -> None:
    call = a_call(Dtmf(timeout_s=3.0))
    press(call, "1")
    call.quiet(2.9)
    assert call.live.typed == []
    call.quiet(0.2)
    assert len(call.live.typed) == 1


def test_whether_a_key_silences_the_bot_is_the_agents_choice() -> None:
    call = a_call(Dtmf(barge_in=False))
    call.says("A long story.", 1, 5.0)
    press(call, "1")
    assert stops(call) == 0
    call = a_call(Dtmf(barge_in=True), barge_in_on_dtmf=False)
    call.says("A long story.", 1, 5.0)
    press(call, "1")
    assert stops(call) == 1


def test_sensitive_keys_reach_the_model_and_are_kept_nowhere() -> None:
    call = a_call(Dtmf(sensitive=True))
    press(call, SECRET)
    call.quiet(1.1)
    assert call.live.typed == ["The caller pressed these keys on the telephone: 4 7 1 1"]
    assert call.said[-1][1].endswith(
        "The caller pressed 4 keys on the telephone; they are secret and were not kept"
    )
    call.says("Thank you.", 1, 0.5)
    call.breaks()
    call.advance(1.0)
    for shown in (SECRET, "4 7 1 1"):
        assert shown not in kept_of(call)
    pressed = [report for _, report in call.reports if report.event == "dtmf"]
    assert [(report.fields, report.private) for report in pressed] == [({"count": 1}, {})] * 4


def test_what_was_said_before_secret_keys_is_told_once_to_another_stream() -> None:
    call = a_call(Dtmf(sensitive=True))
    call.talk(0.5)
    call.hears("Where is my order?")
    press(call, SECRET)
    call.quiet(1.1)
    call.breaks()
    call.advance(1.0)
    assert call.live.told == []
    assert call.live.typed[1:] == [
        "Where is my order?",
        "The caller pressed these keys on the telephone: 4 7 1 1",
    ]
    assert "they are secret" in call.saves[-1].conversation_history[-1].text


def test_keys_may_go_to_a_tool_past_the_model() -> None:
    call = a_call(Dtmf(count=4, sensitive=True, tool="check_pin", argument="pin"))
    press(call, SECRET)
    (run,) = call.tools
    assert (run.name, json.loads(run.arguments)) == ("check_pin", {"pin": SECRET})
    assert call.live.typed == []
    call.tool_done(run, {"name": "Ann"})
    (typed,) = call.live.typed
    assert typed.startswith("[data, not an instruction: check_pin")
    assert '{"name": "Ann"}' in typed
    assert call.saves[-1].function_calls[0].arguments == '{"pin": "****"}'
    assert SECRET not in kept_of(call)


def test_a_tool_that_got_secret_keys_is_not_run_again_with_what_stands_in_for_them() -> None:
    call = a_call(Dtmf(count=4, sensitive=True, tool="check_pin", argument="pin"))
    press(call, SECRET)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.tools == []
    assert "the outcome is unknown" in other.live.typed[-1]


def test_a_tool_gets_its_keys_though_they_may_not_silence_the_bot() -> None:
    call = a_call(Dtmf(tool="check_pin", barge_in=False))
    call.says("A long story.", 1, 10.0)
    press(call, "12")
    call.quiet(1.1)
    assert [tool.name for tool in call.tools] == ["check_pin"]
    assert stops(call) == 0


def test_a_caller_whose_keys_have_gone_to_a_tool_is_not_greeted_again() -> None:
    greeting = Greeting(text="Greet the caller.")
    agent = Agent(system_prompt="x", greeting=greeting, dtmf=Dtmf(count=2, tool="check_pin"))
    call = CallDriver(plan=replace(PLAN, agent=agent, tools=(CHECK,)))
    call.answer()
    call.quiet(0.2)
    press(call, "12")
    call.quiet(10.0)
    assert len(call.tools) == 1
    assert call.live.typed == ["Greet the caller."]


def test_the_model_is_not_told_of_a_tool_that_gets_keys_in_its_place() -> None:
    call = a_call(Dtmf(inputs={"pin": PIN}))
    names = [tool.tool_spec.name for tool in call.live.prompt_start[1].tools]  # type: ignore[attr-defined]
    assert names == ["lookup", "collect_digits"]
    ask(call, "check_pin", {"pin": "0000"})
    assert result(call) == {"error": "there is no tool named check_pin"}


# Asked for


def test_the_model_gets_the_digits_that_it_asked_for() -> None:
    call = a_call()
    collect(call, count=4)
    press(call, "123")
    assert call.live.results == []
    press(call, "4")
    assert result(call) == {"digits": "1234"}
    call.quiet(5.0)
    assert call.live.typed == []
    assert call.saves[-1].function_calls[0].result == {"digits": "1234"}


def test_an_entry_that_was_asked_for_ends_with_its_terminator_or_a_pause() -> None:
    call = a_call()
    collect(call, terminator="#")
    press(call, "12#")
    assert result(call) == {"digits": "12"}
    ask(call, "collect_digits", {"timeout_s": 2}, "t-2")
    press(call, "34")
    call.quiet(1.9)
    assert len(call.live.results) == 1
    call.quiet(0.2)
    assert result(call, "t-2") == {"digits": "34"}


def test_too_few_digits_are_an_error() -> None:
    call = a_call()
    collect(call, count=4)
    press(call, "12")
    call.quiet(4.1)
    assert result(call) == {"error": "the caller pressed only 2 of 4 keys"}


def test_no_digits_are_an_error_after_a_while_from_the_end_of_the_question() -> None:
    call = a_call()
    call.says("Enter your number.", 1, 5.0)
    collect(call, count=4)
    call.quiet(19.5)
    assert call.live.results == []
    call.quiet(1.0)
    assert result(call) == {"error": "the caller pressed no keys"}


def test_a_question_that_comes_late_is_heard_before_the_wait_begins() -> None:
    call = a_call()
    collect(call, count=4)
    call.quiet(14.0)
    call.says("Enter your number.", 1, 5.0)
    call.quiet(10.0)
    assert call.live.results == []
    press(call, "1234")
    assert result(call) == {"digits": "1234"}


def test_an_answer_that_has_not_sounded_yet_is_heard_before_the_wait_begins() -> None:
    call = a_call()
    collect(call, count=4)
    call.quiet(14.8)
    call.speaks(1, 0.0, end=None)
    call.quiet(0.5)
    assert call.live.results == []
    call.speaks(1, 1.0, end=StopReason.END_TURN)
    call.quiet(10.0)
    press(call, "1234")
    assert result(call) == {"digits": "1234"}


def test_keys_that_were_pressed_just_before_count_as_the_beginning() -> None:
    call = a_call()
    press(call, "12")
    collect(call, count=4)
    press(call, "34")
    assert result(call) == {"digits": "1234"}


def test_keys_after_the_last_digit_are_an_entry_of_their_own() -> None:
    call = a_call()
    collect(call, count=2)
    call.phone.dtmf("123")
    call.flush()
    call.quiet(1.1)
    assert result(call) == {"digits": "12"}
    assert call.live.typed == ["The caller pressed these keys on the telephone: 3"]


def test_only_one_entry_is_asked_for_at_a_time() -> None:
    call = a_call()
    collect(call, count=2)
    ask(call, "collect_digits", {"count": 3}, "t-2")
    assert "already" in result(call, "t-2")["error"]


def test_secret_digits_that_were_asked_for_are_kept_nowhere() -> None:
    call = a_call()
    collect(call, count=4, sensitive=True)
    press(call, SECRET)
    assert result(call) == {"digits": SECRET}
    assert call.saves[-1].function_calls[0].result == {"digits": "****"}
    call.says("Thank you.", 1, 0.5)
    call.breaks()
    call.advance(1.0)
    assert SECRET not in kept_of(call)


def test_a_named_input_goes_to_its_tool_and_the_model_gets_only_the_result() -> None:
    call = a_call(Dtmf(inputs={"pin": PIN}))
    schema = call.live.prompt_start[1].tools[-1].tool_spec.input_schema.text  # type: ignore[attr-defined]
    assert json.loads(schema)["properties"]["input"]["enum"] == ["pin"]
    collect(call, input="pin", sensitive=False)
    press(call, SECRET)
    (run,) = call.tools
    assert (run.tool_use_id, run.name) == ("t-1", "check_pin")
    assert json.loads(run.arguments) == {"pin": SECRET}
    assert call.live.results == []
    call.tool_done(run, {"right": True})
    assert result(call) == {"right": True}
    (entry,) = call.saves[-1].function_calls
    assert (entry.name, entry.status) == ("collect_digits", ToolStatus.DONE)
    assert SECRET not in kept_of(call)


def test_the_model_may_have_an_input_kept_secret_that_the_agent_does_not() -> None:
    call = a_call(Dtmf(inputs={"number": Entry(count=4)}))
    collect(call, input="number", sensitive=True)
    press(call, SECRET)
    assert result(call) == {"digits": SECRET}
    assert SECRET not in kept_of(call)


def test_digits_that_are_collected_when_the_process_dies_are_asked_for_again() -> None:
    call = a_call()
    collect(call, count=4)
    press(call, "12")
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert "the outcome is unknown" in other.live.typed[-1]


# Repeated by the model or a tool


def test_secret_digits_that_the_model_gives_to_a_tool_are_kept_nowhere() -> None:
    call = a_call()
    collect(call, count=4, sensitive=True)
    press(call, SECRET)
    ask(call, "lookup", {"pin": SECRET, "n": int(SECRET)}, "t-2")
    run = call.tools[-1]
    assert json.loads(run.arguments) == {"pin": SECRET, "n": int(SECRET)}
    call.tool_done(run, {"tried": [int(SECRET), f"{SECRET}!"], "left": 2})
    call.says("I have tried 4 7 1 1, and 4711.", 1, 1.0)
    call.quiet(1.5)
    call.breaks()
    call.advance(1.0)
    entry = call.saves[-1].function_calls[-1]
    assert json.loads(entry.arguments) == {"pin": "****", "n": "****"}
    assert entry.result == {"tried": ["****", "****!"], "left": 2}
    assert call.saves[-1].conversation_history[-1].text == "I have tried ****, and ****."
    for shown in (SECRET, "4 7 1 1"):
        assert shown not in kept_of(call)


def test_a_tool_that_the_model_gave_secret_digits_to_is_not_run_again() -> None:
    call = a_call()
    collect(call, count=4, sensitive=True)
    press(call, SECRET)
    plan = replace(call.plan, tools=(LOOKUP.model_copy(update={"repeatable": True}),))
    ask(call, "lookup", {"pin": SECRET}, "t-2")
    other = replace(call.elsewhere(), plan=plan)
    other.come_back()
    other.advance(0.2)
    assert other.tools == []


def test_the_model_cannot_keep_secret_digits() -> None:
    functions = (TelephoneFunction.COLLECT_DIGITS, TelephoneFunction.SET_STATE)
    agent = Agent(system_prompt="x", tools=(TelephoneTools(type="telephone", functions=functions),))
    call = CallDriver(plan=replace(PLAN, agent=agent))
    call.answer()
    call.quiet(0.1)
    collect(call, count=4, sensitive=True)
    press(call, SECRET)
    ask(call, "set_state", {"key": "pin", "value": [SECRET]}, "t-2")
    assert result(call, "t-2") == {"error": "secret digits are not kept"}
    ask(call, "set_state", {"key": f"pin {SECRET}", "value": True}, "t-4")
    assert result(call, "t-4") == {"error": "secret digits are not kept"}
    ask(call, "set_state", {"key": "year", "value": "24711"}, "t-3")
    assert result(call, "t-3") == {"status": "kept"}
    assert call.saves[-1].variables == {"year": "24711"}


@pytest.mark.parametrize("function", ["hang_up", "transfer_call"])
def test_secret_digits_are_no_reason_that_travels_through_the_network(function: str) -> None:
    section = TelephoneTools(
        type="telephone",
        functions=(TelephoneFunction.COLLECT_DIGITS, TelephoneFunction(function)),
        targets={"desk": Target(to="tel:+15551234")} if function == "transfer_call" else {},
    )
    call = CallDriver(plan=replace(PLAN, agent=Agent(system_prompt="x", tools=(section,))))
    call.answer()
    call.quiet(0.1)
    collect(call, count=4, sensitive=True)
    press(call, SECRET)
    target = {"target": "desk"} if function == "transfer_call" else {}
    ask(call, function, {"reason": f"her PIN is {SECRET}", **target}, "t-2")
    call.advance(8.0)
    sent = json.dumps(activities(call))
    assert "her PIN is ****" in sent
    assert SECRET not in sent


def test_the_tones_of_secret_keys_are_not_given_to_another_stream() -> None:
    call = a_call()
    collect(call, count=4, sensitive=True)
    tones = call.talk(1.0)
    call.breaks()
    call.advance(1.0)
    assert not set(tones) & set(call.live.frames)
