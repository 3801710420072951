"""Frames: the SDK's own codec and signer are the oracle for ours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from aws_sdk_signers import AsyncEventSigner
from hypothesis import given
from hypothesis import strategies as st
from smithy_aws_event_stream.events import Event, EventHeaderEncoder, EventMessage

from opusagent.errors import RemoteProtocolError
from opusagent.transports.event_stream import (
    ChunkSigner,
    Frame,
    FrameReader,
    chunk_frame,
    client_payload,
    decode_headers,
    encode_frame,
    encode_headers,
    exception_frame,
    unwrap_chunk,
)

CHUNK = {
    ":message-type": "event",
    ":event-type": "chunk",
    ":content-type": "application/json",
}


def read(data: bytes) -> list[Frame]:
    return list(FrameReader().feed(data))


@given(st.binary(max_size=2000))
def test_a_chunk_is_byte_for_byte_what_the_sdk_writes(event: bytes) -> None:
    payload = b'{"bytes":"' + base64.b64encode(event) + b'"}'
    assert chunk_frame(event) == EventMessage(headers=dict(CHUNK), payload=payload).encode()


@given(st.binary(max_size=2000))
def test_the_sdk_reads_what_we_write_and_we_read_it_too(event: bytes) -> None:
    frame = chunk_frame(event)
    theirs = Event.decode(BytesIO(frame))
    assert theirs is not None
    assert theirs.message.headers == CHUNK
    (ours,) = read(frame)
    assert ours.is_chunk
    assert ours.payload == theirs.message.payload
    assert unwrap_chunk(ours.payload) == event


def test_a_chain_of_signatures_is_the_sdks_across_seconds_and_days() -> None:
    moments: list[datetime] = []
    secret = "wJalrXUtnFEMI/K7MDENG"
    first = "ab" * 32

    class Identity:
        access_key_id = "AKIDEXAMPLE"
        secret_access_key = secret
        session_token = None
        expiration = None

    async def theirs() -> list[bytes]:
        signer = AsyncEventSigner(
            initial_signature=first.encode(), event_encoder_cls=EventHeaderEncoder
        )
        frames = []
        for number in range(30):
            message = EventMessage(headers=dict(CHUNK), payload=b"%d" % number)
            signed = await signer.sign(
                event=message,
                identity=Identity(),  # type: ignore[arg-type]
                properties={"region": "us-east-1", "service": "bedrock"},
            )
            date = signed.headers[":date"]
            assert isinstance(date, datetime)
            moments.append(date)
            frames.append(signed.encode())
        last = await signer.sign_empty(
            event=EventMessage(),
            identity=Identity(),  # type: ignore[arg-type]
            properties={"region": "us-east-1", "service": "bedrock"},
        )
        date = last.headers[":date"]
        assert isinstance(date, datetime)
        moments.append(date)
        return [*frames, last.encode()]

    expected = asyncio.run(theirs())
    clock = iter(moments)
    signer = ChunkSigner(
        secret_access_key=secret,
        region="us-east-1",
        service="bedrock",
        first_signature=first,
        utcnow=lambda: next(clock),
    )
    inner = [EventMessage(headers=dict(CHUNK), payload=b"%d" % n).encode() for n in range(30)]
    assert [signer.sign(payload) for payload in [*inner, b""]] == expected


def test_a_signature_after_midnight_uses_the_key_of_the_new_day() -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)

    def signed(*moments: datetime) -> bytes:
        clock = iter(moments)
        signer = ChunkSigner(
            secret_access_key="s",
            region="r",
            service="bedrock",
            first_signature="00" * 32,
            utcnow=lambda: next(clock),
        )
        frame = b""
        for _ in moments:
            frame = signer.sign(b"x")
        return frame

    before, after = midnight - timedelta(seconds=1), midnight + timedelta(seconds=1)
    warm = read(signed(before, after))[0].headers[":chunk-signature"]
    # The same chain, from a signer that has seen only the new day.
    previous = read(signed(before))[0].headers[":chunk-signature"]
    assert isinstance(previous, bytes)
    fresh = ChunkSigner(
        secret_access_key="s",
        region="r",
        service="bedrock",
        first_signature=previous.hex(),
        utcnow=lambda: after,
    )
    assert read(fresh.sign(b"x"))[0].headers[":chunk-signature"] == warm


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(1, 400), max_size=20))
def test_frames_cut_anywhere_are_read_as_if_whole(events: list[bytes], cuts: list[int]) -> None:
    data = b"".join(chunk_frame(event) for event in events)
    reader, got, at = FrameReader(), [], 0
    for cut in [*cuts, len(data) + 1]:
        got += [unwrap_chunk(frame.payload) for frame in reader.feed(data[at : at + cut])]
        at += cut
    assert got == events
    assert not reader.is_inside_frame


@given(st.binary(max_size=200))
def test_junk_only_ever_raises_a_remote_protocol_error(junk: bytes) -> None:
    for attempt in (
        lambda: [client_payload(frame) for frame in FrameReader().feed(junk)],
        lambda: decode_headers(junk),
        lambda: unwrap_chunk(junk),
        lambda: read(encode_frame(junk[:50], junk))[0].is_chunk,
    ):
        with contextlib.suppress(RemoteProtocolError):
            attempt()


@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_wrong_bit_is_noticed(event: bytes, data: st.DataObject) -> None:
    frame = bytearray(chunk_frame(event))
    at = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[at // 8] ^= 1 << at % 8
    with pytest.raises(RemoteProtocolError):
        read(bytes(frame))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"bytes":"YQ==","p":"abcd"}',
        b'{"p":"abcd","bytes":"YQ=="}',
        b'{ "bytes" : "YQ==" }',
        b'{"bytes":"YQ\\u003d\\u003d"}',
    ],
)
def test_padding_other_orders_and_escapes_do_not_matter(payload: bytes) -> None:
    assert unwrap_chunk(payload) == b"a"


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b'{"bytes":1}', b'{"bytes":"!"}'])
def test_a_chunk_without_its_bytes_is_an_error(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unwrap_chunk(payload)


def test_an_exception_frame_is_what_the_sdk_understands() -> None:
    event = Event.decode(BytesIO(exception_frame("validationException", 'a "word"')))
    assert event is not None
    assert event.message.headers[":exception-type"] == "validationException"
    assert json.loads(event.message.payload) == {"message": 'a "word"'}


def test_headers_of_every_type_are_read_over() -> None:
    encoder = EventHeaderEncoder()
    encoder.encode_headers({"b": True, "n": 7, "t": datetime(2026, 1, 1, tzinfo=UTC), "s": "é"})
    headers = decode_headers(encoder.get_result() + encode_headers({"last": "x"}))
    assert headers["b"] is True
    assert headers["s"] == "é"
    assert headers["last"] == "x"
