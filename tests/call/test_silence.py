"""What happens when the caller says nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from opusagent.call.call import Phase
from opusagent.call.events import StateChanged
from opusagent.models.agent import Agent
from opusagent.models.telephone import Silence, Target, TelephoneFunction, TelephoneTools
from tests.call.driver import PLAN, CallDriver
from tests.call.test_telephone import activities, ask, status

PROMPT = "Ask whether she is there."
TELEPHONE = TelephoneTools(
    type="telephone",
    functions=(TelephoneFunction.COLLECT_DIGITS,),
    targets={"support": Target(to="tel:+15551234")},
)


def a_call(**fields: Any) -> CallDriver:
    silence = Silence(**{"after_s": 10.0, "prompt": PROMPT, "prompts": 2, **fields})
    agent = Agent(system_prompt="x", tools=(TELEPHONE,), silence=silence)
    call = CallDriver(plan=replace(PLAN, agent=agent, resume_grace_s=60.0))
    call.answer()
    return call


def answer(call: CallDriver) -> None:
    """The model asks for the caller, which takes a second."""
    call.says("Are you there?", 1, 1.0)
    call.quiet(1.5)


def test_a_silent_caller_is_asked_for_and_in_the_end_let_go() -> None:
    call = a_call()
    call.quiet(9.9)
    assert call.live.typed == []
    call.quiet(0.2)
    assert call.live.typed == [PROMPT]
    answer(call)
    call.quiet(9.0)
    assert call.live.typed == [PROMPT]
    call.quiet(1.0)
    assert call.live.typed == [PROMPT] * 2
    answer(call)
    call.quiet(8.0)
    assert call.hung_up is None
    call.quiet(2.0)
    assert call.hung_up == "the caller is silent"
    assert call.live.typed == [PROMPT] * 2


def test_the_prompt_may_hold_variables() -> None:
    call = a_call(prompt="Ask {state.name|the caller} whether she is there.")
    call.handle(StateChanged("name", "Ann"))
    call.quiet(10.1)
    assert call.live.typed == ["Ask Ann whether she is there."]


def test_who_speaks_is_not_silent_and_is_asked_anew_later() -> None:
    call = a_call(prompts=1)
    call.quiet(10.1)
    answer(call)
    call.quiet(5.0)
    call.talk(1.0)
    call.quiet(0.5)
    call.hears("I am here.")
    call.says("Good.", 1, 1.0)
    call.quiet(10.0)
    assert call.hung_up is None
    call.quiet(1.5)
    assert call.live.typed == [PROMPT] * 2


def test_time_in_which_the_bot_speaks_is_no_silence() -> None:
    call = a_call()
    call.quiet(2.0)
    call.says("A long story.", 1, 15.0)
    call.quiet(24.5)
    assert call.live.typed == []
    call.quiet(1.0)
    assert call.live.typed == [PROMPT]


def test_who_waits_for_a_tool_is_not_silent() -> None:
    call = a_call()
    call.hears("Look it up.")
    ask(call, "lookup", {})
    call.quiet(25.0)
    assert call.live.typed == []


def test_who_presses_keys_is_not_silent() -> None:
    call = a_call()
    call.quiet(9.0)
    ask(call, "collect_digits", {"count": 2})
    call.phone.dtmf("12")
    call.flush()
    call.says("Thank you.", 1, 1.0)
    call.quiet(9.0)
    assert call.live.typed == []


def test_the_event_of_audiocodes_counts_as_well() -> None:
    call = a_call(after_s=0, prompts=1)
    call.quiet(30.0)
    assert call.live.typed == []
    call.phone.no_user_input(1)
    call.flush()
    assert call.live.typed == [PROMPT]
    answer(call)
    call.quiet(10.0)
    call.phone.no_user_input(2)
    call.flush()
    call.advance(1.0)
    assert call.hung_up == "the caller is silent"


def test_both_timers_together_ask_once() -> None:
    call = a_call()
    call.quiet(10.1)
    call.phone.no_user_input(1)
    call.flush()
    assert call.live.typed == [PROMPT]


def test_the_event_is_passed_over_while_the_bot_is_about_to_speak() -> None:
    call = a_call(after_s=0)
    call.quiet(10.0)
    call.hears("Hello.")
    call.phone.no_user_input(1)
    call.flush()
    assert call.live.typed == []


def test_without_the_section_nobody_is_asked() -> None:
    call = CallDriver()
    call.answer()
    call.quiet(60.0)
    call.phone.no_user_input(1)
    call.flush()
    assert all(service.typed == [] for service in call.services.values())
    assert call.hung_up is None


def test_a_silent_caller_may_be_transferred() -> None:
    call = a_call(prompts=0, then="transfer", target="support", reason="silent")
    call.quiet(10.5)
    (transfer,) = activities(call)
    assert transfer["activityParams"] == {
        "transferTarget": "tel:+15551234",
        "handoverReason": "silent",
    }


def test_a_silent_caller_whose_transfer_fails_is_let_go() -> None:
    call = a_call(prompts=0, then="transfer", target="support")
    call.quiet(10.5)
    status(call, status="failed", reasonCode="busy")
    call.advance(1.0)
    assert call.hung_up == "the caller is silent"


def test_a_caller_who_speaks_while_her_transfer_fails_is_not_let_go() -> None:
    call = a_call(prompts=0, then="transfer", target="support")
    call.quiet(10.5)
    call.hears("I am here!")
    status(call, status="failed", reasonCode="busy")
    answer(call)
    assert call.hung_up is None
    assert call.call.phase is Phase.TALKING


def test_a_silent_caller_whose_transfer_a_dead_line_took_is_not_let_go_on_her_return() -> None:
    call = a_call(prompts=0, then="transfer", target="support")
    call.quiet(10.5)
    call.lose_socket()
    call.advance(3.0)
    call.attach()
    call.quiet(9.0)
    assert call.hung_up is None
    call.quiet(2.0)
    assert [one["name"] for one in activities(call)] == ["transfer", "transfer"]


def test_a_silent_caller_may_be_left_alone() -> None:
    call = a_call(prompts=1, then="nothing")
    call.quiet(10.1)
    answer(call)
    call.quiet(60.0)
    assert call.call.phase is Phase.TALKING
    assert len(call.live.typed) == 1


def test_nothing_more_is_done_after_it_was_done_at_the_event_of_audiocodes() -> None:
    call = a_call(prompts=0, then="nothing")
    call.quiet(9.0)
    call.phone.no_user_input(1)
    call.flush()
    call.quiet(30.0)
    assert call.report("silence") == [{"count": 1, "given_up": True}]


def test_whose_line_is_lost_is_not_silent() -> None:
    call = a_call()
    call.quiet(5.0)
    call.lose_socket()
    call.advance(30.0)
    assert call.live.typed == []
    call.attach()
    call.quiet(5.0)
    assert call.live.typed == []
