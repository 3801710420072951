from __future__ import annotations

from opusagent.audio.formats import MediaFormat
from opusagent.simulators.caller_playout import PlaySpan
from opusagent.simulators.caller_record import CallRecord, Message, Phrase, check_numbers
from opusagent.simulators.numbered import NumberedFrame


def phrase(began: float, ended: float, *, over_bot: bool = False, wants: bool = True) -> Phrase:
    return Phrase(
        label="words",
        began_at=began,
        ended_at=ended,
        over_bot=over_bot,
        expects_answer=wants,
        first_sample=round(began * 100),
        end_sample=round(ended * 100),
    )


def span(began: float, ended: float, *, cut: bool = False) -> PlaySpan:
    return PlaySpan(
        stream_id="1",
        media_format=MediaFormat.LPCM16_24K,
        opened_at=began,
        began_at=began,
        ended_at=ended,
        cut_at=ended if cut else None,
    )


def record(*, phrases: list[Phrase], played: list[PlaySpan]) -> CallRecord:
    return CallRecord(began_at=0.0, phrases=phrases, played=played)


def frames(*numbers: int, whole: bool = True) -> list[NumberedFrame]:
    return [NumberedFrame(number, 0, whole) for number in numbers]


def test_an_answer_is_the_first_the_bot_says_after_the_words() -> None:
    call = record(phrases=[phrase(1, 2), phrase(6, 7)], played=[span(3.5, 5), span(7.25, 9)])
    assert [a.seconds for a in call.answers()] == [1.5, 0.25]


def test_an_answer_after_the_next_words_is_an_answer_to_those() -> None:
    call = record(phrases=[phrase(1, 2), phrase(3, 4)], played=[span(5, 6)])
    assert [a.seconds for a in call.answers()] == [None, 1.0]


def test_words_that_want_no_answer_are_not_counted() -> None:
    call = record(phrases=[phrase(1, 2, wants=False)], played=[])
    assert call.answers() == []


def test_an_interruption_is_measured_to_the_last_sound_of_the_bot() -> None:
    call = record(
        phrases=[phrase(2, 3, over_bot=True)], played=[span(1, 2.5, cut=True), span(5, 6)]
    )
    call.messages.append(Message(2.25, by_bot=True, name="userStream.speech.started"))
    (over,) = call.interruptions()

    assert over.cut
    assert over.silent_after_s == 0.5
    assert over.told_after_s == 0.25
    assert over.flushed_after_s == 0.25


def test_a_bot_that_goes_on_in_another_stream_was_not_silent_in_between() -> None:
    call = record(phrases=[phrase(2, 3, over_bot=True)], played=[span(1, 2.5), span(2.52, 6)])
    (over,) = call.interruptions()

    assert not over.cut
    assert over.silent_after_s == 4.0
    assert over.told_after_s is None


def test_a_word_about_speech_after_the_bot_was_silent_is_no_interruption() -> None:
    call = record(phrases=[phrase(2, 3, over_bot=True)], played=[span(1, 2.1)])
    call.messages.append(Message(2.3, by_bot=True, name="userStream.speech.started"))
    assert call.interruptions()[0].told_after_s is None


def test_how_much_of_a_phrase_went_out() -> None:
    call = record(phrases=[], played=[])
    call.sent_ranges = [(0, 125), (175, 300)]
    assert call.sent_share(phrase(1, 2)) == 0.5
    assert call.sent_share(phrase(2, 3)) == 1.0
    assert call.sent_share(phrase(4, 5)) == 0.0


def test_times_count_from_the_call() -> None:
    call = record(phrases=[], played=[span(3, 4)])
    call.initiated_at, call.accepted_at = 0.5, 1.25
    assert call.accept_s == 0.75
    assert call.first_bot_audio_s == 1.75


def test_numbers_that_all_came_once_in_order_are_well() -> None:
    assert check_numbers(frames(3, 4, 5), range(3, 6)).ok
    assert check_numbers(frames(3, 4, 5)).ok


def test_no_numbers_at_all_are_not_well() -> None:
    assert not check_numbers([]).ok


def test_what_became_of_each_number_is_told() -> None:
    check = check_numbers([*frames(1, 4, 3, 3, 9), *frames(5, whole=False)], range(1, 6))

    assert check.count == 5
    assert check.lost == (2, 5)
    assert check.doubled == (3,)
    assert check.disordered == 1
    assert check.foreign == (9,)
    assert check.broken == 1
    assert not check.ok
