"""Rare moments of a hand-over that the laws brought to light, and an hour with all its switches."""

from __future__ import annotations

from dataclasses import replace

from opusagent.call.events import CallerLost, CloseReason, StreamId
from opusagent.call.plan import CallPlan, ContinuationPolicy
from opusagent.models.session_state import Role
from opusagent.sonic.peer_brain import ToolAsk
from opusagent.sonic.reader import Stage, StopReason
from tests.call.driver import PLAN, T0, CallDriver, Service, bot_pcm
from tests.call.fated_call import Fate
from tests.call.law_driver import WatchedCall

POLICY = ContinuationPolicy(transition_threshold_s=20.0, audio_start_timeout_s=15.0, limit_s=40.0)
SHORT = replace(PLAN, continuation=POLICY)


def begun(plan: CallPlan = SHORT) -> CallDriver:
    call = CallDriver(plan=plan, random=lambda: 0.0)
    call.answer()
    return call


def one(call: CallDriver, number: int) -> Service:
    return call.services[StreamId(number)]


def ages(call: CallDriver) -> list[float]:
    return [float(str(report["age_s"])) for report in call.report("stream switched")]


def reasons(call: CallDriver) -> list[object]:
    return [report["reason"] for report in call.report("stream switched")]


# A turn is answered by one stream


def busy_and_asked() -> CallDriver:
    """A bot that speaks until its stream has to be replaced, and a caller who asks something then."""
    call = begun()
    call.quiet(18.0)
    call.says("A long story.", 1, 14.0)
    call.quiet(14.5)
    call.talk(1.0)
    call.quiet(0.5)
    call.hears("What time is it?")
    return call


def test_an_answer_without_a_sound_at_the_deadline_is_the_next_streams_to_give() -> None:
    call = busy_and_asked()
    call.plans("It is four.")
    call.live.writer.start_audio()
    call.deliver()
    call.quiet(1.5)
    assert reasons(call) == ["deadline"]
    old, new = one(call, 1), one(call, 2)
    assert new.typed == ["What time is it?"]
    assert "It is four." not in str(new.told)
    assert old.closed is CloseReason.REPLACED


def test_a_text_that_comes_after_its_answer_has_begun_is_not_asked_again() -> None:
    call = begun()
    call.talk(1.0)
    call.quiet(0.6)
    call.says("Good morning.", 1, 1.0)
    call.hears("Good morning!")
    call.quiet(0.2)
    call.breaks()
    call.quiet(0.5)
    assert one(call, 2).typed == []
    assert "Good morning!" in str(one(call, 2).told)


def test_a_late_text_is_owed_an_answer_if_the_caller_has_gone_on() -> None:
    call = begun()
    call.talk(1.0)
    call.quiet(0.6)
    call.says("Good morning.", 1, 1.0)
    call.talk(0.6)
    call.quiet(0.3)
    call.hears("Good morning! What time is it?")
    call.breaks()
    call.quiet(0.5)
    assert one(call, 2).typed == ["Good morning! What time is it?"]


def test_what_a_closed_stream_goes_on_to_say_is_no_part_of_the_conversation() -> None:
    call = busy_and_asked()
    call.quiet(2.0)
    assert reasons(call) == ["deadline"]
    old, new = one(call, 1), one(call, 2)
    assert old.closed is CloseReason.REPLACED
    old.writer.text(Role.ASSISTANT, Stage.SPECULATIVE, ["It is four."], StopReason.PARTIAL_TURN)
    old.writer.start_audio()
    old.writer.audio(bot_pcm(9, 0.5))
    old.writer.end_audio(StopReason.END_TURN)
    call.deliver(old)
    call.confirms("It is four.", old)
    call.deliver(old)
    call.quiet(0.2)
    call.breaks()
    call.quiet(0.5)
    assert new.typed == one(call, 3).typed == ["What time is it?"]
    assert "It is four." not in str(one(call, 3).told)


def test_a_tool_that_the_old_stream_asks_for_answers_nothing_that_was_said_since() -> None:
    call = begun()
    call.quiet(18.0)
    call.says("A long story.", 1, 14.0, end=None)
    call.quiet(13.5)
    call.speaks(1, 4.0, end=None)
    call.quiet(2.0)
    call.speaks(1, 1.0, end=None)
    call.quiet(1.6)
    assert reasons(call) == ["deadline"]
    said = call.talk(0.5)
    call.quiet(0.5)
    one(call, 1).writer.tools([("t1", ToolAsk("lookup", {}))])
    call.deliver(one(call, 1))
    call.quiet(0.1)
    call.breaks()
    call.quiet(0.5)
    assert [tool.tool_use_id for tool in call.tools] == ["t1"]
    assert set(said) <= set(one(call, 3).frames)


# Streams that come late


def test_a_standby_whose_head_is_overdue_is_not_waited_for_at_the_deadline() -> None:
    call = WatchedCall(plan=SHORT, random=lambda: 0.0)
    call.answer()
    call.withholds()
    call.fate = Fate(head_s=None)
    call.advance(34.9)
    call.fate = Fate()
    call.advance(0.3)
    closed = [service.closed for service in call.services.values()]
    assert closed == [CloseReason.REPLACED, CloseReason.NO_HEAD, None]
    assert call.live_id == 3
    assert call.report("stream opened")[-1]["gap_ms"] == 100


def test_a_stream_that_is_old_when_it_goes_live_is_looked_at_at_once() -> None:
    call = WatchedCall(plan=SHORT, random=lambda: 0.0)
    call.answer()
    call.fate = Fate(lives_s=30.0)
    call.advance(15.0)
    call.wants(call.live)
    call.advance(30.0)
    assert call.switched == [1, 2, 3]


# An hour


def test_an_hour_of_conversation_is_ten_streams_and_every_frame_is_heard_once() -> None:
    call = WatchedCall(plan=PLAN, random=lambda: 0.5, grain=20)
    call.answer()
    while call.now < T0 + 3600:
        call.speaks_up(80, 60)
        call.understands(call.live)
        call.begins(call.live)
        call.sounds(call.live, 8.0)
        call.ends(call.live, StopReason.END_TURN)
        call.tells(call.live)
        call.speaks_up(0, 640)
    call.assert_all_was_heard()
    assert len(reasons(call)) == 9
    assert set(reasons(call)) <= {"turn_complete", "silence"}
    assert all(366 <= age <= 391 for age in ages(call))
    frames = sorted(n for service in call.services.values() for n in service.frames)
    assert frames == list(range(len(call.loud)))
    call.handle(CallerLost())
    call.assert_lawful_end()
