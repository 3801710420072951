"""A call that changes its websocket: the shell's part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from opusagent.audiocodes.peer_events import Accepted, Configured, PlayChunk, PlayStarted
from opusagent.call.events import Drain, EndedBy, HangUp, Report
from opusagent.errors import LocalProtocolError, TransportError
from opusagent.sonic.peer_brain import PeerContext, Reply
from tests.bridges.rig import Brain, Line, Services, new_line, one_turn_of_the_loop
from tests.call.driver import GREETING_AGENT, PLAN, frame_numbers
from tests.slow_sockets import SlowSocket
from tests.virtual_time import run
from tests.waiting import pass_time

PATIENT = replace(PLAN, resume_grace_s=60.0)


class StuckSocket(SlowSocket):
    """A websocket whose peer is gone without a word: it takes everything and gives nothing."""

    def __init__(self, *first: str) -> None:
        self._first = list(first)
        self.sent: list[str] = []
        self.closed_with: tuple[int, str] | None = None
        self._never = asyncio.Event()

    async def recv(self) -> str | bytes | None:
        if self._first:
            return self._first.pop(0)
        await self._never.wait()
        return None

    async def send(self, text: str) -> None:
        self.sent.append(text)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = (code, reason)
        await pass_time(3.0)


class BlockedSocket(StuckSocket):
    """One that does not even take anything."""

    async def send(self, text: str) -> None:
        self.sent.append(text)
        await self._never.wait()


class TellTaleSocket(StuckSocket):
    """One that its test speaks on."""

    take: Callable[[str | bytes], None]

    async def listen(self, take: Callable[[str | bytes], None]) -> None:
        self.take = take
        await super().listen(take)


class StallingSocket(TellTaleSocket):
    """One whose network goes away while the call is up: from then on nothing leaves."""

    stalls = False

    async def send(self, text: str) -> None:
        if self.stalls:
            await self._never.wait()
            raise TransportError("ConnectionLost", "reset")
        await super().send(text)

    def breaks(self) -> None:
        self._never.set()


class Storyteller(Brain):
    """Speaks for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._words = round(seconds * 10)

    def reply(self, heard: str, context: PeerContext) -> Reply:
        return Reply(("word " * self._words,))


def test_what_comes_on_a_websocket_that_was_replaced_is_not_the_callers() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=PATIENT)
        probe = new_line(services, plan=PATIENT)
        probe.peer.initiate("c-1")
        old = TellTaleSocket(*probe.peer.texts_to_send())
        line = new_line(services, plan=PATIENT, caller=old)
        line.peer.initiate("c-1")
        line.peer.texts_to_send()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            await pass_time(0.5)
            attached = line.resume(tasks)
            await one_turn_of_the_loop()
            old.take('{"type":"session.end","reasonCode":"client-disconnected","reason":""}')
            await pass_time(0.5)
            assert not attached.done()
            assert not line.bridge.is_over
            await over(line, services, call)

    run(main())


async def over(line: Line, services: Services, call: asyncio.Task[object]) -> None:
    await line.hang_up()
    await call
    await services.all_over()


def frames_of(services: Services) -> list[list[int]]:
    """The caller's frames on each stream."""
    return [frame_numbers(bytes(peer.record.audio)) for peer in services.peers]


def test_a_call_goes_on_on_another_websocket_and_no_frame_is_lost() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=PATIENT)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            await line.dial()
            sent = await line.quiet(0.5)
            sent += await line.talk(1.0)
            await one_turn_of_the_loop()
            line.phone.abort()
            await pass_time(2.0)
            attached = line.resume(tasks)
            await pass_time(0.01)
            assert any(isinstance(event, Accepted) for _, event in line.heard[-2:])
            sent += await line.talk(1.0)
            sent += await line.quiet(5.0)
            assert not attached.done()
            assert line.bot_audio_s > 0.3
            await over(line, services, call)
            assert attached.done()
            assert call.result().by is EndedBy.CALLER
        assert frames_of(services) == [sent]

    run(main())


def test_the_bot_goes_on_in_the_middle_of_its_answer() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=PATIENT)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            await line.dial()
            await line.quiet(0.5)
            await line.talk(1.0)
            while not any(isinstance(event, PlayChunk) for _, event in line.heard):
                await line.quiet(0.02)
            before = line.bot_audio_s
            line.phone.abort()
            await pass_time(1.5)
            _ = line.resume(tasks)
            await pass_time(3.0)
            ids = [e.stream_id for _, e in line.heard if isinstance(e, PlayStarted)]
            assert ids == ["1", "2"]
            assert 0 < before < line.bot_audio_s
            # "Hello." and "How can I help?", a tenth of a second a word
            assert line.bot_audio_s == pytest.approx(0.5)
            await over(line, services, call)

    run(main())


@pytest.mark.parametrize(
    ("story_s", "stalled_s", "breaks"),
    [(6.0, 3.0, False), (6.0, 8.0, False), (6.0, 3.0, True), (12.0, 8.0, False)],
)
def test_what_could_not_leave_on_a_dead_line_is_heard_after_the_return(
    story_s: float, stalled_s: float, *, breaks: bool
) -> None:
    async def main() -> None:
        services = Services(brain=Storyteller(story_s))
        plan = replace(PATIENT, agent=GREETING_AGENT)
        probe = new_line(services, plan=plan)
        probe.peer.initiate("c-1")
        old = StallingSocket(*probe.peer.texts_to_send())
        line = new_line(services, plan=plan, caller=old)
        line.peer.initiate("c-1")
        line.peer.start()
        _, start = line.peer.texts_to_send()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            await pass_time(0.3)
            old.take(start)
            await pass_time(2.0)
            old.stalls = True
            await pass_time(stalled_s)
            if breaks:
                old.breaks()
                await pass_time(1.0)
            line.heard = [(0.0, event) for text in old.sent for event in line.peer.receive(text)]
            assert 1.0 < line.bot_audio_s < 2.5
            _ = line.resume(tasks)
            await pass_time(story_s + 2.0)
            # But for the piece that was being sent: nobody knows whether it left.
            assert line.bot_audio_s == pytest.approx(story_s, abs=0.101)
            assert line.bot_audio_s <= story_s
            assert not isinstance(line.heard[-1][1], PlayChunk)  # its play stream was closed
            await over(line, services, call)

    run(main())


@pytest.mark.parametrize("kind", [StuckSocket, BlockedSocket])
def test_a_websocket_that_seems_open_loses_to_the_new_one(kind: type[StuckSocket]) -> None:
    async def main() -> None:
        services = Services()
        probe = new_line(services, plan=PATIENT)
        probe.peer.initiate("c-1")
        old = kind(*probe.peer.texts_to_send())
        line = new_line(services, plan=PATIENT, caller=old)
        line.peer.initiate("c-1")
        line.peer.texts_to_send()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            await pass_time(1.0)
            assert old.sent
            told = len(old.sent)
            began = asyncio.get_running_loop().time()
            _ = line.resume(tasks)
            await one_turn_of_the_loop()
            await pass_time(0.001)
            assert asyncio.get_running_loop().time() - began < 0.01
            assert isinstance(line.heard[0][1], Accepted)
            assert old.closed_with == (1000, "resumed on another socket")
            frames = await line.talk(1.0)
            await line.quiet(4.0)
            assert len(old.sent) == told
            await over(line, services, call)
        assert frames[0] in frames_of(services)[0]

    run(main())


def test_what_the_old_websocket_still_says_is_not_heard() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=PATIENT)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            await line.dial()
            await line.quiet(0.2)
            old = line.phone
            _ = line.resume(tasks)
            await one_turn_of_the_loop()
            await old.close()  # its end is no loss of the call
            await line.quiet(1.0)
            assert not call.done()
            assert [r for r in line.reports if r.event == "caller lost"] != []
            assert sum(r.event == "caller lost" for r in line.reports) == 1
            await over(line, services, call)

    run(main())


def test_texts_that_waited_for_the_old_websocket_do_not_reach_the_new_one() -> None:
    async def main() -> None:
        services = Services()
        probe = new_line(services, plan=PATIENT)
        probe.peer.initiate("c-1")
        old = BlockedSocket(*probe.peer.texts_to_send())
        line = new_line(services, plan=PATIENT, caller=old)
        line.peer.initiate("c-1")
        line.peer.texts_to_send()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            await pass_time(2.5)  # accepted, and configured: both wait
            _ = line.resume(tasks)
            await pass_time(0.1)
            # The settings are told anew, as part of the call: nobody knows whether they came.
            assert [type(event) for _, event in line.heard] == [Accepted, Configured]
            await over(line, services, call)

    run(main())


def test_each_websocket_is_let_go_when_the_next_one_takes_over() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=PATIENT)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            await line.dial()
            first = line.resume(tasks)
            await pass_time(0.1)
            second = line.resume(tasks)
            await pass_time(0.1)
            assert first.done()
            assert not second.done()
            await over(line, services, call)
            assert second.done()

    run(main())


def test_a_call_that_is_over_takes_no_other_websocket() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=PATIENT)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            await line.dial()
            assert not line.bridge.is_over
            await over(line, services, call)
            assert line.bridge.is_over
            await line.resume(tasks)
            line.phone.abort()

    run(main())


def test_a_bug_on_the_way_back_ends_that_call_and_nobody_elses() -> None:
    async def main() -> None:
        services = Services()

        def broken(report: Report) -> None:
            if report.event == "session resumed":
                raise LocalProtocolError("a bug")

        line = new_line(services, plan=PATIENT, report=broken)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(_bug_of(line))
            tasks.create_task(line.listen())
            await line.dial()
            await line.quiet(0.1)
            await line.resume(tasks)  # as a server that serves a socket
            assert isinstance(await call, LocalProtocolError)
        await services.all_over()

    run(main())


def test_a_bug_in_what_others_tell_the_call_does_not_reach_them() -> None:
    async def main() -> None:
        services = Services()

        def broken(report: Report) -> None:
            if report.event == "transcript":
                raise LocalProtocolError("a bug")

        line = new_line(services, plan=PATIENT, report=broken)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(_bug_of(line))
            tasks.create_task(line.listen())
            await line.dial()
            line.bridge.step(Drain())  # as a server that goes through its calls
            assert isinstance(await call, LocalProtocolError)
        await services.all_over()

    run(main())


async def _bug_of(line: Line) -> BaseException | None:
    try:
        await line.bridge.run()
    except ExceptionGroup as group:
        return group.exceptions[0]
    return None


def test_a_websocket_is_closed_only_after_the_last_state_was_stored() -> None:
    async def main() -> None:
        services = Services()
        stored = asyncio.Event()

        async def saved() -> None:
            await stored.wait()

        line = new_line(services, plan=PATIENT, saved=saved)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            await line.dial()
            line.bridge.step(Drain())
            await pass_time(0.4)
            assert line.phone.closed_with is None
            stored.set()
            await pass_time(0.01)
            assert line.phone.closed_with == (1012, "service restart")
            await call
        await services.all_over()

    run(main())


def test_a_caller_who_does_not_come_back_leaves_nothing() -> None:
    async def main() -> None:
        services = Services()
        line = new_line(services, plan=PATIENT)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.bridge.run())
            tasks.create_task(line.listen())
            await line.dial()
            line.phone.abort()
            await pass_time(59.0)
            assert not call.done()
            assert (await call).by is EndedBy.SOCKET
        await services.all_over()
        assert all(end.is_closed for end in services.streams)

    run(main())


def test_a_call_that_was_cancelled_does_nothing_any_more_whatever_it_is_told() -> None:
    async def main() -> None:
        services = Services(head_s=None)
        line = new_line(services)
        loop = asyncio.get_running_loop()
        listener = loop.create_task(line.listen())
        call = loop.create_task(line.bridge.run())
        line.peer.initiate("c-1")
        await line.flush()
        await pass_time(2.1)
        call.cancel()
        await pass_time(0.02)  # its stream is being closed
        line.bridge.step(HangUp("done"))
        call.cancel()
        await asyncio.wait((call,))
        await pass_time(20.0)
        assert len(services.streams) == 1
        assert services.streams[0].is_closed
        line.phone.abort()
        await listener
        await services.all_over()

    run(main())
