from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from opusagent.models.session_state import Role, Turn
from opusagent.simulators.brain import PhraseEars, ScenarioBrain
from opusagent.simulators.hearing import PhraseBook
from opusagent.simulators.scenario import Scenario
from opusagent.simulators.voice import BOT, EspeakVoice, ToneVoice
from opusagent.sonic.peer_brain import Brain, Ears, PeerContext, ToolAnswer, ToolAsk

SCENARIO = Scenario.model_validate(
    tomllib.loads(r"""
name = "test"
description = "All that a brain can do."
[bot]
unknown = ["Pardon?"]
forgets = ["I do not know."]
[[typed]]
pattern = "greet"
answer = ["Welcome."]
[[typed]]
pattern = 'pressed: (?P<keys>[0-9 ]+)'
answer = ["You pressed {keys}."]
[[phrase]]
id = "name"
text = "My name is Alice Miller."
facts = { name = "Alice Miller", greeting = "Ms Miller" }
answer = ["Thank you, {name}."]
[[phrase]]
id = "ask"
text = "What is my name?"
answer = ["Your name is {name}.", "Good day, {greeting}."]
forgets = ["You never told me."]
[[phrase]]
id = "keys"
text = "Which keys?"
answer = ["{keys}."]
[[phrase]]
id = "order"
text = "Where is my order?"
answer = ["Let me see."]
[[phrase.tools]]
name = "find_order"
arguments = { customer = "{name}", page = 1, tags = ["{keys}", "new"], open = true }
answer = ["It is in {result.place.city}.", "It comes in {result.days} days."]
failed = ["The computer is down."]
[[phrase]]
id = "silent"
text = "Look it up."
tools = [{ name = "look", answer = ["Done."] }]
[[step]]
do = "wait"
""")
)
TELLS, ASKS = "My name is Alice Miller.", "What is my name?"


@pytest.fixture
def brain() -> ScenarioBrain:
    return ScenarioBrain(SCENARIO, ToneVoice(BOT))


def told(*texts: str, role: Role = Role.USER) -> PeerContext:
    return PeerContext(conversation=tuple(Turn(role=role, text=text) for text in texts))


def answered(name: str, result: dict[str, JsonValue]) -> ToolAnswer:
    return ToolAnswer(tool_use_id="1", name=name, result=result)


def test_a_fact_is_learned_and_given_back(brain: ScenarioBrain) -> None:
    assert brain.reply(TELLS, told()).sentences == ("Thank you, Alice Miller.",)
    assert brain.reply(ASKS, told(TELLS)).sentences == (
        "Your name is Alice Miller.",
        "Good day, Ms Miller.",
    )


def test_what_was_never_told_is_not_known(brain: ScenarioBrain) -> None:
    assert brain.reply(ASKS, told()).sentences == ("You never told me.",)
    assert brain.reply("Which keys?", told()).sentences == ("I do not know.",)


def test_what_the_bot_itself_said_tells_it_nothing(brain: ScenarioBrain) -> None:
    assert brain.reply(ASKS, told(TELLS, role=Role.ASSISTANT)).sentences == ("You never told me.",)


def test_two_phrases_in_one_utterance_are_both_answered(brain: ScenarioBrain) -> None:
    assert brain.reply(f"{TELLS} {ASKS}", told()).sentences == (
        "Thank you, Alice Miller.",
        "Your name is Alice Miller.",
        "Good day, Ms Miller.",
    )


@pytest.mark.parametrize(
    ("heard", "answer"),
    [
        ("… name is Alice Miller.", "Thank you, Alice Miller."),
        ("My … Alice Miller.", "Thank you, Alice Miller."),
        ("My name is Alice …", "I do not know."),
        ("… Miller.", "I do not know."),
    ],
)
def test_a_clipped_phrase_is_understood_but_a_clipped_fact_is_not_learned(
    brain: ScenarioBrain, heard: str, answer: str
) -> None:
    assert brain.reply(heard, told()).sentences == (answer,)


def test_a_fact_in_other_words_needs_the_whole_phrase(brain: ScenarioBrain) -> None:
    assert brain.reply(ASKS, told("… is Alice Miller.")).sentences == ("You never told me.",)


def test_a_clipped_end_followed_by_a_phrase_is_two_phrases(brain: ScenarioBrain) -> None:
    assert brain.reply(f"My name … {ASKS}", told()).sentences == (
        "I do not know.",
        "You never told me.",
    )


def test_unknown_speech_gets_the_answer_to_unknown_speech(brain: ScenarioBrain) -> None:
    assert brain.reply("Colourless green ideas.", told()).sentences == ("Pardon?",)


def test_a_noise_gets_no_answer(brain: ScenarioBrain) -> None:
    assert brain.reply("", told()).sentences == ()


def test_typed_text_is_answered_by_its_rule_and_remembered(brain: ScenarioBrain) -> None:
    assert brain.reply("[Please greet the caller.]", told()).sentences == ("Welcome.",)
    assert brain.reply("Keys pressed: 1 2", told()).sentences == ("You pressed 1 2.",)
    assert brain.reply("Which keys?", told("Keys pressed: 1 2")).sentences == ("1 2.",)


def test_a_tool_is_asked_for_with_what_is_known(brain: ScenarioBrain) -> None:
    reply = brain.reply("Where is my order?", told(TELLS))
    assert reply.sentences == ("Let me see.",)
    arguments: JsonValue = {
        "customer": "Alice Miller",
        "page": 1,
        "tags": ["", "new"],
        "open": True,
    }
    assert reply.tools == (ToolAsk("find_order", arguments),)


def test_a_tool_can_be_asked_for_without_a_word(brain: ScenarioBrain) -> None:
    reply = brain.reply("Look it up.", told())
    assert (reply.sentences, reply.tools) == ((), (ToolAsk("look", {}),))


def test_a_result_is_spoken(brain: ScenarioBrain) -> None:
    context = told("Where is my order?")
    result: dict[str, JsonValue] = {"place": {"city": "Ulm"}, "days": 3}
    reply = brain.after_tools([answered("find_order", result)], context)
    assert reply.sentences == ("It is in Ulm.", "It comes in 3 days.")


def test_a_result_without_the_field_is_not_known(brain: ScenarioBrain) -> None:
    reply = brain.after_tools([answered("find_order", {"days": 3})], told())
    assert reply.sentences == ("I do not know.",)


def test_a_failed_tool_is_admitted(brain: ScenarioBrain) -> None:
    reply = brain.after_tools([answered("find_order", {"error": "timeout"})], told())
    assert reply.sentences == ("The computer is down.",)


def test_a_tool_of_no_phrase_says_nothing(brain: ScenarioBrain) -> None:
    assert brain.after_tools([answered("other", {})], told()).sentences == ()


def test_ears_and_brain_are_what_the_peer_asks_for(caller_voice: EspeakVoice) -> None:
    ears = PhraseEars(PhraseBook(SCENARIO.phrases, caller_voice))
    brain = ScenarioBrain(SCENARIO, ToneVoice(BOT))
    peer_ears: Ears = ears
    peer_brain: Brain = brain
    pcm = caller_voice.speak(TELLS, 8_000) + bytes(1600) + caller_voice.speak(ASKS, 8_000)
    heard = peer_ears.hear(pcm, 8_000)
    assert heard.text == f"{TELLS} {ASKS}"
    assert [phrase.phrase_id for phrase in ears.heard[0]] == ["name", "ask"]
    assert peer_brain.speak("Hello.", 8_000) == ToneVoice(BOT).speak("Hello.", 8_000)
    assert peer_ears.hear(bytes(16_000), 8_000).text == ""


@given(st.lists(st.sampled_from([*TELLS.split(), *ASKS.split(), "…", "1", "keys"])).map(" ".join))
def test_any_words_get_an_answer_that_is_complete(heard: str) -> None:
    reply = ScenarioBrain(SCENARIO, ToneVoice(BOT)).reply(heard, told(heard))
    assert bool(reply.sentences) == bool(heard)
    assert not any("{" in sentence for sentence in reply.sentences)


CHAIN = Scenario.model_validate(
    tomllib.loads(r"""
name = "chain"
description = "A tool after a tool of the same name."
[[phrase]]
id = "enter"
text = "Let me in."
answer = ["Your number."]
[[phrase.tools]]
name = "collect"
arguments = { input = "number" }
answer = ["Your PIN."]
[[phrase.tools.tools]]
name = "collect"
arguments = { input = "pin" }
answer = ["Come in, {result.who}."]
failed = ["No."]
[[step]]
do = "wait"
""")
)


def test_a_tool_may_follow_a_tool_of_the_same_name() -> None:
    brain = ScenarioBrain(CHAIN, ToneVoice(BOT))
    first = brain.reply("Let me in.", PeerContext())
    assert first.tools == (ToolAsk("collect", {"input": "number"}),)
    second = brain.after_tools([ToolAnswer("1", "collect", {"digits": "12"})], PeerContext())
    assert (second.sentences, second.tools) == (
        ("Your PIN.",),
        (ToolAsk("collect", {"input": "pin"}),),
    )
    third = brain.after_tools([ToolAnswer("2", "collect", {"who": "Ann"})], PeerContext())
    assert (third.sentences, third.tools) == (("Come in, Ann.",), ())


def test_nothing_follows_a_tool_that_failed() -> None:
    brain = ScenarioBrain(CHAIN, ToneVoice(BOT))
    brain.reply("Let me in.", PeerContext())
    failed = brain.after_tools([ToolAnswer("1", "collect", {"error": "late"})], PeerContext())
    assert failed.tools == ()
