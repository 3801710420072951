"""What is taken and sent without a turn of the loop: the pipes with a network, and those without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect

from opusagent.errors import TransportError
from opusagent.simulators.wire import StreamRequest, StreamWriter
from opusagent.transports import CallerTransport, SonicTransport
from opusagent.transports.http2 import MAX_IN_FLIGHT_BYTES
from opusagent.transports.memory import MemoryConnector, caller_pair
from opusagent.transports.websocket import UNSENT_BYTES, WebSocketServer, connect
from tests.bridges.rig import one_turn_of_the_loop
from tests.transports.rig import Handler, Scripted, run_clean, serving

pytestmark = pytest.mark.integration

type Opened = Callable[[Path], AbstractAsyncContextManager[SonicTransport]]


@asynccontextmanager
async def on_the_wire(directory: Path) -> AsyncIterator[SonicTransport]:
    """A stream to a service that sends everything back; at "fail" it fails, at "end" it ends."""

    def script(_: StreamRequest, writer: StreamWriter) -> Handler:
        handler = Handler(writer, react)
        handler.end_of_input = writer.end  # type: ignore[method-assign]
        return handler

    def react(payload: bytes, writer: StreamWriter) -> None:
        match payload:
            case b"fail":
                writer.fail("ModelStreamErrorException", "on request")
            case b"end":
                writer.end()
            case _:
                writer.send(payload)

    service = Scripted(script)
    async with serving(directory, service) as rig, rig.opened() as stream:
        await stream.head()
        yield stream


@asynccontextmanager
async def in_memory(_: Path) -> AsyncIterator[SonicTransport]:
    """The same without a network."""
    connector = MemoryConnector(send_s=0.5)
    stream = connector.connect()
    (service,) = connector.streams

    async def serve() -> None:
        while (payload := await service.receive()) is not None:
            match payload:
                case b"fail":
                    service.fail("ModelStreamErrorException", "on request")
                case b"end":
                    service.end()
                case _:
                    service.send(payload)
        service.end()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve())
        yield stream
        await stream.close()


@pytest.fixture(params=[on_the_wire, in_memory])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Both kinds of streams, one after the other."""
    kind: Opened = request.param
    return kind


EVENTS = [b"%d" % number * (1 + number * 5) for number in range(100)]


def test_whoever_listens_is_given_every_event_in_order_until_the_end(
    tmp_path: Path, opened: Opened
) -> None:
    async def main() -> None:
        got: list[bytes] = []
        async with opened(tmp_path) as stream, asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.listen(got.append))
            for number, payload in enumerate(EVENTS):
                if number % 2:
                    assert stream.send_now(payload, b"next")
                else:
                    await stream.send(payload, b"next")
            await stream.close_input()
            assert not stream.send_now(b"late")
        assert got == [event for payload in EVENTS for event in (payload, b"next")]

    run_clean(main)


def test_a_bug_of_whoever_listens_is_raised_where_it_waits(tmp_path: Path) -> None:
    def take(_: bytes) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with on_the_wire(tmp_path) as stream, asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(failing(stream))
            await one_turn_of_the_loop()  # it listens
            assert stream.send_now(b"x")
            await listening

    async def failing(stream: SonicTransport) -> None:
        with pytest.raises(ZeroDivisionError):
            await stream.listen(take)

    run_clean(main)


@pytest.mark.parametrize(("last", "code"), [(b"fail", "ModelStreamError"), (b"end", "Ended")])
def test_whoever_listens_learns_of_a_failure_after_what_came_before_and_again(
    tmp_path: Path, opened: Opened, last: bytes, code: str
) -> None:
    async def main() -> None:
        got: list[bytes] = []
        async with opened(tmp_path) as stream:
            for payload in (*EVENTS, last):
                assert stream.send_now(payload)
            for _ in range(2):
                with pytest.raises(TransportError, match=code):
                    await stream.listen(got.append)
        assert got == EVENTS

    run_clean(main)


def test_a_listener_who_goes_takes_nothing_along(tmp_path: Path, opened: Opened) -> None:
    async def main() -> None:
        got: list[bytes] = []
        first = asyncio.Event()

        def take(payload: bytes) -> None:
            got.append(payload)
            first.set()

        async with opened(tmp_path) as stream, asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(stream.listen(take))
            assert stream.send_now(b"heard")
            await first.wait()
            listening.cancel()
            await asyncio.wait((listening,))
            assert stream.send_now(b"kept")
            assert await stream.receive() == b"kept"
            assert got == [b"heard"]

    run_clean(main)


async def fill(stream: SonicTransport) -> int:
    """Send until nothing goes any more (TCP has buffers of its own); returns how many pieces were taken."""
    piece = b"x" * 30_000
    taken = 0
    while True:
        at_once = 0
        while stream.send_now(piece):
            at_once += len(piece)
            taken += 1
            assert at_once < 100 * MAX_IN_FLIGHT_BYTES
        try:
            await stream.send(piece)
        except TransportError:
            return taken
        taken += 1


def test_a_stream_that_cannot_take_more_at_once_says_so_and_sends_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.head()
            (handler,) = service.handlers
            handler.writer.stop_reading()
            taken = await fill(stream)
            handler.writer.resume_reading()
            await handler.has(taken)
            await stream.send(b"last")
            await handler.has(taken + 1)
            assert handler.received[taken:] == [b"last"]

    run_clean(main)


def test_what_was_sent_has_left_when_it_was_flushed(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.head()
            await stream.flush()  # there is nothing to wait for
            (handler,) = service.handlers
            handler.writer.stop_reading()
            assert stream.send_now(b"x" * 80_000)  # more than the window of 64 kB
            assert stream.send_now(b"y")
            flushing = asyncio.ensure_future(stream.flush())
            for _ in range(3):
                await one_turn_of_the_loop()
            assert not flushing.done()
            handler.writer.resume_reading()
            await flushing
            await handler.has(2)

    run_clean(main)


def test_what_a_connection_took_with_it_was_not_sent(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            with pytest.raises(TransportError, match="not open"):
                await rig.transport().flush()
            await stream.head()
            (handler,) = service.handlers
            handler.writer.stop_reading()
            await fill(stream)
            flushing = asyncio.ensure_future(stream.flush())
            await one_turn_of_the_loop()
            handler.writer.abort()
            with pytest.raises(TransportError, match="ConnectionLost"):
                await flushing
            with pytest.raises(TransportError):
                await stream.flush()

    run_clean(main)


def test_a_stream_that_is_not_read_is_not_flushed(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.head()
            (handler,) = service.handlers
            handler.writer.stop_reading()
            await fill(stream)
            with pytest.raises(TransportError, match="SendTimeout"):
                await stream.flush()

    run_clean(main)


def test_a_stream_that_is_not_open_yet_or_not_any_more_takes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted()) as rig:
            stream = rig.transport()
            assert not stream.send_now(b"early")
            await stream.open()
            assert stream.send_now(b"in time")
            await stream.close()
            assert not stream.send_now(b"late")

    run_clean(main)


def test_an_event_is_given_in_the_step_in_which_the_loop_learns_of_it(tmp_path: Path) -> None:
    within: list[object] = []
    came = asyncio.Event()

    def take(_: bytes) -> None:
        within.append(asyncio.current_task())
        came.set()

    async def main() -> None:
        async with on_the_wire(tmp_path) as stream, asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(stream.listen(take))
            await one_turn_of_the_loop()  # it listens
            stream.send_now(b"x")
            await came.wait()
            assert within == [None]  # no task had to be woken
            listening.cancel()

    run_clean(main)


@asynccontextmanager
async def websockets(
    handler: Callable[[CallerTransport], object],
) -> AsyncIterator[str]:
    """A server that gives its websockets to `handler`; gives its URL."""

    async def carry(caller: CallerTransport, *_: object) -> None:
        await handler(caller)  # type: ignore[misc]

    server = WebSocketServer(carry, host="127.0.0.1", port=0, tokens={}, refuse_new=lambda: False)
    port = await server.start()
    try:
        yield f"ws://127.0.0.1:{port}/"
    finally:
        await server.stop()


def parts() -> Iterator[str]:
    """One message in three frames."""
    yield from ("a", "b", "c")


async def say(socket: ClientConnection) -> None:
    """Texts, and between them everything that goes the library's way."""
    await socket.send("1")
    await socket.send(parts())
    await socket.send("2")
    await socket.send(b"\x00\x01")
    await socket.send(parts())
    await socket.send("3")
    await socket.send("4")


def test_every_message_is_given_in_order_whatever_way_it_took() -> None:
    got: list[str | bytes] = []
    over = asyncio.Event()

    async def handler(caller: CallerTransport) -> None:
        await caller.listen(got.append)
        over.set()

    async def main() -> None:
        async with websockets(handler) as url:
            async with ws_connect(url, compression=None, proxy=None) as socket:
                for _ in range(50):
                    await say(socket)
            await over.wait()
        assert got == ["1", "abc", "2", b"\x00\x01", "abc", "3", "4"] * 50

    run_clean(main)


def test_what_came_before_anybody_listened_is_given_first() -> None:
    got: list[str | bytes] = []
    sent, over = asyncio.Event(), asyncio.Event()

    async def handler(caller: CallerTransport) -> None:
        got.append(await caller.recv() or "")
        await sent.wait()
        await caller.listen(got.append)
        over.set()

    async def main() -> None:
        async with websockets(handler) as url:
            async with ws_connect(url, compression=None, proxy=None) as socket:
                for number in range(5):
                    await socket.send(str(number))
                await (await socket.ping())  # all has come
                sent.set()
                for number in range(5, 10):
                    await socket.send(str(number))
            await over.wait()
        assert got == [str(number) for number in range(10)]

    run_clean(main)


def test_a_listener_who_goes_leaves_what_comes_to_the_next_reader() -> None:
    got: list[str | bytes | None] = []
    first, gone, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def take(text: str | bytes) -> None:
        got.append(text)
        first.set()

    async def handler(caller: CallerTransport) -> None:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(caller.listen(take))
            await first.wait()
            listening.cancel()
        gone.set()
        got.append(await caller.recv())
        over.set()

    async def main() -> None:
        async with websockets(handler) as url:
            caller = await connect(url)
            await caller.send("1")
            await gone.wait()
            await caller.send("2")
            await over.wait()
            await caller.close()
        assert got == ["1", "2"]

    run_clean(main)


def test_text_that_is_none_ends_the_socket_and_loses_nothing_before_it() -> None:
    got: list[str | bytes] = []
    over = asyncio.Event()

    async def handler(caller: CallerTransport) -> None:
        await caller.listen(got.append)
        over.set()

    async def main() -> None:
        async with (
            websockets(handler) as url,
            ws_connect(url, compression=None, proxy=None) as socket,
        ):
            await socket.send("well")
            await socket.send(b"\xff\xfe", text=True)
            await over.wait()
            await socket.wait_closed()
            assert socket.close_code == 1007  # invalid payload data (RFC 6455, 7.4.1)
        assert got == ["well"]

    run_clean(main)


def test_a_text_is_given_in_the_step_in_which_it_came() -> None:
    within: list[object] = []
    listens, came = asyncio.Event(), asyncio.Event()

    def take(_: str | bytes) -> None:
        within.append(asyncio.current_task())
        came.set()

    async def handler(caller: CallerTransport) -> None:
        listens.set()
        await caller.listen(take)

    async def main() -> None:
        async with (
            websockets(handler) as url,
            ws_connect(url, compression=None, proxy=None) as socket,
        ):
            await listens.wait()
            for text in ("x", parts(), "y"):
                came.clear()
                await socket.send(text)
                await came.wait()
        at_once, by_the_reader, at_once_again = within
        assert (at_once, at_once_again) == (None, None)
        assert by_the_reader is not None

    run_clean(main)


@asynccontextmanager
async def a_websocket() -> AsyncIterator[tuple[CallerTransport, CallerTransport]]:
    """Both ends of one."""
    ends: asyncio.Queue[CallerTransport] = asyncio.Queue()
    done = asyncio.Event()

    async def handler(caller: CallerTransport) -> None:
        await ends.put(caller)
        await done.wait()

    async with websockets(handler) as url:
        there = await connect(url)
        yield await ends.get(), there
        done.set()
        await there.close()


@asynccontextmanager
async def a_pair() -> AsyncIterator[tuple[CallerTransport, CallerTransport]]:
    yield caller_pair()


type Ends = Callable[[], AbstractAsyncContextManager[tuple[CallerTransport, CallerTransport]]]

BOTH: Mapping[str, Ends] = {"websocket": a_websocket, "memory": a_pair}


@pytest.mark.parametrize("ends", BOTH.values(), ids=BOTH)
def test_a_text_sent_at_once_keeps_its_place_and_a_closed_socket_takes_none(ends: Ends) -> None:
    async def main() -> None:
        got: list[str | bytes] = []
        async with ends() as (one, other), asyncio.TaskGroup() as tasks:
            tasks.create_task(other.listen(got.append))
            texts = [f"{number}" * 50 for number in range(100)]
            for number, text in enumerate(texts):
                if number % 3 or not one.send_now(text):
                    await one.send(text)
            await one.close()
            assert not one.send_now("late")
        assert got == texts

    run_clean(main)


def test_a_socket_that_is_not_read_takes_no_more_at_once_than_it_may_hold() -> None:
    async def main() -> None:
        async with a_websocket() as (one, _):
            text = "x" * 1000
            taken = 0
            while one.send_now(text):
                taken += len(text)
                assert taken < 100 * UNSENT_BYTES
            assert taken >= UNSENT_BYTES

    run_clean(main)
