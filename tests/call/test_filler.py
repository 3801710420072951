"""While a tool takes its time the caller hears that she has not been forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opusagent.call.plan import CallPlan, Recording
from opusagent.models.agent import Agent
from opusagent.models.telephone import Filler, TelephoneFunction, TelephoneTools
from tests.call.driver import PLAN, CallDriver, bot_pcm
from tests.call.test_telephone import ask

FILLER, ANSWER = 7, 1
STATE = TelephoneTools(type="telephone", functions=(TelephoneFunction.COLLECT_DIGITS,))


def plan_of(filler: Filler, *, recorded: bool) -> CallPlan:
    audio = Recording({24_000: bot_pcm(FILLER, 1.0)}) if recorded else Recording()
    agent = Agent(system_prompt="x", filler=filler, tools=(STATE,))
    return replace(PLAN, agent=agent, filler_audio=audio)


@pytest.fixture
def recorded() -> CallDriver:
    """A call whose caller hears a recording of a second after two seconds."""
    call = CallDriver(plan=plan_of(Filler(after_s=2.0), recorded=True))
    call.answer()
    call.quiet(0.1)
    return call


def test_a_recording_is_played_once_while_a_tool_takes_long(recorded: CallDriver) -> None:
    ask(recorded, "lookup", {})
    recorded.quiet(1.9)
    assert recorded.plays() == []
    recorded.quiet(8.0)
    assert recorded.plays() == [{FILLER: 1.0}]


def test_a_tool_that_is_soon_done_needs_none(recorded: CallDriver) -> None:
    ask(recorded, "lookup", {})
    recorded.quiet(1.9)
    recorded.tool_done(recorded.tools[0], {})
    recorded.quiet(5.0)
    assert recorded.plays() == []


def test_whoever_comes_back_after_a_tool_has_ended_hears_no_filler() -> None:
    plan = replace(plan_of(Filler(after_s=2.0), recorded=True), resume_grace_s=30.0)
    call = CallDriver(plan=plan)
    call.answer()
    call.quiet(0.1)
    ask(call, "lookup", {})
    call.lose_socket()
    call.advance(5.0)
    call.tool_done(call.tools[0], {})
    call.attach()
    call.quiet(3.0)
    assert call.plays() == []


def test_whoever_is_lost_in_the_middle_of_it_does_not_hear_the_rest() -> None:
    plan = replace(plan_of(Filler(after_s=2.0), recorded=True), resume_grace_s=30.0)
    call = CallDriver(plan=plan)
    call.answer()
    call.quiet(0.1)
    ask(call, "lookup", {})
    call.quiet(2.2)
    call.lose_socket()
    call.tool_done(call.tools[0], {})
    call.attach()
    call.quiet(3.0)
    (filler,) = call.plays()
    assert filler[FILLER] < 0.7


def test_it_falls_silent_when_the_answer_comes(recorded: CallDriver) -> None:
    ask(recorded, "lookup", {})
    recorded.quiet(2.3)
    recorded.tool_done(recorded.tools[0], {})
    recorded.says("Found it.", ANSWER, 0.5)
    recorded.quiet(2.0)
    filler, answer = recorded.plays()
    assert 0.2 < filler[FILLER] < 0.7
    assert answer == {ANSWER: 0.5}


def test_it_waits_until_the_bot_has_been_heard(recorded: CallDriver) -> None:
    ask(recorded, "lookup", {})
    recorded.says("Let me see.", ANSWER, 4.0)
    recorded.quiet(3.9)
    assert len(recorded.plays()) == 1
    recorded.quiet(2.0)
    assert recorded.plays() == [{ANSWER: 4.0}, {FILLER: 1.0}]


def test_it_does_not_talk_over_the_caller(recorded: CallDriver) -> None:
    ask(recorded, "lookup", {})
    recorded.talk(3.0)
    assert recorded.plays() == []
    recorded.quiet(2.0)
    assert recorded.plays() == [{FILLER: 1.0}]


def test_the_next_tool_has_a_filler_of_its_own_and_tools_at_once_have_one(
    recorded: CallDriver,
) -> None:
    ask(recorded, "lookup", {}, "a")
    ask(recorded, "lookup", {}, "b")
    recorded.quiet(4.0)
    for call in recorded.tools:
        recorded.tool_done(call, {})
    recorded.says("Found.", ANSWER, 0.5)
    recorded.quiet(1.0)
    ask(recorded, "lookup", {}, "c")
    recorded.quiet(4.0)
    assert recorded.plays() == [{FILLER: 1.0}, {ANSWER: 0.5}, {FILLER: 1.0}]


def test_a_second_tool_does_not_put_the_filler_off(recorded: CallDriver) -> None:
    ask(recorded, "lookup", {}, "a")
    recorded.quiet(1.5)
    ask(recorded, "lookup", {}, "b")
    recorded.quiet(1.6)
    assert recorded.plays() == [{FILLER: 1.0}]


def test_the_slower_of_two_tools_has_its_filler(recorded: CallDriver) -> None:
    ask(recorded, "lookup", {}, "a")
    ask(recorded, "lookup", {}, "b")
    recorded.quiet(1.0)
    recorded.tool_done(recorded.tools[0], {})
    recorded.quiet(3.0)
    assert recorded.plays() == [{FILLER: 1.0}]


def test_what_the_telephone_does_itself_needs_none(recorded: CallDriver) -> None:
    ask(recorded, "collect_digits", {"count": 4})
    recorded.quiet(8.0)
    assert recorded.plays() == []


def test_a_text_prompts_the_model_to_say_something_and_is_not_kept() -> None:
    call = CallDriver(plan=plan_of(Filler(after_s=1.0, text="Say that it takes."), recorded=False))
    call.answer()
    call.quiet(0.1)
    ask(call, "lookup", {})
    call.quiet(3.0)
    assert call.live.typed == ["Say that it takes."]
    call.breaks()
    call.advance(0.2)
    assert call.live.typed == []
    assert all("Say that" not in text for _, text in call.live.told)


def test_the_model_is_not_prompted_into_an_answer_that_has_not_sounded_yet() -> None:
    call = CallDriver(plan=plan_of(Filler(after_s=1.0, text="Say that it takes."), recorded=False))
    call.answer()
    call.quiet(0.1)
    ask(call, "lookup", {})
    call.quiet(0.8)
    call.speaks(ANSWER, 0.0, end=None)
    call.quiet(0.5)
    assert call.live.typed == []


def test_its_text_may_hold_variables() -> None:
    text = "Tell {caller|the caller} that it takes."
    call = CallDriver(plan=plan_of(Filler(after_s=1.0, text=text), recorded=False))
    call.answer()
    call.quiet(0.1)
    ask(call, "lookup", {})
    call.quiet(3.0)
    assert call.live.typed == [f"Tell {call.saves[-1].caller} that it takes."]


def test_without_text_and_recording_nothing_is_said() -> None:
    call = CallDriver(plan=plan_of(Filler(after_s=1.0), recorded=False))
    call.answer()
    ask(call, "lookup", {})
    call.quiet(5.0)
    assert call.live.typed == []
    assert call.plays() == []
