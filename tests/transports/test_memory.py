"""The pipes without a network keep the promises of the real ones."""

from __future__ import annotations

import asyncio

import pytest

from opusagent.errors import TransportError
from opusagent.transports.memory import MemoryConnector, caller_pair
from tests.transports.rig import run_clean


def test_a_stream_carries_events_both_ways_and_ends_when_asked() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        stream = connector.connect()
        (service,) = connector.streams
        await stream.open()
        await stream.head()
        await stream.send(b"one")
        service.send(b"two")
        assert await service.receive() == b"one"
        assert await stream.receive() == b"two"
        await stream.close_input()
        assert await service.receive() is None
        service.send(b"last")
        service.end()
        assert [await stream.receive(), await stream.receive()] == [b"last", None]
        with pytest.raises(TransportError, match="Closed"):
            await stream.send(b"late")
        await stream.close()
        assert service.is_closed

    run_clean(main)


def test_refusals_silence_failures_and_bare_ends_are_errors() -> None:
    async def main() -> None:
        connector = MemoryConnector(accepts=False, head_s=0.05, send_s=0.05)
        mute, refused, failing, ending, deaf = (connector.connect() for _ in range(5))
        services = connector.streams
        with pytest.raises(TransportError, match="NoHead"):
            await mute.head()
        services[1].refuse("ThrottlingException", "slow down")
        with pytest.raises(TransportError, match="ThrottlingException: slow down"):
            await refused.head()
        services[2].send(b"before")
        services[2].fail("validationException", "wrong order")
        assert await failing.receive() == b"before"
        for _ in range(2):
            with pytest.raises(TransportError, match="wrong order"):
                await failing.receive()
        services[3].end()
        with pytest.raises(TransportError, match="Ended"):
            await ending.receive()
        services[4].stop_reading()
        assert not deaf.send_now(b"x")
        with pytest.raises(TransportError, match="SendTimeout"):
            await deaf.send(b"x")
        services[4].resume_reading()
        await deaf.send(b"y")
        assert await services[4].receive() == b"y"

    run_clean(main)


def test_a_cancelled_receive_loses_nothing() -> None:
    async def main() -> None:
        connector = MemoryConnector()
        stream = connector.connect()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await stream.receive()
        connector.streams[0].send(b"kept")
        assert await stream.receive() == b"kept"

    run_clean(main)


def test_both_ends_of_a_socket_see_it_close() -> None:
    async def main() -> None:
        one, other = caller_pair()
        await one.send("hello")
        await one.close(1012, "restart")
        assert await other.recv() == "hello"
        assert await other.recv() is None
        assert other.closed_with == (1012, "restart")
        with pytest.raises(TransportError, match="ConnectionLost"):
            await other.send("late")
        await other.close()
        assert await one.recv() is None

    run_clean(main)
