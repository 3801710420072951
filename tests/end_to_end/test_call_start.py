"""Calls that begin while the service is slow, busy, or not for us."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from dataclasses import replace

import pytest

from opusagent.clock import SystemClock
from opusagent.models.agent import Agent, Greeting
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import HangUp, Pause, SendNumbers, WaitForBot
from opusagent.transports.credentials import Credentials, Pinned
from opusagent.transports.websocket import connect
from tests.end_to_end.rig import PLAN, QUIET, Line, NumberBrain, run, say
from tests.waiting import eventually

pytestmark = pytest.mark.integration

NUMBERS = range(12)
SHORT_WAITS = 8916
"""Seeds the jitter so that three waits for a throttled service add up to 3.5 s of at most 7."""


async def numbers_reach_the_second_stream(line: Line) -> CallRecord:
    """A call whose first stream does not come to life, and whose caller speaks at once."""
    record = await line.call(SendNumbers(count=len(NUMBERS)), WaitForBot(quiet_s=0.1))
    assert record.in_vain == []
    assert record.accept_s is not None
    assert record.accept_s < 1.1
    assert line.numbers(len(line.service.streams), NUMBERS).ok
    return record


def test_a_caller_who_was_lost_before_she_was_answered_may_ask_again() -> None:
    async def main(line: Line) -> None:
        formats = ["raw/lpcm16", "raw/lpcm16_24"]
        ask = {"type": "session.initiate", "conversationId": "c", "supportedMediaFormats": formats}
        socket = await connect(line.url)
        await socket.send(json.dumps(ask))
        assert await eventually(lambda: line.server.stats()["calls_active"] == 1)
        await socket.close()
        assert await eventually(lambda: line.logged("caller lost") != [])
        again = await connect(line.url)
        await again.send(json.dumps(ask))
        assert json.loads(await again.recv() or "")["type"] == "session.accepted"
        assert line.logged("call accepted") != []
        await again.send('{"type":"session.end","conversationId":"c"}')
        while await again.recv() is not None:
            pass

    run(main, "slow-head:seconds=0.8", resume_grace_seconds=30)


@pytest.mark.parametrize(
    "fault",
    [
        "tls-failure",
        "drop",
        "go-away-at-once",
        "server-error",
        "unavailable-503",
        "not-ready",
        "throttled",
        "throttled-open",
        "expired-token",
        "reset",
        "end",
        "internal:after=0",
    ],
)
def test_a_hiccup_at_the_start_is_tried_again_and_no_word_is_lost(fault: str) -> None:
    async def main(line: Line) -> None:
        await numbers_reach_the_second_stream(line)

    run(main, fault)


def test_a_head_that_does_not_come_within_3_s_is_a_new_try_and_the_caller_hears_a_tone() -> None:
    async def main(line: Line) -> None:
        record = await numbers_reach_the_second_stream(line)
        assert record.accept_s is not None
        assert record.accept_s > 0.9
        heard = [span.began_at for span in record.played if span.began_at is not None]
        assert 1.9 < heard[0] < 2.8  # the tone, not over the caller
        second = line.service.streams[-1].asked_at - line.service.streams[0].asked_at
        assert second > 2.9

    run(main, "no-head")


def test_a_refused_connection_is_tried_again() -> None:
    async def main(line: Line) -> None:
        line.wire.stop_listening()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                line.call(SendNumbers(count=len(NUMBERS)), WaitForBot(quiet_s=0.1))
            )
            assert await eventually(lambda: len(line.logged("stream lost")) >= 2)
            await line.wire.listen_again()
        assert call.result().in_vain == []
        assert line.numbers(1, NUMBERS).ok

    run(main)


def test_a_slow_head_is_waited_for_while_the_call_is_accepted() -> None:
    async def main(line: Line) -> None:
        record = await numbers_reach_the_second_stream(line)
        assert record.accept_s is not None
        assert record.accept_s > 0.95
        assert len(line.service.streams) == 1

    run(main, "slow-head:seconds=1.6")


def test_a_throttled_caller_hears_a_tone_until_the_stream_is_there() -> None:
    brain = NumberBrain(first=0, count=20)

    async def main(line: Line) -> None:
        random.seed(SHORT_WAITS)
        plan = replace(PLAN, numbered_ms=20)
        record = await line.call(
            Pause(3.0), SendNumbers(count=len(NUMBERS)), WaitForBot(quiet_s=0.1), plan=plan
        )
        assert [log.refused for log in line.service.streams[:-1]] == ["ThrottlingException"] * 3
        assert record.accept_s is not None
        assert record.accept_s < 1.1
        tone, answer = (span.began_at or 0.0 for span in record.played)
        assert 1.9 < tone < 2.2
        assert answer > tone + 1.0
        assert line.numbers(4, NUMBERS).ok
        assert record.numbers(brain.expected).ok

    run(main, *(f"throttled:stream={n}" for n in (1, 2, 3)), brain=lambda: brain)


def test_a_call_above_the_services_quota_is_taken_once_a_stream_is_free() -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(line.call(Pause(1.0)))
            assert await eventually(lambda: line.service.open_streams == 1)
            plan = replace(PLAN, limit_s=12.0)
            second = tasks.create_task(line.call(say(), WaitForBot(quiet_s=0.1), plan=plan))
        assert first.result().end_reason == "client-disconnected"
        assert second.result().in_vain == []

    run(main, quota=1)


@pytest.mark.parametrize("fault", ["denied", "not-found"])
def test_what_cannot_be_retried_ends_the_call_in_time_for_the_tenants_fail_over(fault: str) -> None:
    async def main(line: Line) -> None:
        record = await line.call()
        assert record.refused == QUIET.goodbye_on_failure
        assert record.accept_s is None
        assert record.ended_at is not None
        assert record.ended_at < 3
        assert len(line.service.streams) == 1

    run(main, f"{fault}:stream=*")


def test_no_credentials_end_the_call_in_time() -> None:
    def nothing() -> Pinned:
        raise ValueError("none found")

    async def main(line: Line) -> None:
        record = await line.call(Pause(10))
        assert record.refused == QUIET.goodbye_on_failure
        assert record.ended_at is not None
        assert record.ended_at < 3
        assert line.service.streams == []

    run(main, credentials=Credentials(utcnow=SystemClock().utcnow, environ={}, chain=nothing))


def test_credentials_that_are_refused_are_fetched_anew() -> None:
    numbers = itertools.count(1)

    def another() -> Pinned:
        return Pinned(f"AKID{next(numbers)}", "secret")

    async def main(line: Line) -> None:
        record = await line.call(say(), WaitForBot(quiet_s=0.1))
        assert record.in_vain == []
        assert [log.credential_id for log in line.service.streams] == ["AKID1", "AKID2"]

    chain = Credentials(utcnow=SystemClock().utcnow, environ={}, chain=another)
    run(main, "expired-token", credentials=chain)


@pytest.mark.parametrize("fault", ["no-head", "slow-head:seconds=1.5", "throttled"])
def test_a_hang_up_while_the_stream_is_being_opened_leaves_nothing(fault: str) -> None:
    async def main(line: Line) -> None:
        socket = await connect(line.url)
        initiate = {
            "type": "session.initiate",
            "conversationId": "c",
            "supportedMediaFormats": ["raw/lpcm16"],
        }
        await socket.send(json.dumps(initiate))
        assert await eventually(lambda: bool(line.service.streams))
        await socket.send('{"type":"session.end","conversationId":"c"}')
        async with asyncio.timeout(1):
            assert await socket.recv() is None
        await line.over()
        assert len(line.service.streams) == 1
        assert line.logged("call ended")[0]["by"] == "caller"

    run(main, fault)


def test_a_hang_up_after_the_answer_and_before_the_head_leaves_nothing() -> None:
    async def main(line: Line) -> None:
        record = await line.call(HangUp())
        assert record.accept_s is not None
        await line.over()
        assert len(line.service.streams) == 1

    run(main, "no-head")


def test_a_call_without_a_word_closes_its_stream_in_order() -> None:
    async def main(line: Line) -> None:
        await line.call(HangUp())
        await line.over()
        line.stream(1).assert_valid_session()
        assert line.stream(1).audio_s > 0

    run(main)


# The bot speaks first

GREETS = Agent(system_prompt="You are a test.", greeting=Greeting(text="Greet the caller."))


@pytest.mark.parametrize("barge_in", [True, False])
def test_the_bot_greets_before_the_caller_is_listened_to(*, barge_in: bool) -> None:
    brain = NumberBrain(first=0, count=40)

    async def main(line: Line) -> None:
        plan = replace(PLAN, listen_delay_s=0.5, numbered_ms=20)
        record = await line.call(WaitForBot(quiet_s=0.1), plan=plan)
        assert record.in_vain == []
        assert record.numbers(brain.expected).ok
        assert [text.value for text in line.stream(1).typed] == ["Greet the caller."]
        if not barge_in:
            asked = [ack.asked_at for ack in record.acks]
            assert all(at > (record.played[0].ended_at or 0) for at in asked)

    run(main, agent=GREETS, brain=lambda: brain, barge_in=barge_in)


def test_a_greeting_that_breaks_off_with_its_stream_is_not_given_twice_at_once() -> None:
    async def main(line: Line) -> None:
        record = await line.call(WaitForBot(quiet_s=0.5))
        assert record.in_vain == []
        typed = [text.value for text in line.stream(2).typed]
        assert typed == ["Greet the caller."]
        assert len(record.played) == 1

    run(main, "reset:event=textInput:nth=2", agent=GREETS)


def test_a_caller_who_speaks_over_the_greeting_is_answered_and_not_greeted_again() -> None:
    async def main(line: Line) -> None:
        record = await line.call(Pause(0.35), say(over_bot=True), WaitForBot(quiet_s=0.2))
        assert record.in_vain == []
        assert len(line.stream(1).typed) == 1
        assert [text.value for text in line.stream(1).heard] == ["Hello."]
        assert len(record.played) == 2

    brain = NumberBrain(first=0, count=60)
    run(main, agent=GREETS, brain=lambda: brain)
