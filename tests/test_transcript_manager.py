from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from opusagent.models.session_state import ConversationItem
from opusagent.transcript_manager import TranscriptManager

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Told:
    """A transcript that is told things about one stream."""

    def __init__(self, stream: int = 1) -> None:
        self.transcript = TranscriptManager()
        self.stream = stream
        self._blocks = 0

    def caller(self, text: str) -> None:
        self.transcript.caller_said(text, stream=self.stream, at=NOW)

    def plans(self, text: str, block: str = "") -> None:
        self._blocks += 1
        self.transcript.bot_plans(
            text, content_id=block or f"t{self._blocks}", stream=self.stream, at=NOW
        )

    def voices(self, block: str) -> None:
        self.transcript.bot_begins(content_id=block, stream=self.stream)
        self.transcript.bot_voices(content_id=block)

    def speaks(self, text: str, block: str) -> None:
        self.plans(text)
        self.voices(block)

    def final(self, text: str) -> None:
        self.transcript.bot_said(text, stream=self.stream, at=NOW)

    def finishes(self) -> None:
        self.transcript.bot_finished(stream=self.stream)

    @property
    def lines(self) -> list[tuple[str, str]]:
        return [(i.type, i.text) for i in self.transcript.get_conversation_context()]


@pytest.fixture
def told() -> Told:
    return Told()


def test_texts_of_the_caller_that_follow_one_another_are_one_turn(told: Told) -> None:
    told.caller("My name ")
    told.caller(" is Ann.")
    assert told.lines == [("input", "My name is Ann.")]


def test_blank_texts_are_no_turns(told: Told) -> None:
    told.caller("  ")
    told.plans(" \n")
    told.final("")
    assert told.lines == []


def test_a_plan_alone_was_not_said(told: Told) -> None:
    told.plans("Hello.")
    assert told.lines == []


def test_a_sentence_counts_once_it_sounds(told: Told) -> None:
    told.plans("Hello.")
    told.transcript.bot_begins(content_id="a", stream=1)
    assert told.lines == []
    told.transcript.bot_voices(content_id="a")
    assert told.lines == [("output", "Hello.")]


def test_final_text_replaces_the_plan_in_its_place(told: Told) -> None:
    told.speaks("Hello there.", "a")
    told.finishes()
    told.caller("Bye.")
    told.speaks("Goodbye.", "b")
    told.final("Hello, there!")
    assert told.lines == [
        ("output", "Hello, there!"),
        ("input", "Bye."),
        ("output", "Goodbye."),
    ]


def test_final_texts_need_not_be_cut_like_the_plans(told: Told) -> None:
    for block, text in enumerate(["One, two.", "Three.", "Four five six."]):
        told.speaks(text, str(block))
    told.final("One, two. Three.")
    told.final("Four five")
    assert told.lines == [("output", "One, two. Three. Four five")]


def stored(told: Told) -> list[str]:
    """What a process that dies now leaves of the bot's words."""
    items = told.transcript.get_conversation_context(given_only=True)
    return [item.text for item in items if item.type == "output"]


def test_a_sentence_that_waits_for_the_phone_is_told_but_not_stored(told: Told) -> None:
    told.speaks("One.", "a")
    told.speaks("Two.", "b")
    assert told.transcript.bot_given(content_id="a")
    assert not told.transcript.bot_given(content_id="a")
    assert stored(told) == ["One."]
    told.final("One.")
    told.final("Two.")
    told.final("And a word that nobody planned.")
    assert stored(told) == ["One."]
    assert told.transcript.bot_given(content_id="b")
    assert stored(told) == ["One. Two. And a word that nobody planned."]
    assert told.lines == [("output", stored(told)[0])]


def test_what_the_model_says_without_any_sound_of_it_is_stored(told: Told) -> None:
    told.final("Hello.")
    assert stored(told) == ["Hello."]


def test_a_rest_that_will_be_heard_is_told_and_stored_only_once_it_is(told: Told) -> None:
    told.speaks("One.", "a")
    told.plans("Two.")
    told.transcript.bot_given(content_id="a")
    told.transcript.bot_will_say(stream=1)
    assert (told.lines, stored(told)) == ([("output", "One. Two.")], ["One."])
    told.voices("b")
    assert stored(told) == ["One."]
    told.transcript.bot_given(content_id="b")
    assert stored(told) == ["One. Two."]


def test_an_answer_waits_until_the_phone_was_given_a_part_of_each_sentence(told: Told) -> None:
    transcript = told.transcript
    told.speaks("One.", "a")
    assert transcript.waits_from == NOW
    transcript.bot_given(content_id="a")
    assert transcript.waits_from is None
    told.plans("Two.")
    assert transcript.waits_from is None  # it has not been said at all
    transcript.bot_will_say(stream=1)
    assert transcript.waits_from == NOW
    told.voices("b")
    told.final("Two.")
    assert transcript.waits_from == NOW
    transcript.bot_given(content_id="b")
    assert transcript.waits_from is None
    told.speaks("Three.", "c")
    transcript.bot_interrupted(heard={"b"}, unheard={"c"})
    assert transcript.waits_from is None
    told.final("Four, of which nobody knew.")
    assert transcript.waits_from is None


def test_an_answer_of_long_ago_waits_no_more(told: Told) -> None:
    told.speaks("This lost its sound.", "a")
    told.finishes()
    for number in range(4):
        assert told.transcript.waits_from == NOW
        told.speaks("More.", f"b{number}")
        told.transcript.bot_given(content_id=f"b{number}")
        told.finishes()
    assert told.transcript.waits_from is None


def test_what_becomes_of_an_answer_is_seen_each_time_it_is_read(told: Told) -> None:
    told.speaks("One.", "a")
    context = told.transcript.get_conversation_context
    (before,) = context()
    assert context()[0] is before  # made once
    assert context(given_only=True) == []
    told.transcript.bot_given(content_id="a")
    (given,) = context(given_only=True)
    assert given.unfinished
    told.finishes()
    assert not context(given_only=True)[0].unfinished
    assert not before.interrupted
    told.transcript.bot_interrupted(heard={"a"}, unheard=set())
    assert context()[0].interrupted
    told.final("One. And more.")
    assert context()[0].text == "One. And more."


def test_a_rest_that_does_not_come_after_all_was_not_said(told: Told) -> None:
    told.speaks("One.", "a")
    told.plans("Two.")
    told.transcript.bot_will_say(stream=1)
    told.finishes()
    assert told.lines == [("output", "One.")]


def test_a_rest_that_is_cut_off_before_it_sounds_was_not_said(told: Told) -> None:
    told.speaks("One.", "a")
    told.plans("Two.")
    told.transcript.bot_will_say(stream=1)
    told.transcript.bot_interrupted(heard={"a"}, unheard=set())
    assert told.lines == [("output", "One.")]


def test_a_plan_in_several_texts_of_a_block_is_one_sentence(told: Told) -> None:
    told.plans("One,", "t")
    told.plans("two.", "t")
    told.plans("Three.", "u")
    told.voices("a")
    assert told.lines == [("output", "One, two.")]


def test_a_word_that_begins_like_another_is_another(told: Told) -> None:
    told.speaks("I.", "a")
    told.speaks("It is late.", "b")
    told.final("It is late.")
    told.final("I.")
    assert told.lines == [("output", "I. It is late.")]


def test_another_wording_replaces_the_sentence_that_it_resembles(told: Told) -> None:
    told.speaks("Your balance is 20 pounds.", "a")
    told.speaks("Anything else?", "b")
    told.final("Your balance is twenty pounds.")
    assert told.lines == [("output", "Your balance is twenty pounds. Anything else?")]


def test_words_that_were_never_planned_are_added(told: Told) -> None:
    told.speaks("Hello.", "a")
    told.final("Hello.")
    told.final("By the way, it rains.")
    assert told.lines == [("output", "Hello. By the way, it rains.")]


def test_words_without_any_plan_are_a_turn(told: Told) -> None:
    told.caller("Hi.")
    told.final("Hello.")
    assert told.lines == [("input", "Hi."), ("output", "Hello.")]


def test_punctuation_alone_says_nothing(told: Told) -> None:
    told.speaks("Hello.", "a")
    told.final("...")
    assert told.lines == [("output", "Hello.")]


def test_the_same_sentence_twice_is_said_twice(told: Told) -> None:
    for block in "ab":
        told.speaks("Sorry?", block)
        told.finishes()
        told.caller("What?")
    told.final("Sorry?")
    told.final("Sorry?")
    assert [text for kind, text in told.lines if kind == "output"] == ["Sorry?", "Sorry?"]


def test_what_was_cut_off_unheard_is_not_said(told: Told) -> None:
    for block in "abc":
        told.speaks(f"Sentence {block}.", block)
    told.transcript.bot_interrupted(heard={"a"}, unheard={"b", "c"})
    assert told.lines == [("output", "Sentence a.")]
    (item,) = told.transcript.get_conversation_context()
    assert item.interrupted


def test_what_was_cut_off_unheard_is_not_said_though_the_model_thinks_so(told: Told) -> None:
    told.speaks("One.", "a")
    told.speaks("Two.", "b")
    told.final("Two.")
    told.transcript.bot_interrupted(heard={"a"}, unheard={"b"})
    told.final("One.")
    told.final("Two.")
    assert told.lines == [("output", "One.")]


def test_a_plan_that_never_sounded_before_a_cut_does_not_name_the_next_answer(told: Told) -> None:
    told.speaks("One.", "a")
    told.plans("Two.")
    told.transcript.bot_interrupted(heard={"a"}, unheard=set())
    told.speaks("Sorry.", "b")
    assert told.lines == [("output", "One."), ("output", "Sorry.")]


def test_a_block_that_will_not_be_played_is_not_said(told: Told) -> None:
    told.plans("One.")
    told.transcript.bot_begins(content_id="a", stream=1)
    told.transcript.bot_unheard(content_id="a")
    told.final("One.")
    assert told.lines == []


def test_an_interruption_of_something_else_leaves_the_answers_alone(told: Told) -> None:
    told.speaks("One.", "a")
    told.transcript.bot_interrupted(heard={"comfort"}, unheard=set())
    (item,) = told.transcript.get_conversation_context()
    assert not item.interrupted


def test_an_answer_of_a_lost_stream_is_cut_off_like_any_other(told: Told) -> None:
    told.speaks("One.", "a")
    told.speaks("Two.", "b")
    told.stream = 2
    told.transcript.bot_interrupted(heard={"a"}, unheard={"b"})
    assert told.lines == [("output", "One.")]


def test_streams_keep_their_answers_apart(told: Told) -> None:
    told.speaks("One.", "a")
    told.stream = 2
    told.speaks("Two.", "b")
    told.stream = 1
    told.final("One!")
    assert told.lines == [("output", "One!"), ("output", "Two.")]


def test_a_recording_is_said_and_can_be_cut_off(told: Told) -> None:
    told.transcript.bot_recorded("Welcome.", content_id="greeting", at=NOW)
    assert told.lines == [("output", "Welcome.")]
    told.transcript.bot_interrupted(heard={"greeting"}, unheard=set())
    (item,) = told.transcript.get_conversation_context()
    assert item.interrupted


def test_the_last_exchange_can_be_forgotten(told: Told) -> None:
    told.caller("One.")
    told.speaks("Yes.", "a")
    told.caller("Two.")
    told.speaks("No.", "b")
    told.transcript.drop_last_exchange()
    assert told.lines == [("input", "One."), ("output", "Yes.")]


def test_stored_turns_are_taken_up_with_all_that_stands_in_them(told: Told) -> None:
    told.caller("Forget me.")
    stored: list[ConversationItem | Mapping[str, JsonValue]] = [
        {"type": "input", "text": "Hi."},
        ConversationItem(type="output", text="Hello.", at=NOW, interrupted=True),
        {"type": "output", "text": "Again.", "confidence": 0.5},
    ]
    told.transcript.restore_conversation_context(stored, at=NOW)
    items = told.transcript.get_conversation_context()
    assert [(i.type, i.text, i.at, i.interrupted) for i in items] == [
        ("input", "Hi.", NOW, False),
        ("output", "Hello.", NOW, True),
        ("output", "Again.", NOW, False),
    ]
    assert items[2].model_extra == {"confidence": 0.5}
    told.final("Hello.")
    assert told.lines[1] == ("output", "Hello.")
    told.transcript.clear_conversation_context()
    assert told.lines == []


_word = st.sampled_from(["yes", "no", "It", "is", "I", "late", "20", "...", "é", "well,"])
_sentence = st.lists(_word, min_size=1, max_size=5).map(" ".join)


@given(st.lists(_sentence, min_size=1, max_size=6), st.data())
def test_an_answer_that_is_confirmed_word_for_word_reads_as_it_was_planned(
    sentences: list[str], data: st.DataObject
) -> None:
    told = Told()
    for number, sentence in enumerate(sentences):
        told.speaks(sentence, str(number))
    told.finishes()
    if data.draw(st.booleans()):
        told.caller("And now?")
    for sentence in sentences:
        told.final(sentence)
    assert told.lines[0] == ("output", " ".join(sentences))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("caller"), _sentence),
            st.tuples(st.just("speaks"), _sentence),
            st.tuples(st.just("final"), _sentence),
            st.tuples(st.just("plans"), _sentence),
            st.tuples(st.just("finish"), st.just("")),
        )
    )
)
def test_whatever_is_told_every_caller_text_is_kept_in_order(
    steps: list[tuple[str, str]],
) -> None:
    told = Told()
    said = []
    for number, (step, text) in enumerate(steps):
        match step:
            case "caller":
                told.caller(text)
                said.append(text)
            case "speaks":
                told.speaks(text, str(number))
            case "final":
                told.final(text)
            case "plans":
                told.plans(text)
            case _:
                told.finishes()
    kept = " ".join(text for kind, text in told.lines if kind == "input")
    assert kept == " ".join(said)
