from __future__ import annotations

import pytest

from opusagent.call.answer import Answer


def test_an_answer_is_heard_from_its_beginning_to_its_end() -> None:
    answer = Answer()
    assert answer.begins("a", 0.0)
    assert answer.generating(0.0)
    assert answer.sounds("a", 0.1)
    answer.ends()
    assert not answer.generating(0.1)


def test_the_first_audio_of_a_block_is_told_once() -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    assert [answer.is_first("a"), answer.is_first("a"), answer.is_first("b")] == [
        True,
        False,
        False,
    ]


def test_nothing_of_an_answer_is_heard_after_it_was_cut_off() -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    answer.cut(0.1, noticed=True)
    assert not answer.sounds("a", 0.2)
    assert not answer.is_first("a")
    assert answer.begins("b", 0.3)
    assert answer.sounds("b", 0.3)


def test_until_the_model_has_noticed_its_next_blocks_are_not_heard_either() -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    answer.cut(0.1, noticed=False)
    assert not answer.begins("b", 0.2)
    assert not answer.sounds("b", 0.2)
    answer.ends()
    assert answer.begins("c", 0.3)


@pytest.mark.parametrize("cut_first", [True, False])
def test_what_begins_after_the_model_has_waited_for_something_is_not_what_was_cut(
    *, cut_first: bool
) -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    answer.block_ends()
    if cut_first:
        answer.cut(0.1, noticed=False)
        answer.rests()
    else:
        answer.rests()
        answer.cut(0.1, noticed=False)
    assert answer.begins("b", 0.2)
    assert not answer.sounds("a", 0.2)


def test_a_model_that_asks_in_the_middle_of_a_block_does_not_wait() -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    answer.rests()
    answer.cut(0.1, noticed=False)
    assert not answer.begins("b", 0.2)


def test_a_cut_after_the_answer_was_generated_mutes_nothing() -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    answer.ends()
    answer.cut(0.1, noticed=False)
    assert answer.begins("b", 0.2)


def test_the_callers_next_turn_ends_the_muting() -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    answer.cut(0.1, noticed=False)
    answer.unmute()
    assert answer.begins("b", 0.2)
    assert not answer.sounds("a", 0.2)


def test_an_answer_whose_end_is_never_told_is_over_after_three_seconds_without_sound() -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    answer.sounds("a", 1.0)
    assert answer.generating(3.9)
    assert not answer.generating(4.0)
    answer.cut(2.0, noticed=False)
    assert answer.begins("b", 5.0)


def test_a_new_stream_may_use_any_name() -> None:
    answer = Answer()
    answer.begins("a", 0.0)
    answer.cut(0.1, noticed=False)
    answer.stream_lost()
    assert answer.begins("a", 0.2)
    assert answer.sounds("a", 0.2)
