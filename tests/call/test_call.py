"""How a call begins and ends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from opusagent.audiocodes.peer_events import (
    Accepted,
    Configured,
    HangupRequested,
    PlayChunk,
    PlayStarted,
    PlayStopped,
    Validated,
)
from opusagent.call.call import Phase
from opusagent.call.events import (
    CallerLost,
    CloseReason,
    Drain,
    EndedBy,
    FromCaller,
    FromSonic,
    HangUp,
    StreamId,
    StreamLost,
    StreamOpened,
)
from opusagent.errors import LocalProtocolError
from opusagent.models.session_state import SessionStatus
from opusagent.sonic.failures import classify
from opusagent.sonic.reader import StopReason
from tests.call.driver import PLAN, T0, CallDriver, bot_pcm

# Accepting


def test_a_call_is_accepted_when_the_head_of_its_stream_is_there(call: CallDriver) -> None:
    call.initiate()
    call.advance(0.099)
    assert not call.accepted
    call.advance(0.001)
    assert call.accepted
    assert call.call.phase is Phase.TALKING


def test_a_call_is_accepted_after_a_second_though_the_head_is_missing() -> None:
    call = CallDriver(head_s=None)
    call.initiate()
    call.advance(0.99)
    assert not call.accepted
    call.advance(0.02)
    assert call.accepted


def test_a_head_after_the_acceptance_makes_no_second_one() -> None:
    call = CallDriver(head_s=2.0)
    call.initiate()
    call.advance(3.0)
    assert len(list(call.times(Accepted))) == 1
    assert call.live.closed is None


def test_nothing_is_resampled_when_both_sides_know_the_rates(call: CallDriver) -> None:
    call.answer()
    assert call.live.rates == (16_000, 24_000)


@pytest.mark.parametrize(
    ("offered", "rates"),
    [
        (("raw/lpcm16",), (16_000, 16_000)),
        (("raw/mulaw",), (8_000, 8_000)),
        (("wav/lpcm16_8",), (8_000, 8_000)),
        (("raw/lpcm16_24", "raw/mulaw"), (24_000, 24_000)),
    ],
)
def test_the_rates_of_the_stream_are_those_of_the_negotiated_formats(
    offered: tuple[str, ...], rates: tuple[int, int]
) -> None:
    call = CallDriver(offered=offered)
    call.answer()
    assert call.live.rates == rates


def test_no_common_format_is_refused_in_words_and_opens_no_stream() -> None:
    call = CallDriver(offered=("alaw",))
    call.initiate()
    assert call.refused == "no common media format; offered: alaw"
    assert not call.services
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.REFUSED
    assert call.socket_closed == (1000, "refused")


def test_a_tenant_that_wants_text_is_refused_in_words(call: CallDriver) -> None:
    call.phone.initiate("c-1", expect_audio=False)
    call.flush()
    assert call.refused is not None
    assert "voice streaming" in call.refused
    assert not call.services


def test_a_resume_of_an_unknown_conversation_is_refused(call: CallDriver) -> None:
    call.phone.resume("c-1")
    call.flush()
    assert call.refused == "the conversation is not known here"
    call.assert_lawful_end()


def test_a_validation_is_answered_without_a_call(call: CallDriver) -> None:
    call.phone.validate()
    call.flush()
    assert [type(event) for event in call.since(T0)] == [Validated]
    assert not call.services
    assert call.call.phase is Phase.WAITING


# The start of the call


def test_barge_in_is_configured_once_the_call_has_started(call: CallDriver) -> None:
    call.initiate()
    call.advance(0.16)
    assert not list(call.times(Configured))
    call.start()
    assert [e for e in call.since(T0) if isinstance(e, Configured)] == [
        Configured({"bargeIn": True})
    ]


def test_barge_in_is_left_alone_when_it_is_set_off() -> None:
    call = CallDriver(plan=replace(PLAN, barge_in=False))
    call.answer()
    assert not list(call.times(Configured))


def test_a_missing_start_is_taken_as_come_after_a_second_and_a_half(call: CallDriver) -> None:
    call.initiate()
    call.advance(0.1)
    call.advance(1.49)
    assert not list(call.times(Configured))
    call.advance(0.02)
    assert len(list(call.times(Configured))) == 1
    call.phone.start()
    call.flush()
    assert len(list(call.times(Configured))) == 1


def test_a_start_before_the_acceptance_counts() -> None:
    call = CallDriver(head_s=0.5)
    call.initiate()
    call.phone.start()
    call.flush()
    call.advance(0.5)
    assert len(list(call.times(Configured))) == 1


def test_a_second_start_changes_nothing(talking: CallDriver) -> None:
    talking.phone.start()
    talking.flush()
    assert len(list(talking.times(Configured))) == 1


# The caller's audio


def test_every_frame_of_the_caller_reaches_the_stream_once_and_in_order(
    talking: CallDriver,
) -> None:
    frames = talking.talk(1.0) + talking.quiet(1.0)
    assert talking.live.frames == frames


def test_what_the_caller_says_before_the_stream_is_there_reaches_it() -> None:
    call = CallDriver(head_s=2.0)
    call.initiate()
    call.advance(1.0)
    call.start()
    frames = call.talk(1.2)
    assert call.live.frames == frames


def test_silence_stands_in_until_the_phone_listens(call: CallDriver) -> None:
    call.initiate()
    call.advance(5.1)
    seconds = len(call.live.audio) / 32_000
    assert 4.9 <= seconds <= 5.2
    assert not any(call.live.audio)


def test_silence_stands_in_while_the_phone_withholds_the_caller(talking: CallDriver) -> None:
    talking.talk(1.0)
    before = len(talking.live.audio)
    talking.phone.stop_user_stream()
    talking.flush()
    talking.advance(10.0)
    assert 9.7 <= (len(talking.live.audio) - before) / 32_000 <= 10.3


def test_a_pause_of_the_network_puts_no_silence_into_a_word(talking: CallDriver) -> None:
    frames = talking.talk(1.0)
    talking.advance(0.9)
    for _ in range(45):  # all that was missing comes at once
        frames.append(talking.frame(loud=True))
    frames += talking.talk(0.5)
    heard = talking.live.audio[-len(frames) * 640 :]
    assert talking.live.frames == frames
    assert len(heard) == len(frames) * 640
    assert heard[:2] == (77).to_bytes(2, "little")


def test_a_caller_whose_audio_stays_away_is_replaced_by_silence(talking: CallDriver) -> None:
    talking.talk(1.0)
    before = len(talking.live.audio)
    talking.advance(20.0)
    assert 18.5 <= (len(talking.live.audio) - before) / 32_000 <= 20.0


def test_another_participant_is_not_mixed_into_the_callers_audio(talking: CallDriver) -> None:
    frames = talking.talk(0.2)
    talking.phone.start_user_stream("agent")
    talking.phone.chunk(bytes(640), "agent")
    talking.flush()
    assert talking.live.frames == frames


# Hanging up: the caller


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.13, 0.5, 3.0])
def test_the_caller_may_hang_up_at_any_moment(after_s: float) -> None:
    call = CallDriver()
    call.initiate()
    call.advance(after_s)
    call.phone.end()
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.CALLER
    assert call.socket_closed == (1000, "session ended")
    assert call.live.closed is CloseReason.CALL_ENDED
    call.assert_lawful_end()


def test_a_stream_is_closed_in_order_when_the_caller_hangs_up(talking: CallDriver) -> None:
    talking.talk(0.5)
    talking.phone.end()
    talking.flush()
    assert talking.live.session_ended


def test_a_stream_without_a_head_is_just_let_go(call: CallDriver) -> None:
    call.initiate()
    call.phone.end()
    call.flush()
    assert not call.live.session_ended
    assert call.live.closed is CloseReason.CALL_ENDED


def test_nothing_is_sent_after_session_end(talking: CallDriver) -> None:
    talking.says("Hello.", 1, 2.0)
    at = talking.now + 0.001
    talking.now = at
    talking.phone.end()
    talking.flush()
    talking.handle(FromSonic(StreamId(1), b"{}"))
    talking.advance(5.0)
    assert talking.since(at) == []


def test_a_socket_that_closes_without_session_end_ends_the_call(talking: CallDriver) -> None:
    talking.handle(CallerLost())
    assert talking.outcome is not None
    assert talking.outcome.by is EndedBy.SOCKET
    talking.assert_lawful_end()


def test_a_socket_that_closes_before_anything_was_asked_ends_quietly(call: CallDriver) -> None:
    call.handle(CallerLost())
    call.assert_lawful_end()
    assert call.saves == []


# Hanging up: this side


def test_a_goodbye_is_played_to_its_end_before_the_call_is_hung_up(talking: CallDriver) -> None:
    talking.says("Goodbye, then.", 1, 2.0)
    began = talking.now
    talking.handle(HangUp("done"))
    talking.advance(1.9)
    assert talking.hung_up is None
    talking.advance(1.0)
    assert talking.hung_up == "done"
    (at,) = talking.times(HangupRequested)
    assert 2.0 <= at - began <= 2.6
    assert talking.plays() == [{1: 2.0}]


def test_a_goodbye_that_is_still_being_generated_is_waited_for(talking: CallDriver) -> None:
    talking.says("Good", 1, 0.2, None)
    talking.handle(HangUp("done"))
    talking.advance(1.5)
    assert talking.hung_up is None
    talking.speaks(1, 1.0, end=StopReason.END_TURN)
    talking.advance(2.0)
    assert talking.hung_up == "done"
    assert sum(play.get(1, 0.0) for play in talking.plays()) == pytest.approx(1.2)


def test_a_goodbye_that_never_ends_is_not_waited_for_longer_than_a_quarter_of_a_minute(
    talking: CallDriver,
) -> None:
    talking.says("On and on.", 1, 60.0)
    talking.handle(HangUp("done"))
    talking.advance(15.1)
    assert talking.hung_up == "done"


def test_a_hang_up_in_silence_is_immediate(talking: CallDriver) -> None:
    talking.advance(1.0)
    talking.handle(HangUp("done"))
    assert talking.hung_up == "done"


def test_the_phones_own_word_that_all_was_played_ends_the_wait(talking: CallDriver) -> None:
    talking.says("Bye.", 1, 1.0)
    talking.handle(HangUp("done"))
    talking.advance(1.01)
    assert talking.hung_up is None
    talking.phone.play_finished(1000)
    talking.flush()
    assert talking.hung_up == "done"


def test_a_hang_up_is_asked_for_once(talking: CallDriver) -> None:
    talking.handle(HangUp("one"))
    talking.handle(HangUp("two"))
    talking.advance(1.0)
    assert [e for e in talking.since(T0) if isinstance(e, HangupRequested)] == [
        HangupRequested("one")
    ]


def test_after_our_hang_up_the_sessions_end_is_awaited_and_the_bot_is_silent(
    talking: CallDriver,
) -> None:
    talking.handle(HangUp("done"))
    at = talking.now
    assert talking.live.session_ended
    talking.says("One more thing.", 1, 1.0)
    talking.advance(4.9)
    assert talking.outcome is None
    assert not [e for e in talking.since(at) if isinstance(e, PlayStarted)]
    talking.phone.end("bot-disconnected")
    talking.flush()
    assert talking.outcome is not None
    assert talking.outcome.by is EndedBy.BOT
    talking.assert_lawful_end()


def test_a_session_end_that_does_not_come_is_not_awaited_for_ever(talking: CallDriver) -> None:
    talking.handle(HangUp("done"))
    talking.advance(5.1)
    assert talking.outcome is not None
    assert talking.outcome.by is EndedBy.BOT
    assert talking.socket_closed == (1000, "session.end did not come")


def test_a_hang_up_before_the_acceptance_is_a_refusal(call: CallDriver) -> None:
    call.initiate()
    call.handle(HangUp("no"))
    assert call.refused == "no"
    call.assert_lawful_end()


def test_the_caller_may_hang_up_during_the_goodbye(talking: CallDriver) -> None:
    talking.says("Goodbye.", 1, 3.0)
    talking.handle(HangUp("done"))
    talking.phone.end()
    talking.flush()
    assert talking.outcome is not None
    assert talking.outcome.by is EndedBy.CALLER


def test_a_process_that_ends_lets_go_without_hanging_up(talking: CallDriver) -> None:
    talking.handle(Drain())
    assert talking.hung_up is None
    assert talking.refused is None
    assert talking.socket_closed == (1012, "service restart")
    assert talking.saves[-1].status is SessionStatus.PAUSED
    talking.assert_lawful_end()


# Messages that mean nothing, or harm


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"type": 1}', b"\x00\x01", '{"type":"x"}'])
def test_a_broken_or_unknown_message_is_reported_and_changes_nothing(
    talking: CallDriver, text: str | bytes
) -> None:
    talking.handle(FromCaller(text))
    frames = talking.talk(0.2)
    assert talking.live.frames == frames
    assert talking.report("broken message") or talking.report("unknown message")


def test_a_key_beside_a_broken_activity_is_told_to_the_model(talking: CallDriver) -> None:
    key = {"type": "event", "name": "DTMF", "value": "5", "timestamp": 1_734_544_901_668}
    broken = {"type": "event", "name": "DTMF", "value": "five"}
    talking.handle(
        FromCaller(json.dumps({"type": "activities", "activities": [broken, key], "id": 1}))
    )
    talking.quiet(1.5)
    assert len(talking.live.typed) == 1
    assert talking.report("broken message") == [
        {"wire": "audiocodes", "got": "DTMF without digits"}
    ]


def test_a_broken_event_of_the_model_is_reported_and_changes_nothing(talking: CallDriver) -> None:
    talking.handle(FromSonic(StreamId(1), b"{"))
    talking.says("Hello.", 1, 0.5)
    talking.advance(1.0)
    assert talking.report("broken message") == [{"wire": "sonic", "got": "no JSON"}]
    assert talking.plays() == [{1: 0.5}]


def test_inputs_of_streams_that_are_not_there_are_passed_over(talking: CallDriver) -> None:
    talking.handle(StreamOpened(StreamId(9)))
    talking.handle(FromSonic(StreamId(9), b"{}"))
    talking.handle(StreamLost(StreamId(9), classify("Ended")))
    with pytest.raises(LocalProtocolError):
        talking.call.audio_encoder(StreamId(9))
    assert list(talking.services) == [1]


def test_other_events_of_the_phone_are_noted(talking: CallDriver) -> None:
    talking.phone.no_user_input(2)
    talking.phone.play_finished(10)
    talking.phone.activity("transferStatus", value={"status": "failed"})
    talking.phone.activity("hangup")
    talking.phone.activity("speechHypothesis")
    talking.flush()
    noted = [report.event for _, report in talking.reports][-5:]
    assert noted == [
        "no user input",
        "play finished",
        "transfer status",
        "activity ignored",
        "activity ignored",
    ]


# What is saved and reported


def test_the_end_of_a_call_is_saved(talking: CallDriver) -> None:
    talking.phone.end()
    talking.flush()
    assert talking.saves[-1].status is SessionStatus.ENDED


def test_what_was_not_played_when_the_caller_left_is_not_in_the_transcript(
    talking: CallDriver,
) -> None:
    talking.says("I am heard.", 1, 1.0, StopReason.PARTIAL_TURN)
    talking.says("I am not.", 2, 5.0)
    talking.advance(0.9)
    talking.phone.end()
    talking.flush()
    assert talking.said == [("output", "I am heard.")]
    assert talking.saves[-1].conversation_history[0].interrupted


def test_the_time_to_the_first_bot_audio_is_reported(talking: CallDriver) -> None:
    talking.talk(0.5)
    talking.quiet(1.0)
    talking.says("Hello.", 1, 0.5)
    (report,) = talking.report("bot speaks")
    assert report["after_initiate_ms"] == 1660
    assert report["after_caller_ms"] == 600  # the detector waits 400 ms for the caller to go on


def test_bot_audio_is_handed_over_as_the_phone_needs_it(talking: CallDriver) -> None:
    talking.says("Long.", 1, 3.0)
    chunks = [e for e in talking.since(T0) if isinstance(e, PlayChunk)]
    assert sum(len(chunk.data) for chunk in chunks) == len(bot_pcm(1, 0.3))
    talking.advance(4.0)
    assert talking.plays() == [{1: 3.0}]
    assert len(list(talking.times(PlayStopped))) == 1
