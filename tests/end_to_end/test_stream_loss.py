"""A stream that breaks in the middle of a call: the caller goes on talking and is answered."""

from __future__ import annotations

import asyncio

import pytest

from opusagent.models.session_state import Role, Turn
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import (
    Pause,
    SendNumbers,
    Step,
    WaitForBot,
    WaitForBotToSpeak,
)
from opusagent.sonic.profiles import Timing
from opusagent.transports.bedrock import Limits
from tests.end_to_end.rig import QUIET, Line, ToldEars, ToneBrain, run, say
from tests.waiting import eventually

pytestmark = pytest.mark.integration

HISTORY = [Turn(role=Role.USER, text="Hello."), Turn(role=Role.ASSISTANT, text="Yes.")]
COUNT = 25
STRIKE_AFTER_S = 0.2
"""How much of the numbers has reached the stream when it breaks."""


async def call_struck_in_mid_word(line: Line, fault: str) -> CallRecord:
    """One turn, then numbered speech, in the middle of which `fault` strikes, then an answer."""
    steps: list[Step] = [
        say(),
        WaitForBot(quiet_s=0.2),
        SendNumbers(count=COUNT),
        WaitForBot(quiet_s=0.1, timeout_s=8),
    ]
    async with asyncio.TaskGroup() as tasks:
        caller = line.caller()
        call = tasks.create_task(caller.run(steps))
        assert await eventually(lambda: bool(caller.record.numbers_sent), 6)
        heard = line.stream(1)
        until_bytes = len(heard.audio) + int(STRIKE_AFTER_S * 2 * heard.audio_rate_hz)
        assert await eventually(lambda: len(heard.audio) >= until_bytes)
        line.strike(fault)
    return call.result()


@pytest.mark.parametrize(
    "fault",
    [
        "reset",
        "reset-cancel",
        "end",
        "abort",
        "go-away",
        "half-frame",
        "bad-crc",
        "exception-left-open",
        "internal",
        "model-timeout",
        "throttling",
        "531",
        "532",
        "validation",
        "weird",
    ],
)
def test_a_stream_lost_in_mid_word_is_replaced_and_the_word_reaches_the_new_one(fault: str) -> None:
    async def main(line: Line) -> None:
        record = await call_struck_in_mid_word(line, fault)
        assert record.in_vain == []
        assert record.end_reason == "client-disconnected"
        assert len(line.service.streams) == 2
        assert line.numbers(2, range(COUNT)).ok
        line.stream(2).assert_history(HISTORY)
        await line.over()
        line.stream(2).assert_valid_session()

    run(main, ears=ToldEars("Hello.", "Numbers."))


@pytest.mark.parametrize("fault", ["no-read", "stall"])
def test_a_stream_that_stops_reading_is_replaced_and_no_word_is_lost(fault: str) -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                line.call(
                    say(),
                    WaitForBot(quiet_s=0.2),
                    SendNumbers(count=120),
                    WaitForBot(quiet_s=0.1, timeout_s=8),
                )
            )
            assert await eventually(lambda: bool(line.service.streams), 6)
            assert await eventually(lambda: bool(line.stream(1).said), 6)
            line.strike(fault)
        record = call.result()
        assert record.in_vain == []
        assert line.numbers_anywhere() >= set(range(120))
        second = line.numbers(2)
        assert not second.doubled
        assert not second.disordered

    run(main, limits=Limits(send_s=0.5), ears=ToldEars("Hello.", "Numbers."))


def test_a_stall_that_is_over_in_time_costs_nothing() -> None:
    async def main(line: Line) -> None:
        record = await call_struck_in_mid_word(line, "stall:seconds=0.4")
        assert record.in_vain == []
        assert len(line.service.streams) == 1
        assert line.numbers(1, range(COUNT)).ok

    run(main, ears=ToldEars("Hello.", "Numbers."))


def test_a_stream_that_reaches_its_limit_is_replaced_each_time() -> None:
    async def main(line: Line) -> None:
        record = await line.call(
            say(), WaitForBot(quiet_s=0.2), SendNumbers(count=70), WaitForBot(quiet_s=0.1)
        )
        assert record.in_vain == []
        assert len(line.service.streams) >= 2
        assert line.numbers_anywhere() >= set(range(70))

    timing = Timing(pause_s=0.3, think_s=0.05, final_delay_s=0.1, limit_s=1.2)
    run(main, "weird:stream=99", timing=timing, ears=ToldEars("Hello.", "Numbers."))


def test_an_answer_that_breaks_off_is_played_as_far_as_it_came_and_finished_by_the_next_stream() -> (
    None
):
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                line.call(say(), WaitForBot(quiet_s=0.1), say(), WaitForBot(quiet_s=0.1))
            )
            assert await eventually(lambda: bool(line.logged("bot speaks")), 6)
            line.strike("reset")
        record = call.result()
        assert record.in_vain == []
        assert len(record.played) == 3
        (asked,) = line.stream(2).typed  # to finish it
        assert asked.value.startswith("[the line broke")
        assert [text.value for text in line.stream(2).heard] == ["Hello."]

    # The caller counts as speaking for 0.4 s after her last sound; no real model is quicker than that.
    slow = Timing(pause_s=0.6, think_s=0.05, final_delay_s=0.2, speed=1.0)
    run(main, timing=slow, brain=lambda: ToneBrain(seconds=1.0))


def test_an_owed_answer_comes_from_the_next_stream_where_the_first_ended_before_it() -> None:
    async def main(line: Line) -> None:
        record = await line.call(say(), WaitForBot(quiet_s=0.1))
        assert record.in_vain == []
        assert [text.value for text in line.stream(2).typed] == ["Hello."]
        assert len(record.played) == 1

    run(main, "premature-close")


def test_the_content_filter_takes_the_last_exchange_and_the_call_goes_on() -> None:
    async def main(line: Line) -> None:
        record = await call_struck_in_mid_word(line, "content-filter")
        assert record.in_vain == []
        assert line.stream(2).history == []

    run(main, ears=ToldEars("Hello.", "Numbers."))


def test_a_loss_after_which_we_are_denied_ends_the_call_for_the_fail_over() -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.call(Pause(10)))
            assert await eventually(lambda: bool(line.service.open_streams))
            line.strike("reset")
        record = call.result()
        assert record.refused == QUIET.goodbye_on_failure
        assert record.ended_at is not None
        assert record.ended_at < 3

    run(main, "denied:stream=2")


def test_one_calls_broken_connection_is_not_another_calls() -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            calls = []
            for n in range(3):
                numbers = SendNumbers(first=1000 * n, count=50)
                call = line.call(numbers, WaitForBot(quiet_s=0.1))
                calls.append(tasks.create_task(call))
                assert await eventually(lambda: line.service.open_streams == len(calls))
            assert await eventually(lambda: line.stream(2).audio_s > 0.5)
            line.strike("abort:stream=2")
        assert [call.result().in_vain for call in calls] == [[], [], []]
        assert len(line.service.streams) == 4
        assert line.numbers(1, range(50)).ok
        assert line.numbers(3, range(2000, 2050)).ok
        assert line.numbers(4, range(1000, 1050)).ok

    run(main)


def test_what_was_interrupted_is_told_to_the_next_stream_without_the_models_mark() -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                line.call(say(), Pause(1.0), say(over_bot=True), WaitForBotToSpeak(seconds=0.1))
            )
            assert await eventually(lambda: len(line.logged("barge-in")) == 1, 6)
            assert await eventually(lambda: len(line.stream(1).heard) == 2)
            line.strike("reset")
        assert call.result().in_vain == []
        texts = [turn.text for turn in line.stream(2).history]
        assert texts[0] == "Hello."
        assert not any("interrupted" in text for text in texts)

    timing = Timing(pause_s=0.3, think_s=0.05, final_delay_s=0.2, interruptible_playout=True)
    run(
        main,
        timing=timing,
        brain=lambda: ToneBrain("Seven words that are cut off soon.", seconds=3.0),
        ears=ToldEars("Hello.", "Stop.", "Go on."),
    )
