"""The local service's wire, judged by clients that are not ours: the SDK as it is, and plain `h2`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aws_sdk_bedrock_runtime.client import AsyncBedrockRuntimeClient
from aws_sdk_bedrock_runtime.config import AsyncBedrockRuntimeConfig
from aws_sdk_bedrock_runtime.models import (
    BidirectionalInputPayloadPart,
    InvokeModelWithBidirectionalStreamInputChunk,
    InvokeModelWithBidirectionalStreamOperationInput,
    ThrottlingException,
    ValidationException,
)
from awscrt import io
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from smithy_http.aio.crt import AWSCRTHTTPClient

from opusagent.simulators.h2_stream import MAX_WAITING_BYTES
from opusagent.simulators.wire import Refusal, StreamRequest, StreamWriter
from opusagent.transports.event_stream import (
    FrameReader,
    chunk_frame,
    encode_frame,
    encode_headers,
    unwrap_chunk,
)
from tests.transports.rig import MODEL, Handler, Rig, Scripted, echo, run_clean, serving

pytestmark = pytest.mark.integration


class TrustingClient(AWSCRTHTTPClient):
    """The SDK's own HTTP client, with the test's authority: it has no setting for one."""

    def __init__(self, ca_file: Path) -> None:
        super().__init__()
        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(None, str(ca_file))
        self._tls_ctx = io.ClientTlsContext(options)

    def __deepcopy__(self, memo: object) -> TrustingClient:
        return self


async def stock_stream(rig: Rig) -> tuple[Any, AsyncBedrockRuntimeClient]:
    """A stream of the SDK, used as documented."""
    config = await AsyncBedrockRuntimeConfig.resolve(
        region="us-east-1",
        endpoint_uri=rig.server.url,
        transport=TrustingClient(rig.ca_file),
        aws_access_key_id="AKIDSTOCK",
        aws_secret_access_key="secret",
    )
    client = AsyncBedrockRuntimeClient(config)
    request = InvokeModelWithBidirectionalStreamOperationInput(model_id=MODEL)
    return await client.invoke_model_with_bidirectional_stream(request), client


def chunk(payload: bytes) -> InvokeModelWithBidirectionalStreamInputChunk:
    return InvokeModelWithBidirectionalStreamInputChunk(
        value=BidirectionalInputPayloadPart(bytes_=payload)
    )


def run(main: Any) -> None:
    """Run without the check for what is left behind: this SDK leaves things behind."""

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


def test_the_sdk_as_it_is_can_hold_a_conversation(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted(echo)
        async with serving(tmp_path, service) as rig:
            stream, client = await stock_stream(rig)
            payloads = [b'{"n":%d,"x":"%s"}' % (n, b"a" * n) for n in (0, 100, 20_000, 150_000)]
            for payload in payloads:
                await stream.input_stream.send(chunk(payload))
            _, output = await stream.await_output()
            got = [(await output.receive()).value.bytes_ for _ in payloads]
            assert got == payloads
            await stream.input_stream.close()
            assert await output.receive() is None
            await client.close()
        assert service.requests[0].credential_id == "AKIDSTOCK"

    run(main)


def test_the_sdk_understands_refusals_and_exceptions(tmp_path: Path) -> None:
    answers = iter((True, False))

    def script(_: StreamRequest, writer: StreamWriter) -> Handler | Refusal:
        if next(answers):
            return Refusal(429, "ThrottlingException", "slow down")
        return Handler(writer, lambda _, to: to.fail("validationException", "wrong order"))

    async def main() -> None:
        async with serving(tmp_path, Scripted(script)) as rig:
            refused, first = await stock_stream(rig)
            with pytest.raises(ThrottlingException, match="slow down") as throttled:
                await refused.await_output()
            assert throttled.value.response_metadata.request_id
            failing, second = await stock_stream(rig)
            await failing.input_stream.send(chunk(b"{}"))
            _, output = await failing.await_output()
            with pytest.raises(ValidationException, match="wrong order"):
                await output.receive()
            for client in (first, second):
                await client.close()

    run(main)


class PlainClient:
    """A client on `h2` that sends what it is told to, and reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.frames = FrameReader()

    def request(self, path: str, *, method: str = "POST") -> None:
        self.h2.initiate_connection()
        headers = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ]
        self.h2.send_headers(1, headers)
        self.flush()  # asyncio sends it with what is written next, in one packet

    def send(self, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(1, data, end_stream=end)
        self.flush()

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    async def events(self) -> list[Event]:
        data = await self._reader.read(65536)
        events: list[Event] = self.h2.receive_data(data)
        self.flush()
        return events

    async def until[T: Event](self, kind: type[T]) -> T:
        while True:
            for event in await self.events():
                if isinstance(event, kind):
                    return event

    async def payloads(self, count: int) -> list[bytes]:
        got: list[bytes] = []
        while len(got) < count:
            for event in await self.events():
                if isinstance(event, DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, 1)
                    got += [
                        unwrap_chunk(frame.payload) for frame in self.frames.feed(event.data or b"")
                    ]
            self.flush()
        return got


@asynccontextmanager
async def plain(rig: Rig) -> AsyncIterator[PlainClient]:
    context = ssl.create_default_context(cafile=rig.ca_file)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("localhost", rig.server.port, ssl=context)
    try:
        yield PlainClient(reader, writer)
    finally:
        writer.transport.abort()


PATH = f"/model/{MODEL.replace(':', '%3A')}/invoke-with-bidirectional-stream"


def test_single_frames_without_signatures_are_understood_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig, plain(rig) as client:
            client.request(PATH)
            client.send(chunk_frame(b"one") + chunk_frame(b"two")[:30])
            client.send(chunk_frame(b"two")[30:])
            assert await client.payloads(2) == [b"one", b"two"]

    run_clean(main)


def test_a_frame_that_is_no_chunk_gets_the_services_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig, plain(rig) as client:
            client.request(PATH)
            client.send(encode_frame(encode_headers({":event-type": "pie"}), b"{}"))
            data = await client.until(DataReceived)
            (frame,) = client.frames.feed(data.data or b"")
            assert frame.headers[":exception-type"] == "validationException"
            assert "Unable to parse input chunk" in json.loads(frame.payload)["message"]

    run_clean(main)


@pytest.mark.parametrize(
    ("path", "method"), [("/model/x/invoke", "POST"), ("/", "POST"), (PATH, "GET")]
)
def test_other_requests_are_not_found(tmp_path: Path, path: str, method: str) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig, plain(rig) as client:
            client.request(path, method=method)
            response = await client.until(ResponseReceived)
            fields: dict[Any, Any] = dict(response.headers or [])
            assert fields[":status"] == "404"

    run_clean(main)


def test_a_client_that_does_not_read_is_reset_before_much_has_piled_up(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig, plain(rig) as client:
            client.request(PATH)
            await client.until(ResponseReceived)
            (handler,) = service.handlers
            sent = 0
            while not handler.gone.is_set():
                handler.writer.send(b"x" * 10_000)
                sent += 10_000
            assert MAX_WAITING_BYTES / 2 < sent < MAX_WAITING_BYTES
            await client.until(StreamReset)

    run_clean(main)


def test_a_handler_hears_once_that_its_stream_is_gone_however_it_went(tmp_path: Path) -> None:
    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig:
            for leave in ("abort", "reset", "both ends"):
                async with plain(rig) as client:
                    client.request(PATH)
                    await client.until(ResponseReceived)
                    handler = service.handlers[-1]
                    match leave:
                        case "reset":
                            client.h2.reset_stream(1)
                            client.flush()
                            await handler.gone.wait()
                        case "both ends":
                            client.send(b"", end=True)
                            await handler.ended.wait()
                            handler.writer.end()
                            await client.until(StreamEnded)
                            await handler.gone.wait()
                await handler.gone.wait()
                handler.writer.send(b"into the void")
                handler.writer.fail("validationException", "too late")
                handler.writer.reset()
        assert len(service.handlers) == 3

    run_clean(main)


def test_a_reset_in_the_same_packet_as_its_request_harms_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        came = asyncio.Event()

        def script(request: StreamRequest, writer: StreamWriter) -> Handler:
            came.set()
            return echo(request, writer)

        service = Scripted(script)
        async with serving(tmp_path, service) as rig:
            async with plain(rig) as hasty:
                hasty.request(PATH)
                hasty.h2.reset_stream(1)
                hasty.flush()
                await came.wait()
                await service.handlers[0].gone.wait()
            async with plain(rig) as patient:
                patient.request(PATH)
                patient.send(chunk_frame(b"fine"))
                assert await patient.payloads(1) == [b"fine"]

    run_clean(main)


def test_a_client_without_http2_is_cut_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, Scripted(echo)) as rig:
            context = ssl.create_default_context(cafile=rig.ca_file)
            reader, writer = await asyncio.open_connection(
                "localhost", rig.server.port, ssl=context
            )
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.transport.abort()
        assert rig.service.requests == []

    run_clean(main)
