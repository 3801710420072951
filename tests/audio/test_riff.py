from __future__ import annotations

import io
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.formats import Encoding, MediaFormat
from opusagent.audio.riff import header_length, pcm_header, read_wav, stream_header

WAV = [one for one in MediaFormat if one.is_wav]


@pytest.mark.parametrize("media_format", WAV)
def test_a_stream_header_says_what_the_format_is(media_format: MediaFormat) -> None:
    wav = read_wav(stream_header(media_format) + b"abcd")
    assert wav.rate_hz == media_format.sample_rate_hz
    assert wav.channels == 1
    assert wav.bits == (8 if media_format.encoding is Encoding.MULAW else 16)
    assert wav.format_tag == (7 if media_format.encoding is Encoding.MULAW else 1)
    assert wav.samples == b"abcd"


def test_a_file_of_the_standard_library_is_read() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(b"abcd")
    assert read_wav(file.getvalue()).samples == b"abcd"
    assert header_length(file.getvalue()) == 44


@pytest.mark.parametrize("media_format", WAV)
def test_a_header_is_known_with_its_last_byte_and_not_before(media_format: MediaFormat) -> None:
    header = stream_header(media_format)
    assert [header_length(header[:n]) for n in range(len(header))] == [None] * len(header)
    assert header_length(header) == len(header)
    assert header_length(header + b"more") == len(header)


@pytest.mark.parametrize("data", [b"X", b"RIFX", b"RIFF\0\0\0\0AVI ", b"RIFF\0\0\0\0WAX"])
def test_what_is_no_header_is_known_at_its_first_wrong_byte(data: bytes) -> None:
    assert header_length(data) == 0


@given(st.binary(max_size=6_000), st.integers(min_value=0, max_value=6_000))
def test_more_bytes_never_change_what_was_known(tail: bytes, n: int) -> None:
    data = b"RIFF\0\0\0\0WAVE" + tail
    early = header_length(data[:n])
    assert early is None or early == header_length(data)


def test_a_header_with_its_size_is_what_the_standard_library_writes() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(24_000)
        writer.writeframes(bytes(400))
    assert pcm_header(24_000, channels=2, n_bytes=400) == file.getvalue()[:44]


def test_a_sound_longer_than_the_format_can_say_still_has_a_header() -> None:
    header = pcm_header(24_000, channels=2, n_bytes=2**33)
    assert read_wav(header + b"abcd").samples == b"abcd"
