"""A stream that is open, without an error, and of no use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opusagent.call.events import CloseReason, FromSonic, StreamId
from opusagent.call.watchdog import Watchdog
from tests.call.driver import PLAN, CallDriver


@pytest.fixture
def call() -> CallDriver:
    driver = CallDriver(plan=replace(PLAN, deaf_after_s=6.0))
    driver.answer()
    return driver


def deaf(call: CallDriver) -> list[object]:
    return [report["kind"] for report in call.report("stream deaf")]


def test_a_model_that_says_nothing_at_all_after_the_caller_spoke_is_replaced(
    call: CallDriver,
) -> None:
    said = call.talk(2.0)
    call.quiet(6.3)
    assert deaf(call) == []
    call.quiet(0.4)
    assert deaf(call) == ["deaf"]
    assert call.report("stream lost")[0]["code"] == "Deaf"
    assert call.services[StreamId(1)].closed is CloseReason.LOST
    assert set(said) <= set(call.live.frames)


def test_any_event_of_the_model_is_a_sign_of_life(call: CallDriver) -> None:
    call.talk(2.0)
    call.quiet(3.0)
    call.handle(FromSonic(call.live.id, b'{"event":{"somethingNew":{}}}'))
    call.quiet(20.0)
    assert deaf(call) == []


def test_a_cough_is_no_reason(call: CallDriver) -> None:
    call.talk(0.3)
    call.quiet(20.0)
    assert deaf(call) == []


def test_silence_is_no_reason(call: CallDriver) -> None:
    call.quiet(60.0)
    assert deaf(call) == []


def test_a_turn_that_was_understood_and_is_never_answered_is_a_reason(call: CallDriver) -> None:
    call.talk(1.0)
    call.quiet(1.0)
    call.hears("Where is my order?")
    call.quiet(14.9)
    assert deaf(call) == []
    call.quiet(0.5)
    assert deaf(call) == ["dumb"]
    assert call.live.typed == ["Where is my order?"]


def test_a_running_tool_is_an_answer(call: CallDriver) -> None:
    call.talk(1.0)
    call.quiet(1.0)
    call.hears("Where is my order?")
    call.live.ask("t", "lookup", {})
    call.deliver()
    call.quiet(30.0)
    assert deaf(call) == []
    call.tool_done(call.tools[0], {})
    call.quiet(15.5)
    assert deaf(call) == ["dumb"]


def test_a_service_that_stays_deaf_is_tried_ever_more_rarely(call: CallDriver) -> None:
    call.talk(2.0)
    call.quiet(100.0)
    ages = [report["age_s"] for report in call.report("stream lost")]
    assert ages[1:] == [pytest.approx(s, abs=0.3) for s in (12.0, 24.0, 48.0)]


def test_it_can_be_switched_off() -> None:
    call = CallDriver(plan=replace(PLAN, deaf_after_s=0.0))
    call.answer()
    call.talk(2.0)
    call.quiet(60.0)
    assert len(call.services) == 1


def test_a_model_that_answered_before_the_end_of_speech_was_noticed_is_not_suspected() -> None:
    dog = Watchdog(6.0)
    dog.model_shows_life(9.5)
    dog.caller_spoke(10.0)
    assert dog.next_timer() is None
    dog.caller_spoke(11.0)
    assert dog.next_timer() == 17.0


def test_a_stream_that_is_gone_is_not_watched() -> None:
    dog = Watchdog(6.0)
    dog.caller_spoke(10.0)
    dog.answer_is_owed(10.0)
    dog.stream_lost()
    assert dog.next_timer() is None
    assert dog.verdict(100.0) is None


def test_a_text_that_the_next_stream_was_given_is_waited_for_as_long(call: CallDriver) -> None:
    call.talk(1.0)
    call.quiet(1.0)
    call.hears("Where is my order?")
    call.breaks()
    call.quiet(14.5)
    assert deaf(call) == []
    call.quiet(1.0)
    assert deaf(call) == ["dumb"]


def test_the_next_stream_is_not_blamed_for_what_the_last_one_did_not_do(call: CallDriver) -> None:
    call.talk(2.0)
    call.quiet(5.0)
    call.head_s = 2.0
    call.breaks()
    call.quiet(5.0)
    assert deaf(call) == []
