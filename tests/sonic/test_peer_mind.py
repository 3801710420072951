"""What the service's end makes of what it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opusagent.models.session_state import Role, ToolSpec, Turn
from opusagent.sonic import reader as said
from opusagent.sonic.peer_brain import Reply, ToolAsk
from opusagent.sonic.profiles import PROFILES, Timing
from opusagent.sonic.stream import SonicConfig
from tests.sonic.duet import ADA, FRAME, HELLO, Duet, noise, silence, spoken

LOOKUP = ToolAsk("lookup", {"id": 7})
WEATHER = ToolAsk("weather", {"city": "Rome"})


def requests(one: Duet) -> list[said.ToolRequested]:
    return [e for e in one.events(said.ToolRequested) if isinstance(e, said.ToolRequested)]


def user_texts(one: Duet) -> list[str]:
    found = one.events(said.TextHeard)
    return [e.text for e in found if isinstance(e, said.TextHeard) and e.role is Role.USER]


def test_the_brain_is_shown_prompt_history_tools_and_the_conversation() -> None:
    history = [Turn(role=Role.USER, text="I am Ada."), Turn(role=Role.ASSISTANT, text="Hello.")]
    tools = (ToolSpec(name="lookup", description="d", input_schema={"type": "object"}),)
    config = SonicConfig(system_prompt="Be brief.", tools=tools, endpointing="HIGH")
    one = Duet(Reply(("Yes indeed.",)), config=config).open(history)
    one.say(spoken(HELLO) + silence(4)).say(spoken(ADA) + silence(4))
    context = one.brain.contexts[-1]
    assert context.system_prompt == "Be brief."
    assert context.history == tuple(history)
    assert context.tool_names == ("lookup",)
    assert [turn.text for turn in context.conversation] == [
        "I am Ada.",
        "Hello.",
        "hello there",
        "Yes indeed.",
        "my name is Ada",
    ]


def test_speech_before_the_answer_has_begun_is_answered_together() -> None:
    one = Duet(timing=Timing(think_s=2)).open()
    one.say(spoken(HELLO) + silence(1.6) + spoken(ADA) + silence(6))
    assert user_texts(one) == ["hello there", "my name is Ada"]
    assert one.brain.asked == ["hello there my name is Ada"]


def test_a_noise_is_not_answered_and_takes_no_answer_away() -> None:
    one = Duet(timing=Timing(think_s=1)).open()
    one.say(spoken(HELLO) + silence(1.6) + noise(0.5) + silence(4))
    assert user_texts(one) == ["hello there"]
    assert one.brain.asked == ["hello there"]


def test_a_brain_may_have_nothing_to_say() -> None:
    one = Duet(Reply()).open().say(spoken(HELLO) + silence(5))
    assert one.events(said.BotSpeechStarted, said.ToolRequested) == []
    one.say(spoken(ADA) + silence(5))
    assert len(one.events(said.BotSpeechStarted)) == 1


@pytest.mark.parametrize(("n_bytes", "answered"), [(2112, False), (2176, True)])
def test_a_typed_text_needs_68_ms_of_audio_before_it(n_bytes: int, *, answered: bool) -> None:
    one = Duet().open().burst(bytes(n_bytes)).type_text("greet the caller").wait(5)
    assert (one.brain.asked == ["greet the caller"]) is answered
    assert [at.value for at in one.peer.record.typed] == ["greet the caller"]


def test_a_typed_text_is_answered_without_being_heard() -> None:
    one = Duet().open().burst(silence(0.1)).type_text("greet the caller").wait(5)
    assert user_texts(one) == []
    assert len(one.events(said.BotSpeechStarted)) == 1


def test_a_typed_text_can_come_back_as_if_it_had_been_said() -> None:
    one = Duet(faults={"echo-typed"}).open().burst(silence(0.1)).type_text("five").wait(5)
    assert user_texts(one) == ["five"]


def test_the_first_generation_reads_but_does_not_answer() -> None:
    one = Duet(profile=PROFILES["v1"]).open().burst(silence(0.1)).type_text("five").wait(5)
    assert one.brain.asked == []
    one.say(spoken(HELLO) + silence(3))
    assert [turn.text for turn in one.brain.contexts[0].conversation] == ["five", "hello there"]


def test_the_first_typed_text_can_be_swallowed() -> None:
    one = Duet(faults={"swallowed-text"}).open().burst(silence(0.1)).type_text("one").wait(5)
    assert one.brain.asked == []
    one.burst(silence(0.1)).type_text("two").wait(5)
    assert one.brain.asked == ["two"]


def test_a_typed_text_interrupts_the_bot() -> None:
    one = (
        Duet()
        .open()
        .burst(silence(0.1))
        .type_text("one two three")
        .wait(1)
        .type_text("four")
        .wait(5)
    )
    assert len(one.events(said.Interrupted)) == 2
    assert one.brain.asked == ["one two three", "four"]


def test_a_text_typed_before_audio_is_answered_once_audio_flows() -> None:
    one = Duet()
    one.stream.open()
    one.stream.start_audio()
    setup = one.stream.payloads_to_send()
    one.stream.type_text("hi")
    typed = [payload.replace(b"c6", b"t1") for payload in one.stream.payloads_to_send()]
    for payload in [*setup[:-1], *typed]:
        one.peer.receive(payload, one.now)
    one.wait(5)
    assert one.brain.asked == []
    one.peer.receive(setup[-1], one.now)
    for _ in range(4):
        one.burst(bytes(FRAME))
    one.wait(5)
    assert one.brain.asked == ["hi"]


def test_a_tool_is_asked_for_and_its_result_is_talked_about() -> None:
    one = Duet(Reply(tools=(LOOKUP,)), after_tools=[Reply(("It was sent.",))]).open()
    one.say(spoken(HELLO) + silence(3))
    (request,) = requests(one)
    assert (request.name, request.arguments) == ("lookup", '{"id":7}')
    assert one.events(said.BotSpeechStarted) == []
    one.stream.tool_result(request.tool_use_id, {"state": "sent"})
    one.deliver().wait(5)
    ((answer,),) = one.brain.answers
    assert (answer.name, answer.result) == ("lookup", {"state": "sent"})
    assert answer.tool_use_id == request.tool_use_id
    assert [at.value for at in one.peer.record.said] == ["It was sent."]
    assert [at.value.result for at in one.peer.record.tool_results] == [{"state": "sent"}]
    assert one.brain.contexts[-1].tool_results == (answer,)


def test_a_tool_is_asked_for_after_the_words_that_go_with_it() -> None:
    one = Duet(Reply(("One moment.",), (LOOKUP,))).open().say(spoken(HELLO) + silence(4))
    kinds = [type(event).__name__ for event in one.events(said.BotSpeechEnded, said.ToolAnnounced)]
    assert kinds == ["BotSpeechEnded", "ToolAnnounced"]


def test_the_brain_goes_on_when_all_tools_of_a_reply_have_answered_in_any_order() -> None:
    one = Duet(Reply(tools=(LOOKUP, WEATHER))).open().say(spoken(HELLO) + silence(3))
    first, second = requests(one)
    one.stream.tool_result(second.tool_use_id, {"sky": "blue"})
    one.deliver().wait(5)
    assert one.brain.answers == []
    one.stream.tool_result(first.tool_use_id, {})
    one.deliver().wait(5)
    assert [[answer.name for answer in group] for group in one.brain.answers] == [
        ["weather", "lookup"]
    ]


def test_the_model_goes_on_talking_while_a_tool_runs() -> None:
    one = Duet(Reply(tools=(LOOKUP,)), Reply(("Still here.",))).open()
    one.say(spoken(HELLO) + silence(3)).say(spoken(ADA) + silence(5))
    assert [at.value for at in one.peer.record.said] == ["Still here."]
    one.stream.tool_result(requests(one)[0].tool_use_id, {})
    one.deliver().wait(5)
    assert [at.value for at in one.peer.record.said] == ["Still here.", "It is done."]


def test_a_result_that_comes_while_the_caller_speaks_waits_for_quiet() -> None:
    one = Duet(Reply(tools=(LOOKUP,))).open().say(spoken(HELLO) + silence(3))
    one.say(spoken(ADA, 0.5))
    one.stream.tool_result(requests(one)[0].tool_use_id, {})
    one.deliver().say(spoken(ADA, 1))
    assert one.brain.answers == []
    one.say(silence(10))
    assert one.brain.asked == ["hello there", "my name is Ada"]
    assert len(one.brain.answers) == 1
    assert one.events(said.Interrupted) == []


def test_a_tool_without_a_result_makes_the_model_wait() -> None:
    one = Duet(Reply(tools=(LOOKUP,))).open().say(spoken(HELLO) + silence(30))
    assert one.brain.answers == []
    assert one.peer.failure is None


def test_who_interrupts_the_words_before_a_tool_stops_the_tool_too() -> None:
    one = Duet(Reply(("One two three four.",), (LOOKUP,))).open()
    one.say(spoken(HELLO) + silence(2.2)).say(spoken(ADA) + silence(4))
    assert requests(one) == []
    assert one.brain.asked == ["hello there", "my name is Ada"]


def test_the_newest_generation_says_when_the_caller_has_finished() -> None:
    one = Duet(profile=PROFILES["nova-2.5"]).open().say(spoken(HELLO) + silence(3))
    assert one.events(said.UnknownEventReceived) == [said.UnknownEventReceived("userSpeechEnd")]


def test_usage_grows_and_silence_costs_nothing() -> None:
    one = Duet().open().say(silence(10))
    assert one.events(said.UsageReported) == []
    one.say(spoken(HELLO) + silence(5)).say(spoken(ADA) + silence(5))
    usage = [
        event for event in one.events(said.UsageReported) if isinstance(event, said.UsageReported)
    ]
    totals = [event.input_tokens + event.output_tokens for event in usage]
    assert totals == sorted(totals)
    assert totals[0] > 0
    assert usage[-1].input_tokens == usage[-1].speech_in + usage[-1].text_in


def test_the_pause_can_be_set_for_all() -> None:
    quick = Timing(pause_s=0.3, think_s=0.1)
    one = Duet(timing=quick, profile=replace(PROFILES["nova-2"])).open()
    one.say(spoken(HELLO) + silence(0.45))
    assert one.brain.asked == ["hello there"]
