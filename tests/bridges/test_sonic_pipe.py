"""One stream: what is queued, in which order it leaves, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import pytest

from opusagent.audio.tail import AudioTail
from opusagent.bridges.sonic_pipe import TOGETHER, SonicPipe
from opusagent.errors import TransportError
from opusagent.transports.memory import MemoryConnector, MemorySonic, ServiceEnd
from tests.bridges.rig import at_hand, one_turn_of_the_loop
from tests.virtual_time import run
from tests.waiting import pass_time

RATE = 32_000


@dataclass
class Noted:
    """What a pipe told its owner."""

    opened: int = 0
    payloads: list[bytes] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    dropped: int = 0


def new_pipe(
    connector: MemoryConnector, *, backlog_s: float = 1.0, transport: MemorySonic | None = None
) -> tuple[SonicPipe, Noted]:
    noted = Noted()

    def on_opened(_expires_in_s: float | None) -> None:
        noted.opened += 1

    def on_dropped(n_bytes: int) -> None:
        noted.dropped += n_bytes

    def on_lost(error: TransportError) -> None:
        noted.lost.append(error.code)

    pipe = SonicPipe(
        transport or connector.connect(),
        encode=lambda pcm: b"audio:" + pcm,
        audio=lambda: AudioTail(RATE, backlog_s),
        on_opened=on_opened,
        on_payload=noted.payloads.append,
        on_lost=on_lost,
        on_dropped=on_dropped,
    )
    return pipe, noted


async def received(end: ServiceEnd) -> list[bytes]:
    """All that the client sends until it ends its input."""
    payloads = []
    while (payload := await end.receive()) is not None:
        payloads.append(payload)
    end.end()
    return payloads


def test_events_leave_in_order_and_audio_that_waits_leaves_as_one() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, noted = new_pipe(connector)
        pipe.put(b"start")
        for pcm in (b"11", b"22", b"33"):
            pipe.put_audio(pcm)
        pipe.put(b"text")
        pipe.put_audio(b"44")
        async with asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(received(connector.streams[0]))
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.put_audio(b"55")
            await pass_time(0.1)
            pipe.put(b"end")
            pipe.finish()
        assert sent.result() == [
            b"start",
            b"audio:112233",
            b"text",
            b"audio:44",
            b"audio:55",
            b"end",
        ]
        assert noted.opened == 1
        assert noted.lost == []
        assert connector.streams[0].is_closed

    run(main())


def test_at_rest_no_audio_waits() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, _ = new_pipe(connector)
        end = connector.streams[0]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            before = asyncio.get_running_loop().time()
            for pcm in (b"11", b"22"):
                pipe.put_audio(pcm)
                assert await end.receive() == b"audio:" + pcm
            assert asyncio.get_running_loop().time() == before
            tasks.create_task(received(end))
            pipe.finish()

    run(main())


def test_what_nothing_waits_before_leaves_in_the_same_step() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, _ = new_pipe(connector)
        end = connector.streams[0]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.put_audio(b"11")
            assert at_hand(end.receive()) == b"audio:11"
            pipe.put(b"text")
            assert at_hand(end.receive()) == b"text"
            await pass_time(0.02)
            pipe.put_audio(b"22")
            assert at_hand(end.receive()) == b"audio:22"
            tasks.create_task(received(end))
            pipe.finish()

    run(main())


def test_of_a_burst_the_first_leaves_at_once_and_the_rest_as_one_in_its_place() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, _ = new_pipe(connector)
        end = connector.streams[0]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            for pcm in (b"11", b"22", b"33"):
                pipe.put_audio(pcm)
            pipe.put(b"text")
            pipe.put_audio(b"44")
            assert at_hand(end.receive()) == b"audio:11"
            assert at_hand(end.receive()) is None
            sent = tasks.create_task(received(end))
            pipe.finish()
        assert sent.result() == [b"audio:2233", b"text", b"audio:44"]

    run(main())


class _Noting(MemorySonic):
    """One that notes what is sent together."""

    def __init__(self, inner: MemorySonic) -> None:
        self.__dict__ = inner.__dict__
        self.together: list[tuple[bytes, ...]] = []

    async def send(self, *payloads: bytes) -> None:
        self.together.append(payloads)
        await super().send(*payloads)

    def send_now(self, *payloads: bytes) -> bool:
        sent = super().send_now(*payloads)
        if sent:
            self.together.append(payloads)
        return sent


def test_control_events_that_come_or_wait_together_are_sent_together_and_audio_between_them() -> (
    None
):
    async def main() -> None:
        connector = MemoryConnector()
        noting = _Noting(connector.connect())
        pipe, _ = new_pipe(connector, transport=noting)
        end = connector.streams[0]
        pipe.put(b"prompt")
        pipe.put(b"a", b"b")
        pipe.put_audio(b"11")
        pipe.put(b"c")
        many = tuple(b"d%d" % n for n in range(TOGETHER))
        pipe.put(*many)
        async with asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(received(end))
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.put(b"e", b"f")
            pipe.finish()
        groups = [(b"prompt", b"a", b"b"), (b"audio:11",), (b"c", *many[:-1]), many[-1:]]
        groups.append((b"e", b"f"))
        assert noting.together == groups
        assert sent.result() == [payload for group in groups for payload in group]

    run(main())


def test_between_the_pieces_of_a_history_others_have_their_turn() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        noting = _Noting(connector.connect())
        pipe, _ = new_pipe(connector, transport=noting)
        loop = asyncio.get_running_loop()

        def other() -> None:
            noting.together.append(())
            if not pipe_runs.done():
                loop.call_soon(other)

        history = [b"%d" % n for n in range(3 * TOGETHER)]
        async with asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(received(connector.streams[0]))
            pipe_runs = tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.put(*history)
            pipe.put_audio(b"11")
            assert noting.together == []
            other()
            pipe.finish()
        assert sent.result() == [*history, b"audio:11"]
        pieces = [place for place, piece in enumerate(noting.together) if piece]
        assert [len(noting.together[place]) for place in pieces] == [TOGETHER] * 3 + [1]
        assert all(after - before > 1 for before, after in itertools.pairwise(pieces))

    run(main())


def test_it_says_when_what_was_put_has_been_sent() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        noting = _Noting(connector.connect())
        pipe, _ = new_pipe(connector, transport=noting)
        said: list[int] = []

        def then() -> None:
            said.append(sum(len(piece) for piece in noting.together))

        async with asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(received(connector.streams[0]))
            pipe.put(b"prompt")
            pipe.when_sent(then)
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.when_sent(then)
            assert said == [1]  # never in this very step
            await pass_time(0.1)
            pipe.put(*(b"%d" % n for n in range(2 * TOGETHER)))
            pipe.when_sent(then)
            pipe.put_audio(b"11")
            await pass_time(0.1)
            pipe.finish()
        assert said[:2] == [1, 1]
        assert said[2] >= 1 + 2 * TOGETHER
        assert len(said) == 3
        assert len(sent.result()) == 2 + 2 * TOGETHER

    run(main())


def test_what_the_service_does_not_read_has_not_been_sent() -> None:
    async def main() -> None:
        connector = MemoryConnector(send_s=100.0)
        pipe, _ = new_pipe(connector)
        end = connector.streams[0]
        said: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(received(end))
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.put(b"a")
            end.stop_reading()
            pipe.when_sent(lambda: said.append("sent"))
            await pass_time(1.0)
            assert said == []
            end.resume_reading()
            await pass_time(0.1)
            assert said == ["sent"]
            pipe.finish()
        assert sent.result() == [b"a"]

    run(main())


def test_a_pipe_that_ends_does_not_say_that_it_has_sent() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, _ = new_pipe(connector)
        said: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(received(connector.streams[0]))
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.put(b"a")
            pipe.when_sent(lambda: said.append("sent"))
            pipe.put(b"end")
            pipe.finish()
        assert sent.result() == [b"a", b"end"]
        assert said == []

    run(main())


@pytest.mark.parametrize("turns", range(8))
def test_a_stream_that_breaks_between_the_pieces_of_a_history_is_lost_and_nothing_else(
    turns: int,
) -> None:
    problems: list[dict[str, object]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, problem: problems.append(problem))
        connector = MemoryConnector()
        pipe, noted = new_pipe(connector)
        end = connector.streams[0]
        said: list[str] = []
        end.accept()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.put(*(b"%d" % n for n in range(9 * TOGETHER)))
            pipe.when_sent(lambda: said.append("sent"))
            for _ in range(turns):
                await one_turn_of_the_loop()
            end.fail("validationException", "over max limit")
        assert noted.lost == ["validationException"]
        assert said == []

    run(main())
    assert problems == []


def test_a_long_replay_leaves_in_pieces_even_when_nothing_waits() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, _ = new_pipe(connector, backlog_s=10.0)
        end = connector.streams[0]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            pipe.put_audio(bytes(3 * RATE))
            sent = tasks.create_task(received(end))
            pipe.finish()
        assert [len(payload) for payload in sent.result()] == [len(b"audio:") + RATE] * 3

    run(main())


def test_of_audio_that_nobody_takes_the_oldest_goes_and_is_counted() -> None:
    async def main() -> None:
        connector = MemoryConnector(send_s=100.0)
        pipe, noted = new_pipe(connector, backlog_s=0.5)
        end = connector.streams[0]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            end.stop_reading()
            pipe.put(b"control")
            await pass_time(0.1)
            for n in range(100):  # two seconds
                pipe.put_audio(bytes([n]) * 640)
            pipe.put(b"later")
            end.resume_reading()
            sent = tasks.create_task(received(end))
            await pass_time(0.1)
            pipe.finish()
        control, audio, later = sent.result()
        assert (control, later) == (b"control", b"later")
        assert audio == b"audio:" + b"".join(bytes([n]) * 640 for n in range(75, 100))
        assert noted.dropped == 75 * 640

    run(main())


def test_what_was_queued_before_the_end_is_sent_and_what_the_service_still_says_is_read() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, noted = new_pipe(connector)
        end = connector.streams[0]

        async def service() -> None:
            while await end.receive() is not None:
                pass
            await pass_time(1.0)
            end.send(b"last words")
            end.end()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            tasks.create_task(service())
            await pass_time(0.1)
            pipe.put(b"bye")
            pipe.finish()
        assert noted.payloads == [b"last words"]
        assert noted.lost == []

    run(main())


def test_a_service_that_does_not_end_is_left_after_three_seconds() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, noted = new_pipe(connector)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(1.0)
            pipe.finish()
        assert asyncio.get_running_loop().time() == pytest.approx(4.0)
        assert connector.streams[0].is_closed
        assert noted.lost == []

    run(main())


def test_a_stream_whose_head_has_not_come_is_let_go_at_once() -> None:
    async def main() -> None:
        connector = MemoryConnector(accepts=False)
        pipe, noted = new_pipe(connector)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(1.0)
            pipe.finish()
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        assert connector.streams[0].is_closed
        assert (noted.opened, noted.lost) == (0, [])

    run(main())


def test_a_stream_that_is_finished_before_it_runs_ends_at_once() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, noted = new_pipe(connector)
        pipe.finish()
        await pipe.run()
        assert connector.streams[0].is_closed
        assert noted.lost == []

    run(main())


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("refuse", "ThrottlingException"),
        ("silence", "NoHead"),
        ("fail", "modelTimeoutException"),
        ("end", "Ended"),
        ("block", "SendTimeout"),
    ],
)
def test_a_loss_is_told_once_with_its_code(what: str, code: str) -> None:
    async def main() -> None:
        connector = MemoryConnector(accepts=what not in ("refuse", "silence"))
        pipe, noted = new_pipe(connector)
        end = connector.streams[0]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            match what:
                case "refuse":
                    end.refuse(code)
                case "fail":
                    end.fail(code)
                case "end":
                    end.end()
                case "block":
                    end.stop_reading()
                    pipe.put(b"anybody?")
        assert noted.lost == [code]
        assert end.is_closed

    run(main())


def test_events_that_came_before_a_failure_are_told_before_it() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        pipe, noted = new_pipe(connector)
        end = connector.streams[0]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            end.send(b"one")
            end.send(b"two")
            end.fail("internalServerException")
        assert noted.payloads == [b"one", b"two"]
        assert noted.lost == ["internalServerException"]

    run(main())


def test_a_stream_can_be_cancelled_at_every_await() -> None:
    async def main(turns: int) -> None:
        connector = MemoryConnector()
        pipe, _ = new_pipe(connector)
        pipe.put(b"start")
        pipe.put_audio(b"11")
        task = asyncio.get_running_loop().create_task(pipe.run())
        for turn in range(turns):
            if turn == 8:
                connector.streams[0].send(b"hello")
            if turn == 12:
                pipe.finish()
            await one_turn_of_the_loop()
        task.cancel()
        await asyncio.wait((task,))
        assert connector.streams[0].is_closed

    for turns in range(1, 25):  # before its first turn there is nothing to close
        run(main(turns))


def test_a_failure_in_the_services_words_counts_even_if_the_writer_saw_it_first() -> None:
    async def main() -> None:
        connector = MemoryConnector(send_s=0.5)
        pipe, noted = new_pipe(connector)
        end = connector.streams[0]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pipe.run())
            await pass_time(0.1)
            end.stop_reading()
            pipe.put(b"nobody takes this")
            await pass_time(0.6)
            assert noted.lost == []
            end.fail("ValidationException", "blocked by our content filters")
        assert noted.lost == ["ValidationException"]

    run(main())
