"""Opening, losing and replacing streams, and what the next one is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opusagent.audiocodes.peer_events import PlayStarted, PlayStopped, Refused
from opusagent.call.events import (
    CloseReason,
    EndedBy,
    HangUp,
    StreamId,
    StreamLost,
    StreamOpened,
)
from opusagent.models.agent import Greeting
from opusagent.models.session_state import Role
from opusagent.sonic.failures import classify
from opusagent.sonic.reader import Stage, StopReason
from tests.call.driver import PLAN, T0, CallDriver, Service, with_agent

THROTTLED = ("ThrottlingException", "Too many requests")
FILTERED = ("validationException", "This request has been blocked by our content filters.")
REFUSED = ("validationException", "Invalid input request, please fix your input and try again.")
TIMED_OUT = ("modelTimeoutException", "Model has timed out in processing the request.")


@pytest.fixture
def waiting() -> CallDriver:
    """A call that was initiated; the test says what becomes of its stream."""
    driver = CallDriver(head_s=None)
    driver.initiate()
    return driver


def opened(call: CallDriver) -> Service:
    call.handle(StreamOpened(call.live.id))
    return call.live


def seconds(service: Service) -> float:
    return len(service.audio) / 2 / 16_000


# At the start of a call


def test_what_cannot_be_retried_ends_the_call_at_once(waiting: CallDriver) -> None:
    waiting.advance(0.3)
    waiting.breaks("AccessDeniedException")
    assert waiting.refused == "the assistant is not available"
    assert waiting.outcome is not None
    assert waiting.outcome.by is EndedBy.FAILURE
    assert waiting.outcome.reason == "AccessDeniedException"
    waiting.assert_lawful_end()


def test_a_fatal_failure_after_the_acceptance_ends_the_call_as_well(waiting: CallDriver) -> None:
    waiting.advance(2.0)
    waiting.start()
    waiting.breaks("ResourceNotFoundException")
    assert waiting.refused is not None
    assert waiting.now - T0 < 3.0


def test_a_head_that_does_not_come_within_three_seconds_is_a_new_try(waiting: CallDriver) -> None:
    waiting.advance(2.99)
    assert len(waiting.services) == 1
    waiting.advance(1.02)
    assert waiting.services[StreamId(1)].closed is CloseReason.NO_HEAD
    assert len(waiting.services) == 2
    opened(waiting)
    waiting.start()
    assert waiting.talk(0.2) == waiting.live.frames


def test_a_late_head_of_a_stream_that_was_given_up_changes_nothing(waiting: CallDriver) -> None:
    waiting.advance(4.1)
    waiting.handle(StreamOpened(StreamId(1)))
    assert not waiting.live.audio
    opened(waiting)
    assert waiting.live.audio


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_throttling_is_retried_with_jitter(chance: float) -> None:
    call = CallDriver(head_s=None, random=lambda: chance)
    call.initiate()
    waits = []
    for _ in range(3):
        call.advance(0.05)
        before, at = len(call.services), call.now
        call.breaks(*THROTTLED)
        while len(call.services) == before:
            call.advance(0.01)
        waits.append(call.now - at)
    expected = [(0.5 + 0.5 * chance) * wait for wait in (1.0, 2.0, 4.0)]
    assert waits == pytest.approx(expected, abs=0.02)


def test_while_the_service_is_throttled_the_caller_hears_a_tone(waiting: CallDriver) -> None:
    waiting.breaks(*THROTTLED)
    waiting.until(T0 + 1.06)
    waiting.start()
    waiting.until(T0 + 1.99)
    assert not list(waiting.times(PlayStarted))
    waiting.until(T0 + 2.6)
    assert len(list(waiting.times(PlayStarted))) == 1


def test_the_tone_comes_again_and_leaves_the_caller_a_gap(waiting: CallDriver) -> None:
    waiting.advance(1.0)
    waiting.start()
    waiting.advance(8.0)
    starts, ends = list(waiting.times(PlayStarted)), list(waiting.times(PlayStopped))
    assert len(starts) >= 2
    for end, start in zip(ends, starts[1:], strict=False):
        assert start - end >= 1.0


def test_the_tone_is_not_played_over_the_caller(waiting: CallDriver) -> None:
    waiting.advance(1.0)
    waiting.start()
    waiting.talk(3.0)
    assert not list(waiting.times(PlayStarted))
    waiting.quiet(1.0)
    assert list(waiting.times(PlayStarted))


def test_a_call_that_ends_in_the_middle_of_the_tone_waits_for_nothing(waiting: CallDriver) -> None:
    """A timer that stays due would keep the processor busy until the phone has left."""
    waiting.advance(1.0)
    waiting.start()
    waiting.advance(1.5)
    assert waiting.play_is_open
    waiting.handle(HangUp("done"))
    waiting.advance(3.0)  # fails where a timer does not move on
    assert len(list(waiting.times(PlayStarted))) == 1


def test_the_tone_stops_when_a_stream_is_there(waiting: CallDriver) -> None:
    waiting.advance(1.0)
    waiting.start()
    waiting.advance(1.5)
    assert waiting.play_is_open
    opened(waiting)
    assert not waiting.play_is_open
    waiting.says("Hello.", 7, 0.5)
    waiting.advance(1.0)
    assert waiting.plays()[-1] == {7: 0.5}


def test_after_ten_seconds_without_a_stream_the_call_is_handed_back(waiting: CallDriver) -> None:
    waiting.advance(9.99)
    assert waiting.refused is None
    waiting.advance(0.02)
    assert waiting.refused == "the assistant is not available"
    assert waiting.outcome is not None
    assert waiting.outcome.by is EndedBy.FAILURE
    waiting.assert_lawful_end()


def test_a_request_that_is_refused_without_a_history_ends_the_call_within_three_seconds(
    waiting: CallDriver,
) -> None:
    for _ in range(2):
        waiting.advance(0.3)
        opened(waiting)
        waiting.advance(0.3)
        waiting.breaks(*REFUSED)
    assert waiting.refused is not None
    assert waiting.now - T0 < 3.0


def test_credentials_are_refreshed_and_the_stream_is_tried_again(waiting: CallDriver) -> None:
    waiting.breaks("ExpiredTokenException")
    assert len(waiting.services) == 2
    for _ in range(3):
        waiting.breaks("ExpiredTokenException")
        waiting.advance(1.1)
    assert waiting.refused is not None


def test_a_stream_that_closes_without_a_word_is_replaced_unheard(talking: CallDriver) -> None:
    """One deployment saw it in every tenth call; the caller hears nothing odd."""
    question = talking.talk(1.0)
    talking.quiet(1.0)
    talking.hears("What is my balance?")
    talking.plans("It is")
    talking.live.writer.start_audio()
    talking.deliver()
    talking.breaks("Ended")
    talking.advance(0.1)
    assert talking.live.typed == ["What is my balance?"]
    assert talking.live.told == []
    assert not set(question) & set(talking.live.frames)
    assert talking.said == [("input", "What is my balance?")]


def test_a_service_whose_streams_keep_dying_is_given_up(talking: CallDriver) -> None:
    for _ in range(20):
        if talking.outcome is not None:
            break
        talking.breaks("Ended")
        talking.advance(2.2)
    assert talking.refused is not None
    assert len(talking.services) <= 6


def test_ten_seconds_count_from_the_last_time_that_there_was_a_stream(talking: CallDriver) -> None:
    talking.advance(20.0)
    talking.head_s = 9.0
    talking.breaks("ConnectionLost")
    talking.head_s = 0.1
    talking.advance(9.5)
    talking.breaks("ConnectionLost")
    talking.advance(3.0)
    assert talking.refused is None


# Mid-call loss


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ConnectionLost", ""),
        ("Ended", ""),
        ("SendTimeout", ""),
        ("Undecodable", ""),
        TIMED_OUT,
        ("validationException", "InternalErrorCode=531::RST_STREAM closed stream."),
        ("validationException", "InternalErrorCode=532::Timed out waiting for audio bytes"),
        ("internalServerException", ""),
        ("weirdException", "never heard of"),
    ],
)
def test_a_loss_opens_a_new_stream_with_the_history_and_the_unanswered_speech(
    talking: CallDriver, code: str, message: str
) -> None:
    talking.talk(1.0)
    talking.quiet(1.0)
    talking.hears("My name is Ann.")
    talking.says("Hello Ann.", 1, 1.0)
    talking.confirms("Hello Ann.")
    talking.quiet(12.0)
    said = talking.talk(0.8)
    talking.breaks(code, message)
    said += talking.talk(0.8)  # 0.1 s of it without a stream
    new = talking.services[StreamId(2)]
    assert new.told == [("USER", "My name is Ann."), ("ASSISTANT", "Hello Ann.")]
    replayed = [number for number in new.frames if number in set(said)]
    assert replayed == said
    assert new.frames == sorted(set(new.frames))
    assert new.typed == []
    assert talking.services[StreamId(1)].closed is CloseReason.LOST


def test_speech_is_replayed_with_half_a_second_before_it(talking: CallDriver) -> None:
    before = talking.quiet(2.0)
    said = talking.talk(0.5)
    talking.breaks()
    talking.advance(0.1)
    frames = talking.live.frames
    assert frames == [*before[-(len(frames) - len(said)) :], *said]
    assert 20 <= len(frames) - len(said) <= 27


def test_silence_is_not_replayed(talking: CallDriver) -> None:
    talking.quiet(5.0)
    talking.breaks()
    talking.advance(0.1)
    assert talking.live.frames == []


def test_an_answered_turn_is_never_replayed(talking: CallDriver) -> None:
    talking.talk(1.0)
    talking.quiet(0.6)
    talking.says("I answer before I tell what I heard.", 1, 1.0)
    talking.quiet(0.2)
    talking.breaks()
    talking.advance(0.1)
    assert talking.live.frames == []
    assert talking.live.typed == []


def test_a_turn_with_text_and_no_answer_is_typed_and_not_replayed(talking: CallDriver) -> None:
    talking.talk(1.0)
    talking.quiet(1.0)
    talking.hears("What is my balance?")
    talking.breaks()
    talking.advance(0.1)
    assert talking.live.typed == ["What is my balance?"]
    assert talking.live.told == []
    assert talking.live.frames == []
    assert talking.live.audio_when_typed[0] >= 0.068 * 32_000


def test_a_typed_turn_is_owed_until_it_is_answered_through_any_number_of_losses(
    talking: CallDriver,
) -> None:
    talking.talk(1.0)
    talking.quiet(1.0)
    talking.hears("What is my balance?")
    for _ in range(3):
        talking.breaks()
        talking.advance(1.1)
        assert talking.live.typed == ["What is my balance?"]
    talking.says("Ten pounds.", 1, 0.5)
    talking.advance(1.0)
    talking.breaks()
    talking.advance(2.2)
    assert talking.live.typed == []
    assert talking.live.told == [("USER", "What is my balance?"), ("ASSISTANT", "Ten pounds.")]


def test_new_speech_after_an_unanswered_text_is_replayed_after_it(talking: CallDriver) -> None:
    talking.talk(1.0)
    talking.quiet(1.5)
    talking.hears("What is my balance?")
    talking.quiet(0.5)
    said = talking.talk(0.5)
    talking.breaks()
    talking.advance(0.1)
    assert talking.live.typed == ["What is my balance?"]
    assert set(said) <= set(talking.live.frames)
    assert talking.live.audio_when_typed == [3200]  # the typed turn is older than the speech


def test_speech_that_begins_as_the_text_of_the_last_turn_comes_is_not_clipped(
    talking: CallDriver,
) -> None:
    talking.talk(1.0)
    talking.quiet(1.5)
    said = talking.talk(0.04)  # too short for the detector yet
    talking.hears("What is my balance?")
    said += talking.talk(0.5)
    talking.breaks()
    talking.advance(0.1)
    assert set(said) <= set(talking.live.frames)


def test_of_a_long_speech_that_is_told_in_parts_no_part_is_given_twice(
    talking: CallDriver,
) -> None:
    first = talking.talk(5.0)
    talking.hears("The first half of a long story")
    second = talking.talk(1.0)
    talking.breaks()
    talking.advance(0.1)
    assert talking.live.typed == ["The first half of a long story"]
    assert not set(first[:140]) & set(talking.live.frames)
    assert set(second) <= set(talking.live.frames)


def test_speech_that_the_phone_cut_off_is_not_replayed_once_it_has_its_text(
    talking: CallDriver,
) -> None:
    talking.talk(1.0)
    talking.phone.stop_user_stream()
    talking.flush()
    talking.advance(2.0)
    talking.hears("What is my balance?")
    talking.breaks()
    talking.advance(0.1)
    assert talking.live.frames == []
    assert talking.live.typed == ["What is my balance?"]


def test_a_turn_of_before_the_loss_that_nobody_owes_stays_in_the_history(
    talking: CallDriver,
) -> None:
    talking.hears("My name is Ann.")
    talking.live.ask("t-1", "lookup", {})
    talking.deliver()
    talking.hears("Are you there?")
    talking.breaks()
    talking.advance(0.1)
    assert talking.live.typed == ["Are you there?"]
    assert talking.live.told[0] == ("USER", "My name is Ann.")


def test_the_bots_last_words_are_played_to_their_end_after_the_stream_is_lost(
    talking: CallDriver,
) -> None:
    talking.says("A long sentence.", 1, 2.0, None)
    talking.breaks()
    talking.advance(3.0)
    assert talking.plays() == [{1: 2.0}]
    assert not talking.play_is_open


def test_the_next_answer_waits_for_the_last_words_and_has_a_stream_of_its_own(
    talking: CallDriver,
) -> None:
    talking.says("A long sentence.", 1, 2.0, None)
    talking.breaks()
    talking.advance(0.2)
    talking.says("And another.", 2, 1.0)
    talking.advance(4.0)
    assert talking.plays() == [{1: 2.0}, {2: 1.0}]


def test_text_of_the_caller_from_a_stream_that_was_replaced_is_ignored(
    talking: CallDriver,
) -> None:
    old = talking.live
    talking.breaks()
    talking.advance(0.1)
    old.writer.text(Role.USER, Stage.FINAL, ["Ghost."], StopReason.PARTIAL_TURN)
    talking.deliver(old)
    talking.says("Hello.", 1, 0.5)
    talking.confirms("Hello.")
    assert talking.said == [("output", "Hello.")]


def test_a_final_text_from_a_stream_that_was_replaced_finds_its_place(talking: CallDriver) -> None:
    old = talking.live
    talking.hears("Hi.")
    talking.says("Hello there.", 1, 0.5)
    talking.breaks()
    talking.advance(0.1)
    talking.hears("Bye.")
    talking.confirms("Hello, there!", old)
    assert talking.said == [("input", "Hi."), ("output", "Hello, there!"), ("input", "Bye.")]


def test_a_content_filter_takes_the_last_exchange_with_it(talking: CallDriver) -> None:
    talking.hears("My name is Ann.")
    talking.says("Hello Ann.", 1, 0.5)
    talking.advance(1.0)
    talking.talk(1.0)
    talking.quiet(1.0)
    talking.hears("Something unspeakable.")
    talking.breaks(*FILTERED)
    talking.advance(0.3)
    assert talking.live.told == [("USER", "My name is Ann."), ("ASSISTANT", "Hello Ann.")]
    assert "unspeakable" not in str(talking.live.typed)
    assert talking.live.frames == []


def test_speech_that_a_content_filter_refused_before_it_had_a_text_is_not_given_again(
    talking: CallDriver,
) -> None:
    talking.talk(1.0)
    talking.breaks(*FILTERED)
    talking.advance(0.3)
    assert talking.live.frames == []


def test_two_streams_that_die_soon_after_a_history_give_way_to_a_summary(
    talking: CallDriver,
) -> None:
    talking.hears("My name is Ann.")
    talking.says("Hello Ann.", 1, 0.5)
    talking.confirms("Hello Ann.")
    talking.advance(20.0)
    talking.breaks(*TIMED_OUT)
    for _ in range(2):
        talking.advance(5.0)
        assert talking.live.told != []
        talking.breaks(*TIMED_OUT)
    talking.advance(5.0)
    assert talking.live.told == []
    assert "My name is Ann." in talking.live.system_prompt
    assert talking.live.system_prompt.startswith("You answer the telephone.")
    talking.advance(20.0)
    talking.breaks(*TIMED_OUT)
    talking.advance(1.0)
    assert talking.live.told != []


def test_a_history_that_is_refused_is_halved_and_then_left_out() -> None:
    call = CallDriver(plan=replace(PLAN, max_history_bytes=1_000))
    call.answer()
    for number in range(40):
        call.hears(f"This is line {number} of the caller.")
        call.says(f"This is line {number} of the bot.", 1, 0.1)
        call.advance(0.3)
    sizes = []
    for _ in range(3):
        call.breaks(*REFUSED)
        call.advance(1.0)
        sizes.append(sum(len(turn.text) for turn in call.live.history))
    assert 500 < sizes[0] <= 1_000  # the stream had lived: its end says nothing about a history
    assert 0 < sizes[1] <= 500
    assert sizes[2] == 0


def test_a_history_keeps_the_limits_of_the_service(talking: CallDriver) -> None:
    talking.says("First of all, welcome.", 1, 0.1)
    for number in range(60):
        talking.hears(f"{number} " + "ä" * 900)
        talking.says(f"{number} " + "ß" * 900, 1, 0.1)
        talking.advance(0.2)
    talking.breaks()
    talking.advance(0.2)
    texts = [turn.text for turn in talking.live.history]
    assert sum(len(text.encode()) for text in texts) <= 40_000
    assert "earlier turns are not shown" in texts[0]
    report = talking.report("stream opened")[-1]
    assert report["history_items"] == len(texts)


def test_a_loss_is_reported_with_its_cause_and_what_was_done(talking: CallDriver) -> None:
    talking.talk(1.0)
    talking.breaks(*TIMED_OUT)
    talking.advance(0.1)
    (lost,) = talking.report("stream lost")
    assert (lost["stream"], lost["code"], lost["remedy"]) == (1, TIMED_OUT[0], "reopen")
    report = talking.report("stream opened")[-1]
    assert report["open_ms"] == 100
    assert report["replayed_ms"] == 1000
    assert report["lost_ms"] == 0


@pytest.mark.parametrize(
    ("code", "message", "is_shown"),
    [
        ("AccessDeniedException", "User: arn:aws:sts::1:assumed-role/x is not authorized", True),
        ("ThrottlingException", "Too many requests [4f2a]", True),
        ("ConnectionLost", "AWS_IO_SOCKET_CLOSED: socket is closed.", True),
        ("ValidationException", "Invalid input: my name is Ann", False),
        ("InvalidSignatureException", "The canonical string was x-amz-security-token:abc", False),
    ],
)
def test_the_words_of_a_failure_are_logged_where_they_cannot_be_a_callers_or_a_key(
    code: str, message: str, talking: CallDriver, *, is_shown: bool
) -> None:
    talking.breaks(code, message)
    (lost,) = (report for _, report in talking.reports if report.event == "stream lost")
    assert lost.fields.get("message") == (message if is_shown else None)
    assert lost.private == ({} if is_shown else {"message": message})


def test_speech_beyond_the_ring_is_counted_as_lost() -> None:
    call = CallDriver(head_s=None, plan=replace(PLAN, audio_buffer_s=1.0))
    call.initiate()
    call.advance(1.0)
    call.start()
    frames = call.talk(2.0)
    opened(call)
    assert call.live.frames == frames[-50:]
    assert call.report("stream opened")[-1]["lost_ms"] == pytest.approx(960, abs=50)


def test_speech_that_a_stream_heard_is_not_lost_when_the_ring_is_full() -> None:
    call = CallDriver(plan=replace(PLAN, audio_buffer_s=1.0))
    call.answer()
    call.talk(5.0)
    call.breaks()
    call.advance(0.1)
    assert call.report("stream opened")[-1]["lost_ms"] == 0


def test_losing_the_stream_while_the_phone_withholds_the_caller_keeps_what_she_said() -> None:
    call = CallDriver(plan=replace(PLAN, barge_in=False))
    call.answer()
    said = call.talk(1.0)
    call.phone.stop_user_stream()
    call.flush()
    call.breaks()
    call.advance(0.1)
    assert set(said) <= set(call.live.frames)


def test_a_loss_is_told_once(talking: CallDriver) -> None:
    lost = talking.live.id
    talking.breaks()
    talking.handle(StreamLost(lost, classify("Ended")))
    talking.advance(5.0)
    assert len(talking.services) == 2


def test_a_failure_while_the_call_is_being_given_up_is_told_once(waiting: CallDriver) -> None:
    waiting.breaks("AccessDeniedException")
    waiting.handle(StreamLost(StreamId(1), classify("AccessDeniedException")))
    assert len([e for _, e in waiting.heard if isinstance(e, Refused)]) == 1


def test_the_reason_of_a_failed_call_is_the_agents() -> None:
    call = CallDriver(head_s=None, plan=with_agent(goodbye_on_failure="no bot today"))
    call.initiate()
    call.breaks("AccessDeniedException")
    assert call.refused == "no bot today"


def test_usage_is_reported_as_what_was_used_since(talking: CallDriver) -> None:
    writer = talking.live.writer
    writer.count(speech_in_s=1.0, text_out="two words")
    writer.usage()
    writer.count(speech_in_s=2.0)
    writer.usage()
    talking.deliver()
    used = talking.report("usage")
    assert [one["speech_in"] for one in used] == [25, 50]
    assert [one["text_out"] for one in used] == [2, 0]


def test_the_usage_of_a_stream_that_is_closing_counts(talking: CallDriver) -> None:
    old = talking.live
    talking.breaks()
    old.writer.count(text_in="some words")
    old.writer.usage()
    talking.deliver(old)
    assert talking.report("usage")[-1]["text_in"] == 2


def test_a_greeting_text_is_not_part_of_the_history() -> None:
    call = CallDriver(plan=with_agent(greeting=Greeting(text="Greet the caller.")))
    call.answer()
    call.says("Welcome!", 1, 0.5)
    call.advance(1.0)
    call.breaks()
    call.advance(0.1)
    assert call.live.told == [("USER", "[call connected]"), ("ASSISTANT", "Welcome!")]
    assert call.live.typed == []
    assert seconds(call.live) >= 0.1
