"""Streams that are replaced in the middle of a call, on the real wires: what the caller and the model notice.

The limits are short: a threshold after 0.55 s, and the deadline a second later, unless a test says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from opusagent.bench.switches.bridge import ToolBridge
from opusagent.bench.switches.mind import DATA, TOOL
from opusagent.bridges.planning import make_plan
from opusagent.clock import SystemClock
from opusagent.models.session_state import Role, Turn
from opusagent.observability import Metrics
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import (
    Hold,
    Pause,
    Press,
    SendNumbers,
    Step,
    WaitForBot,
    WaitForBotToSpeak,
)
from opusagent.sonic.peer_brain import PeerContext, Reply, ToolAsk
from opusagent.sonic.profiles import Timing
from opusagent.transports.credentials import Credentials, Pinned
from tests.end_to_end.rig import PLAN, Line, NumberBrain, ToldEars, ToneBrain, run, say
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SHORT: dict[str, Any] = {
    "transition_threshold_seconds": 0.55,
    "audio_start_timeout_seconds": 1.0,
    "session_limit_seconds": 6.0,
}
LASTING = {"transition_threshold_seconds": 360.0, "session_limit_seconds": 480.0}
SOON = Timing(pause_s=0.5, think_s=0.05, final_delay_s=0.1, linger_s=0.5)
"""As quick as a service may be: the caller counts as speaking for 0.4 s after her last sound."""

HELLO = [Turn(role=Role.USER, text="Hello."), Turn(role=Role.ASSISTANT, text="Yes.")]
GAP_S = 0.15
"""A pause that a busy machine may make; an answer that is broken off and asked for again makes a longer one."""
FIRST_FRAME_S = 0.15
HEARS_S = 0.6

type Script = Callable[[Line], Iterator[Step]]
type Check = Callable[[Line, CallRecord], None]


def until(line: Line, event: str, n: int = 1) -> Iterator[Step]:
    """Do nothing until this is in the log for the `n`-th time."""
    while len(line.logged(event)) < n:
        yield Pause(0.02)


def turn() -> Iterator[Step]:
    yield from (say(), WaitForBot(quiet_s=0.0))


async def call(line: Line, script: Script) -> CallRecord:
    """One call whose steps are chosen as it goes on; nothing of it may be waited for in vain."""
    record = await line.caller(replace(PLAN, numbered_ms=20)).run(script(line))
    assert record.in_vain == []
    assert record.end_reason == "client-disconnected"
    return record


def calling(script: Script, check: Check, *faults: str, **more: Any) -> None:
    """Make one call, then look at what became of it, once everything of it is closed."""

    async def main(line: Line) -> None:
        record = await call(line, script)
        await line.over()
        check(line, record)

    run(main, *faults, **{"timing": SOON, **SHORT, **more})


def reasons(line: Line) -> list[str]:
    return [switch["reason"] for switch in line.logged("stream switched")]


def bot_numbers(record: CallRecord) -> list[int]:
    return [frame.number for frame in record.numbers_heard if frame.whole]


def longest_hole_s(record: CallRecord) -> float:
    """The longest silence inside an answer."""
    return max((hole.seconds for span in record.played for hole in span.holes), default=0.0)


def once_and_whole(line: Line, numbers: range, *, on: int) -> None:
    """The stream that is to answer got all of it, once and in order."""
    assert line.numbers(on, numbers).ok


# The caller and the bot


def test_the_stream_changes_after_the_answer_and_the_next_one_knows_what_was_said() -> None:
    def script(line: Line) -> Iterator[Step]:
        yield from turn()
        yield from until(line, "threshold reached")
        yield from turn()
        yield from until(line, "stream switched")
        yield from turn()

    def check(line: Line, record: CallRecord) -> None:
        assert reasons(line) == ["turn_complete"]
        assert len(record.played) == 3
        line.stream(2).assert_history([*HELLO, *HELLO])
        assert line.logged("stream switched")[0]["replayed_ms"] == 0
        assert [len(line.stream(n).heard) for n in (1, 2)] == [2, 1]
        assert [line.stream(n).typed for n in (1, 2)] == [[], []]
        closed_at = line.service.streams[0].closed_at
        assert closed_at is not None
        assert closed_at < line.stream(2).heard[0].at

    calling(script, check, transition_threshold_seconds=1.3, audio_start_timeout_seconds=4.0)


def test_an_answer_that_is_being_made_at_the_deadline_is_heard_whole_and_without_a_gap() -> None:
    def script(line: Line) -> Iterator[Step]:
        yield from turn()
        yield from until(line, "threshold reached")
        yield from turn()

    def check(line: Line, record: CallRecord) -> None:
        assert reasons(line)[0] == "deadline"
        assert bot_numbers(record) == 2 * list(range(75))
        assert longest_hole_s(record) <= GAP_S
        # What was still to be spoken when the stream changed counts as spoken.
        assert [turn.text for turn in line.stream(2).history] == 2 * ["Hello.", "Numbers."]

    calling(
        script,
        check,
        timing=replace(SOON, speed=1.5),  # 1.5 s in a second: half of it when the deadline comes
        brain=lambda: NumberBrain(0, 75),
        transition_threshold_seconds=2.4,
        audio_start_timeout_seconds=1.3,
        session_limit_seconds=20.0,
    )


def test_what_the_caller_is_saying_at_the_deadline_reaches_the_next_stream_from_its_beginning() -> (
    None
):
    def script(line: Line) -> Iterator[Step]:
        del line
        yield from (SendNumbers(count=110), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        assert reasons(line)[0] == "deadline"
        assert line.numbers(1).count > 0
        once_and_whole(line, range(110), on=2)
        assert [len(line.stream(n).heard) for n in (1, 2)] == [0, 1]
        assert len(record.played) == 1

    calling(script, check, audio_start_timeout_seconds=1.2)


def test_what_was_answered_before_the_switch_is_not_given_to_the_next_stream_again() -> None:
    def script(line: Line) -> Iterator[Step]:
        yield from (SendNumbers(count=25), WaitForBot(quiet_s=0.0))
        yield from until(line, "threshold reached")
        yield from (SendNumbers(first=100, count=75), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        assert reasons(line)[0] == "deadline"
        once_and_whole(line, range(100, 175), on=2)
        assert line.numbers(1, range(25)).lost == ()
        line.stream(2).assert_history(HELLO)
        assert [len(line.stream(n).heard) for n in (1, 2)] == [1, 1]
        assert len(record.played) == 2

    calling(script, check, transition_threshold_seconds=1.6)


def test_both_may_speak_when_the_stream_changes() -> None:
    def script(line: Line) -> Iterator[Step]:
        yield from (say(), WaitForBotToSpeak(seconds=0.6))
        yield from (SendNumbers(count=75), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        assert reasons(line)[0] == "deadline"
        assert line.numbers(1).count > 0
        once_and_whole(line, range(75), on=2)
        assert bot_numbers(record)[:125] == list(range(125))
        assert longest_hole_s(record) <= GAP_S

    calling(
        script,
        check,
        timing=replace(SOON, speed=6.0),  # made in less than half a second, played in 2.5
        brain=lambda: NumberBrain(0, 125),
        transition_threshold_seconds=0.95,
    )


@pytest.mark.parametrize("on_hold", [False, True], ids=["silence", "hold"])
def test_in_silence_the_stream_changes_each_time_and_the_call_goes_on(*, on_hold: bool) -> None:
    def script(line: Line) -> Iterator[Step]:
        yield from turn()
        if on_hold:
            yield Hold(60.0)
        yield from until(line, "stream switched", n=2)
        yield Pause(0.1)

    def check(line: Line, record: CallRecord) -> None:
        switches = line.logged("stream switched")
        assert len(switches) == 2
        assert [switch["replayed_ms"] for switch in switches] == [0, 0]
        for switch in switches:
            line.stream(switch["stream"]).assert_history(HELLO)
        assert len(record.played) == 1
        if not on_hold:  # from the decision to the first live frame
            metrics = line.metrics.registry
            seconds = metrics.get_sample_value("opusagent_transition_seconds_total")
            assert metrics.get_sample_value("opusagent_switch_seconds_count") == 2
            assert seconds is not None
            assert seconds / 2 < FIRST_FRAME_S

    calling(script, check, transition_threshold_seconds=1.3, audio_start_timeout_seconds=0.5)


# Keys and tools


def test_keys_that_are_pressed_around_the_switch_reach_one_stream_and_are_answered_once() -> None:
    def script(line: Line) -> Iterator[Step]:
        del line
        yield from turn()
        yield from (Press(digits="123", gap_s=0.2), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        assert reasons(line)[0] == "deadline"
        assert line.stream(1).typed == []
        typed = [text.value for text in line.stream(2).typed]
        assert typed == ["The caller pressed these keys on the telephone: 1 2 3"]
        assert len(record.played) == 2

    calling(
        script,
        check,
        transition_threshold_seconds=0.4,
        audio_start_timeout_seconds=1.8,
        dtmf_pause_seconds=1.3,
    )


@asynccontextmanager
async def with_tool(line: Line, look_up_s: float) -> AsyncIterator[Line]:
    """The same line with a bridge whose agent has a tool."""
    plan = make_plan(line.settings, "default", line.agent)
    bridge = ToolBridge(plan, line.connector, Metrics(), look_up_s=look_up_s)
    server = bridge.server(line.settings)
    port = await server.start()
    try:
        yield replace(line, port=port)
    finally:
        await server.stop()


class Clerk(ToneBrain):
    """Says hello, looks up what it is asked for, and answers then."""

    def reply(self, heard: str, context: PeerContext) -> Reply:
        if heard == "Look it up.":
            return Reply(tools=(ToolAsk(TOOL, {"turn": "1/1"}),))
        return Reply(("Yes.",))


def asking(check: Check, *, look_up_s: float, **more: Any) -> None:
    """One call whose second turn needs the tool, which is asked for after 1.9 s."""

    def script(line: Line) -> Iterator[Step]:
        yield from turn()
        yield say()
        while len(line.callers[0].record.played) < 2:
            yield Pause(0.02)
        yield from until(line, "stream switched")
        yield WaitForBot(quiet_s=0.1)

    async def main(line: Line) -> None:
        async with with_tool(line, look_up_s) as tooled:
            record = await call(tooled, script)
            await line.over()
            check(line, record)

    ears = ToldEars("Hello.", "Look it up.")
    settings = SHORT | {"transition_threshold_seconds": 0.4} | more
    run(main, brain=Clerk, ears=ears, timing=SOON, **settings)


def test_a_tool_that_runs_at_the_deadline_gives_its_result_to_the_next_stream_as_data() -> None:
    def check(line: Line, record: CallRecord) -> None:
        assert reasons(line)[0] == "deadline"
        assert line.stream(1).tool_results == []
        # The next stream, prepared early, may itself be old when the tool is done.
        later = range(2, len(line.service.streams) + 1)
        typed = next(text.value for n in later for text in line.stream(n).typed)
        assert typed.startswith(DATA)
        assert '"turn": "1/1"' in typed
        assert len(record.played) == 2

    asking(check, look_up_s=2.5, audio_start_timeout_seconds=3.8)


def test_a_tool_that_is_done_before_the_deadline_is_waited_for() -> None:
    def check(line: Line, record: CallRecord) -> None:
        assert reasons(line) == ["turn_complete"]
        (result,) = [result.value for result in line.stream(1).tool_results]
        assert result.result == {"turn": "1/1"}
        assert line.stream(2).typed == []
        assert len(record.played) == 2

    asking(check, look_up_s=1.5, audio_start_timeout_seconds=5.0)


# A standby that is not as it should be


def test_where_no_second_stream_is_allowed_the_first_is_closed_and_nothing_is_lost() -> None:
    def script(line: Line) -> Iterator[Step]:
        del line
        yield from (SendNumbers(count=110), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        assert line.logged("standby lost")
        assert line.logged("closed first")
        live = [n for n, log in enumerate(line.service.streams, 1) if not log.refused]
        once_and_whole(line, range(110), on=live[1])
        assert len(record.played) == 1

    calling(script, check, quota=1, audio_start_timeout_seconds=1.2)


def test_the_old_stream_goes_on_while_the_next_one_is_slow_to_open() -> None:
    def script(line: Line) -> Iterator[Step]:
        yield from turn()
        yield from turn()
        yield from until(line, "stream switched")
        yield from (SendNumbers(count=20), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        assert line.logged("standby opened")[0]["open_ms"] >= 1000
        assert len(line.stream(1).heard) == 2
        assert line.numbers(2, range(20)).ok
        assert len(record.played) == 3

    slow = "slow-head:stream=2:seconds=1.2"
    calling(script, check, slow, audio_start_timeout_seconds=4.0)


def test_a_standby_that_dies_once_it_was_accepted_is_replaced_and_nothing_is_noticed() -> None:
    def script(line: Line) -> Iterator[Step]:
        del line
        yield from turn()
        yield from (SendNumbers(count=75), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        assert len(line.logged("standby lost")) == 1
        assert reasons(line)[0] == "deadline"
        assert line.stream(2).audio_opened_at is None
        once_and_whole(line, range(75), on=3)
        assert len(record.played) == 2

    # The first is asked for when the bot speaks, the next one half a second after its death.
    calling(
        script,
        check,
        "reset:stream=2:after=0.05",
        transition_threshold_seconds=0.4,
        audio_start_timeout_seconds=1.6,
    )


# Streams that are lost


def test_a_stream_that_is_cut_while_the_next_is_ready_costs_nothing() -> None:
    async def main(line: Line) -> None:
        def script(line: Line) -> Iterator[Step]:
            del line
            yield from (SendNumbers(count=100), WaitForBot(quiet_s=0.0))

        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(call(line, script))
            assert await eventually(lambda: bool(line.logged("standby ready")), 6)
            line.strike("reset:stream=1")
            struck_at = line.service.now
        assert reasons(line)[0] == "lost"
        assert len(running.result().played) == 1
        once_and_whole(line, range(100), on=2)
        assert line.stream(2).audio_arrival(0) - struck_at < HEARS_S / 2

    # The standby is asked for a tenth of the timeout before the deadline.
    run(main, timing=SOON, **(SHORT | {"audio_start_timeout_seconds": 1.5}))


@pytest.mark.parametrize("fault", ["end", "half-frame"])
def test_the_next_stream_hears_the_caller_soon_after_a_cut(fault: str) -> None:
    async def main(line: Line) -> None:
        def script(line: Line) -> Iterator[Step]:
            del line
            yield from turn()
            yield from (SendNumbers(count=40), WaitForBot(quiet_s=0.0))

        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(call(line, script))
            assert await eventually(
                lambda: bool(line.callers and line.callers[0].record.numbers_sent), 6
            )
            heard = len(line.stream(1).audio)
            assert await eventually(lambda: len(line.stream(1).audio) > heard + 16_000, 6)
            line.strike(f"{fault}:stream=1")
            struck_at = line.service.now
        assert len(running.result().played) == 2
        once_and_whole(line, range(40), on=2)
        line.stream(2).assert_history(HELLO)
        assert line.stream(2).audio_arrival(0) - struck_at < HEARS_S

    run(main, timing=SOON, ears=ToldEars("Hello.", "Numbers."))


def test_a_stream_that_reaches_its_limit_because_no_second_one_is_allowed_is_replaced() -> None:
    def script(line: Line) -> Iterator[Step]:
        del line
        yield from turn()
        yield from (SendNumbers(count=50), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        assert line.logged("standby lost")
        assert line.logged("stream lost")[0]["code"] == "modelTimeoutException"
        live = [n for n, log in enumerate(line.service.streams, 1) if not log.refused]
        once_and_whole(line, range(50), on=live[1])
        line.stream(live[1]).assert_history(HELLO)
        assert len(record.played) == 2

    calling(
        script,
        check,
        "weird:stream=99",  # the first session is not closed in order
        timing=replace(SOON, limit_s=1.6),  # the bridge believes that it has longer
        quota=1,
        ears=ToldEars("Hello.", "Numbers."),
        transition_threshold_seconds=0.4,
        audio_start_timeout_seconds=4.0,
    )


def is_live(line: Line, number: int) -> bool:
    return len(line.service.streams) >= number and line.stream(number).audio_opened_at is not None


def test_after_two_deaths_upon_a_history_the_next_stream_gets_a_summary_instead() -> None:
    async def main(line: Line) -> None:
        def script(line: Line) -> Iterator[Step]:
            yield from turn()
            yield from until(line, "stream opened", n=4)
            yield from turn()

        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(call(line, script))
            assert await eventually(lambda: bool(line.logged("bot speaks")), 6)
            assert await eventually(lambda: bool(line.logged("play finished")), 6)
            for number in (1, 2, 3):
                assert await eventually(lambda n=number: is_live(line, n), 6)  # type: ignore[misc]
                line.strike(f"internal:stream={number}")
        assert len(running.result().played) == 2
        assert [line.stream(n).history for n in (2, 3, 4)] == [HELLO, HELLO, []]
        assert "Hello." in line.stream(4).system_prompt
        assert "Yes." in line.stream(4).system_prompt

    run(main, timing=SOON)


def test_a_stream_is_replaced_before_its_credentials_expire() -> None:
    utcnow = SystemClock().utcnow

    def fetch() -> Pinned:
        return Pinned("AKID", "secret", "token", utcnow() + timedelta(seconds=25))

    def script(line: Line) -> Iterator[Step]:
        yield from turn()
        yield from until(line, "stream switched")
        yield from (SendNumbers(count=50), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        # Three minutes before they expire, but none is replaced before it is ten seconds old; and not all of
        # those that share them at once, but over a tenth of the five seconds that are left until the last call.
        assert line.logged("threshold reached")[0]["age_s"] == pytest.approx(10.25, abs=0.55)
        assert reasons(line)
        once_and_whole(line, range(50), on=2)
        line.stream(2).assert_history(HELLO)
        assert len(record.played) == 2

    calling(
        script,
        check,
        credentials=Credentials(utcnow=utcnow, environ={}, chain=fetch),
        ears=ToldEars("Hello.", "Numbers."),
        transition_threshold_seconds=300.0,
        audio_start_timeout_seconds=0.5,
        session_limit_seconds=480.0,
    )


def test_a_stream_that_takes_everything_and_never_says_a_word_is_replaced() -> None:
    def script(line: Line) -> Iterator[Step]:
        del line
        yield from (SendNumbers(count=80), WaitForBot(quiet_s=0.0))

    def check(line: Line, record: CallRecord) -> None:
        (deaf,) = line.logged("stream deaf")
        assert (deaf["stream"], deaf["kind"]) == (1, "deaf")
        assert len(record.played) == 1
        once_and_whole(line, range(80), on=2)

    calling(script, check, "zombie:stream=1", deaf_after_seconds=0.8, **LASTING)
