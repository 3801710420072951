"""Frames of `application/vnd.amazon.eventstream`, as Bedrock's bidirectional streams use them.

    frame    total length 4 | header length 4 | CRC 4 | headers | payload | CRC 4      (big endian)
    client   frame(:date, :chunk-signature; payload = frame(chunk))                    signed, doubled
    service  frame(chunk)                                                              single
    chunk    :message-type=event, :event-type=chunk, payload {"bytes": "<base64 of one JSON event>"}

This is the hot path of a call: 50 frames a second each way. What never changes between two frames
(headers, the signing key of the day) is made once. The SDK's own codec is the oracle in the tests.

Source: AWS SDK for Python 0.12 (smithy-aws-event-stream 0.3, aws-sdk-signers 0.4).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64, crc32
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from struct import Struct
from typing import Final

from opusagent.errors import RemoteProtocolError

__all__ = [
    "MAX_FRAME_BYTES",
    "ChunkSigner",
    "Frame",
    "FrameReader",
    "chunk_frame",
    "client_payload",
    "decode_headers",
    "encode_frame",
    "encode_headers",
    "exception_frame",
    "unwrap_chunk",
]

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""A frame that says it is longer is a broken one. AWS's own limit is 24 MB for a payload."""

_PRELUDE: Final = Struct("!III")
_LENGTHS: Final = Struct("!II")
_INT64: Final = Struct("!q")
_OVERHEAD: Final = 16
_STRING: Final = 7
_BYTES: Final = 6
_SIZED: Final = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_CHUNK_PREFIX: Final = b'{"bytes":"'
_DATE_PREFIX: Final = b"\x05:date\x08"
_SIGNATURE_PREFIX: Final = b"\x10:chunk-signature\x06\x00\x20"

type HeaderValue = str | bytes | bool


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Give the bytes of headers with string values, in the order of the mapping."""
    parts: list[bytes] = []
    for name, value in headers.items():
        key, text = name.encode(), value.encode()
        parts += (bytes((len(key),)), key, bytes((_STRING,)), len(text).to_bytes(2), text)
    return b"".join(parts)


def decode_headers(data: bytes) -> dict[str, HeaderValue]:
    """Read the headers of one frame. Numbers, times and UUIDs are given as their raw bytes.

    Raises:
        RemoteProtocolError: If they are cut short or of an unknown type.
    """
    found: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(data):
            start = at + 1
            at = start + data[at]
            name, kind = data[start:at].decode(), data[at]
            at += 1
            if kind in (0, 1):
                found[name] = kind == 0
                continue
            if kind in (_STRING, _BYTES):
                size = int.from_bytes(data[at : at + 2])
                at += 2
            else:
                size = _SIZED[kind]
            value = data[at : at + size]
            if len(value) < size:
                raise RemoteProtocolError(wire="sonic", got="a frame header cut short")
            at += size
            found[name] = value.decode() if kind == _STRING else value
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(wire="sonic", got="unreadable frame headers") from error
    return found


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose checksums were right. `raw_headers` is read only where it is looked at."""

    raw_headers: bytes
    payload: bytes

    @property
    def headers(self) -> dict[str, HeaderValue]:
        """The headers, decoded anew at each use."""
        return decode_headers(self.raw_headers)

    @property
    def is_chunk(self) -> bool:
        """Whether this is the common frame, an event `chunk`; the usual header order is quick."""
        if self.raw_headers in _CHUNK_HEADERS:
            return True
        headers = self.headers
        return headers.get(":message-type") == "event" and headers.get(":event-type") == "chunk"


class FrameReader:
    """Cuts received bytes into frames. Holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_inside_frame(self) -> bool:
        """Whether the bytes so far end in the middle of a frame."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Give the frames that are complete now.

        The iterator must be used up before the next call.

        Raises:
            RemoteProtocolError: If a checksum or a length is wrong; nothing after it can be read.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        while end - at >= _OVERHEAD:
            total, header_length, prelude_crc = _PRELUDE.unpack_from(data, at)
            if crc32(data[at : at + 8]) != prelude_crc:
                raise RemoteProtocolError(wire="sonic", got="a frame with a bad prelude checksum")
            if not _OVERHEAD + header_length <= total <= MAX_FRAME_BYTES:
                raise RemoteProtocolError(wire="sonic", got="a frame with an impossible length")
            if end - at < total:
                break
            checked = at + total - 4
            if crc32(memoryview(data)[at:checked]) != int.from_bytes(data[checked : checked + 4]):
                raise RemoteProtocolError(wire="sonic", got="a frame with a bad checksum")
            body = at + 12
            at += total
            yield Frame(data[body : body + header_length], data[body + header_length : checked])
        self._rest = data[at:] if at < end else b""


def encode_frame(headers: bytes, payload: bytes) -> bytes:
    """Give one whole frame, checksums included. `headers` come from `encode_headers`."""
    lengths = _LENGTHS.pack(_OVERHEAD + len(headers) + len(payload), len(headers))
    prelude_crc = crc32(lengths)
    prelude = lengths + prelude_crc.to_bytes(4)
    crc = crc32(payload, crc32(headers, crc32(prelude)))
    return b"".join((prelude, headers, payload, crc.to_bytes(4)))


CHUNK_HEADERS: Final = encode_headers(
    {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}
)
_CHUNK_HEADERS: Final = frozenset(
    {
        CHUNK_HEADERS,
        encode_headers(
            {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
        ),
    }
)


def chunk_frame(event: bytes) -> bytes:
    """Wrap one JSON event the way both sides do before (the client) any signing."""
    return encode_frame(CHUNK_HEADERS, _CHUNK_PREFIX + b2a_base64(event, newline=False) + b'"}')


def exception_frame(exception_type: str, message: str) -> bytes:
    """Give the frame with which the service ends a stream, e.g. `validationException`."""
    headers = {
        ":message-type": "exception",
        ":exception-type": exception_type,
        ":content-type": "application/json",
    }
    return encode_frame(encode_headers(headers), json.dumps({"message": message}).encode())


def unwrap_chunk(payload: bytes) -> bytes:
    """Give the JSON event inside the payload of a `chunk`; other keys (padding) are ignored.

    Raises:
        RemoteProtocolError: If the payload is not such an object.
    """
    if payload.startswith(_CHUNK_PREFIX):
        end = payload.find(b'"', len(_CHUNK_PREFIX))
        try:
            return a2b_base64(memoryview(payload)[len(_CHUNK_PREFIX) : end], strict_mode=True)
        except Base64Error:
            pass  # escapes inside the string: the slow way knows them
    try:
        return a2b_base64(json.loads(payload)["bytes"], strict_mode=True)
    except (ValueError, KeyError, TypeError) as error:
        raise RemoteProtocolError(wire="sonic", got="a chunk without its bytes") from error


def client_payload(frame: Frame) -> bytes | None:
    """Give the JSON event in a client's frame, doubled and signed or single; None for its last one.

    Raises:
        RemoteProtocolError: If it holds anything but one chunk.
    """
    if b":chunk-signature" in frame.raw_headers:
        if not frame.payload:
            return None
        inner = tuple(FrameReader().feed(frame.payload))
        if len(inner) != 1:
            raise RemoteProtocolError(wire="sonic", got="a signed frame without one frame in it")
        frame = inner[0]
    if not frame.is_chunk:
        raise RemoteProtocolError(wire="sonic", got="a client frame that is no chunk")
    return unwrap_chunk(frame.payload)


class ChunkSigner:
    """Signs the frames of one stream with Signature Version 4; each signature covers the last one.

    Frames must be sent in the order in which they were signed. The key must be the one that signed
    the request, for the whole life of the stream.
    """

    def __init__(
        self,
        *,
        secret_access_key: str,
        region: str,
        service: str,
        first_signature: str,
        utcnow: Callable[[], datetime],
    ) -> None:
        """Start a chain at `first_signature`, the hex signature of the request itself."""
        self._secret = b"AWS4" + secret_access_key.encode()
        self._region = region
        self._service = service
        self._signature = first_signature
        self._utcnow = utcnow
        self._millisecond = -1
        self._date = b""
        self._date_hash = ""
        self._second = -1
        self._day = ""
        self._mac = hmac.new(b"", digestmod="sha256")
        self._preamble = ""

    def sign(self, payload: bytes) -> bytes:
        """Give the outer frame around `payload`. An empty payload is the end of the input."""
        now = self._utcnow()
        milliseconds = int(now.timestamp() * 1000)
        if milliseconds != self._millisecond:
            self._millisecond = milliseconds
            if milliseconds // 1000 != self._second:
                self._enter_second(now, milliseconds // 1000)
            self._date = _DATE_PREFIX + _INT64.pack(milliseconds)
            self._date_hash = hashlib.sha256(self._date).hexdigest()
        text = (
            f"{self._preamble}{self._signature}\n{self._date_hash}\n"
            f"{hashlib.sha256(payload).hexdigest()}"
        )
        # Not `hmac.digest`: that lets go of the GIL, and the CRT's thread is often waiting for it.
        mac = self._mac.copy()
        mac.update(text.encode())
        signature = mac.digest()
        self._signature = signature.hex()
        return encode_frame(self._date + _SIGNATURE_PREFIX + signature, payload)

    def _enter_second(self, now: datetime, second: int) -> None:
        self._second = second
        stamp = f"{now:%Y%m%dT%H%M%SZ}"
        day = stamp[:8]
        if day != self._day:
            self._day = day
            key = self._secret
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._mac = hmac.new(key, digestmod="sha256")
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        self._preamble = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n"
