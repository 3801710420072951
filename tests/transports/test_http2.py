"""The windows of HTTP/2 and the CRT's thread, on the real wire."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from awscrt.http import Http2ClientConnection

from opusagent.errors import TransportError
from opusagent.simulators.wire import StreamRequest, StreamWriter
from opusagent.transports.bedrock import BedrockTransport
from opusagent.transports.http2 import Exchange
from opusagent.transports.http2_connector import Http2Connector
from tests.transports.rig import Handler, Scripted, run_clean, serving

pytestmark = pytest.mark.integration

EVENT = b'{"event":{"sessionStart":{}}}'
BURST = [b"%06d" % number + b"x" * 2000 for number in range(900)]  # 2.4 MB on the wire


def speak(writer: StreamWriter) -> None:
    for payload in BURST:
        writer.send(payload)


def bursting(then: Callable[[StreamWriter], None]) -> Scripted:
    """A service that says much at once when an event comes, and does `then` when the next one comes."""

    def script(_: StreamRequest, writer: StreamWriter) -> Handler:
        acts = iter((speak, then))
        return Handler(writer, lambda *_: next(acts)(writer))

    return Scripted(script)


def test_a_burst_of_many_windows_arrives_whole(tmp_path: Path) -> None:
    async def main() -> None:
        service = bursting(lambda _: None)
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.send(EVENT)
            assert [await stream.receive() for _ in BURST] == BURST

    run_clean(main)


def test_a_reader_that_is_slow_holds_up_nobody_and_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        service = bursting(lambda writer: writer.end())
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.head()
            await stream.send(EVENT)
            await stream.send(EVENT)
            await stream.close_input()
            await service.handlers[0].gone.wait()  # all has been sent, and nobody has read
            assert [await stream.receive() for _ in BURST] == BURST
            assert await stream.receive() is None

    run_clean(main)


async def read_on(stream: BedrockTransport) -> None:
    while True:
        await stream.receive()


@pytest.mark.parametrize(
    "end",
    [lambda writer: writer.reset(0), lambda writer: writer.abort(), lambda writer: writer.end()],
    ids=["reset", "tcp abort", "end"],
)
def test_a_stream_that_ends_in_a_burst_is_closed_quietly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], end: Callable[[StreamWriter], None]
) -> None:
    async def main() -> None:
        async with serving(tmp_path, bursting(end)) as rig, rig.opened() as stream:
            await stream.head()
            await stream.send(EVENT)
            for payload in BURST[:200]:
                assert await stream.receive() == payload
            await stream.send(EVENT)
            with pytest.raises(TransportError):
                await read_on(stream)

    for _ in range(5):
        run_clean(main)
    assert capfd.readouterr().err == ""  # where errors on the CRT's thread would be


class Watched(Exchange):
    """Says whether the CRT's thread still has what an earlier connection left in its state."""

    local = threading.local()

    def __init__(self) -> None:
        super().__init__()
        self.found_mark = False

    def on_connected(self, future: Future[Http2ClientConnection]) -> None:
        self.found_mark = hasattr(self.local, "mark")
        super().on_connected(future)
        self.local.mark = True


def test_the_native_thread_keeps_its_python_state_from_the_first_connection_on(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted()) as rig:
            connector = Http2Connector(ca_file=rig.ca_file, connect_s=2.0)
            first, second = Watched(), Watched()
            for exchange in (first, second):
                connector.connect(exchange, "localhost", rig.server.port)
                await exchange.connected()
                await exchange.close(limit_s=2.0)
            assert second.found_mark

    run_clean(main)
