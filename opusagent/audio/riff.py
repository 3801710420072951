"""RIFF/WAVE headers: reading one that may arrive in pieces, and writing one for a stream."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from opusagent.audio.formats import Encoding, MediaFormat

__all__ = [
    "ALAW_TAG",
    "MULAW_TAG",
    "PCM_TAG",
    "Wav",
    "header_length",
    "pcm_header",
    "read_wav",
    "stream_header",
]

PCM_TAG: Final = 1
ALAW_TAG: Final = 6
MULAW_TAG: Final = 7
_EXTENSIBLE_TAG: Final = 0xFFFE
_UNKNOWN_SIZE: Final = 0xFFFFFFFF
_MAX_HEADER_BYTES: Final = 4_096
"""A header that has not come to its samples by then is taken for samples."""


@dataclass(frozen=True, slots=True)
class Wav:
    """A WAV file: what its `fmt ` chunk says, and its samples."""

    format_tag: int
    channels: int
    rate_hz: int
    bits: int
    samples: bytes


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Id, offset of the content and stated size of each chunk, up to and including `data`."""
    found = []
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        found.append((name, at + 8, size))
        if name == b"data":
            break
        at += 8 + size + (size & 1)
    return found


def header_length(data: bytes) -> int | None:
    """Where the samples begin in a stream that begins with `data`.

    Returns:
        0 if `data` is no RIFF header, None if more bytes are needed to know.
    """
    if not data.startswith(b"RIFF"[: len(data)]) or not data[8:].startswith(
        b"WAVE"[: max(0, len(data) - 8)]
    ):
        return 0
    head = data[:_MAX_HEADER_BYTES]
    chunks = _chunks(head)
    if chunks and chunks[-1][0] == b"data":
        return chunks[-1][1]
    return 0 if len(data) >= _MAX_HEADER_BYTES else None


def stream_header(media_format: MediaFormat) -> bytes:
    """A RIFF header for sound whose length is not known yet (both sizes are 0xFFFFFFFF)."""
    mulaw = media_format.encoding is Encoding.MULAW
    rate, width = media_format.sample_rate_hz, 1 if mulaw else 2
    tag = MULAW_TAG if mulaw else PCM_TAG
    fmt = struct.pack("<HHIIHH", tag, 1, rate, rate * width, width, width * 8)
    if mulaw:
        fmt += b"\0\0"  # every encoding but PCM states the size of its extension
    return b"".join(
        (
            struct.pack("<4sI4s4sI", b"RIFF", _UNKNOWN_SIZE, b"WAVE", b"fmt ", len(fmt)),
            fmt,
            struct.pack("<4sI", b"data", _UNKNOWN_SIZE),
        )
    )


def pcm_header(rate_hz: int, *, channels: int, n_bytes: int) -> bytes:
    """The 44 bytes before `n_bytes` of 16-bit PCM. More than the format can say (4 GiB) reads as its most."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", min(n_bytes + 36, _UNKNOWN_SIZE), b"WAVE", b"fmt ", 16),
        *(PCM_TAG, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16),
        *(b"data", min(n_bytes, _UNKNOWN_SIZE)),
    )


def read_wav(data: bytes) -> Wav:
    """The content of a WAV file. A `data` chunk longer than the file ends with the file.

    Raises:
        ValueError: If it is not a WAV file or has no sound, in words.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("not a WAV file")
    chunks = {name: (at, size) for name, at, size in reversed(_chunks(data))}
    if b"fmt " not in chunks or len(data) < chunks[b"fmt "][0] + 16:
        raise ValueError("the WAV file does not say what its sound is like (no fmt chunk)")
    if b"data" not in chunks:
        raise ValueError("the WAV file has no sound (no data chunk)")
    at, size = chunks[b"fmt "]
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at)
    if tag == _EXTENSIBLE_TAG and size >= 26 and len(data) >= at + 26:
        (tag,) = struct.unpack_from("<H", data, at + 24)
    start, length = chunks[b"data"]
    # Tools that write to a pipe cannot go back and leave the size 0.
    samples = data[start : start + length] if length else data[start:]
    return Wav(tag, channels, rate, bits, samples)
