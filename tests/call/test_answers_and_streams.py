"""What the bot says answers what it was given long enough before; what a stream cannot finish, another does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opusagent.call.events import CloseReason, StreamId, StreamOpened
from opusagent.call.succession import FILTERED
from opusagent.models.session_state import Role
from opusagent.sonic.reader import Stage, StopReason
from tests.call.driver import PLAN, CallDriver, bot_pcm
from tests.call.test_handover import aged, asked, forced, one, ready, switched

ASKED = (
    '[the line broke in the middle of your sentence "{}"; say it once more and finish your answer]'
)
MORE = StopReason.PARTIAL_TURN
BLOCKED = ("validationException", "This request has been blocked by our content filters.")


@pytest.fixture
def call() -> CallDriver:
    driver = CallDriver()
    driver.answer()
    return driver


# What an answer answers


@pytest.mark.parametrize("key_first", [True, False])
def test_a_key_after_one_moment_silences_neither_the_answer_to_it_nor_that_of_the_tool(
    call: CallDriver, *, key_first: bool
) -> None:
    """A sentence before a tool does not end the answer on the wire; after the tool comes another."""
    call.says("One moment.", 1, 1.0, end=MORE)
    call.live.ask("t-1", "lookup", {})
    call.deliver()
    call.quiet(0.3)
    call.phone.dtmf("1")
    call.flush()
    if key_first:
        call.quiet(1.7)  # the key was typed after a second
    else:
        call.quiet(0.2)
        call.tool_done(call.tools[0], {"status": "sent"})
        call.quiet(0.6)
    call.says("Like this.", 2, 1.0)
    call.quiet(2.0)
    assert call.plays()[-1] == {2: 1.0}


def test_what_is_said_during_an_answer_is_not_answered_by_its_next_sentence(
    call: CallDriver,
) -> None:
    call.talk(1.0)
    call.quiet(0.6)
    call.says("Well.", 1, 0.5, end=MORE)
    said = call.talk(1.0)
    call.quiet(0.5)
    call.says("It depends.", 1, 0.5, end=MORE)
    call.breaks()
    call.advance(0.2)
    assert set(said) <= set(call.live.frames)


def test_a_result_is_not_spoken_about_in_the_sentence_that_follows_it_at_once(
    call: CallDriver,
) -> None:
    tool = asked(call)
    call.says("One moment.", 1, 0.5, end=MORE)
    call.tool_done(tool, {"status": "sent"})
    call.quiet(0.2)
    call.says("I am looking.", 1, 0.5, end=MORE)
    call.breaks()
    call.advance(0.2)
    assert any("lookup" in text for text in call.live.typed)


@pytest.mark.parametrize(("pause_s", "end"), [(1.1, MORE), (0.2, StopReason.END_TURN)])
def test_a_sentence_that_begins_later_or_ends_the_answer_has_spoken_about_it(
    call: CallDriver, pause_s: float, end: StopReason
) -> None:
    tool = asked(call)
    call.says("One moment.", 1, 0.5, end=MORE)
    call.tool_done(tool, {"status": "sent"})
    call.quiet(pause_s)
    call.says("It was sent.", 1, 0.5, end=end)
    call.breaks()
    call.advance(0.2)
    assert not any("lookup" in text for text in call.live.typed)


def test_an_answer_that_was_silenced_by_a_key_is_not_the_answer_to_what_is_said_next(
    call: CallDriver,
) -> None:
    call.says("A long story.", 1, 5.0, end=MORE)
    call.phone.dtmf("5")
    call.flush()
    said = call.talk(1.0)
    call.quiet(0.6)
    call.hears("Stop.")
    call.says("I stopped.", 2, 0.5, end=MORE)
    call.breaks()
    call.advance(0.2)
    assert not set(said) & set(call.live.frames)
    assert "Stop." not in call.live.typed


def test_a_text_that_comes_late_for_an_answered_turn_counts_and_one_for_a_replayed_turn_does_not() -> (
    None
):
    call = ready()
    call.talk(0.6)
    call.quiet(0.6)
    call.says("Yes.", 3, 0.5, end=MORE)  # answers what no text has come for
    call.talk(1.0)
    call.interrupts()
    assert switched(call) == [(1, 2, "interrupted")]
    old = one(call, 1)
    for text in ("Is it ready?", "And when?"):
        old.writer.text(Role.USER, Stage.FINAL, [text], StopReason.PARTIAL_TURN)
        call.deliver(old)
    call.quiet(0.6)
    call.hears("And when?")
    assert [text for kind, text in call.said if kind == "input"][-2:] == [
        "Is it ready?",
        "And when?",
    ]


def test_of_a_turn_that_is_replayed_no_late_text_counts_where_that_of_the_answered_one_has_come() -> (
    None
):
    call = ready()
    call.talk(0.6)
    call.quiet(0.6)
    call.says("Yes.", 3, 0.5, end=MORE)
    call.hears("Is it ready?")  # late, but before the switch
    for _ in range(100):
        if not switched(call):
            call.talk(0.2)
    assert switched(call) == [(1, 2, "deadline")]
    old = one(call, 1)
    old.writer.text(Role.USER, Stage.FINAL, ["And when?"], StopReason.PARTIAL_TURN)
    call.deliver(old)
    call.quiet(0.6)
    assert [text for kind, text in call.said if kind == "input"][-1] == "Is it ready?"


# What breaks off


def test_an_answer_that_a_hard_cut_breaks_off_is_finished_by_the_next_stream(
    call: CallDriver,
) -> None:
    call.says("First this.", 1, 0.5, end=MORE)
    call.says("Then that.", 2, 0.5, end=None)
    call.breaks()
    call.advance(0.2)
    assert call.live.typed == [ASKED.format("Then that.")]
    assert "Then that." in str(call.live.told)
    call.says("Then that, and more.", 3, 1.0)
    call.quiet(2.0)
    assert call.plays()[-1] == {3: 1.0}
    call.breaks()
    call.advance(0.2)
    assert call.live.typed == []


def test_nothing_is_finished_when_the_answer_was_complete(call: CallDriver) -> None:
    call.says("All of it.", 1, 5.0)
    call.breaks()
    call.advance(0.2)
    assert call.live.typed == []


def test_nothing_is_finished_while_the_caller_has_the_word(call: CallDriver) -> None:
    call.says("A story.", 1, 0.5, end=None)
    said = call.talk(1.0)
    call.breaks()
    call.advance(0.2)
    assert call.live.typed == []
    assert set(said) <= set(call.live.frames)


def test_nothing_is_finished_that_a_content_filter_has_stopped(call: CallDriver) -> None:
    call.says("A story.", 1, 0.5, end=None)
    call.breaks(*BLOCKED)
    call.advance(0.2)
    assert call.live.typed == [FILTERED]


def test_a_caller_whose_words_a_content_filter_has_stopped_is_told_so(call: CallDriver) -> None:
    call.talk(1.5)
    call.quiet(1.0)
    call.hears("Something that the filter does not like.")
    call.breaks(*BLOCKED)
    call.quiet(0.5)
    assert call.live.typed == [FILTERED]
    assert "does not like" not in str(call.live.told)


def test_a_caller_who_goes_on_speaking_is_not(call: CallDriver) -> None:
    call.talk(1.0)
    call.breaks(*BLOCKED)
    said = call.talk(1.0)
    call.quiet(0.5)
    assert call.live.typed == []
    assert set(said) <= set(call.live.frames)


def test_an_old_stream_that_breaks_in_its_last_answer_leaves_the_rest_to_the_new_one() -> None:
    call = forced()
    call.breaks_stream(one(call, 1), "Ended")
    assert one(call, 2).typed == [ASKED.format("A very long answer.")]


def test_so_does_one_that_takes_too_long_and_its_play_stream_ends_with_what_it_said() -> None:
    call = forced()
    call.quiet(2.1)
    assert one(call, 1).closed is CloseReason.REPLACED
    assert one(call, 1).session_ended
    assert one(call, 2).typed == [ASKED.format("A very long answer.")]
    call.says("Very long.", 3, 1.0)
    call.quiet(10.0)
    ends = [at for at, event in call.heard if type(event).__name__ == "PlayStopped"]
    begins = [at for at, event in call.heard if type(event).__name__ == "PlayStarted"]
    assert begins[-1] - ends[-2] < 0.1


def until_closed_first(call: CallDriver) -> None:
    """Nobody speaks, and every other stream is refused."""
    call.head_s = None
    for _ in range(200):
        call.quiet(0.1)
        if call.report("closed first"):
            return
        if len(call.services) > 1 and call.newest.closed is None:
            call.breaks_standby("ThrottlingException")


def test_where_no_stream_can_be_had_beside_the_old_one_it_is_closed_between_two_answers() -> None:
    call = aged()
    until_closed_first(call)
    age_s = call.report("closed first")[0]["age_s"]
    assert isinstance(age_s, float)
    assert age_s < 33
    assert call.saves[-1].stream_switches[-1].reason == "silence"


def test_where_it_has_to_be_closed_in_mid_answer_the_next_one_finishes_that() -> None:
    call = aged()
    call.quiet(0.2)
    call.says("A very long answer.", 2, 17.0, end=None)
    until_closed_first(call)
    call.handle(StreamOpened(call.newest.id))
    assert call.live.typed == [ASKED.format("A very long answer.")]


# A stream that stops in the middle of a sentence


def stalls(deaf_after_s: float = 6.0) -> CallDriver:
    call = CallDriver(plan=replace(PLAN, deaf_after_s=deaf_after_s))
    call.answer()
    call.says("It will take", 1, 2.0, end=None)
    return call


def test_a_sentence_that_does_not_go_on_is_given_to_another_stream() -> None:
    call = stalls()
    call.quiet(7.9)
    assert not call.report("stream deaf")
    call.quiet(0.5)
    assert call.report("stream deaf") == [{"stream": 1, "kind": "stalled"}]
    assert call.live.typed == [ASKED.format("It will take")]


def test_while_there_is_something_to_play_nothing_stalls() -> None:
    call = stalls()
    call.live.writer.audio(bot_pcm(1, 20.0))
    call.deliver()
    call.quiet(25.0)
    assert not call.report("stream deaf")


def test_between_two_sentences_nothing_stalls() -> None:
    call = stalls()
    call.speaks(1, 0.1, end=MORE)
    call.quiet(30.0)
    assert not call.report("stream deaf")


def test_it_is_not_watched_where_nothing_is() -> None:
    call = stalls(0.0)
    call.quiet(30.0)
    assert not call.report("stream deaf")


# Short sounds


def test_the_beginning_of_a_word_that_nobody_knows_to_be_one_reaches_the_next_stream(
    call: CallDriver,
) -> None:
    call.quiet(1.0)
    said = call.talk(0.04)
    call.breaks()
    call.advance(0.2)
    assert set(said) <= set(call.live.frames)


def test_how_long_the_phone_withholds_is_no_delay_of_the_first_frame(call: CallDriver) -> None:
    call.phone.stop_user_stream()
    call.flush()
    call.breaks()
    call.advance(9.0)
    call.phone.start_user_stream()
    call.quiet(0.1)
    assert len(call.report("first frame")) == 1


def test_a_short_result_and_a_long_one_stand_in_the_history(call: CallDriver) -> None:
    tool = asked(call)
    call.tool_done(tool, {"text": "x" * 3000})
    call.says("It was sent.", 1, 0.5)
    call.breaks()
    call.advance(0.2)
    assert "x" * 3000 in "".join(text for _, text in call.live.told)
    assert call.live.id == StreamId(2)
