"""A caller whose websocket was lost: back on another one, in the same process or in another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from opusagent.audiocodes.peer_events import (
    Accepted,
    Configured,
    HangupRequested,
    PlayChunk,
    PlayStarted,
)
from opusagent.call.call import Phase
from opusagent.call.events import (
    BegunAnew,
    CallerAttached,
    CallerLost,
    CallOutcome,
    CloseReason,
    Drain,
    EndedBy,
    Fenced,
    HangUp,
    OpenStream,
    Save,
    ToCaller,
)
from opusagent.call.succession import BROKE_OFF
from opusagent.models.agent import Resume
from opusagent.models.session_state import SessionState, SessionStatus, ToolSpec
from opusagent.sonic.reader import StopReason
from tests.call.driver import (
    GREETING_AGENT,
    LOOKUP,
    PLAN,
    SILENT_AGENT,
    CallDriver,
    bot_pcm,
    with_agent,
)

GRACE_S = 60.0
PATIENT = replace(PLAN, resume_grace_s=GRACE_S)
REPEATABLE = ToolSpec(
    name="weather", description="Tells.", input_schema={"type": "object"}, repeatable=True
)


def a_call(**changes: object) -> CallDriver:
    """A call that is under way and may be resumed."""
    driver = CallDriver(replace(PATIENT, **changes))  # type: ignore[arg-type]
    driver.answer()
    return driver


@pytest.fixture
def call() -> CallDriver:
    return a_call()


def ids_of(driver: CallDriver) -> list[str]:
    return [event.stream_id for _, event in driver.heard if isinstance(event, PlayStarted)]


def bot_samples(driver: CallDriver) -> bytes:
    return b"".join(event.data for _, event in driver.heard if isinstance(event, PlayChunk))


def sent_audio(driver: CallDriver) -> tuple[str, ...]:
    texts = (effect.text for _, effect in driver.ran if isinstance(effect, ToCaller))
    return tuple(text for text in texts if "playStream.chunk" in text)


def told_and_typed(driver: CallDriver) -> tuple[list[tuple[str, str]], list[str]]:
    return driver.live.told, driver.live.typed


# The same process


def test_a_lost_websocket_leaves_the_stream_open_and_fed_with_silence(call: CallDriver) -> None:
    call.quiet(1.0)
    before = len(call.live.audio)
    call.lose_socket()
    assert call.call.phase is Phase.DETACHED
    call.advance(10.0)
    assert len(call.services) == 1
    assert call.live.closed is None
    fed_s = (len(call.live.audio) - before) / 32_000
    assert fed_s == pytest.approx(10.0, abs=0.2)
    assert not any(call.live.audio[before:])


def test_a_caller_who_comes_back_is_accepted_at_once_on_the_same_stream(call: CallDriver) -> None:
    call.quiet(10.1)
    call.lose_socket()
    call.advance(5.0)
    at = call.now
    call.attach()
    assert call.since(at) == [Accepted(call.phone.media_format)]  # type: ignore[arg-type]
    assert call.call.phase is Phase.TALKING
    assert len(call.services) == 1
    (report,) = call.report("session resumed")
    assert (report["where"], report["away_ms"]) == ("same process", 5000)


def test_no_frame_that_the_phone_sent_is_lost_or_doubled(call: CallDriver) -> None:
    sent = call.talk(1.0)
    call.lose_socket()
    call.advance(3.0)
    call.attach()
    sent += call.talk(1.0)
    call.lose_socket()
    call.attach()
    call.phone.start_user_stream()
    sent += call.talk(1.0)
    assert call.live.frames == sent


def test_the_rest_of_a_sentence_is_played_in_a_play_stream_with_a_new_id(call: CallDriver) -> None:
    sentence = b"".join(bot_pcm(value, 0.02) for value in range(1, 201))  # 4 s, each frame its own
    writer = call.live.writer
    call.plans("A long sentence.")
    writer.start_audio()
    writer.audio(sentence)
    writer.end_audio(StopReason.END_TURN)
    call.deliver()
    call.advance(1.5)
    call.lose_socket()
    call.advance(7.0)
    given = bot_samples(call)
    assert 0 < len(given) < len(sentence)
    call.attach()
    call.advance(10.0)
    assert bot_samples(call) == sentence
    assert ids_of(call) == ["1", "2"]
    assert not call.play_is_open


def test_the_end_of_a_sentence_that_never_left_is_heard_after_the_return(call: CallDriver) -> None:
    call.says("A sentence.", 1, 1.0)
    call.advance(1.5)
    assert not call.play_is_open
    call.handle(CallerLost(sent_audio(call)[-3:]))
    call.advance(5.0)
    call.attach()
    call.says("Another one.", 2, 0.5)
    call.advance(2.0)
    first, again, next_answer = call.plays()
    assert first == {1: 1.0}
    assert again == {1: pytest.approx(0.3, abs=0.01)}
    assert next_answer == {2: 0.5}


def test_what_the_bot_says_while_nobody_is_there_is_heard_after_the_return(
    call: CallDriver,
) -> None:
    call.lose_socket()
    call.says("First.", 1, 1.0)
    call.says("Second.", 2, 1.0)
    call.advance(5.0)
    assert call.plays() == []
    call.attach()
    call.advance(5.0)
    assert call.plays() == [{1: 1.0}, {2: 1.0}]


def test_an_answer_that_ends_while_nobody_is_there_does_not_hold_up_the_next(
    call: CallDriver,
) -> None:
    call.says("First.", 1, 0.5, None)
    call.advance(0.6)  # all of it was handed over, and its end is not known
    call.lose_socket()
    call.speaks(1, 0.0, end=StopReason.END_TURN)
    call.says("Second.", 2, 1.0)
    call.advance(5.0)
    call.attach()
    call.advance(3.0)
    call.says("Third.", 3, 1.0)
    call.advance(3.0)
    assert call.plays() == [{1: 0.5}, {2: 1.0}, {3: 1.0}]


def test_what_is_kept_for_an_absent_caller_is_bounded(call: CallDriver) -> None:
    call.lose_socket()
    for _ in range(20):
        call.says("An endless story.", 1, 10.0)
    call.attach()
    call.advance(200.0)
    assert sum(play[1] for play in call.plays()) == pytest.approx(70.0)


def test_a_new_websocket_wins_over_one_that_seems_open(call: CallDriver) -> None:
    sent = call.talk(0.5)
    call.says("A long story.", 1, 3.0)
    call.advance(1.0)
    call.attach()  # nothing was lost, as far as this side knows
    sent += call.talk(0.5)
    call.advance(5.0)
    assert call.live.frames == sent
    assert len(call.services) == 1
    assert ids_of(call) == ["1", "2"]
    assert sum(play[1] for play in call.plays()) == pytest.approx(3.0)
    assert call.socket_closed is None


def test_a_websocket_that_is_lost_before_the_call_was_accepted_is_no_loss() -> None:
    call = CallDriver(replace(PATIENT, agent=GREETING_AGENT), head_s=0.5)
    call.initiate()
    call.lose_socket()
    call.advance(2.0)  # the head comes, and there is nobody to tell
    assert not call.accepted
    call.attach()
    assert call.accepted
    call.start()
    call.advance(0.5)
    assert any(isinstance(event, Configured) for _, event in call.heard)
    assert call.live.typed == [GREETING_AGENT.greeting.text]
    assert len(call.services) == 1


def test_a_caller_who_comes_back_before_the_stream_is_there_is_accepted_and_then_heard() -> None:
    call = CallDriver(PATIENT, head_s=1.5)
    call.initiate()
    call.lose_socket()
    call.attach()
    assert call.accepted
    call.start()
    frames = call.talk(2.0)
    assert call.live.frames == frames


def test_a_websocket_that_is_lost_between_acceptance_and_start_is_no_loss() -> None:
    call = CallDriver(replace(PATIENT, agent=GREETING_AGENT))
    call.initiate()
    call.advance(0.12)
    assert call.accepted
    call.lose_socket()
    call.advance(5.0)
    assert call.live.typed == []
    call.attach()
    call.start()
    call.advance(0.5)
    assert call.live.typed == [GREETING_AGENT.greeting.text]


def test_a_start_that_does_not_come_again_is_taken_as_come(call: CallDriver) -> None:
    call = CallDriver(replace(PATIENT, agent=GREETING_AGENT))
    call.initiate()
    call.advance(0.12)
    call.lose_socket()
    call.attach()
    call.advance(2.0)
    assert call.live.typed == [GREETING_AGENT.greeting.text]


def test_nobody_is_greeted_twice() -> None:
    call = CallDriver(replace(PATIENT, agent=GREETING_AGENT))
    call.answer()
    call.says("Hello, this is the bank.", 1, 1.0)
    call.advance(10.1)
    call.lose_socket()
    call.attach()
    call.phone.start()
    call.phone.start_user_stream()
    call.flush()
    call.advance(10.0)
    assert call.live.typed == [GREETING_AGENT.greeting.text]
    assert sum(isinstance(event, Configured) for _, event in call.heard) == 1


def test_settings_that_a_dying_line_may_have_taken_are_told_again(call: CallDriver) -> None:
    settings = Configured({"bargeIn": True})
    call.quiet(2.0)
    call.lose_socket()
    call.advance(20.0)
    for _ in range(2):
        at = call.now
        call.attach()
        assert settings in call.since(at)
    call.quiet(10.1)
    at = call.now
    call.attach()
    assert settings not in call.since(at)


def test_settings_that_are_not_ours_to_make_are_not_told_after_a_loss() -> None:
    call = a_call(barge_in=False)
    call.lose_socket()
    call.attach()
    assert not any(isinstance(event, Configured) for _, event in call.heard)


def test_a_hang_up_is_done_once_the_caller_is_back(call: CallDriver) -> None:
    call.lose_socket()
    call.handle(HangUp("done"))
    call.advance(3.0)
    assert call.hung_up is None
    call.attach()
    assert call.hung_up == "done"
    call.phone.end("bot-disconnected", "done")
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.BOT
    call.assert_lawful_end()


def test_a_goodbye_that_was_cut_off_is_heard_before_the_hang_up(call: CallDriver) -> None:
    call.says("Goodbye, and thank you.", 1, 3.0)
    call.handle(HangUp("done"))
    call.advance(1.0)
    call.lose_socket()
    call.advance(5.0)
    call.attach()
    assert call.hung_up is None
    call.advance(5.0)
    assert call.hung_up == "done"
    assert sum(play[1] for play in call.plays()) == pytest.approx(3.0)


def test_a_hang_up_that_a_half_open_websocket_has_swallowed_is_said_again(
    call: CallDriver,
) -> None:
    call.handle(HangUp("done"))
    assert call.hung_up == "done"
    at = call.now
    call.advance(1.0)
    call.attach()
    assert [type(event).__name__ for event in call.since(at + 1.0)] == [
        "Accepted",
        "HangupRequested",
    ]
    call.phone.end("bot-disconnected", "done")
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.BOT
    call.assert_lawful_end()


def test_a_goodbye_that_never_left_is_heard_before_the_hang_up_is_said_again(
    call: CallDriver,
) -> None:
    call.says("Your number is 7. Goodbye.", 1, 7.0)
    call.handle(HangUp("done"))
    call.advance(8.0)
    assert call.hung_up == "done"
    call.advance(1.0)
    at = call.now
    call.attach(unsent=sent_audio(call)[-60:])
    call.advance(5.9)
    assert not [event for event in call.since(at) if isinstance(event, HangupRequested)]
    call.advance(1.0)
    assert isinstance(call.since(at)[-1], HangupRequested)
    assert call.plays() == [{1: 7.0}, {1: pytest.approx(6.0, abs=0.01)}]
    call.phone.end("bot-disconnected", "done")
    call.flush()
    call.assert_lawful_end()


def test_a_tools_result_reaches_the_model_though_nobody_is_there(call: CallDriver) -> None:
    call.talk(1.0)
    call.hears("Look it up.")
    call.live.ask("t-1", "lookup", {"id": 1})
    call.deliver()
    call.lose_socket()
    call.tool_done(call.tools[0], {"found": 7})
    call.says("It is seven.", 1, 1.0)
    call.advance(2.0)
    assert call.live.results == [("t-1", '{"found":7}')]
    call.attach()
    call.advance(2.0)
    assert call.plays() == [{1: 1.0}]


def test_keys_that_were_pressed_before_the_loss_are_told(call: CallDriver) -> None:
    call.phone.dtmf("1")
    call.phone.dtmf("2")
    call.flush()
    call.lose_socket()
    call.advance(3.0)
    (typed,) = call.live.typed
    assert "1 2" in typed
    call.attach()
    call.phone.dtmf("3")
    call.flush()
    call.advance(2.0)
    assert "3" in call.live.typed[1]


def test_keys_on_either_side_of_a_short_loss_are_one_text(call: CallDriver) -> None:
    call.phone.dtmf("1")
    call.flush()
    call.lose_socket()
    call.advance(0.2)
    call.attach()
    call.phone.dtmf("2")
    call.flush()
    call.advance(2.0)
    (typed,) = call.live.typed
    assert typed.endswith("1 2")


def test_what_was_silenced_before_the_loss_stays_silent(call: CallDriver) -> None:
    call.says("A long story.", 1, 10.0, None)
    call.advance(1.0)
    call.talk(0.5)
    call.interrupts()
    heard = call.plays()
    call.lose_socket()
    call.advance(1.0)
    call.attach()
    call.quiet(3.0)
    assert call.plays() == heard


def test_a_rest_that_is_played_after_the_return_can_be_interrupted(call: CallDriver) -> None:
    call.says("A long story.", 1, 10.0, None)
    call.advance(1.0)
    call.lose_socket()
    call.advance(2.0)
    call.attach()
    call.advance(1.0)
    call.talk(0.5)
    call.interrupts()
    heard = call.plays()
    call.quiet(3.0)
    assert call.plays() == heard
    (report,) = call.report("barge-in")
    # One second before the loss, what it takes to interrupt after the return, and never the gap.
    assert report["heard_ms"] == pytest.approx(2800, abs=150)


def test_speech_that_was_under_way_is_not_told_to_go_on(call: CallDriver) -> None:
    call.talk(0.5)
    call.lose_socket()
    call.attach()
    call.talk(0.5)
    call.quiet(1.0)
    starts_and_stops = [kind.value for kind in call.speech]
    assert starts_and_stops == ["started", "started", "stopped"]


def test_a_stream_that_breaks_while_nobody_is_there_is_replaced(call: CallDriver) -> None:
    call.hears("My name is Ann.")
    call.says("Hello Ann.", 1, 1.0)
    call.advance(3.0)
    call.lose_socket()
    call.breaks()
    call.advance(1.0)
    call.attach()
    frames = call.talk(0.5)
    assert len(call.services) == 2
    assert call.live.told == [("USER", "My name is Ann."), ("ASSISTANT", "Hello Ann.")]
    assert call.live.frames == frames


def test_a_stream_that_grows_old_while_nobody_is_there_is_replaced() -> None:
    call = a_call(resume_grace_s=3600.0)
    call.lose_socket()
    call.advance(1000.0)
    assert len(call.services) == 3
    assert all(one.closed is not None for one in list(call.services.values())[:-1])
    call.attach()
    frames = call.talk(0.5)
    assert call.newest.frames == frames


def test_after_the_grace_the_streams_are_closed_and_the_call_can_go_on_elsewhere(
    call: CallDriver,
) -> None:
    call.hears("My name is Ann.")
    call.says("Hello Ann.", 1, 1.0)
    call.lose_socket()
    lost_at = call.now
    call.advance(GRACE_S - 0.1)
    assert call.finished == 0
    call.advance(0.2)
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.SOCKET
    assert call.now == pytest.approx(lost_at + GRACE_S + 0.1)
    assert call.live.closed is CloseReason.CALL_ENDED
    assert call.live.session_ended
    assert call.saves[-1].status is SessionStatus.PAUSED
    assert call.hung_up is None
    call.assert_lawful_end()
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.told[0] == ("USER", "My name is Ann.")


def test_who_begins_anew_does_not_come_back_to_the_call_that_lost_her(call: CallDriver) -> None:
    call.says("Hello Ann.", 1, 1.0)
    call.lose_socket()
    call.advance(5.0)
    call.handle(BegunAnew())
    assert call.outcome == CallOutcome(EndedBy.SOCKET, "the caller began anew")
    assert call.live.closed is CloseReason.CALL_ENDED
    assert call.saves[-1].status is SessionStatus.PAUSED
    call.assert_lawful_end()


def test_a_call_that_has_its_caller_goes_on_though_it_is_begun_anew(call: CallDriver) -> None:
    call.handle(BegunAnew())
    frames = call.talk(0.5)
    assert call.live.frames == frames
    assert call.call.phase is Phase.TALKING


def test_without_a_grace_a_lost_websocket_ends_the_call_and_leaves_it_to_be_resumed() -> None:
    call = a_call(resume_grace_s=0.0)
    call.lose_socket()
    assert call.finished == 1
    assert call.saves[-1].status is SessionStatus.PAUSED


def test_each_return_is_counted(call: CallDriver) -> None:
    for n in (1, 2, 3):
        call.lose_socket()
        call.advance(1.0)
        call.attach()
        assert call.saves[-1].resumed_count == n
        assert call.saves[-1].status is SessionStatus.ACTIVE


def test_a_return_without_formats_goes_on_with_those_of_before(call: CallDriver) -> None:
    call.lose_socket()
    call.attach(formats=None)
    assert call.accepted
    frames = call.talk(0.2)
    assert call.live.frames == frames


def test_a_return_that_does_not_offer_the_formats_of_before_is_refused_in_words(
    call: CallDriver,
) -> None:
    call.lose_socket()
    call.attach(formats=("raw/mulaw",))
    assert call.refused == "the media formats of this conversation are not offered again"
    call.assert_lawful_end()


def test_where_the_bot_was_about_to_hang_up_there_is_nothing_to_come_back_to(
    call: CallDriver,
) -> None:
    call.lose_socket()
    call.handle(HangUp("done"))
    call.advance(GRACE_S + 1.0)
    assert call.saves[-1].status is SessionStatus.ENDED


def test_a_websocket_that_is_lost_while_the_call_is_let_go_keeps_what_nobody_has_answered(
    call: CallDriver,
) -> None:
    call.says("A sentence.", 1, 3.0)
    call.talk(1.0)
    call.handle(Drain(within_s=20.0))
    call.lose_socket()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.SHUTDOWN
    assert call.saves[-1].audio_buffer
    assert call.saves[-1].status is SessionStatus.PAUSED


def test_the_caller_may_hang_up_after_her_return(call: CallDriver) -> None:
    call.lose_socket()
    call.attach()
    call.phone.end()
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.CALLER
    assert call.saves[-1].status is SessionStatus.ENDED
    call.assert_lawful_end()


def test_a_message_of_another_conversation_changes_nothing(call: CallDriver) -> None:
    call.lose_socket()
    call.handle(CallerAttached('{"type":"userStream.start","conversationId":"c-1"}'))
    call.says("Somebody there?", 1, 1.0)
    call.advance(1.0)
    assert call.plays() == []
    call.attach()
    call.advance(3.0)
    assert call.plays() == [{1: 1.0}]


# Let go


def test_a_call_that_is_let_go_finishes_what_the_bot_says(call: CallDriver) -> None:
    call.says("A sentence.", 1, 3.0)
    call.advance(1.0)
    call.handle(Drain(within_s=20.0))
    call.advance(1.0)
    assert call.finished == 0
    call.advance(2.0)
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.SHUTDOWN
    assert call.socket_closed == (1012, "service restart")
    assert call.hung_up is None
    assert call.plays() == [{1: 3.0}]
    assert call.saves[-1].status is SessionStatus.PAUSED
    call.assert_lawful_end()


def test_a_goodbye_is_finished_and_the_caller_hung_up_on_before_a_call_is_let_go(
    call: CallDriver,
) -> None:
    call.says("Goodbye, and thank you.", 1, 3.0)
    call.handle(HangUp("done"))
    call.handle(Drain(within_s=20.0))
    call.advance(3.3)  # VoiceAI Connect may be a little behind
    assert call.plays() == [{1: 3.0}]
    assert call.hung_up is None
    call.advance(0.7)
    assert call.hung_up == "done"
    call.handle(Drain())
    assert call.finished == 0
    assert len(list(call.times(HangupRequested))) == 1
    call.phone.end("bot-disconnected", "done")
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.BOT
    assert call.saves[-1].status is SessionStatus.ENDED
    call.assert_lawful_end()


def test_a_goodbye_for_which_there_is_no_time_is_a_hang_up_all_the_same(call: CallDriver) -> None:
    call.says("Goodbye, and thank you.", 1, 10.0)
    call.handle(HangUp("done"))
    call.handle(Drain())
    assert call.hung_up == "done"
    call.advance(3.0)
    call.handle(Drain())
    call.advance(2.1)  # VoiceAI Connect does not say that it did
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.BOT
    call.assert_lawful_end()


@pytest.mark.parametrize("lost_first", [True, False])
def test_whoever_was_to_be_hung_up_on_when_her_line_dropped_finds_the_conversation_ended(
    *, lost_first: bool
) -> None:
    call = a_call()
    call.says("Goodbye, and thank you.", 1, 3.0)
    call.handle(HangUp("done"))
    call.advance(1.0)
    if lost_first:
        call.lose_socket()
        call.handle(Drain(within_s=20.0))
    else:
        call.handle(Drain(within_s=20.0))
        call.lose_socket()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.BOT
    assert call.saves[-1].status is SessionStatus.ENDED
    call.assert_lawful_end()


def test_a_tool_that_runs_is_waited_for_before_a_call_is_let_go(call: CallDriver) -> None:
    """Nobody knows its outcome otherwise, and the caller is told so."""
    call.live.ask("t-1", "lookup", {})
    call.deliver()
    call.handle(Drain(within_s=20.0))
    call.advance(5.0)
    assert call.finished == 0
    call.tool_done(call.tools[0], {"found": True})
    call.advance(0.2)
    assert call.finished == 1
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert '"found": true' in other.live.typed[-1]


def test_a_bot_that_never_stops_is_let_go_when_the_time_is_up(call: CallDriver) -> None:
    call.says("An endless story.", 1, 60.0, None)
    call.handle(Drain(within_s=5.0))
    call.advance(4.9)
    assert call.finished == 0
    call.advance(0.2)
    assert call.finished == 1


def test_speech_that_nobody_has_answered_is_kept_when_a_call_is_let_go_and_replayed_once(
    call: CallDriver,
) -> None:
    frames = call.talk(1.0)
    call.handle(Drain())
    stored = call.saves[-1]
    assert stored.audio_buffer
    other = call.elsewhere(stored)
    other.come_back()
    other.advance(0.2)
    assert other.live.frames == frames
    later = other.talk(0.5)
    assert other.live.frames == frames + later
    assert other.saves[-1].audio_buffer == []
    third = other.elsewhere()
    third.come_back()
    third.advance(0.2)
    assert third.live.frames == []


def test_kept_speech_is_heard_at_its_own_pitch_where_the_line_has_another_rate(
    call: CallDriver,
) -> None:
    call.talk(1.0)
    call.handle(Drain())
    other = call.elsewhere(offered=("raw/mulaw",))
    other.come_back(formats=("raw/mulaw",))
    other.advance(0.1 + 1e-6)
    assert other.live.rates[0] == 8_000
    loud = sum(
        abs(int.from_bytes(other.live.audio[i : i + 2], "little", signed=True)) > 1000
        for i in range(0, len(other.live.audio), 2)
    )
    assert loud / 8_000 == pytest.approx(1.0, abs=0.1)


def test_keys_that_were_not_told_yet_are_told_after_a_hand_over(call: CallDriver) -> None:
    call.phone.dtmf("42")
    call.flush()
    call.handle(Drain())
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    (typed,) = other.live.typed
    assert "4 2" in typed


def test_without_a_drain_no_sound_is_stored(call: CallDriver) -> None:
    call.talk(1.0)
    call.lose_socket()
    call.advance(GRACE_S + 1.0)
    assert all(state.audio_buffer == [] for state in call.saves)


# Another process


def test_another_process_tells_a_new_stream_all_that_was_said_and_done(call: CallDriver) -> None:
    call.hears("My name is Ann.")
    call.live.ask("t-1", "lookup", {"name": "Ann"})
    call.deliver()
    call.tool_done(call.tools[0], {"account": 7})
    call.says("Hello Ann.", 1, 1.0)
    call.confirms("Hello Ann.")
    call.advance(3.0)
    other = call.elsewhere()
    other.come_back()
    assert other.accepted  # at once, before the stream is there
    assert other.live.told == []
    frames = other.talk(0.5)
    assert other.live.told == [
        ("USER", "My name is Ann."),
        ("ASSISTANT", '[called lookup with {"name":"Ann"}; result: {"account": 7}] Hello Ann.'),
    ]
    assert other.live.frames == frames
    assert other.live.typed == []
    assert other.tools == []
    (report,) = other.report("session resumed")
    assert (report["where"], report["resumed_count"]) == ("other process", 1)


def test_a_resumed_call_is_not_greeted_again() -> None:
    call = CallDriver(replace(PATIENT, agent=GREETING_AGENT))
    call.answer()
    call.says("Hello, this is the bank.", 1, 1.0)
    call.advance(2.0)
    other = call.elsewhere()
    other.come_back()
    other.phone.start()
    other.phone.start_user_stream()
    other.flush()
    other.quiet(10.0)
    assert other.live.typed == []
    assert other.live.told[1] == ("ASSISTANT", "Hello, this is the bank.")


def test_a_greeting_that_was_heard_in_part_is_not_begun_again() -> None:
    call = CallDriver(replace(PATIENT, agent=GREETING_AGENT))
    call.answer()
    call.says("Hello, this is the bank.", 1, 3.0, None)
    call.advance(0.5)
    other = call.elsewhere()
    other.come_back()
    other.advance(10.0)
    assert other.live.typed == [BROKE_OFF.format("Hello, this is the bank.")]


def test_a_caller_whom_nobody_has_greeted_is_greeted_by_the_next_process() -> None:
    call = CallDriver(replace(PATIENT, agent=GREETING_AGENT))
    call.initiate()
    assert call.saves, "a session is stored as soon as it is asked for"
    other = call.elsewhere()
    other.come_back()
    other.start()
    other.advance(2.0)
    assert other.live.typed == [GREETING_AGENT.greeting.text]
    assert any(isinstance(event, Configured) for _, event in other.heard)


def test_the_agents_phrase_is_typed_after_a_resume_if_there_is_one() -> None:
    plan = with_agent(resume=Resume(text="Say that you are back."))
    call = CallDriver(replace(plan, resume_grace_s=GRACE_S))
    call.answer()
    call.hears("My name is Ann.")
    call.says("Hello Ann.", 1, 1.0)
    call.advance(3.0)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.typed == ["Say that you are back."]


def test_what_nobody_has_answered_is_typed_and_is_not_told_twice() -> None:
    plan = with_agent(resume=Resume(text="Say that you are back."))
    call = CallDriver(replace(plan, resume_grace_s=GRACE_S))
    call.answer()
    call.says("Hello.", 1, 1.0)
    call.advance(2.0)
    call.hears("What is the time?")
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.typed == ["What is the time?"]
    assert other.live.told == [("USER", "[call connected]"), ("ASSISTANT", "Hello.")]
    other.says("Nine.", 2, 1.0)
    other.advance(3.0)
    other.breaks()
    other.advance(1.0)
    assert other.live.typed == []


def test_a_result_that_nobody_has_spoken_about_is_told_again(call: CallDriver) -> None:
    call.hears("Look it up.")
    call.says("One moment.", 1, 0.5)
    call.advance(1.0)
    call.live.ask("t-1", "lookup", {"id": 1})
    call.deliver()
    call.tool_done(call.tools[0], {"found": 7})
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    (typed,) = other.live.typed
    assert '{"found": 7}' in typed
    assert "not an instruction" in typed


def test_a_running_tool_is_run_again_if_it_may_be() -> None:
    call = a_call(tools=(LOOKUP, REPEATABLE))
    call.hears("How is the weather?")
    call.live.ask("t-1", "weather", {"city": "Rome"})
    call.deliver()
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    (run,) = other.tools
    assert (run.name, run.tool_use_id, run.arguments) == ("weather", "t-1", '{"city":"Rome"}')
    assert other.live.typed == []
    other.tool_done(run, {"sun": True})
    (typed,) = other.live.typed
    assert '{"sun": true}' in typed
    assert other.saves[-1].function_calls[0].result == {"sun": True}


def test_of_a_running_tool_that_may_not_be_run_again_the_outcome_is_unknown(
    call: CallDriver,
) -> None:
    call.hears("Transfer a hundred.")
    call.live.ask("t-1", "lookup", {"id": 1})
    call.deliver()
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.tools == []
    (typed,) = other.live.typed
    assert "the outcome is unknown" in typed
    assert other.saves[-1].function_calls[0].status == "failed"


def test_the_restored_stream_is_opened_exactly_like_the_first() -> None:
    agent = SILENT_AGENT.model_copy(update={"voice": "matthew", "system_prompt": "You are Max."})
    call = a_call(agent=agent)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.system_prompt == call.live.system_prompt == "You are Max."
    assert other.live.rates == call.live.rates
    assert other.live.prompt_start == call.live.prompt_start


def test_a_process_whose_clock_is_behind_tells_what_was_said_after_a_call_after_it(
    call: CallDriver,
) -> None:
    call.quiet(0.3)
    call.hears("What is my balance?")
    call.advance(1.0)
    call.live.ask("t-1", "lookup", {})
    call.deliver()
    call.advance(1.0)
    call.tool_done(call.tools[0], {"balance": 42})
    behind = call.elsewhere(clock_s=-5.0)
    behind.come_back()
    behind.advance(0.1)
    behind.says("It is forty-two.", 7, 0.5)
    behind.advance(0.6)
    behind.hears("And now?")
    behind.breaks()
    behind.advance(0.1)
    result = '[called lookup with {}; result: {"balance": 42}]'
    assert behind.live.told == [
        ("USER", "What is my balance?"),
        ("ASSISTANT", f"{result} It is forty-two."),
    ]


def test_what_tools_have_noted_is_kept(call: CallDriver) -> None:
    call.hears("My name is Ann.")
    state = call.saves[-1]
    state.variables = {"account": 7, "steps": ["a", "b"]}
    state.metadata = {**state.metadata, "foreign": True}
    other = call.elsewhere(state)
    other.come_back()
    other.advance(0.2)
    other.hears("And now?")
    assert other.saves[-1].variables == {"account": 7, "steps": ["a", "b"]}
    assert other.saves[-1].metadata["foreign"] is True


def test_play_streams_of_another_process_have_ids_that_never_were(call: CallDriver) -> None:
    seen: list[str] = []
    for _ in range(3):
        for value in (1, 2):
            call.says("Something.", value, 0.5)
            call.advance(1.5)
        call.lose_socket()
        call.attach()
        call.says("Something.", 3, 0.5)
        call.advance(1.5)
        seen += ids_of(call)
        call = call.elsewhere()
        call.come_back()
        call.advance(0.2)
    assert len(set(seen)) == len(seen) == 9


def test_formats_that_are_offered_no_more_are_replaced(call: CallDriver) -> None:
    other = call.elsewhere()
    other.come_back(formats=("raw/mulaw",))
    other.advance(0.2)
    assert other.accepted
    assert other.saves[-1].media_format == "raw/mulaw"
    none = call.elsewhere()
    none.come_back(formats=("video/h264",))
    assert none.refused is not None
    assert "raw/lpcm16" in none.refused or "format" in none.refused
    assert none.saves == []  # the conversation may be taken up with other formats still
    assert none.services == {}


def test_formats_that_need_not_be_offered_again_are_kept(call: CallDriver) -> None:
    other = call.elsewhere()
    other.come_back(formats=None)
    other.advance(0.2)
    assert other.accepted
    assert other.live.rates == call.live.rates


def test_whoever_was_replaced_closes_its_stream_and_neither_hangs_up_nor_writes(
    call: CallDriver,
) -> None:
    call.says("A long story.", 1, 5.0)
    call.talk(1.0)
    saved, at = len(call.saves), call.now
    call.handle(Fenced())
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.FENCED
    assert call.hung_up is None
    assert call.refused is None
    assert call.live.closed is not None
    assert call.live.session_ended
    assert call.socket_closed is not None
    assert call.since(at) == []
    call.confirms("A long", call.live)
    call.advance(10.0)
    assert len(call.saves) == saved
    call.assert_lawful_end()


def test_a_call_that_waits_for_its_caller_can_be_taken_by_another_process(
    call: CallDriver,
) -> None:
    call.lose_socket()
    saved = len(call.saves)
    call.handle(Fenced())
    assert call.finished == 1
    assert len(call.saves) == saved
    call.assert_lawful_end()


def test_a_resume_in_the_middle_of_a_resume_goes_on_in_the_same_process(call: CallDriver) -> None:
    call.hears("My name is Ann.")
    other = call.elsewhere()
    other.come_back()
    other.lose_socket()
    other.attach()
    frames = other.talk(0.5)
    assert len(other.services) == 1
    assert other.live.frames == frames
    assert other.live.typed == ["My name is Ann."]


def test_a_model_that_cannot_be_reached_ends_a_resumed_call_for_the_tenants_fail_over(
    call: CallDriver,
) -> None:
    other = call.elsewhere(head_s=None)
    other.come_back()
    other.advance(11.0)
    assert other.refused == SILENT_AGENT.goodbye_on_failure


def test_a_caller_of_an_unknown_conversation_gets_a_new_one_where_that_is_wanted() -> None:
    call = CallDriver(replace(PATIENT, agent=GREETING_AGENT), start_afresh=True)
    call.come_back()
    call.advance(2.0)
    assert call.accepted
    assert call.report("started afresh")
    assert call.live.typed == [GREETING_AGENT.greeting.text]
    assert call.saves[-1].conversation_id == "c-1"


def test_a_fresh_start_needs_no_formats() -> None:
    call = CallDriver(PATIENT, start_afresh=True, offered=None)
    call.come_back(formats=None)
    call.advance(0.2)
    assert call.accepted


# What is saved


def saves_of(call: CallDriver, what: Callable[[], object]) -> list[SessionState]:
    before = len(call.saves)
    what()
    return call.saves[before:]


def test_each_committed_item_is_saved_once_in_the_step_that_brings_it() -> None:
    call = CallDriver(PATIENT)
    assert len(saves_of(call, call.initiate)) == 1
    assert len(saves_of(call, lambda: call.advance(0.2))) == 1  # accepted
    assert len(saves_of(call, call.start)) == 1  # who was called
    assert len(saves_of(call, lambda: call.talk(2.0))) == 0
    assert len(saves_of(call, lambda: call.quiet(2.0))) == 0
    assert len(saves_of(call, lambda: call.hears("Look it up."))) == 1

    def asks() -> None:
        call.live.ask("t-1", "lookup", {"id": 1})
        call.deliver()

    (state,) = saves_of(call, asks)
    assert state.function_calls[0].status == "running"
    (state,) = saves_of(call, lambda: call.tool_done(call.tools[0], {"found": 7}))
    assert state.function_calls[0].result == {"found": 7}
    begun, ended = saves_of(call, lambda: call.says("It is seven.", 1, 1.0))
    assert (
        begun.conversation_history[-1].unfinished,
        ended.conversation_history[-1].unfinished,
    ) == (
        True,
        False,
    )
    assert len(saves_of(call, lambda: call.confirms("It is seven."))) == 0
    assert len(saves_of(call, lambda: call.advance(30.0))) == 0
    assert call.said == [("input", "Look it up."), ("output", "It is seven.")]


def three_sentences(call: CallDriver) -> None:
    """A whole answer, faster than real time, with the model's word that it was spoken."""
    for value, text in enumerate(SENTENCES[:2], start=1):
        call.says(text, value, 2.0, StopReason.PARTIAL_TURN)
    call.says(SENTENCES[2], 3, 2.0)
    for text in SENTENCES:
        call.confirms(text)


SENTENCES = ("Your account is open.", "There were three payments.", "One is not booked yet.")


def test_of_an_answer_only_what_was_handed_to_the_phone_is_stored(call: CallDriver) -> None:
    call.hears("How is my account?")
    before = len(call.saves)
    three_sentences(call)
    assert call.said[1:] == [("output", SENTENCES[0])]
    killed = call.saves[-1]
    call.advance(1.6)
    assert call.said[1:] == [("output", SENTENCES[0])]
    call.advance(0.3)  # the phone is kept 0.3 s ahead
    assert call.said[1:] == [("output", " ".join(SENTENCES[:2]))]
    call.advance(10.0)
    assert call.said[1:] == [("output", " ".join(SENTENCES))]
    assert len(call.saves) - before == len(SENTENCES)  # each is written once
    other = call.elsewhere(killed)
    other.come_back()
    other.advance(0.2)
    assert other.live.told == [("USER", "How is my account?"), ("ASSISTANT", SENTENCES[0])]
    (typed,) = other.live.typed  # the rest of the answer died with its process
    assert typed == BROKE_OFF.format(SENTENCES[0])
    third = call.elsewhere(other.saves[-1] if other.saves else killed)
    third.come_back()
    third.advance(0.2)
    assert third.live.typed == [typed]


def test_an_answer_that_the_phone_has_got_the_last_of_is_not_given_again(call: CallDriver) -> None:
    call.hears("How is my account?")
    three_sentences(call)
    call.advance(4.0)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.typed == []
    assert other.live.told[1] == ("ASSISTANT", " ".join(SENTENCES))


def test_an_answer_that_the_caller_cut_off_is_not_given_again(call: CallDriver) -> None:
    call.hears("How is my account?")
    three_sentences(call)
    call.advance(1.0)
    call.talk(0.5)
    call.interrupts()
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.typed == []


def test_the_last_sentence_that_was_heard_is_where_an_answer_goes_on(call: CallDriver) -> None:
    call.hears("How is my account?")
    three_sentences(call)
    call.advance(2.5)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.typed == [BROKE_OFF.format(SENTENCES[1])]


def test_a_tool_that_ran_after_the_last_words_is_what_the_next_process_goes_on_from(
    call: CallDriver,
) -> None:
    call.hears("Look it up.")
    call.says("One moment, I look it up for you.", 1, 5.0, StopReason.PARTIAL_TURN)
    call.says("It may take a while.", 2, 5.0, StopReason.PARTIAL_TURN)
    call.live.ask("t-1", "lookup", {"id": 1})
    call.deliver()
    call.tool_done(call.tools[0], {"found": 7})
    assert call.saves[-1].conversation_history[-1].unfinished
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    (typed,) = other.live.typed
    assert '{"found": 7}' in typed


@pytest.mark.parametrize("lost_by", ["grace", "drain"])
def test_an_answer_that_the_end_of_the_call_here_has_cut_off_is_finished_elsewhere(
    lost_by: str,
) -> None:
    call = a_call()
    call.hears("How is my account?")
    three_sentences(call)
    call.advance(0.5)
    if lost_by == "grace":
        call.lose_socket()
        call.advance(GRACE_S + 1.0)
    else:
        call.handle(Drain(within_s=0.0))
    assert call.saves[-1].status is SessionStatus.PAUSED
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.typed == [BROKE_OFF.format(SENTENCES[0])]


def test_speech_that_nobody_has_answered_comes_before_the_rest_of_an_answer(
    call: CallDriver,
) -> None:
    call.hears("How is my account?")
    three_sentences(call)
    call.advance(0.5)
    call.talk(1.0)
    call.handle(Drain(within_s=0.0))
    assert call.saves[-1].audio_buffer
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    assert other.live.typed == []


def test_the_next_stream_of_the_process_is_told_what_will_still_be_played(
    call: CallDriver,
) -> None:
    call.hears("How is my account?")
    three_sentences(call)
    call.breaks()
    call.advance(0.5)
    assert call.said[1:] == [("output", SENTENCES[0])]
    assert call.live.told[1] == ("ASSISTANT", " ".join(SENTENCES))
    call.advance(10.0)
    assert call.said[1:] == [("output", " ".join(SENTENCES))]


def test_what_the_bot_says_while_nobody_is_there_is_stored_once_it_is_played(
    call: CallDriver,
) -> None:
    call.hears("How is my account?")
    call.lose_socket()
    call.says("It is open.", 1, 2.0)
    call.confirms("It is open.")
    call.advance(5.0)
    assert call.said == [("input", "How is my account?")]
    killed = call.saves[-1]
    call.attach()
    assert call.said[1:] == [("output", "It is open.")]
    other = call.elsewhere(killed)
    other.come_back()
    other.advance(0.2)
    assert other.live.typed == ["How is my account?"]  # she has had no answer


def test_a_final_text_that_differs_from_the_plan_is_saved(call: CallDriver) -> None:
    call.says("It is seven.", 1, 1.0)
    (state,) = saves_of(call, lambda: call.confirms("It's seven."))
    assert state.conversation_history[-1].text == "It's seven."


def test_a_change_of_stream_is_saved_before_the_next_stream_is_told_anything() -> None:
    call = a_call()
    call.hears("My name is Ann.")
    call.says("Hello Ann.", 1, 1.0)
    call.quiet(400.0)
    assert len(call.services) == 2
    saved_at = next(
        n
        for n, (_, effect) in enumerate(call.ran)
        if isinstance(effect, Save) and effect.state.stream_switches
    )
    (switch,) = call.saves[-1].stream_switches
    assert switch.reason
    opened = [n for n, (_, effect) in enumerate(call.ran) if isinstance(effect, OpenStream)]
    told = next(
        n
        for n, (_, effect) in enumerate(call.ran)
        if getattr(effect, "stream", None) == 2
        and b"My name is Ann" in getattr(effect, "payload", b"")
    )
    assert opened[1] < saved_at < told


def test_a_session_knows_its_agent_and_its_formats_from_the_first_save(call: CallDriver) -> None:
    first = call.saves[0]
    assert first.agent == PLAN.agent.model_dump(mode="json")
    assert (first.media_format, first.play_format) == ("raw/lpcm16", "raw/lpcm16_24")
    assert first.metadata["agent"] == PLAN.agent_name


def test_a_restored_conversation_that_goes_on_is_not_written_before_something_is_said(
    call: CallDriver,
) -> None:
    call.hears("My name is Ann.")
    call.says("Hello Ann.", 1, 1.0)
    call.advance(3.0)
    stored = call.saves[-1]
    stored.status = SessionStatus.ACTIVE
    other = call.elsewhere(stored)
    other.come_back()
    other.quiet(30.0)
    assert other.saves == []


def test_texts_that_come_late_are_saved_though_the_call_has_let_go(call: CallDriver) -> None:
    call.says("Hello there.", 1, 1.0)
    call.handle(Drain(within_s=0.0))
    stream = call.services[min(call.services)]
    before = len(call.saves)
    call.confirms("Hello dear.", stream)
    assert len(call.saves) == before + 1
    assert call.saves[-1].status is SessionStatus.PAUSED
