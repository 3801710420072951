"""What a server received, checked with the SDK's own signer: every event is signed, and in a chain."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from aws_sdk_signers import AsyncEventSigner
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from smithy_aws_event_stream.events import Event, EventHeaderEncoder, EventMessage

from opusagent.clock import SystemClock
from opusagent.transports.bedrock import BedrockConnector
from opusagent.transports.credentials import Credentials
from opusagent.transports.event_stream import Frame, FrameReader
from tests.transports.rig import KEYS, MODEL, run_clean

pytestmark = pytest.mark.integration

REGION = "eu-north-1"
SIGNED_AS = f"/{REGION}/bedrock/aws4_request"


@dataclass
class Received:
    """One request, byte for byte."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class _Server(asyncio.Protocol):
    """Takes one request, keeps all of it, and says nothing but the head and the end."""

    def __init__(self, received: Received) -> None:
        self._received = received
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._h2.initiate_connection()
        self._transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            match event:
                case RequestReceived(stream_id=int(stream)):
                    self._received.headers.update(cast("list[tuple[str, str]]", event.headers))
                    kind = ("content-type", "application/vnd.amazon.eventstream")
                    self._h2.send_headers(stream, [(":status", "200"), kind])
                case DataReceived(stream_id=int(stream)):
                    self._received.body += event.data or b""
                    self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                case StreamEnded(stream_id=int(stream)):
                    self._h2.end_stream(stream)
                    self._received.ended.set()
        self._transport.write(self._h2.data_to_send())


class _Identity:
    access_key_id = KEYS["AWS_ACCESS_KEY_ID"]
    secret_access_key = KEYS["AWS_SECRET_ACCESS_KEY"]
    session_token = None
    expiration = None


async def chain(frames: list[Frame], first: str) -> list[bytes]:
    """The signatures that the SDK gives these events at the times that they bear."""
    at: datetime

    class Dated(EventHeaderEncoder):
        """The signer signs what it takes for the time; here that is when the event was sent."""

        def encode_headers(self, headers: Mapping[str, Any]) -> None:
            super().encode_headers({**headers, ":date": at})

    signer = AsyncEventSigner(initial_signature=first.encode(), event_encoder_cls=Dated)
    signatures = []
    for frame in frames:
        date = frame.headers[":date"]
        assert isinstance(date, bytes)
        at = datetime.fromtimestamp(int.from_bytes(date) / 1000, UTC)
        inner = Event.decode(BytesIO(frame.payload)) if frame.payload else None
        sign = signer.sign if inner is not None else signer.sign_empty
        signed = await sign(
            event=inner.message if inner is not None else EventMessage(),
            identity=_Identity(),  # type: ignore[arg-type]
            properties={
                "region": REGION,
                "service": "bedrock",
                "date": f"{at:%Y%m%dT%H%M%SZ}",
            },
        )
        signature = signed.headers[":chunk-signature"]
        assert isinstance(signature, bytes)
        signatures.append(signature)
    return signatures


def test_the_signatures_of_a_stream_are_the_chain_that_the_sdk_would_have_made(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    events = [b'{"event":{"n":%d,"x":"%s"}}' % (n, b"a" * n**3) for n in range(40)]

    async def main() -> None:
        received = Received()
        server = await asyncio.get_running_loop().create_server(
            lambda: _Server(received), "localhost", 0, ssl=context
        )
        utcnow = SystemClock().utcnow
        async with server:
            stream = BedrockConnector(
                region=REGION,
                model_id=MODEL,
                credentials=Credentials(utcnow=utcnow, environ=KEYS),
                utcnow=utcnow,
                endpoint=f"https://localhost:{server.sockets[0].getsockname()[1]}",
                ca_file=ca_file,
            ).connect()
            await stream.open()
            for event in events:
                await stream.send(event)
            await stream.close_input()
            await received.ended.wait()
            assert await stream.receive() is None
            await stream.close()
        frames = list(FrameReader().feed(bytes(received.body)))
        assert len(frames) == len(events) + 1
        assert not frames[-1].payload  # the signed end
        authorization = received.headers["authorization"]
        assert SIGNED_AS in authorization
        first = authorization.rpartition("Signature=")[2]
        theirs = await chain(frames, first)
        assert [frame.headers[":chunk-signature"] for frame in frames] == theirs
        assert await chain(frames, "0" * 64) != theirs

    run_clean(main)
