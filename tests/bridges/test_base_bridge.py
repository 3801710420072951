"""A whole call through the shell, on virtual time, with real cores at every end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import cast

import pytest

from opusagent.audiocodes.peer_events import (
    Accepted,
    HangupRequested,
    PlayStarted,
    PlayStopped,
    Refused,
    UserStreamStopped,
)
from opusagent.bridges.base_bridge import BACKLOG_S, END_S, BaseBridge
from opusagent.call.call import Call
from opusagent.call.events import (
    CallerLost,
    CallInput,
    CallOutcome,
    Drain,
    Effect,
    EndedBy,
    FromCaller,
    HangUp,
    Report,
    ToolCall,
)
from opusagent.call.plan import CallPlan
from opusagent.errors import ToolError, TransportError
from opusagent.models.session_state import SessionStatus
from opusagent.transports.memory import MemoryCaller, MemoryConnector, caller_pair
from tests.bridges.rig import Brain, Line, Services, carried, new_line, one_turn_of_the_loop
from tests.call.driver import GREETING_AGENT, PLAN, CallDriver, bot_pcm, frame_numbers
from tests.slow_sockets import SlowSocket
from tests.virtual_time import run
from tests.waiting import pass_time

GREETING = replace(PLAN, agent=GREETING_AGENT)


async def a_chat(line: Line) -> None:
    """The caller is greeted, says something, is answered, and hangs up."""
    await line.dial()
    await line.quiet(4.0)
    await line.talk(1.0)
    await line.quiet(6.0)
    await line.hang_up()


def test_a_whole_call_from_greeting_to_hang_up() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=GREETING)
        outcome = await carried(line, services, a_chat)
        assert outcome == CallOutcome(EndedBy.CALLER, "client-disconnected", "Client Side")
        (peer,) = services.peers
        peer.record.assert_valid_session()
        assert [typed.value for typed in peer.record.typed] == ["Greet the caller."]
        assert frame_numbers(bytes(peer.record.audio)) == list(range(line.frames))
        assert sum(isinstance(event, PlayStarted) for _, event in line.heard) == 2
        assert line.phone.closed_with == (1000, "session ended")
        said = [(i.type, i.text) for i in line.saves[-1].conversation_history]
        assert said == [
            ("output", "Hello. How can I help?"),
            ("input", "hello"),
            ("output", "Hello. How can I help?"),
        ]
        assert line.saves[-1].status is SessionStatus.ENDED

    run(main())


def test_an_answer_leaves_in_the_step_that_gave_it() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=GREETING)

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(0.5)
            line.peer.stop_user_stream()
            (text,) = line.peer.texts_to_send()
            heard = len(line.heard)
            line.bridge.step(FromCaller(text))
            await one_turn_of_the_loop()  # the phone's own
            assert any(isinstance(event, UserStreamStopped) for _, event in line.heard[heard:])
            await line.hang_up()

        await carried(line, services, caller)

    run(main())


def test_the_first_messages_may_have_been_read_already() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services)
        line.peer.initiate("c-1")
        first = line.peer.texts_to_send()

        async def caller() -> None:
            await pass_time(0.5)
            assert any(isinstance(event, Accepted) for _, event in line.heard)
            await line.hang_up()

        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run(*first))
            tasks.create_task(line.listen())
            tasks.create_task(caller())
        await services.all_over()
        assert call.result().by is EndedBy.CALLER

    run(main())


def test_a_caller_who_hangs_up_while_the_stream_is_opened_leaves_nothing() -> None:
    async def main() -> None:
        services = Services(head_s=None)

        async def caller(line: Line) -> None:
            line.peer.initiate("c-1")
            await line.flush()
            await pass_time(0.5)
            await line.hang_up()

        line = new_line(services)
        outcome = await carried(line, services, caller)
        assert outcome.by is EndedBy.CALLER
        assert asyncio.get_running_loop().time() < 1.0

    run(main())


def test_a_socket_that_is_lost_ends_the_call() -> None:
    async def main() -> None:
        services = Services()

        async def caller(line: Line) -> None:
            await line.dial()
            line.phone.abort()

        outcome = await carried(new_line(services), services, caller)
        assert outcome.by is EndedBy.SOCKET
        services.peers[0].record.assert_valid_session()

    run(main())


def test_a_head_that_never_comes_is_tried_again_and_given_up_in_ten_seconds() -> None:
    async def main() -> None:
        services = Services(head_s=None)

        async def caller(line: Line) -> None:
            await line.dial()

        line = new_line(services)
        outcome = await carried(line, services, caller)
        assert outcome == CallOutcome(EndedBy.FAILURE, "NoHead")
        assert len(services.streams) >= 2
        assert 10.0 <= asyncio.get_running_loop().time() <= 10.5
        assert any(isinstance(event, Refused) for _, event in line.heard)
        (accepted,) = (at for at, event in line.heard if isinstance(event, Accepted))
        assert accepted == pytest.approx(1.0)

    run(main())


@pytest.mark.parametrize("how", ["fail", "end", "reset"])
def test_a_stream_that_is_lost_is_replaced_and_no_word_with_it(how: str) -> None:
    async def main() -> None:
        services = Services()

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(1.0)
            await line.talk(0.5)
            match how:
                case "fail":
                    services.streams[0].fail("modelTimeoutException", "timed out")
                case "end":
                    services.streams[0].end()
                case _:
                    services.streams[0].fail("ConnectionLost", "reset")
            await line.talk(0.5)
            await line.quiet(5.0)
            await line.hang_up()

        line = new_line(services)
        outcome = await carried(line, services, caller)
        assert outcome.by is EndedBy.CALLER
        assert len(services.peers) == 2
        second = frame_numbers(bytes(services.peers[1].record.audio))
        assert set(range(50, 100)) <= set(second)
        assert [heard.value for heard in services.peers[1].record.heard] == ["hello"]
        services.peers[1].record.assert_valid_session()

    run(main())


def test_a_service_that_stops_reading_is_replaced() -> None:
    async def main() -> None:
        services = Services()

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(0.5)
            services.streams[0].stop_reading()
            await line.talk(3.0)
            await line.quiet(6.0)
            await line.hang_up()

        line = new_line(services)
        await carried(line, services, caller)
        assert len(services.peers) == 2
        second = frame_numbers(bytes(services.peers[1].record.audio))
        assert set(range(25, 175)) <= set(second)

    run(main())


def test_of_what_the_caller_says_while_the_service_does_not_read_twelve_seconds_are_kept() -> None:
    async def main() -> None:
        connector = MemoryConnector(send_s=100.0)
        line = new_line(connector)

        async def caller() -> None:
            await line.dial()
            await line.quiet(1.0)
            connector.streams[0].stop_reading()
            await line.quiet(15.0)
            await line.hang_up()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            tasks.create_task(caller())
        dropped = line.reports_of("audio dropped")
        assert {report.fields["where"] for report in dropped} == {"outbox"}
        dropped_s = sum(int(str(report.fields["ms"])) for report in dropped) / 1000
        assert dropped_s == pytest.approx(15.0 - BACKLOG_S, abs=0.1)

    run(main())


def test_a_refusal_that_cannot_be_retried_ends_the_call_at_once() -> None:
    async def main() -> None:
        services = Services(head_s=None)

        async def caller(line: Line) -> None:
            line.peer.initiate("c-1")
            await line.flush()
            await pass_time(0.2)
            services.streams[0].refuse("AccessDeniedException", "no")

        line = new_line(services)
        outcome = await carried(line, services, caller)
        assert outcome == CallOutcome(EndedBy.FAILURE, "AccessDeniedException")
        assert asyncio.get_running_loop().time() == pytest.approx(0.2)

    run(main())


def test_a_service_that_does_not_end_its_stream_holds_nobody_up() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        line = new_line(connector)

        async def caller() -> None:
            await line.dial()
            await line.hang_up()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            tasks.create_task(caller())
        assert connector.streams[0].is_closed
        assert asyncio.get_running_loop().time() <= 5.0

    run(main())


# Tools


async def asks_for_a_tool(line: Line) -> None:
    await line.dial()
    await line.talk(2.0)
    await line.quiet(8.0)
    await line.hang_up()


async def looked_up(call: ToolCall) -> dict[str, object]:
    await pass_time(1.0)
    return {"n": 7}


async def refused(call: ToolCall) -> dict[str, object]:
    raise ToolError("the shelf is empty")


@pytest.mark.parametrize(
    ("tool", "answer"),
    [
        (looked_up, '{"n": 7}'),
        (refused, '{"error": "the shelf is empty"}'),
        (None, '{"error": "lookup cannot be run here"}'),
    ],
)
def test_a_tool_is_run_and_its_result_reaches_the_model(tool: object, answer: str) -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, tool=tool)  # type: ignore[arg-type]
        await carried(line, services, asks_for_a_tool)
        (result,) = services.peers[0].record.tool_results
        assert str(result.value.result).replace("'", '"') == answer

    run(main())


def test_a_tool_that_runs_when_the_call_ends_is_cancelled() -> None:
    cancelled: list[bool] = []

    async def for_ever(call: ToolCall) -> dict[str, object]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)
        return {}

    async def main() -> None:
        services = Services()
        line = new_line(services, tool=for_ever)  # type: ignore[arg-type]
        await carried(line, services, asks_for_a_tool)

    run(main())
    assert cancelled == [True]


# The caller's socket


class _StuckCaller(SlowSocket):
    """A websocket whose peer reads nothing after the first messages."""

    def __init__(self, first: list[str], reads: int) -> None:
        self._first = first
        self._reads = reads
        self._closed = asyncio.Event()
        self.sent = 0

    async def recv(self) -> str | bytes | None:
        if self._first:
            return self._first.pop(0)
        await self._closed.wait()
        return None

    async def send(self, text: str) -> None:
        if self.sent >= self._reads:
            await asyncio.Event().wait()
        self.sent += 1

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self._closed.set()


def test_a_caller_who_does_not_read_does_not_hold_up_the_end_of_the_call() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services)
        line.peer.initiate("c-1")
        stuck = _StuckCaller(line.peer.texts_to_send(), reads=0)
        line = new_line(services, caller=stuck)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            await pass_time(3.0)
            line.bridge.step(Drain())
        await services.all_over()
        assert call.result().by is EndedBy.SHUTDOWN
        assert asyncio.get_running_loop().time() <= 3.0 + END_S + 0.1

    run(main())


class _LongBrain(Brain):
    """Comes to no end."""

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        return bot_pcm(len(sentence), 30.0)


class _MoodyCaller:
    """A websocket whose peer reads when `reads` is set."""

    def __init__(self, end: MemoryCaller) -> None:
        self._end = end
        self.recv = end.recv
        self.listen = end.listen
        self.close = end.close
        self.reads = asyncio.Event()
        self.reads.set()

    def send_now(self, text: str) -> bool:
        return self.reads.is_set() and self._end.send_now(text)

    async def send(self, text: str) -> None:
        await self.reads.wait()
        await self._end.send(text)


class _FickleCaller:
    """A websocket that takes every other text at once, and the rest only when it is waited for."""

    def __init__(self, end: MemoryCaller, *, every: int) -> None:
        self._end = end
        self.recv = end.recv
        self.listen = end.listen
        self.close = end.close
        self.every = every
        self._asked = 0
        self.texts: list[str] = []

    def send_now(self, text: str) -> bool:
        self._asked += 1
        taken = self._asked % self.every == 0 and self._end.send_now(text)
        if taken:
            self.texts.append(text)
        return taken

    async def send(self, text: str) -> None:
        for _ in range(3):
            await one_turn_of_the_loop()
        self.texts.append(text)
        await self._end.send(text)


def test_texts_keep_their_order_and_number_whether_or_not_each_can_be_sent_at_once() -> None:
    async def said(every: int) -> list[str]:
        services = Services(brain=_LongBrain())
        bridge_end, phone_end = caller_pair()
        fickle = _FickleCaller(bridge_end, every=every)
        line = new_line(services, plan=GREETING, caller=fickle)
        line.phone = phone_end

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(1.0)
            for _ in range(5):  # several answers in one turn of the loop
                line.peer.stop_user_stream()
                line.peer.start_user_stream()
            await line.flush()
            await line.quiet(2.0)
            await line.hang_up()

        await carried(line, services, caller)
        return fickle.texts

    never, always, sometimes = (run(said(every)) for every in (10**9, 1, 2))
    assert len(never) > 40
    assert always == never
    assert sometimes == never


def test_nothing_overtakes_a_text_that_is_being_sent() -> None:
    async def main() -> None:
        services = Services()
        bridge_end, phone_end = caller_pair()
        fickle = _FickleCaller(bridge_end, every=1)
        line = new_line(services, plan=PLAN, caller=fickle)
        line.phone = phone_end

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(0.5)
            line.peer.stop_user_stream()
            line.peer.start_user_stream()
            stop, start = line.peer.texts_to_send()
            fickle.texts.clear()
            fickle.every = 10**9
            line.bridge.step(FromCaller(stop))
            await one_turn_of_the_loop()  # the writer has it, and waits
            assert fickle.texts == []
            fickle.every = 1
            line.bridge.step(FromCaller(start))
            await line.quiet(0.1)
            stopped, started, *_ = (json.loads(text)["type"] for text in fickle.texts)
            assert (stopped, started) == ("userStream.stopped", "userStream.started")
            await line.hang_up()

        await carried(line, services, caller)

    run(main())


def talked_at(plan: CallPlan = GREETING) -> tuple[Services, Line, _MoodyCaller]:
    """A call whose bot speaks from the beginning on, and whose caller may stop reading."""
    services = Services(brain=_LongBrain())
    bridge_end, phone_end = caller_pair()
    caller = _MoodyCaller(bridge_end)
    line = new_line(services, plan=plan, caller=caller)
    line.phone = phone_end
    return services, line, caller


def test_the_socket_of_a_caller_who_is_given_up_is_closed_so_that_the_phone_comes_back() -> None:
    """She may read again before a send is overdue, and would sit on a socket on which nobody speaks."""

    async def main() -> None:
        services, line, moody = talked_at(replace(GREETING, resume_grace_s=60.0))

        async def caller(line: Line) -> None:
            await line.dial()
            moody.reads.clear()
            await line.quiet(7.0)
            moody.reads.set()
            await line.quiet(0.1)
            with pytest.raises(TransportError):
                await line.phone.send("{}")
            assert not line.bridge.is_over

        await carried(line, services, caller)

    run(main())


def test_a_caller_who_leaves_five_seconds_of_speech_unread_is_given_up() -> None:
    async def main() -> None:
        services, line, moody = talked_at()

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(2.0)
            assert 1.0 < line.bot_audio_s < 2.5
            moody.reads.clear()
            await line.quiet(5.0)
            assert not line.reports_of("caller does not read")
            await line.quiet(0.7)
            assert line.reports_of("caller does not read")

        outcome = await carried(line, services, caller)
        assert outcome.by is EndedBy.SOCKET

    run(main())


@pytest.mark.parametrize("abort_prompts", [True, False])
def test_a_caller_who_reads_slowly_hears_nothing_more_of_an_answer_that_she_silenced(
    *, abort_prompts: bool
) -> None:
    async def main() -> None:
        plan = replace(GREETING, abort_prompts=abort_prompts)
        services, line, moody = talked_at(plan)

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(1.0)
            moody.reads.clear()
            await line.quiet(3.0)
            line.peer.dtmf("1")
            await line.quiet(0.1)
            before_s = line.bot_audio_s
            moody.reads.set()
            await line.quiet(0.1)
            assert line.bot_audio_s - before_s <= 0.4  # the message that was being written
            assert any(isinstance(event, PlayStopped) for _, event in line.heard)
            await line.hang_up()

        await carried(line, services, caller)

    run(main())


class _DeafCaller(_StuckCaller):
    """A websocket that breaks when it is written to."""

    async def send(self, text: str) -> None:
        raise TransportError("ConnectionLost", "broken pipe")


def test_a_socket_that_breaks_on_a_send_ends_the_call() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services)
        line.peer.initiate("c-1")
        line = new_line(services, caller=_DeafCaller(line.peer.texts_to_send(), reads=0))
        outcome = await line.bridge.run()
        await services.all_over()
        assert outcome.by is EndedBy.SOCKET

    run(main())


def test_our_hang_up_closes_the_socket_when_the_session_has_ended() -> None:
    async def main() -> None:
        services = Services()

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(1.0)
            line.bridge.step(HangUp("done"))
            while not any(isinstance(event, HangupRequested) for _, event in line.heard):
                await line.quiet(0.02)
            line.peer.end("bot-disconnected")
            await line.flush()

        line = new_line(services)
        outcome = await carried(line, services, caller)
        assert outcome.by is EndedBy.BOT
        assert line.phone.closed_with == (1000, "session ended")

    run(main())


def test_a_process_that_ends_closes_the_socket_as_a_restart() -> None:
    async def main() -> None:
        services = Services()

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(0.5)
            line.bridge.step(Drain())

        line = new_line(services)
        outcome = await carried(line, services, caller)
        assert outcome.by is EndedBy.SHUTDOWN
        assert line.phone.closed_with == (1012, "service restart")

    run(main())


# The timer


class _Clockwork:
    """A core that wants nothing but to be called at `due_at`."""

    def __init__(self) -> None:
        self.due_at: float | None = None
        self.called_at: list[float] = []

    def handle(self, event: CallInput, now: float) -> list[Effect]:
        return []

    def next_timer(self) -> float | None:
        return self.due_at

    def handle_timer(self, now: float) -> list[Effect]:
        if self.due_at is not None and now >= self.due_at:
            self.called_at.append(now)
            self.due_at = None
        return []


def test_the_core_is_called_when_it_is_due_however_often_it_changes_its_mind() -> None:
    async def main() -> None:
        clockwork = _Clockwork()
        bridge = BaseBridge(
            cast("Call", clockwork),
            caller=caller_pair()[0],
            sonic=MemoryConnector(),
            report=lambda _: None,
        )
        for due_at in (10.0, 2.0, 4.0, 3.0):  # earlier, later, earlier again
            clockwork.due_at = due_at
            bridge.step(CallerLost())
        await pass_time(5.0)
        assert clockwork.called_at == [pytest.approx(3.0)]
        for next_at in (7.0, None):
            clockwork.due_at = next_at
            bridge.step(CallerLost())
        await pass_time(5.0)
        assert len(clockwork.called_at) == 1

    run(main())


# Cancellation


def test_a_call_can_be_cancelled_at_every_await() -> None:
    """At any time, and any number of turns of the loop later, nothing of it is left."""

    async def main(seconds: float, turns: int) -> bool:
        services = Services()
        line = new_line(services, plan=GREETING, tool=looked_up)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        others = [loop.create_task(line.listen()), loop.create_task(asks_for_a_tool(line))]
        call = loop.create_task(line.bridge.run())
        if seconds:
            await pass_time(seconds)
        for _ in range(turns):
            await one_turn_of_the_loop()
        was_over = call.done()
        call.cancel()
        await asyncio.wait((call,))
        assert call.cancelled() is not was_over
        assert all(end.is_closed for end in services.streams)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await services.all_over()
        return was_over

    for turns in range(30):
        assert not run(main(0.0, turns))
    seconds, turns = 0.0, 0
    while not run(main(seconds, turns)):
        seconds += 0.223  # the frames come every 20 ms, so that every phase of them is met
        turns = (turns + 1) % 8
    assert seconds > 10.0


def test_a_tool_that_crashes_is_a_result_that_the_model_can_speak_about() -> None:
    async def main() -> None:
        services = Services()

        async def breaks(call: ToolCall) -> dict[str, object]:
            raise ZeroDivisionError

        line = new_line(services, tool=breaks)  # type: ignore[arg-type]
        await carried(line, services, asks_for_a_tool)
        (result,) = services.peers[0].record.tool_results
        assert result.value.result == {"error": "lookup failed"}
        assert line.reports_of("tool crashed")

    run(main())


def test_a_bug_ends_the_call_and_leaves_nothing() -> None:
    async def main() -> None:
        services = Services()

        def report(what: Report) -> None:
            if what.event == "tool requested":
                raise ZeroDivisionError

        line = new_line(services, report=report)
        others = [
            asyncio.get_running_loop().create_task(line.listen()),
            asyncio.get_running_loop().create_task(asks_for_a_tool(line)),
        ]
        with pytest.raises(ExceptionGroup) as caught:
            await line.bridge.run()
        assert caught.group_contains(ZeroDivisionError)
        assert services.streams[0].is_closed
        await asyncio.gather(*others)
        await services.all_over()

    run(main())


def test_the_shell_and_the_driver_of_the_core_see_the_same_call() -> None:
    """Both run the same core; what the phone is told first must be the same."""
    driver = CallDriver(plan=GREETING)
    driver.answer()

    async def main() -> None:
        services = Services()

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(0.1)
            await line.hang_up()

        line = new_line(services, plan=GREETING)
        await carried(line, services, caller)
        told = [type(event) for _, event in line.heard]
        assert told == [type(event) for _, event in driver.heard]

    run(main())


def test_a_stream_is_replaced_before_the_credentials_that_sign_it_expire() -> None:
    async def main() -> None:
        services = Services(expires_in_s=200.0)
        line = new_line(services)

        async def caller(line: Line) -> None:
            await line.dial()
            await line.quiet(60.0)
            await line.hang_up()

        await carried(line, services, caller)
        (threshold, *_) = line.reports_of("threshold reached")
        # 180 s before they expire, and half way through the spread: a tenth of what is left then
        assert threshold.fields["age_s"] == pytest.approx(20.0 + 8.5, abs=0.1)
        assert line.reports_of("stream switched")
        assert services.can_wait[:2] == [False, True]  # as it is asked of the connector

    run(main())
