"""Texts with variables in a call: when each is known, and when a stream has to wait for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import JsonValue

from opusagent.call.call import Phase
from opusagent.call.events import StreamId
from opusagent.call.plan import CallPlan, Recording
from opusagent.call.script import MAX_PARAMETERS, kept_parameters
from opusagent.models.agent import Agent, Greeting, Resume
from opusagent.models.session_state import ConversationItem
from tests.call.driver import PLAN, CallDriver

FIRST = StreamId(1)
START: dict[str, JsonValue] = {"callee": "+4930100", "caller": "+1555", "X-Tier": "gold"}


def plan_of(prompt: str, **fields: object) -> CallPlan:
    return replace(PLAN, agent=Agent.model_validate({"system_prompt": prompt, **fields}))


def start(call: CallDriver, parameters: dict[str, JsonValue] | None = None) -> None:
    call.phone.start(START if parameters is None else parameters)
    call.phone.start_user_stream()
    call.flush()


def test_what_is_known_at_the_beginning_stands_in_the_prompt_of_a_stream_that_waits_for_nothing() -> (
    None
):
    plan = plan_of(
        "{caller} calls {bot_name} ({agent}, {query.shop|none}) in the {part_of_day}, {state.order|no order}."
    )
    call = CallDriver(replace(plan, query={"shop": "berlin"}))
    call.initiate()
    prompt = call.services[FIRST].system_prompt
    assert prompt == "anonymous calls voice-bot (default, berlin) in the night, no order."


@pytest.mark.parametrize("text", ["Called: {called}", "Called: {start.callee}"])
def test_a_prompt_that_needs_the_called_number_is_sent_when_the_call_has_started(text: str) -> None:
    call = CallDriver(plan_of(text))
    call.initiate()
    assert call.accepted  # or the start would never come
    assert call.services == {}
    start(call)
    assert call.services[FIRST].system_prompt == "Called: +4930100"
    call.advance(0.2)
    assert call.talk(0.2) == call.services[FIRST].frames


def test_where_no_start_comes_the_stream_is_opened_with_what_is_known() -> None:
    call = CallDriver(plan_of("Called: {called|somebody}"))
    call.initiate()
    call.advance(1.4)
    assert call.services == {}
    call.advance(0.2)
    assert call.services[FIRST].system_prompt == "Called: somebody"


def test_what_a_caller_says_before_that_reaches_the_model() -> None:
    call = CallDriver(plan_of("{called}"))
    call.initiate()
    call.phone.start_user_stream()
    call.flush()
    said = call.talk(0.4)
    call.advance(2.0)
    assert said == call.services[FIRST].frames


def test_a_caller_who_is_lost_before_that_and_comes_back_is_answered() -> None:
    call = CallDriver(replace(plan_of("{called}"), resume_grace_s=10))
    call.initiate()
    call.lose_socket()
    call.advance(0.5)
    assert call.services == {}
    call.attach()
    call.advance(2.0)
    assert call.call.phase is Phase.TALKING
    assert call.services[FIRST].system_prompt == ""


def test_the_greeting_may_say_what_only_the_start_tells_without_a_stream_waiting_for_it() -> None:
    agent = Agent(system_prompt="x", greeting=Greeting(text="Greet {caller_name|her} at {called}."))
    call = CallDriver(replace(PLAN, agent=agent))
    call.initiate()
    assert FIRST in call.services
    call.advance(0.2)
    start(call)
    call.advance(0.2)
    assert call.services[FIRST].typed == ["Greet her at +4930100."]


def test_a_greeting_of_which_nothing_is_left_is_not_typed() -> None:
    agent = Agent(system_prompt="x", greeting=Greeting(text="{start.greeting}"))
    call = CallDriver(replace(PLAN, agent=agent))
    call.initiate()
    call.advance(0.2)
    start(call)
    call.advance(9.0)
    assert call.services[FIRST].typed == []


def test_a_recorded_greeting_stands_in_the_prompt_and_in_the_transcript_as_it_was_heard() -> None:
    agent = Agent(system_prompt="x", greeting=Greeting(text="Welcome at {called}."))
    recording = Recording({24_000: bytes(9_600)})
    call = CallDriver(replace(PLAN, agent=agent, greeting_audio=recording))
    call.initiate()
    start(call)
    call.advance(1.0)
    told = "x\n\nThe caller has been greeted already: Welcome at +4930100."
    assert call.services[FIRST].system_prompt == told
    assert call.saves[-1].conversation_history[0].text == "Welcome at +4930100."


@pytest.mark.parametrize(
    ("zone", "query", "told"),
    [
        ("{query.zone|Europe/Berlin}", {"zone": "Asia/Tokyo"}, "09:01 Asia/Tokyo"),
        ("{query.zone|Europe/Berlin}", {}, "01:01 Europe/Berlin"),
        ("Asia/{query.city|Tokyo}", {"city": "Seoul"}, "09:01 Asia/Seoul"),
        ("{query.zone}", {}, "00:01 UTC"),
        ("{start.zone|Europe/Berlin}", {}, "09:01 Asia/Tokyo"),
    ],
)
def test_the_time_is_told_in_the_zone_that_the_call_names(
    zone: str, query: dict[str, str], told: str
) -> None:
    call = CallDriver(replace(plan_of("{time} {time_zone}", time_zone=zone), query=query))
    call.initiate()
    start(call, {"zone": "Asia/Tokyo"})
    assert call.services[FIRST].system_prompt == told
    assert call.report("no time zone") == []


@pytest.mark.parametrize(
    "named", ["Berlin", "../etc/passwd", "Europe", "x" * 900, "a\0b", "caf\u00e9"]
)
def test_a_zone_that_is_none_harms_no_call_and_is_said_once(named: str) -> None:
    plan = plan_of("{time_zone}", time_zone="{query.zone|Europe/Berlin}")
    call = CallDriver(replace(plan, query={"zone": named}))
    call.initiate()
    start(call)
    call.advance(0.2)
    call.breaks("ModelStreamErrorException")
    call.advance(3.0)
    assert {service.system_prompt for service in call.services.values()} == {"Europe/Berlin"}
    assert len(call.services) > 1
    assert call.report("no time zone") == [{"instead": "Europe/Berlin"}]


def test_the_language_is_told_to_the_model() -> None:
    call = CallDriver(plan_of("x", language="de-DE"))
    call.initiate()
    prompt = call.services[FIRST].system_prompt
    assert prompt == "x\n\nSpeak German, unless the caller asks for another language."


def test_a_later_stream_is_told_the_state_and_the_start_as_they_are_then() -> None:
    call = CallDriver(plan_of("{caller}/{start.X-Tier}/{state.order}"))
    call.initiate()
    start(call)
    call.advance(0.2)
    assert call.call.state is not None
    call.call.state.variables = {"order": "A1"}
    call.breaks("ModelStreamErrorException")
    call.advance(3.0)
    prompts = [service.system_prompt for service in call.services.values()]
    assert prompts[0] == "anonymous/gold/"
    assert prompts[-1] == "anonymous/gold/A1"


def test_a_call_that_is_taken_up_elsewhere_has_the_same_values() -> None:
    agent = {"resume": Resume(text="Welcome {state.name} back to {called}.")}
    plan = plan_of("{called}, {state.name|nobody}", **agent)
    call = CallDriver(plan)
    call.initiate()
    start(call)
    call.advance(0.3)
    call.talk(0.3)
    stored = call.saves[-1].model_copy(update={"variables": {"name": "Ada"}})
    stored.conversation_history = [ConversationItem(type="output", text="Hello.")]
    other = call.elsewhere(stored)
    other.come_back()
    other.advance(0.3)
    assert other.services[FIRST].system_prompt == "+4930100, Ada"
    assert other.services[FIRST].typed == ["Welcome Ada back to +4930100."]


def test_a_call_that_is_taken_up_elsewhere_before_it_has_started_opens_one_stream() -> None:
    call = CallDriver(plan_of("Called: {called}"))
    call.initiate()
    other = call.elsewhere()
    other.come_back()
    assert other.services == {}
    start(other)
    assert [s.system_prompt for s in other.services.values()] == ["Called: +4930100"]


def test_what_one_process_was_told_at_the_start_the_next_one_greets_with() -> None:
    plan = plan_of("You answer.", greeting={"text": "Greet a caller of tier {start.X-Tier|none}."})
    call = CallDriver(replace(plan, resume_grace_s=60.0), head_s=None)
    call.initiate()
    call.advance(1.1)
    start(call)
    other = call.elsewhere(head_s=0.1)  # before anybody has said anything
    other.come_back()
    other.advance(0.5)
    assert other.live.typed == ["Greet a caller of tier gold."]
    assert other.call.state is not None
    assert other.call.state.metadata["start"] == START


# The called number decides who answers


def test_who_answers_may_be_settled_by_the_called_number() -> None:
    other = replace(plan_of("I am {agent} at {called}."), agent_name="sales", model_id="other")
    asked: list[str] = []

    def settle(called: str) -> CallPlan:
        asked.append(called)
        return other

    call = CallDriver(replace(PLAN, settle=settle))
    call.initiate()
    assert call.services == {}
    start(call)
    assert asked == ["+4930100"]
    assert call.services[FIRST].system_prompt == "I am sales at +4930100."
    assert call.call.model_id == "other"
    assert call.saves[-1].metadata["agent"] == "sales"
    assert call.saves[-1].agent["system_prompt"] == "I am {agent} at {called}."
    start(call)  # some send it twice
    assert len(call.services) == 1


def test_where_no_number_comes_somebody_answers_all_the_same() -> None:
    call = CallDriver(replace(PLAN, settle=lambda called: plan_of(f"<{called}>")))
    call.initiate()
    call.advance(1.6)
    assert call.services[FIRST].system_prompt == "<>"


def test_parameters_are_stored_within_bounds() -> None:
    many: dict[str, JsonValue] = {f"p{n}": n for n in range(100)}
    kept = kept_parameters({"long": "x" * 3_000, "callee": "1", **many})
    assert len(kept) == MAX_PARAMETERS
    assert kept["callee"] == "1"
    assert "long" not in kept


def test_what_the_caller_does_before_her_agent_is_known_reaches_that_agent() -> None:
    secretive = plan_of("You answer.", dtmf={"sensitive": True})
    call = CallDriver(replace(PLAN, settle=lambda _: secretive))
    call.initiate()
    call.phone.start_user_stream()
    call.flush()
    said = call.talk(0.6)
    call.phone.dtmf("47")
    call.flush()
    said += call.quiet(0.6)
    assert not call.services  # no `start` came: it is waited for a little longer
    call.advance(0.5)
    said += call.quiet(2.0)
    assert call.live.frames == said
    assert call.live.typed == ["The caller pressed these keys on the telephone: 4 7"]
    assert not [r for _, r in call.reports if r.event == "dtmf" and r.private]
