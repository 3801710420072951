"""The transport on the real AWS SDK, over TLS and HTTP/2 on loopback, on good days and bad."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from opusagent.clock import FakeClock, SystemClock
from opusagent.errors import ConfigError, TransportError
from opusagent.simulators.wire import ConnectionFault, Refusal, StreamRequest, StreamWriter
from opusagent.transports.bedrock import SPARED_S, BedrockConnector, BedrockTransport, Limits
from opusagent.transports.credentials import Credentials, Pinned
from tests.transports.rig import (
    KEYS,
    MODEL,
    Handler,
    Rig,
    Scripted,
    echo,
    run_clean,
    serving,
)

pytestmark = pytest.mark.integration

EVENT = b'{"event":{"sessionStart":{}}}'


async def read_to_the_end(transport: BedrockTransport) -> None:
    while await transport.receive() is not None:
        pass


async def failure_of(transport: BedrockTransport, got: list[bytes] | None = None) -> TransportError:
    """Read until the stream fails; with `got` by listening."""
    with pytest.raises(TransportError) as raised:
        await (read_to_the_end(transport) if got is None else transport.listen(got.append))
    return raised.value


async def begin(stream: BedrockTransport) -> None:
    await stream.open()
    await stream.head()


def refusing(refusal: Refusal) -> Scripted:
    return Scripted(lambda _, __: refusal)


def acting(act: Callable[[StreamWriter], None]) -> Scripted:
    """A service that does one thing when the first event comes."""
    return Scripted(lambda _, writer: Handler(writer, lambda __, to: act(to)))


def test_events_of_every_size_go_both_ways_unaltered_and_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig, rig.opened() as stream:
            sizes = (0, 1, 2, 3, 1000, 16_384, 40_000, 200_000)
            sent = [b'{"n":%d,"x":"%s"}' % (size, b"a" * size) for size in sizes] * 3
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(read(stream))
                for payload in sent:
                    await stream.send(payload)
                await stream.close_input()
            assert reading.result() == sent

    async def read(stream: BedrockTransport) -> list[bytes]:
        got = []
        while (payload := await stream.receive()) is not None:
            got.append(payload)
        return got

    run_clean(main)


def test_a_request_names_the_model_and_is_signed_with_the_key(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted(echo)
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.head()
        (request,) = service.requests
        assert request.model_id == MODEL
        assert request.credential_id == KEYS["AWS_ACCESS_KEY_ID"]
        assert request.headers["content-type"] == "application/vnd.amazon.eventstream"
        assert request.headers["x-amz-content-sha256"] == "STREAMING-AWS4-HMAC-SHA256-EVENTS"

    run_clean(main)


def test_events_may_be_sent_before_the_head_has_come(tmp_path: Path) -> None:
    def slow(_: StreamRequest, writer: StreamWriter) -> Handler:
        writer.hold_head(0.2)
        return Handler(writer, lambda payload, to: to.send(payload))

    async def main() -> None:
        service = Scripted(slow)
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.send(EVENT)
            await stream.head()
            assert await stream.receive() == EVENT

    run_clean(main)


def test_what_the_service_says_after_the_input_has_ended_is_received(tmp_path: Path) -> None:
    def last_words(_: StreamRequest, writer: StreamWriter) -> Handler:
        handler = Handler(writer)

        def say() -> None:
            writer.send(b"last")
            writer.end()

        handler.end_of_input = say  # type: ignore[method-assign]
        return handler

    async def main() -> None:
        async with serving(tmp_path, Scripted(last_words)) as rig, rig.opened() as stream:
            await stream.send(EVENT)
            await stream.close_input()
            await stream.close_input()
            assert await stream.receive() == b"last"
            assert await stream.receive() is None
            assert await stream.receive() is None

    run_clean(main)


def test_sending_after_the_input_was_closed_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig, rig.opened() as stream:
            await stream.close_input()
            with pytest.raises(TransportError, match="Closed"):
                await stream.send(EVENT)

    run_clean(main)


# Before the head


def test_no_credentials_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    def nothing() -> Pinned:
        raise ValueError("none found")

    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig:
            credentials = Credentials(utcnow=SystemClock().utcnow, environ={}, chain=nothing)
            stream = rig.connector(credentials=credentials).connect()
            with pytest.raises(TransportError, match="NoCredentials: none found"):
                await stream.open()
            await stream.close()
        assert rig.service.requests == []

    run_clean(main)


def test_a_refused_connection_is_an_error_of_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig:
            rig.server.stop_listening()
            stream = rig.transport()
            with pytest.raises(TransportError, match="CONNECTION_REFUSED") as raised:
                await stream.open()
            assert raised.value.code == "ConnectionLost"
            await stream.close_input()
            await stream.close()

            await rig.server.listen_again()
            async with rig.opened() as again:
                await again.head()

    run_clean(main)


@pytest.mark.parametrize("fault", [ConnectionFault.TLS, ConnectionFault.DROP])
def test_a_connection_that_fails_in_the_beginning_is_an_error(
    tmp_path: Path, fault: ConnectionFault
) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo, fault=fault)) as rig:
            stream = rig.transport()
            with pytest.raises(TransportError) as raised:
                await begin(stream)
            assert raised.value.code == "ConnectionLost"
            await stream.close()

    run_clean(main)


def test_a_connection_that_is_sent_away_at_once_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo, fault=ConnectionFault.GO_AWAY)) as rig:
            stream = rig.transport()
            with pytest.raises(TransportError) as raised:
                await begin(stream)
            assert raised.value.code in ("ConnectionLost", "NoHead")
            await stream.close()

    run_clean(main)


def test_a_certificate_of_another_authority_is_not_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        other = tmp_path / "other"
        other.mkdir()
        async with serving(tmp_path, Scripted(echo)) as rig, serving(other, Scripted(echo)) as liar:
            stream = Rig(rig.service, liar.server, rig.ca_file).transport()
            # TLS libraries answer a bad certificate late on purpose; our own limit is what counts.
            with pytest.raises(TransportError, match="ConnectionLost"):
                await stream.open()
            await stream.close()
        assert liar.service.requests == []

    run_clean(main)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_ca_file_is_a_configuration_error(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
        make_connector(ca_file=ca_file)


def test_an_endpoint_without_tls_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="must begin with https://"):
        make_connector(endpoint="http://localhost:1")


def make_connector(
    *, ca_file: Path | None = None, endpoint: str = "https://localhost:1"
) -> BedrockConnector:
    clock = FakeClock()
    return BedrockConnector(
        region="us-east-1",
        model_id=MODEL,
        credentials=Credentials(utcnow=clock.utcnow, environ=KEYS),
        utcnow=clock.utcnow,
        endpoint=endpoint,
        ca_file=ca_file,
    )


def test_a_head_that_never_comes_is_an_error_in_time(tmp_path: Path) -> None:
    def mute(_: StreamRequest, writer: StreamWriter) -> Handler:
        writer.hold_head(None)
        return Handler(writer)

    async def main() -> None:
        service = Scripted(mute)
        async with serving(tmp_path, service) as rig:
            async with rig.opened() as stream:
                with pytest.raises(TransportError, match="NoHead"):
                    await stream.head()
            await service.handlers[0].gone.wait()

    run_clean(main)


@pytest.mark.parametrize("leave_open", [False, True], ids=["ended", "left open"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "ValidationException"),
        (403, "AccessDeniedException"),
        (404, "ResourceNotFoundException"),
        (429, "ThrottlingException"),
        (500, "InternalServerException"),
        (503, "ServiceUnavailableException"),
        (418, "NeverHeardOfException"),
    ],
)
def test_a_refusal_gives_its_error_type_and_words(
    tmp_path: Path, status: int, kind: str, *, leave_open: bool
) -> None:
    refusal = Refusal(status, f"{kind}:http://internal/", "Too many.", leave_open=leave_open)

    async def main() -> None:
        async with (
            serving(tmp_path, refusing(refusal)) as rig,
            rig.opened(limits=Limits(head_s=3.0)) as stream,
        ):
            with pytest.raises(TransportError, match=r"Too many\.") as raised:
                await stream.head()
            assert raised.value.code == kind
            with pytest.raises(TransportError, match=kind):
                await stream.receive()
            await stream.close_input()

    run_clean(main)


class _Untold(Credentials):
    """Fails as nobody expects."""

    async def get(self) -> Pinned:
        raise ZeroDivisionError("division by zero")


def test_what_nobody_expects_of_the_sdk_is_an_error_of_the_stream(tmp_path: Path) -> None:
    async def main() -> None:
        utcnow = SystemClock().utcnow
        async with serving(tmp_path, Scripted(echo)) as rig:
            broken = rig.connector(credentials=_Untold(utcnow=utcnow)).connect()
            with pytest.raises(TransportError, match="ZeroDivisionError: division by zero"):
                await broken.open()
            await broken.close()

    run_clean(main)


def test_a_stream_knows_how_long_what_signs_it_is_valid(tmp_path: Path) -> None:
    utcnow = SystemClock().utcnow
    soon = Pinned("AKID", "secret", "token", utcnow() + timedelta(minutes=30))

    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig:
            lasting = rig.connector().connect()
            assert lasting.expires_in_s is None
            await begin(lasting)
            assert lasting.expires_in_s is None
            await lasting.close()
            expiring = rig.connector(
                credentials=Credentials(utcnow=utcnow, environ={}, chain=lambda: soon)
            ).connect()
            await begin(expiring)
            assert expiring.expires_in_s == pytest.approx(1800, abs=30)
            await expiring.close()

    run_clean(main)


# In the stream


@pytest.mark.parametrize("listens", [False, True], ids=["receives", "listens"])
@pytest.mark.parametrize("leave_open", [False, True], ids=["ended", "left open"])
@pytest.mark.parametrize(
    "kind",
    [
        "internalServerException",
        "modelStreamErrorException",
        "modelTimeoutException",
        "serviceUnavailableException",
        "throttlingException",
        "validationException",
        "weirdException",
    ],
)
def test_an_exception_in_the_stream_is_raised_after_what_came_before_it(
    tmp_path: Path, kind: str, *, leave_open: bool, listens: bool
) -> None:
    def act(writer: StreamWriter) -> None:
        writer.send(b"before")
        writer.fail(kind, "InternalErrorCode=532::Timed out", leave_open=leave_open)

    async def main() -> None:
        async with serving(tmp_path, acting(act)) as rig, rig.opened() as stream:
            await stream.send(EVENT)
            got: list[bytes] | None = [] if listens else None
            if got is None:
                assert await stream.receive() == b"before"
            for _ in range(2):
                failure = await failure_of(stream, got)
                assert failure.code == kind
                assert "532" in failure.message
            assert got in (None, [b"before"])

    run_clean(main)


def half_frame(writer: StreamWriter) -> None:
    writer.send_half_frame(b"x" * 100)
    writer.end()


@pytest.mark.parametrize("listens", [False, True], ids=["receives", "listens"])
@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda writer: writer.reset(0), "ConnectionLost"),
        (lambda writer: writer.reset(8), "ConnectionLost"),
        (lambda writer: writer.abort(), "ConnectionLost"),
        (lambda writer: writer.go_away(), "ConnectionLost"),
        (lambda writer: writer.end(), "Ended"),
        (half_frame, "Undecodable"),
        (lambda writer: writer.send_bad_crc(b"x" * 100), "Undecodable"),
    ],
    ids=["reset 0", "reset 8", "tcp abort", "goaway", "bare end", "half frame", "bad checksum"],
)
def test_a_stream_that_breaks_is_an_error_and_can_be_closed(
    tmp_path: Path, act: Callable[[StreamWriter], None], code: str, *, listens: bool
) -> None:
    async def main() -> None:
        async with serving(tmp_path, acting(act)) as rig, rig.opened() as stream:
            await stream.head()
            await stream.send(EVENT)
            for _ in range(2):
                assert (await failure_of(stream, [] if listens else None)).code == code
            await stream.close_input()

    run_clean(main)


def test_sending_to_a_connection_that_is_gone_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        service = acting(lambda writer: writer.abort())
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.send(EVENT)
            await failure_of(stream)
            with pytest.raises(TransportError, match="ConnectionLost"):
                await stream.send(EVENT)

    run_clean(main)


def test_a_service_that_stops_reading_makes_send_fail_in_time_and_only_then(tmp_path: Path) -> None:
    taken: list[bytes] = []

    async def send_for_ever(stream: BedrockTransport, payload: bytes) -> None:
        while True:
            await stream.send(payload)
            taken.append(payload)

    def deaf(_: StreamRequest, writer: StreamWriter) -> Handler:
        writer.stop_reading()
        return Handler(writer)

    async def main() -> None:
        service = Scripted(deaf)
        payload = b"x" * 8000
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            with pytest.raises(TransportError, match="SendTimeout"):
                await send_for_ever(stream, payload)
            sent = len(taken)
            assert 64_000 < sent * len(payload) < 400_000
            service.handlers[0].writer.resume_reading()
            await stream.send(b"after")
            await service.handlers[0].has(sent + 1)
            assert service.handlers[0].received == [payload] * sent + [b"after"]

    run_clean(main)


# Cancellation


def test_a_cancelled_receive_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig, rig.opened() as stream:
            await stream.head()
            got: list[bytes | None] = []
            for number in range(50):
                service.handlers[0].writer.send(b"%d" % number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.0001 * number):  # some before, some after it came
                        got.append(await stream.receive())
            assert 0 < len(got) < 50
            while len(got) < 50:
                got.append(await stream.receive())
            assert got == [b"%d" % number for number in range(50)]

    run_clean(main)


def test_a_cancelled_send_leaves_the_chain_of_signatures_whole(tmp_path: Path) -> None:
    taken: list[bytes] = []

    async def send_for_ever(stream: BedrockTransport, payload: bytes) -> None:
        while True:
            await stream.send(payload)
            taken.append(payload)

    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig, rig.opened(limits=Limits()) as stream:
            await stream.head()
            service.handlers[0].writer.stop_reading()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(send_for_ever(stream, b"x" * 8000), 0.3)
            sent = len(taken)
            service.handlers[0].writer.resume_reading()
            await stream.send(b"after")
            await service.handlers[0].has(sent + 1)
            assert service.handlers[0].received[-1] == b"after"

    run_clean(main)


async def begin_and_wait(stream: BedrockTransport) -> None:
    await begin(stream)
    await stream.receive()


@pytest.mark.parametrize("turns", range(12))
def test_a_caller_who_hangs_up_while_the_stream_opens_leaves_nothing(
    tmp_path: Path, turns: int
) -> None:
    async def main() -> None:
        service = Scripted(echo)
        async with serving(tmp_path, service) as rig:
            stream = rig.transport()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(begin_and_wait(stream), 0.002 * turns)
            await stream.close()
            for handler in service.handlers:
                await handler.gone.wait()

    run_clean(main)


def test_closing_before_the_head_or_before_opening_does_not_hang(tmp_path: Path) -> None:
    def mute(_: StreamRequest, writer: StreamWriter) -> Handler:
        writer.hold_head(None)
        return Handler(writer)

    async def main() -> None:
        async with serving(tmp_path, Scripted(mute)) as rig:
            await rig.transport().close()
            async with rig.opened() as stream:
                await stream.close_input()
            await stream.close()

    run_clean(main)


def test_a_reader_sees_the_end_when_another_task_closes(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted()) as rig, rig.opened() as stream:
            await stream.head()
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(stream.receive())
                tasks.create_task(stream.close())
            assert reading.result() is None

    run_clean(main)


# Several streams


def test_streams_that_open_together_have_a_connection_each_and_fail_alone(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted(echo)
        async with serving(tmp_path, service) as rig:
            connector = rig.connector()
            streams = [connector.connect() for _ in range(5)]
            await asyncio.gather(*(stream.open() for stream in streams))
            await asyncio.gather(*(stream.head() for stream in streams))
            assert rig.server.connections == 5

            await streams[0].send(b"mine")
            assert await streams[0].receive() == b"mine"
            (first,) = (handler for handler in service.handlers if handler.received)
            first.writer.abort()
            assert (await failure_of(streams[0])).code == "ConnectionLost"
            for number, stream in enumerate(streams[1:]):
                await stream.send(b"%d" % number)
                assert await stream.receive() == b"%d" % number
            await asyncio.gather(*(stream.close() for stream in streams))

    run_clean(main)


@pytest.mark.parametrize("when", ["at its head", "later"])
def test_keys_that_the_service_refuses_are_not_shown_to_it_again(tmp_path: Path, when: str) -> None:
    keys = iter(("AKIDFIRST", "AKIDSECOND", "AKIDTHIRD"))

    def refuse_the_first(request: StreamRequest, writer: StreamWriter) -> Handler | Refusal:
        if request.credential_id != "AKIDFIRST":
            return echo(request, writer)
        if when == "at its head":
            return Refusal(403, "ExpiredTokenException", "The security token is expired")
        writer.fail("validationException", "The security token is expired")
        return Handler(writer)

    async def main() -> None:
        service = Scripted(refuse_the_first)
        credentials = Credentials(
            utcnow=SystemClock().utcnow, environ={}, chain=lambda: Pinned(next(keys), "secret")
        )
        async with serving(tmp_path, service) as rig:
            connector = rig.connector(credentials=credentials)
            old, late, new = (connector.connect() for _ in range(3))
            for stream in (old, late):
                await stream.open()
            for stream in (old, late):
                with pytest.raises(TransportError, match="expired"):
                    await stream.receive()
                assert (await credentials.get()).access_key_id == "AKIDSECOND"
            await new.open()
            await new.send(EVENT)
            assert await new.receive() == EVENT
            for stream in (old, late, new):
                await stream.close()

    run_clean(main)


def test_where_streams_run_short_one_that_can_wait_leaves_its_place_to_a_caller_who_has_none(
    tmp_path: Path,
) -> None:
    def full(_: StreamRequest, __: StreamWriter) -> Refusal:
        return Refusal(429, "ThrottlingException", "Too many.")

    async def ask(stream: BedrockTransport) -> None:
        try:
            await stream.open()
            await stream.head()
        finally:
            await stream.close()

    async def main() -> None:
        service, clock = Scripted(full), FakeClock()
        async with serving(tmp_path, service) as rig:
            connector = rig.connector(clock=clock)
            asked = 0
            for after_s, can_wait, words in (
                (0.0, True, "Too many"),
                (0.0, True, "Too many"),  # who can wait costs nobody else the place
                (0.0, False, "Too many"),
                (SPARED_S - 0.01, True, "left to a caller who has no stream"),
                (0.0, False, "Too many"),
                (SPARED_S, True, "Too many"),
            ):
                clock.advance(after_s)
                with pytest.raises(TransportError, match=f"^ThrottlingException: {words}"):
                    await ask(connector.connect(can_wait=can_wait))
                asked += words == "Too many"
                assert len(service.requests) == asked

    run_clean(main)


def test_new_credentials_are_for_new_streams_only(tmp_path: Path) -> None:
    keys = iter(("AKIDFIRST", "AKIDSECOND"))

    async def main() -> None:
        service = Scripted(echo)
        credentials = Credentials(
            utcnow=SystemClock().utcnow, environ={}, chain=lambda: Pinned(next(keys), "secret")
        )
        async with serving(tmp_path, service) as rig:
            connector = rig.connector(credentials=credentials)
            first, second = connector.connect(), connector.connect()
            await first.open()
            credentials.forget(await credentials.get())
            await second.open()
            for stream in (first, second):
                await stream.send(EVENT)
                assert await stream.receive() == EVENT
                await stream.close()
        assert [request.credential_id for request in service.requests] == [
            "AKIDFIRST",
            "AKIDSECOND",
        ]

    run_clean(main)


def test_fifty_streams_leave_no_thread_and_no_file_behind(tmp_path: Path) -> None:
    def counts() -> tuple[int, ...]:
        return tuple(len(list(Path("/proc/self", kind).iterdir())) for kind in ("task", "fd"))

    async def one(connector: BedrockConnector) -> None:
        stream = connector.connect()
        await stream.open()
        await stream.send(EVENT)
        assert await stream.receive() == EVENT
        await stream.close_input()
        assert await stream.receive() is None
        await stream.close()

    async def main() -> None:
        service = Scripted(echo)
        async with serving(tmp_path, service) as rig:
            connector = rig.connector(limits=Limits())
            await one(connector)
            await service.handlers[0].gone.wait()
            before = counts()
            await asyncio.gather(*(one(connector) for _ in range(50)))
            for handler in service.handlers:
                await handler.gone.wait()
            after = counts()
            assert after[0] <= before[0] + 5  # the default executor may have grown
            assert after[1] <= before[1]
        assert len(service.requests) == 51

    run_clean(main)


def test_a_reset_in_the_middle_of_a_send_is_only_ever_a_transport_error(tmp_path: Path) -> None:
    """The CRT's thread may see the end of a stream while we are about to write to it."""

    async def keep_sending(stream: BedrockTransport) -> None:
        while True:
            await stream.send(EVENT)
            await one_turn_of_the_loop()

    async def one_turn_of_the_loop() -> None:
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        await turned.wait()

    async def main() -> None:
        async with serving(tmp_path, acting(lambda writer: writer.reset(0))) as rig:
            for _ in range(20):
                async with rig.opened() as stream:
                    with pytest.raises(TransportError):
                        await keep_sending(stream)

    run_clean(main)
