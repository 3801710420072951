"""Limits, closing and injected errors of the service's end, and both ends together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opusagent.models.session_state import Role, ToolSpec, Turn
from opusagent.sonic import reader as said
from opusagent.sonic.peer import SonicPeer
from opusagent.sonic.peer_brain import Reply
from opusagent.sonic.peer_faults import STREAM_FAULTS, StreamFault
from opusagent.sonic.profiles import PROFILES, Timing
from opusagent.sonic.stream import SonicConfig
from tests.sonic.duet import (
    ADA,
    HELLO,
    RATE_HZ,
    Duet,
    EchoBrain,
    ids,
    noise,
    silence,
    spoken,
)

USER, BOT = Role.USER, Role.ASSISTANT
HISTORY = [Turn(role=USER, text="I am Ada."), Turn(role=BOT, text="Hello Ada.")]


def idle_words(seconds: int) -> str:
    return (
        "InternalErrorCode=532::Timed out waiting for audio bytes or interactive content. Please"
        " ensure gaps between audio bytes and interactive content are less than"
        f" {seconds} seconds."
    )


def test_a_whole_call_is_valid_on_both_ends() -> None:
    tools = (ToolSpec(name="t", description="d", input_schema={"type": "object"}),)
    config = SonicConfig(system_prompt="Be brief.", tools=tools, voice="amy")
    one = Duet(config=config).open(HISTORY)
    one.say(spoken(HELLO) + silence(4)).type_text("five").say(silence(5)).close()
    record = one.peer.record
    record.assert_valid_session()
    record.assert_history(HISTORY)
    assert record.closed_properly
    assert record.system_prompt == "Be brief."
    assert [at.value for at in record.heard] == ["hello there"]
    assert [at.value for at in record.typed] == ["five"]
    assert one.peer.ended
    assert one.stream.closed


def test_the_order_of_an_ordinary_turn_is_that_of_the_service() -> None:
    one = Duet(Reply(("One two.", "Three."))).open().say(spoken(HELLO) + silence(8)).close()
    names = [next(iter(json.loads(payload)["event"])) for payload in one.payloads]
    text = ["contentStart", "textOutput", "contentEnd"]
    audio = ["contentStart", "audioOutput", "contentEnd"]
    order = [name for i, name in enumerate(names) if name != "audioOutput" or names[i - 1] != name]
    assert order == [
        "completionStart",
        *text,  # what the caller said
        "usageEvent",
        *text,
        *audio,
        *text,
        *audio,
        "usageEvent",
        *text,  # FINAL, late
        *text,
        "completionEnd",
    ]


def test_one_session_and_one_completion_id_run_through_the_whole_stream() -> None:
    one = Duet().open().say((spoken(HELLO) + silence(4)) * 2).close()
    bodies = [next(iter(json.loads(payload)["event"].values())) for payload in one.payloads]
    for key in ("sessionId", "completionId", "promptName"):
        assert len({body[key] for body in bodies}) == 1
    assert len(one.events(said.ResponseStarted)) == len(one.events(said.ResponseCompleted)) == 1


def test_bot_audio_has_the_rate_and_the_length_that_were_asked_for() -> None:
    config = SonicConfig(system_prompt="x", output_rate_hz=8000)
    one = Duet(Reply(("One two three.",)), config=config).open().say(spoken(HELLO) + silence(6))
    audio = [event for event in one.events(said.BotAudio) if isinstance(event, said.BotAudio)]
    assert sum(len(event.pcm) for event in audio) == 3 * 2 * 8000
    assert b"".join(event.pcm for event in audio) == EchoBrain().speak("One two three.", 8000)


@pytest.mark.parametrize(("endpointing", "pause_s"), [("HIGH", 1.5), ("MEDIUM", 1.75), ("LOW", 2)])
def test_the_caller_is_given_the_pause_that_the_client_chose(
    endpointing: str, pause_s: float
) -> None:
    config = SonicConfig(system_prompt="x", endpointing=endpointing)
    one = Duet(config=config).open().say(spoken(HELLO) + silence(4))
    assert one.time_of(said.TextHeard) == pytest.approx(101 + pause_s, abs=0.03)


def test_the_first_generation_takes_no_notice_of_the_chosen_pause() -> None:
    one = Duet(profile=PROFILES["v1"]).open().say(spoken(HELLO) + silence(4))
    assert one.time_of(said.TextHeard) == pytest.approx(102.75, abs=0.03)


def test_a_stream_lives_eight_minutes() -> None:
    one = Duet().open()
    for _ in range(47):
        one.burst(silence(10)).wait(10)
    assert one.peer.failure is None
    one.burst(silence(9)).wait(9.9)
    assert not one.peer.over
    one.wait(0.2)
    words = "Model has timed out in processing the request. Try your request again."
    assert one.peer.failure == ("modelTimeoutException", words)
    assert one.peer.record.ended_at == pytest.approx(580)


@pytest.mark.parametrize(("profile", "limit_s"), [("v1", 59), ("nova-2", 55), ("nova-2.5", 295)])
def test_a_stream_without_audio_or_typed_text_times_out(profile: str, limit_s: int) -> None:
    one = Duet(profile=PROFILES[profile]).open().wait(limit_s - 0.1)
    assert one.peer.failure is None
    one.wait(0.2)
    assert one.message == idle_words(limit_s)


def test_a_standby_without_audio_times_out_too() -> None:
    one = Duet()
    one.stream.open()
    one.deliver().wait(56)
    assert one.message == idle_words(55)


def test_silence_keeps_a_stream_alive() -> None:
    one = Duet().open()
    for _ in range(9):
        one.burst(silence(0.25)).wait(50)
    assert one.peer.failure is None


def test_a_typed_text_keeps_a_stream_alive() -> None:
    one = Duet().open().wait(54).type_text("hello").wait(54)
    assert one.peer.failure is None


def test_silence_may_count_as_nothing() -> None:
    strict = replace(PROFILES["nova-2"], silence_is_activity=False)
    one = Duet(profile=strict).open().say(spoken(HELLO) + silence(56))
    assert one.peer.failure is None
    one.say(silence(4))
    assert one.message == idle_words(55)


def test_a_timer_that_comes_late_does_everything_in_its_order() -> None:
    prompt, late = (Duet(Reply(("One two.", "Three."))).open() for _ in range(2))
    for one in (prompt, late):
        one.burst(spoken(HELLO) + silence(2))
    prompt.wait(20)
    late.now += 20
    late.peer.handle_timer(late.now)
    late.collect()
    assert late.payloads == prompt.payloads
    assert late.peer.record.said == prompt.peer.record.said


def test_ten_seconds_that_arrive_at_once_are_heard_like_ten_seconds() -> None:
    pcm = silence(1) + spoken(HELLO) + silence(3) + spoken(ADA) + silence(4)
    one = Duet().open(HISTORY).burst(pcm).wait(10)
    assert [at.value for at in one.peer.record.heard] == ["hello there", "my name is Ada"]
    assert one.brain.asked == ["hello there my name is Ada"]


def test_a_stall_of_the_network_is_no_pause_of_the_caller() -> None:
    one = Duet().open().say(spoken(HELLO, 0.5)).wait(10).say(spoken(HELLO, 0.5) + silence(3))
    assert [at.value for at in one.peer.record.heard] == ["hello there"]


def test_the_remaining_texts_come_before_the_completion_ends() -> None:
    one = Duet().open().say(spoken(HELLO) + silence(4)).close()
    last = one.events(said.TextHeard, said.ResponseCompleted)[-2:]
    assert isinstance(last[0], said.TextHeard)
    assert (last[0].stage, last[0].role) == (said.Stage.FINAL, BOT)
    assert isinstance(last[1], said.ResponseCompleted)


def test_a_session_that_ends_while_the_bot_speaks_confirms_what_was_said() -> None:
    one = Duet(Reply(("One two three four.",))).open().say(spoken(HELLO) + silence(2.5)).close()
    final = one.events(said.TextHeard)[-1]
    assert isinstance(final, said.TextHeard)
    assert final.stage is said.Stage.FINAL
    assert "One two three four.".startswith(final.text)
    assert one.peer.record.closed_properly


def test_a_stream_ends_with_its_input_even_if_nothing_was_closed() -> None:
    one = Duet().open().say(silence(0.1))
    one.peer.end_input(one.now)
    assert one.peer.ended
    assert not one.peer.record.closed_properly
    with pytest.raises(AssertionError):
        one.peer.record.assert_valid_session()


def test_a_client_that_keeps_its_input_open_is_left_after_a_while() -> None:
    one = Duet().open()
    one.stream.close()
    one.deliver()
    assert not one.peer.ended
    one.wait(2.1)
    assert one.peer.ended
    assert not one.peer.record.closed_properly


def test_a_stream_that_was_sent_nothing_has_nothing_to_transform() -> None:
    one = Duet()
    one.peer.end_input(one.now)
    assert one.message == "No events to transform were found"


def test_a_stream_without_audio_closes_properly_all_the_same() -> None:
    one = Duet()
    one.stream.open()
    one.deliver().close()
    one.peer.record.assert_valid_session()


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_every_error_can_be_made_to_strike_at_an_event(name: str) -> None:
    code, message = STREAM_FAULTS[name]
    fault = StreamFault(code=code, message=message, on_event="audioInput", nth=2)
    one = Duet(stream_faults=[fault]).open().burst(silence(0.1))
    assert one.peer.failure is None
    one.burst(silence(0.1))
    assert one.peer.record.failure == (code, message)


def test_an_error_can_be_made_to_strike_at_a_time() -> None:
    fault = StreamFault(code="weirdException", message="?", after_s=3)
    one = Duet(stream_faults=[fault]).open().say(silence(2.9))
    assert one.peer.failure is None
    one.say(silence(0.2))
    assert one.peer.failure == ("weirdException", "?")


def test_an_error_can_be_made_to_strike_at_any_event() -> None:
    fault = StreamFault(code="weirdException", message="?", on_event="", nth=3)
    one = Duet(stream_faults=[fault]).open()
    assert len(one.peer.record.events) > 3
    assert one.peer.failure == ("weirdException", "?")
    assert one.peer.record.prompt is not None


def test_a_driver_may_end_a_stream_with_an_error_once() -> None:
    one = Duet().open()
    one.peer.fail("throttlingException", "Too many", one.now)
    one.peer.fail("internalServerException", "again", one.now)
    assert one.peer.failure == ("throttlingException", "Too many")
    assert not one.peer.ended


def test_a_zombie_takes_everything_and_says_nothing() -> None:
    one = Duet(faults={"zombie"}).open().say(spoken(HELLO) + silence(5)).type_text("hello").close()
    assert one.events() == []
    assert one.peer.record.closed_properly


def test_a_stream_may_end_before_its_first_word() -> None:
    one = Duet(faults={"premature-close"}).open().say(spoken(HELLO)).burst(silence(2)).wait(1)
    assert one.peer.ended
    assert one.events(said.BotAudio) == []


def test_a_stream_may_die_of_its_history() -> None:
    dying, living = (Duet(faults={"dies-after-replay"}) for _ in range(2))
    dying.open(HISTORY).wait(5.1)
    living.open().wait(5.1)
    assert dying.peer.failure is not None
    assert living.peer.failure is None


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Duet(faults={"nonsense"})


def test_a_faster_clock_is_the_drivers_business() -> None:
    one = Duet(timing=Timing(limit_s=30, think_s=0.1)).open().wait(29.9)
    assert one.peer.failure is None
    one.wait(0.2)
    assert one.peer.failure is not None


pieces = st.one_of(
    st.tuples(st.just("say"), st.sampled_from([HELLO, ADA, 2]), st.floats(0.1, 2)),
    st.tuples(st.just("silence"), st.just(0), st.floats(0.1, 4)),
    st.tuples(st.just("burst"), st.sampled_from([HELLO, ADA]), st.floats(0.1, 10)),
    st.tuples(st.just("wait"), st.just(0), st.floats(0, 5)),
    st.tuples(st.just("type"), st.just(0), st.just(0.0)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(pieces, max_size=8))
def test_whatever_a_good_client_does_it_is_never_refused(
    acts: list[tuple[str, int, float]],
) -> None:
    one = Duet().open(HISTORY)
    for act, period, seconds in acts:
        match act:
            case "say":
                one.say(noise(seconds) if period == 2 else spoken(period, seconds))
            case "silence":
                one.say(silence(seconds))
            case "burst":
                one.burst(spoken(period, seconds))
            case "wait":
                one.wait(seconds)
            case _:
                one.type_text("a typed line")
    one.close()
    one.peer.record.assert_valid_session()
    starts = {
        event.content_id
        for event in one.events(said.BotSpeechStarted)
        if isinstance(event, said.BotSpeechStarted)
    }
    ends = {
        event.content_id
        for event in one.events(said.BotSpeechEnded)
        if isinstance(event, said.BotSpeechEnded)
    }
    assert starts == ends
    assert one.events(said.UnknownEventReceived) == []


def test_a_peer_without_ears_hears_noises_only() -> None:
    peer = SonicPeer(EchoBrain(), now=0.0, new_id=ids("s"))
    one = Duet()
    one.peer = peer
    one.now = 0.0
    one.open().say(spoken(HELLO) + silence(5))
    assert one.events(said.TextHeard) == []
    assert len(peer.record.audio) == 6 * 2 * RATE_HZ
