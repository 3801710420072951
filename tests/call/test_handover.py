"""From one stream to the next, in the middle of a call: what each side hears of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opusagent.audiocodes.peer_events import PlayStarted
from opusagent.call.events import (
    CloseReason,
    ControlToSonic,
    FromSonic,
    OpenStream,
    Save,
    StreamId,
    StreamOpened,
    ToolCall,
)
from opusagent.call.plan import ContinuationPolicy
from opusagent.models.agent import Greeting
from opusagent.models.session_state import Role
from opusagent.sonic.reader import Stage, StopReason
from tests.call.driver import PLAN, T0, CallDriver, Service, bot_pcm, with_agent

POLICY = ContinuationPolicy(transition_threshold_s=20.0, audio_start_timeout_s=15.0, limit_s=40.0)
PLAN_SHORT = replace(PLAN, continuation=POLICY)
THROTTLED = ("ThrottlingException", "Too many requests")


def begun(plan: object = None, **how: object) -> CallDriver:
    call = CallDriver(plan=plan or PLAN_SHORT, random=lambda: 0.0, **how)  # type: ignore[arg-type]
    call.answer()
    return call


def aged(seconds: float = 19.9, **how: object) -> CallDriver:
    """A call whose caller has given her name long ago, and whose stream is about to grow old."""
    call = begun(**how)
    call.quiet(seconds - 5.0)
    call.talk(1.0)
    call.quiet(0.6)
    call.hears("My name is Ann.")
    call.says("Hello Ann.", 1, 1.0)
    call.quiet(seconds - (call.now - T0 - 0.1))
    return call


def ready() -> CallDriver:
    """The bot speaks for ten seconds, and the next stream stands by."""
    call = aged()
    call.quiet(0.2)
    call.says("Listen, this takes some time.", 2, 10.0)
    call.quiet(0.5)
    assert standby(call).closed is None
    return call


def one(call: CallDriver, number: int) -> Service:
    return call.services[StreamId(number)]


def standby(call: CallDriver) -> Service:
    assert len(call.services) >= 2
    assert not call.newest.audio
    return call.newest


def switched(call: CallDriver) -> list[tuple[object, object, object]]:
    return [(r["from_stream"], r["stream"], r["reason"]) for r in call.report("stream switched")]


# Preparing


def test_before_the_threshold_a_call_has_one_stream() -> None:
    call = aged()
    call.says("I speak.", 2, 0.05)
    assert len(call.services) == 1
    assert not call.report("threshold reached")


def test_the_next_stream_is_opened_when_the_bot_speaks_and_is_told_nothing_yet() -> None:
    call = ready()
    assert call.report("threshold reached") == [{"stream": 1, "age_s": pytest.approx(20, abs=0.1)}]
    assert call.report("standby asked") == [{"stream": 2, "cause": "bot_started"}]
    assert standby(call).system_prompt
    assert not standby(call).told


def test_while_a_standby_is_slow_the_live_stream_hears_everything() -> None:
    call = aged()
    call.head_s = 2.0
    call.quiet(0.2)
    call.says("A long answer.", 2, 5.0)
    heard = len(call.live.frames)
    numbers = call.talk(1.5)
    assert one(call, 1).frames[heard:] == numbers
    call.quiet(1.0)
    assert call.report("standby opened") == [{"stream": 2, "open_ms": 2000}]
    assert call.report("standby ready") == [{"stream": 2, "history_items": 0}]


# At the end of an answer


def test_the_switch_comes_when_the_answer_was_heard_and_the_caller_is_quiet() -> None:
    call = ready()
    call.quiet(9.0)
    assert switched(call) == []
    call.quiet(1.5)
    assert switched(call) == [(1, 2, "turn_complete")]
    assert one(call, 1).closed is CloseReason.REPLACED
    assert one(call, 1).session_ended
    assert call.plays()[-1] == {2: 10.0}


def test_the_new_stream_is_told_what_was_said_and_then_hears_the_caller_without_a_gap() -> None:
    call = ready()
    call.quiet(12.0)
    assert one(call, 2).told == [
        ("USER", "My name is Ann."),
        ("ASSISTANT", "Hello Ann. Listen, this takes some time."),
    ]
    before, after = one(call, 1).frames, one(call, 2).frames
    assert after[0] == before[-1] + 1
    assert before + after == list(range(after[-1] + 1))


def test_it_is_reported_with_its_figures() -> None:
    call = ready()
    call.quiet(12.0)
    (report,) = call.report("stream switched")
    assert report["gap_ms"] == report["replayed_ms"] == report["lost_ms"] == 0
    assert report["history_items"] == 2
    assert report["history_bytes"] == len("My name is Ann.Hello Ann. Listen, this takes some time.")
    assert report["age_s"] == pytest.approx(30.4, abs=0.5)
    (first, second) = call.report("first frame")
    assert first["stream"] == 1
    assert second["stream"] == 2
    assert isinstance(second["after_ms"], int)
    assert second["after_ms"] <= 20


def test_the_state_is_saved_before_the_switch() -> None:
    call = ready()
    saves = len(call.saves)
    call.quiet(12.0)
    assert any("takes some time" in turn.text for turn in call.saves[saves].conversation_history)
    (at,) = (at for at, report in call.reports if report.event == "stream switched")
    switch = [effect for ran_at, effect in call.ran if ran_at == at]
    kinds = [type(effect) for effect in switch]
    assert kinds.index(Save) < kinds.index(ControlToSonic)


def test_an_answer_whose_final_text_never_came_is_told_as_it_was_planned() -> None:
    call = ready()
    call.quiet(12.0)
    assert ("ASSISTANT", "Hello Ann. Listen, this takes some time.") in one(call, 2).told


def test_late_final_texts_of_the_old_stream_go_to_the_transcript_in_order() -> None:
    call = ready()
    call.quiet(12.0)
    call.talk(0.5)
    call.hears("Thank you.")
    call.confirms("Hello there, Ann.", one(call, 1))
    assert call.said[-3:] == [
        ("input", "My name is Ann."),
        ("output", "Hello there, Ann. Listen, this takes some time."),
        ("input", "Thank you."),
    ] or call.said[-1] == ("input", "Thank you.")


def test_a_late_text_of_the_caller_keeps_its_place() -> None:
    call = ready()
    call.quiet(12.0)
    call.talk(0.5)
    call.hears("And now?")
    service = one(call, 1)
    service.writer.text(Role.USER, Stage.FINAL, ["Hm."], StopReason.PARTIAL_TURN)
    call.deliver(service)
    assert [text for kind, text in call.said if kind == "input"] == [
        "My name is Ann.",
        "Hm.",
        "And now?",
    ]


# In silence


def test_a_silent_line_is_switched_as_well() -> None:
    call = aged()
    call.quiet(6.0)
    assert switched(call) == [(1, 2, "silence")]
    assert call.report("standby asked") == [{"stream": 2, "cause": "silence"}]


def test_a_line_on_hold_that_sends_nothing_is_switched_and_fed() -> None:
    call = aged()
    call.phone.stop_user_stream()
    call.flush()
    call.advance(60.0)
    assert len(switched(call)) >= 2
    for service in list(call.services.values())[1:-1]:
        assert len(service.audio) / 32_000 > 15


def test_an_hour_of_silence_is_an_hour_of_streams_below_the_limit() -> None:
    call = CallDriver(plan=PLAN, random=lambda: 0.5)
    call.answer()
    call.phone.stop_user_stream()
    call.flush()
    call.advance(3600.0)
    assert len(switched(call)) == 3600 // 366
    assert all(360 <= age <= 470 for age in ages(call))


def ages(call: CallDriver) -> list[float]:
    return [float(str(r["age_s"])) for r in call.report("stream switched")]


# While the caller speaks


def test_an_interruption_is_a_good_moment_and_what_she_says_is_replayed() -> None:
    call = ready()
    said = call.talk(0.6)
    call.interrupts()
    assert switched(call) == [(1, 2, "interrupted")]
    rest = call.talk(0.5)
    frames = one(call, 2).frames
    assert set(said + rest) <= set(frames)
    assert frames == sorted(frames)
    assert one(call, 1).closed is CloseReason.REPLACED


def test_nothing_of_the_old_answer_is_played_after_the_interruption() -> None:
    call = ready()
    call.talk(0.6)
    call.interrupts()
    at = call.now
    one(call, 1).writer.drain()
    call.talk(3.0)
    assert not [e for e in call.since(at + 0.001) if isinstance(e, PlayStarted)]


def test_what_nobody_answered_is_replayed_when_the_deadline_forces_a_switch() -> None:
    call = aged()
    call.talk(20.0)
    assert switched(call) == [(1, 2, "deadline")]
    frames = one(call, 2).frames
    # All that the ring holds, in order and without a hole.
    assert frames == list(range(frames[0], frames[-1] + 1))
    assert len(frames) >= 500


def test_a_turn_that_has_its_text_and_no_answer_defers_the_switch() -> None:
    call = ready()
    call.talk(0.6)
    call.hears("Stop, please.")
    call.quiet(2.0)
    assert switched(call) == []
    call.says("I stopped.", 3, 0.5)
    call.quiet(2.0)
    assert switched(call) == [(1, 2, "turn_complete")]


def test_at_the_deadline_it_is_typed_and_not_told_and_not_replayed() -> None:
    call = ready()
    call.talk(0.6)
    call.quiet(0.6)
    call.hears("Stop, please.")
    call.quiet(14.0)
    assert switched(call) == [(1, 2, "deadline")]
    assert one(call, 2).typed == ["Stop, please."]
    assert "Stop, please." not in str(one(call, 2).told)
    assert call.report("stream switched")[0]["replayed_ms"] == 0


# While the bot speaks, at the deadline


def forced() -> CallDriver:
    """An answer of more than the deadline allows; the service generates it faster than it is heard."""
    call = aged()
    call.quiet(0.2)
    call.says("A very long answer.", 2, 15.0, end=None)
    call.quiet(14.0)
    call.speaks(2, 10.0, end=None)
    call.quiet(1.0)
    assert switched(call) == [(1, 2, "deadline")]
    return call


def test_what_was_generated_is_played_to_its_end() -> None:
    call = forced()
    call.quiet(14.0)
    assert call.plays()[-1] == {2: 25.0}


def test_sentences_still_to_be_played_count_as_spoken() -> None:
    call = forced()
    assert one(call, 2).told[-1] == ("ASSISTANT", "Hello Ann. A very long answer.")


def test_the_old_stream_may_finish_its_answer_and_hears_silence_meanwhile() -> None:
    call = aged()
    call.quiet(0.2)
    call.says("A very long answer.", 2, 14.0, end=None)
    call.quiet(14.0)
    call.speaks(2, 2.0, end=None)
    call.quiet(1.0)
    assert switched(call) == [(1, 2, "deadline")]
    old = one(call, 1)
    assert old.closed is None
    heard = len(old.audio)
    call.quiet(1.0)
    assert len(old.audio) - heard == pytest.approx(32_000, abs=6_400)
    old.writer.audio(bot_pcm(2, 3.0))
    old.writer.end_audio(StopReason.END_TURN)
    call.deliver(old)
    assert old.closed is CloseReason.REPLACED
    call.quiet(6.0)
    assert call.plays()[-1] == {2: 19.0}


def test_it_may_not_take_for_ever() -> None:
    call = forced()
    call.quiet(2.1)
    assert one(call, 1).closed is CloseReason.REPLACED


def test_the_new_stream_waits_until_the_old_one_has_been_heard() -> None:
    call = forced()
    call.says("The next answer.", 3, 1.0)
    call.quiet(14.0)
    assert call.plays()[-2:] == [{2: 25.0}, {3: 1.0}]


def test_a_caller_who_speaks_at_the_deadline_is_the_business_of_the_new_stream_alone() -> None:
    call = aged()
    call.quiet(0.2)
    call.says("A very long answer.", 2, 25.0, end=None)
    call.quiet(14.0)
    said = call.talk(2.0)
    assert switched(call) == [(1, 2, "deadline")]
    assert one(call, 1).closed is CloseReason.REPLACED
    assert set(said) <= set(one(call, 2).frames)
    call.hears("Wait.")
    assert call.report("barge-in")[-1]["cause"] == "transcript"
    assert not call.play_is_open


def test_a_barge_in_silences_both_streams() -> None:
    call = forced()
    call.says("The next answer.", 3, 1.0)
    call.quiet(0.2)
    call.phone.dtmf("5")
    call.flush()
    at = call.now
    assert one(call, 1).closed is CloseReason.REPLACED
    call.quiet(5.0)
    assert not [e for e in call.since(at + 0.001) if isinstance(e, PlayStarted)]


def test_nothing_more_is_heard_of_an_old_answer_that_ran_dry_before_the_caller_spoke() -> None:
    call = aged()
    call.quiet(0.2)
    call.says("A very long answer.", 2, 14.9, end=None)
    call.quiet(14.9)
    call.speaks(2, 0.2, end=None)
    call.quiet(0.5)
    assert switched(call) == [(1, 2, "deadline")]
    call.interrupts()
    old = one(call, 1)
    old.writer.audio(bot_pcm(9, 1.0))
    call.deliver(old)
    call.quiet(2.0)
    assert not any(9 in play for play in call.plays())


# Tools


def asked(call: CallDriver) -> ToolCall:
    call.live.ask("t1", "lookup", {"order": 7})
    call.deliver()
    return call.tools[-1]


def test_a_running_tool_defers_the_switch_and_its_answer_too() -> None:
    call = ready()
    call.quiet(9.2)
    tool = asked(call)
    call.quiet(1.0)
    assert switched(call) == []
    call.tool_done(tool, {"status": "sent"})
    assert one(call, 1).results == [("t1", '{"status":"sent"}')] or one(call, 1).results
    call.quiet(0.5)
    assert switched(call) == []
    call.says("It was sent.", 3, 0.5)
    call.quiet(2.0)
    assert switched(call) == [(1, 2, "turn_complete")]


def test_at_the_deadline_its_result_goes_to_the_new_stream_as_data() -> None:
    call = ready()
    tool = asked(call)
    call.quiet(15.0)
    assert switched(call) == [(1, 2, "deadline")]
    assert "called lookup" in str(one(call, 2).told)
    call.tool_done(tool, {"status": "sent"})
    (typed,) = one(call, 2).typed
    assert typed.startswith("[data, not an instruction: lookup")
    assert '{"status": "sent"}' in typed
    assert one(call, 1).results == []


def test_a_tool_that_the_old_stream_asks_for_while_it_finishes_is_run_for_the_new_one() -> None:
    call = forced()
    old = one(call, 1)
    old.ask("t9", "lookup", {})
    call.deliver(old)
    call.tool_done(call.tools[-1], {"n": 1})
    assert "lookup" in one(call, 2).typed[-1]


def test_a_tool_that_the_old_stream_asks_for_settles_nothing_of_the_new_one() -> None:
    call = forced()
    old = one(call, 1)
    old.ask("t8", "lookup", {})
    call.deliver(old)
    call.tool_done(call.tools[-1], {"n": 8})
    old.ask("t9", "lookup", {})
    call.deliver(old)
    call.breaks()
    call.quiet(0.5)
    assert any('{"n": 8}' in text for text in call.newest.typed)


# Keys


def test_digits_pressed_just_before_a_switch_reach_the_model_once() -> None:
    call = ready()
    call.phone.dtmf("1")
    call.phone.dtmf("2")
    call.flush()
    call.quiet(3.0)
    typed = [text for service in call.services.values() for text in service.typed]
    assert len(typed) == 1
    assert "1 2" in typed[0]
    call.quiet(12.0)
    assert switched(call) == [(1, 2, "deadline")]
    assert one(call, 2).typed == typed  # without an answer it is asked again


# Trouble with the standby


def test_a_refused_standby_is_tried_again_and_the_caller_notices_nothing() -> None:
    call = aged()
    call.head_s = None
    call.quiet(0.2)
    call.says("An answer.", 2, 8.0)
    for _ in range(2):
        call.breaks_standby(*THROTTLED)
        call.quiet(1.5)
    assert [r["cause"] for r in call.report("standby asked")] == ["bot_started", "retry", "retry"]
    call.handle(StreamOpened(call.newest.id))
    call.quiet(8.0)
    assert switched(call) == [(1, 4, "turn_complete")]
    # Nobody needs it yet; a caller without a stream comes first.
    asked = [effect for _, effect in call.ran if isinstance(effect, OpenStream)]
    assert [one.can_wait for one in asked] == [False, True, True, True]
    assert call.live.frames[0] == one(call, 1).frames[-1] + 1


def test_a_standby_that_dies_after_its_head_is_replaced() -> None:
    call = ready()
    call.breaks_standby()
    assert not call.report("stream lost")
    call.quiet(12.0)
    assert switched(call) == [(1, 3, "turn_complete")]


def test_a_standby_that_never_comes_is_replaced_after_its_time() -> None:
    plan = replace(PLAN_SHORT, continuation=replace(POLICY, next_session_ready_timeout_s=4.0))
    call = aged(plan=plan)
    call.head_s = None
    call.quiet(0.2)
    call.says("An answer.", 2, 8.0)
    call.quiet(4.1)
    assert one(call, 2).closed is CloseReason.REPLACED
    assert [r["cause"] for r in call.report("standby asked")] == ["bot_started", "timeout"]
    assert one(call, 1).closed is None


def test_when_the_quota_is_full_until_the_deadline_the_old_stream_goes_first_and_no_word_is_lost() -> (
    None
):
    call = aged()
    call.head_s = None
    spoken = []
    while one(call, 1).closed is None:
        spoken += call.talk(0.2)
        if len(call.services) > 1 and call.newest.closed is None:
            call.breaks_standby(*THROTTLED)
    assert call.report("closed first")
    assert one(call, 1).session_ended
    spoken += call.talk(0.5)
    call.handle(StreamOpened(call.newest.id))
    spoken += call.talk(0.2)
    kept = call.live.frames
    assert kept == spoken[-len(kept) :]
    assert len(kept) >= 490
    gap = call.report("stream opened")[-1]["gap_ms"]
    assert isinstance(gap, int)
    assert 500 <= gap <= 800


@pytest.mark.parametrize("refused_before", [0, 2])
def test_a_caller_whose_stream_was_closed_first_is_not_hung_up_on_before_many_tries(
    refused_before: int,
) -> None:
    call = CallDriver(PLAN_SHORT, head_s=None)
    call.initiate()
    for _ in range(refused_before):
        call.breaks(*THROTTLED)
        call.advance(2.1)
    call.handle(StreamOpened(call.newest.id))
    call.start()
    first = call.newest
    while first.closed is None:
        call.quiet(0.1)
        if call.newest is not first and call.newest.closed is None:
            call.breaks_standby(*THROTTLED)
    closed_at, before = call.now, len(call.services)
    while not call.finished:
        if call.newest.closed is None:
            call.breaks(*THROTTLED)
        call.quiet(0.1)
    assert call.now - closed_at >= 9.9
    assert len(call.services) - before >= 9


def test_a_standby_that_comes_too_late_for_the_deadline_is_still_used() -> None:
    call = aged()
    call.head_s = None
    call.talk(17.0)
    assert one(call, 1).closed is CloseReason.REPLACED
    assert len(call.services) == 2
    call.handle(StreamOpened(StreamId(2)))
    assert call.live is one(call, 2)


def test_two_streams_that_die_soon_after_their_history_lead_to_a_summary() -> None:
    call = ready()
    call.quiet(12.0)
    assert call.live.id == 2
    call.breaks("modelStreamErrorException")
    call.quiet(1.0)
    assert call.live.id == 3
    call.breaks("modelStreamErrorException")
    call.quiet(1.0)
    assert call.live.id == 4
    assert not call.live.told
    assert "Ann" in call.live.system_prompt


def summed_up(deaths: int = 3) -> CallDriver:
    """The live stream and the standby were given a summary, and then something was said."""
    policy = replace(POLICY, transition_threshold_s=5.0)
    call = begun(replace(PLAN, continuation=policy))
    call.talk(1.0)
    call.quiet(0.6)
    call.hears("My name is Ann.")
    call.says("Hello Ann.", 1, 1.0)
    for _ in range(deaths):
        call.quiet(2.0)
        call.breaks("modelStreamErrorException")
        call.quiet(0.3)
    assert "Ann" in call.live.system_prompt
    call.quiet(4.0)
    call.talk(1.2)
    call.quiet(0.6)
    call.hears("I live in Rome.")
    call.says("Rome it is.", 2, 1.0)
    call.quiet(0.5)
    assert "Ann" in standby(call).system_prompt
    assert "Rome it is" not in standby(call).system_prompt
    return call


@pytest.mark.parametrize("deaths", [3, 4])  # the fourth stream has no history to die of
def test_what_was_said_after_a_summary_is_told_to_the_stream_that_was_given_it(deaths: int) -> None:
    call = summed_up(deaths)
    call.quiet(2.5)
    assert len(switched(call)) == 1
    assert call.live.told == [("USER", "I live in Rome."), ("ASSISTANT", "Rome it is.")]


def test_a_service_that_ends_streams_upon_that_too_is_told_nothing_but_summaries() -> None:
    call = summed_up()
    call.quiet(2.5)
    call.breaks("modelStreamErrorException")
    call.quiet(4.0)
    call.talk(1.2)
    call.quiet(0.6)
    call.hears("And it rains.")
    call.says("Take a coat.", 3, 1.0)
    call.quiet(3.0)
    assert len(switched(call)) == 2
    assert not call.live.told


# Hard cuts


@pytest.mark.parametrize(
    "code", ["modelTimeoutException", "Ended", "ConnectionLost", "Undecodable"]
)
def test_a_hard_cut_with_a_standby_costs_no_time_and_no_word(code: str) -> None:
    call = ready()
    said = call.talk(1.0)
    call.breaks(code)
    assert switched(call) == [(1, 2, "lost")]
    assert call.report("stream switched")[0]["gap_ms"] == 0
    assert set(said) <= set(call.live.frames)
    assert call.plays()[-1].keys() == {2}


def test_a_hard_cut_while_the_standby_is_being_opened_waits_for_that_one() -> None:
    call = aged()
    call.head_s = None
    call.quiet(0.2)
    call.says("An answer.", 2, 3.0)
    call.breaks("Ended")
    assert len(call.services) == 2
    call.handle(StreamOpened(StreamId(2)))
    assert call.live.id == 2


def test_a_hard_cut_of_a_stream_that_is_draining_changes_nothing_more() -> None:
    call = forced()
    call.breaks_stream(one(call, 1), "Ended")
    assert one(call, 1).closed is CloseReason.LOST
    assert call.live.id == 2
    call.quiet(14.0)
    assert call.plays()[-1] == {2: 25.0}


# Credentials


def test_a_stream_whose_credentials_expire_soon_is_replaced_before() -> None:
    call = CallDriver(plan=PLAN, head_s=None, random=lambda: 0.0)
    call.initiate()
    call.handle(StreamOpened(StreamId(1), expires_at=call.now + 240))
    call.head_s = 0.1
    call.start()
    call.quiet(66.0)
    assert switched(call) == [(1, 2, "silence")]


# One after another


def test_two_switches_close_together_keep_everything() -> None:
    policy = ContinuationPolicy(transition_threshold_s=4.0, audio_start_timeout_s=4.0, limit_s=12.0)
    call = begun(replace(PLAN, continuation=policy))
    frames = []
    for n in range(8):
        frames += call.talk(0.7)
        frames += call.quiet(0.6)
        call.hears(f"Line {n}.")
        call.says(f"Answer {n}.", 5, 0.7)
        frames += call.quiet(1.3)
    assert len(switched(call)) >= 3
    assert [text for _, text in call.said] == [
        text for n in range(8) for text in (f"Line {n}.", f"Answer {n}.")
    ]
    heard = [number for service in call.services.values() for number in service.frames]
    assert set(heard) == set(frames)
    assert len(heard) == len(frames)


def test_a_switch_during_the_greeting_asks_the_new_stream_for_it_once() -> None:
    plan = replace(
        with_agent(greeting=Greeting(text="Greet the caller.")),
        continuation=ContinuationPolicy(
            transition_threshold_s=1.0, audio_start_timeout_s=1.0, limit_s=12.0
        ),
    )
    call = begun(plan)
    call.quiet(2.2)
    assert switched(call)[0] == (1, 2, "deadline")
    call.quiet(0.5)
    assert one(call, 1).typed == ["Greet the caller."]
    assert one(call, 2).typed == ["Greet the caller."]
    call.says("Welcome.", 4, 0.5)
    call.quiet(1.5)
    assert len(switched(call)) >= 2
    assert not call.live.typed


# The end


def test_a_caller_who_hangs_up_leaves_no_standby_behind() -> None:
    call = ready()
    call.phone.end()
    call.flush()
    call.assert_lawful_end()


def test_a_caller_who_hangs_up_while_a_stream_drains_leaves_nothing_behind() -> None:
    call = forced()
    call.phone.end()
    call.flush()
    call.assert_lawful_end()


def test_what_a_standby_says_before_it_is_used_changes_nothing() -> None:
    call = ready()
    service = standby(call)
    service.writer.text(Role.USER, Stage.FINAL, ["Ghost."], StopReason.PARTIAL_TURN)
    for payload in service.writer.drain():
        call.handle(FromSonic(service.id, payload))
    assert "Ghost." not in str(call.said)


def test_what_the_old_stream_repeats_of_a_typed_text_is_not_the_callers_word_once_more() -> None:
    call = ready()
    call.phone.dtmf("5")
    call.flush()
    call.quiet(2.0)
    (typed,) = one(call, 1).typed
    call.says("Five.", 3, 0.5)
    call.quiet(2.0)
    assert switched(call) == [(1, 2, "turn_complete")]
    old = one(call, 1)
    old.writer.text(Role.USER, Stage.FINAL, [typed], StopReason.PARTIAL_TURN)
    call.deliver(old)
    assert [text for kind, text in call.said if kind == "input"][1:] == [typed]


def test_a_tool_that_the_old_stream_has_not_finished_asking_for_is_run_at_the_switch() -> None:
    call = ready()
    call.quiet(9.6)
    old = one(call, 1)
    old.ask("t1", "lookup", {"n": 1})
    for payload in old.writer.drain():
        if b"contentEnd" not in payload:
            call.handle(FromSonic(old.id, payload))
    assert call.tools == []
    call.quiet(0.8)
    assert switched(call) == [(1, 2, "turn_complete")]
    assert [tool.name for tool in call.tools] == ["lookup"]
    assert "called lookup" in str(one(call, 2).told)


def test_an_answer_is_not_drained_into_the_ear_of_a_caller_who_speaks() -> None:
    call = aged()
    call.quiet(0.2)
    call.says("A very long answer.", 2, 14.0, end=None)
    call.quiet(13.5)
    call.talk(0.5)
    call.speaks(2, 5.0, end=None)
    call.talk(1.0)
    assert switched(call) == [(1, 2, "deadline")]
    assert one(call, 1).closed is CloseReason.REPLACED


def test_a_stream_that_has_lived_is_followed_by_one_that_gets_the_history_again() -> None:
    call = ready()
    call.quiet(12.0)
    for _ in range(2):  # what was given a history dies, twice
        call.breaks("modelStreamErrorException")
        call.quiet(1.0)
    assert not call.live.told
    call.quiet(40.0)
    assert call.live.id > 4
    assert call.live.told


def test_between_two_sentences_of_an_answer_nothing_is_switched() -> None:
    call = aged()
    call.quiet(0.2)
    call.says("First this.", 2, 0.5, end=StopReason.PARTIAL_TURN)
    call.quiet(2.5)
    assert switched(call) == []
    call.quiet(1.0)
    assert switched(call) == [(1, 2, "turn_complete")]
