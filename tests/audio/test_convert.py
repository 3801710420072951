from __future__ import annotations

import array
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opusagent.audio.convert import Decoder, Encoder, load_wav, resample
from opusagent.audio.formats import MediaFormat
from opusagent.audio.riff import stream_header

RAW = [one for one in MediaFormat if not one.is_wav]
WAV = [one for one in MediaFormat if one.is_wav]
# G.711 Table 2/3: code words and the values that 16-bit decoders give them.
G711_VECTORS = {
    0x00: -32124,
    0x01: -31100,
    0x0F: -16764,
    0x10: -15996,
    0x3F: -1980,
    0x70: -120,
    0x7E: -8,
    0x7F: 0,
    0x80: 32124,
    0x8F: 16764,
    0xEF: 132,
    0xF0: 120,
    0xFE: 8,
    0xFF: 0,
}
# G.711 Table 6: 1 kHz at 0 dBm0.
MILLIWATT = bytes([0x1E, 0x0B, 0x0B, 0x1E, 0x9E, 0x8B, 0x8B, 0x9E])


def pcm_of(*samples: int) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def samples_of(pcm: bytes) -> list[int]:
    return [value for (value,) in struct.iter_unpack("<h", pcm)]


def by_the_standard(code: int) -> int:
    """G.711 mu-law expansion, written from the recommendation: the oracle."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces, cut at `cuts` modulo its length; some are empty."""
    at = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


cuts = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


def test_mulaw_is_decoded_as_g711_says() -> None:
    decoded = samples_of(Decoder(MediaFormat.MULAW_8K).feed(bytes(range(256))))
    assert decoded == [by_the_standard(code) for code in range(256)]
    assert {code: decoded[code] for code in G711_VECTORS} == G711_VECTORS


def test_the_digital_milliwatt_of_g711_is_a_sine_of_1_khz() -> None:
    decoded = samples_of(Decoder(MediaFormat.MULAW_8K).feed(MILLIWATT))
    assert decoded == [-8828, -20860, -20860, -8828, 8828, 20860, 20860, 8828]


def test_every_mulaw_code_survives_decoding_and_encoding() -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # 0x7F is a second zero
    pcm = Decoder(MediaFormat.MULAW_8K).feed(codes)
    assert Encoder(MediaFormat.MULAW_8K).feed(pcm) == codes


@given(st.integers(min_value=-32_124, max_value=32_124))
def test_mulaw_encoding_takes_one_of_the_two_nearest_steps(sample: int) -> None:
    code = Encoder(MediaFormat.MULAW_8K).feed(pcm_of(sample))[0]
    step = 8 << (7 - ((code & 0x70) >> 4))
    assert abs(by_the_standard(code) - sample) <= step


@pytest.mark.parametrize("media_format", [MediaFormat.LPCM16_16K, MediaFormat.LPCM16_24K])
def test_whole_pcm_passes_without_a_copy(media_format: MediaFormat) -> None:
    chunk = bytes(5_120)
    assert Decoder(media_format).feed(chunk) is chunk
    assert Encoder(media_format).feed(chunk) is chunk


def test_half_a_sample_waits_for_its_other_half() -> None:
    decoder = Decoder(MediaFormat.LPCM16_16K)
    assert decoder.feed(b"\x01") == b""
    assert decoder.feed(b"\x02\x03") == b"\x01\x02"
    assert decoder.feed(b"\x04") == b"\x03\x04"


@pytest.mark.parametrize("media_format", RAW)
@given(data=st.binary(max_size=2_000), cuts=cuts)
def test_decoding_in_chunks_equals_decoding_at_once(
    media_format: MediaFormat, data: bytes, cuts: list[int]
) -> None:
    decoder = Decoder(media_format)
    in_chunks = b"".join(decoder.feed(piece) for piece in cut(data, cuts))
    assert in_chunks == Decoder(media_format).feed(data)


@pytest.mark.parametrize("media_format", MediaFormat)
@given(data=st.binary(max_size=2_000), cuts=cuts)
def test_encoding_in_chunks_equals_encoding_at_once(
    media_format: MediaFormat, data: bytes, cuts: list[int]
) -> None:
    encoder = Encoder(media_format)
    in_chunks = b"".join(encoder.feed(piece) for piece in cut(data, cuts))
    assert in_chunks == Encoder(media_format).feed(data)


@pytest.mark.parametrize("media_format", WAV)
@given(
    data=st.binary(max_size=2_000),
    extra=st.binary(max_size=300),
    cuts=cuts,
)
def test_a_wav_header_is_cut_off_however_it_is_split(
    media_format: MediaFormat, data: bytes, extra: bytes, cuts: list[int]
) -> None:
    header = stream_header(media_format)
    listed = struct.pack("<4sI", b"LIST", len(extra)) + extra + b"\0" * (len(extra) % 2)
    stream = header[:-8] + listed + header[-8:] + data
    pieces = cut(stream, cuts)
    assume(not any(piece.startswith(b"RIFF") for piece in pieces[1:]))
    decoder = Decoder(media_format)
    raw = Decoder(MediaFormat(media_format.replace("wav/", "raw/")))
    assert b"".join(decoder.feed(piece) for piece in pieces) == raw.feed(data)


@pytest.mark.parametrize("media_format", WAV)
@given(data=st.binary(max_size=6_000), cuts=cuts, riff=st.booleans())
def test_a_wav_stream_with_no_or_a_broken_header_is_the_same_in_chunks_and_at_once(
    media_format: MediaFormat, data: bytes, cuts: list[int], *, riff: bool
) -> None:
    data = b"RIFF\0\0\0\0WAVE" * riff + data
    pieces = cut(data, cuts)
    assume(not any(piece.startswith(b"RIFF") for piece in pieces[1:]))
    decoder = Decoder(media_format)
    in_chunks = b"".join(decoder.feed(piece) for piece in pieces)
    assert in_chunks == Decoder(media_format).feed(data)


@given(st.lists(st.binary(max_size=300).map(lambda pcm: pcm[: len(pcm) & ~1])))
def test_a_header_on_every_chunk_is_cut_off_every_chunk(chunks: list[bytes]) -> None:
    header = stream_header(MediaFormat.WAV_LPCM16_16K)
    decoder = Decoder(MediaFormat.WAV_LPCM16_16K)
    assert b"".join(decoder.feed(header + pcm) for pcm in chunks) == b"".join(chunks)


def test_a_later_header_in_pieces_is_cut_off_with_the_half_sample_before_it() -> None:
    header = stream_header(MediaFormat.WAV_LPCM16_16K)
    decoder = Decoder(MediaFormat.WAV_LPCM16_16K)
    assert decoder.feed(header + b"\x01\x02\x03") == b"\x01\x02"
    assert decoder.feed(header[:20]) == b""
    assert decoder.feed(header[20:] + b"\x04\x05") == b"\x04\x05"


def test_a_header_that_never_comes_to_its_samples_does_not_silence_the_caller() -> None:
    decoder = Decoder(MediaFormat.WAV_LPCM16_16K)
    assert decoder.feed(b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff") == b""
    assert len(decoder.feed(bytes(5_000))) == 20 + 5_000


def test_raw_audio_that_spells_riff_is_audio() -> None:
    stream = stream_header(MediaFormat.WAV_LPCM16_16K) + b"ab"
    assert Decoder(MediaFormat.LPCM16_16K).feed(stream) == stream


@pytest.mark.parametrize("media_format", MediaFormat)
@given(samples=st.lists(st.integers(min_value=-32_768, max_value=32_767)), cuts=cuts)
def test_what_one_end_encodes_the_other_end_decodes(
    media_format: MediaFormat, samples: list[int], cuts: list[int]
) -> None:
    codes = bytes(abs(sample) % 0x7F for sample in samples)
    pcm = Decoder(MediaFormat.MULAW_8K).feed(codes)  # values that mu-law keeps exactly
    encoder, decoder = Encoder(media_format), Decoder(media_format)
    # A piece of sound that spells RIFF is taken for a header, by design.
    wire = [encoder.feed(piece) for piece in cut(pcm, cuts)]
    assume(sum(piece.startswith(b"RIFF") for piece in wire) <= 1)
    assert b"".join(decoder.feed(piece) for piece in wire) == pcm


def test_resampling_keeps_the_length_in_seconds_and_leaves_an_equal_rate_alone() -> None:
    second = bytes(2 * 16_000)
    assert resample(second, 16_000, 16_000) is second
    assert len(resample(second, 16_000, 24_000)) == pytest.approx(48_000, abs=4)
    assert len(resample(second, 16_000, 8_000)) == pytest.approx(16_000, abs=4)


def wav_file(tag: int, channels: int, rate: int, bits: int, samples: bytes) -> bytes:
    width = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)
    chunks = b"".join(
        struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in ((b"fmt ", fmt), (b"LIST", b"abc"), (b"data", samples))
    )
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WAVE") + chunks


def test_a_wav_file_of_16_bit_mono_is_its_samples() -> None:
    pcm = pcm_of(1, -2, 32_767, -32_768)
    assert load_wav(wav_file(1, 1, 16_000, 16, pcm), 16_000) == pcm


def test_what_stands_behind_the_samples_of_a_wav_file_is_not_played() -> None:
    pcm = pcm_of(1, 2, 3)
    assert load_wav(wav_file(1, 1, 16_000, 16, pcm) + b"id3 \x04\0\0\0tags", 16_000) == pcm


@pytest.mark.parametrize(
    ("bits", "samples"),
    [
        (8, bytes([128, 255, 0])),
        (16, pcm_of(0, 0x7F00, -0x8000)),
        (24, b"\0\0\0" + b"\0\0\x7f" + b"\0\0\x80"),
        (32, b"\0\0\0\0" + b"\0\0\0\x7f" + b"\0\0\0\x80"),
    ],
)
def test_wav_files_of_every_width_become_16_bit(bits: int, samples: bytes) -> None:
    assert load_wav(wav_file(1, 1, 8_000, bits, samples), 8_000) == pcm_of(0, 0x7F00, -0x8000)


def test_mulaw_and_alaw_files_become_pcm() -> None:
    assert load_wav(wav_file(7, 1, 8_000, 8, b"\x80\xff"), 8_000) == pcm_of(32_124, 0)
    assert load_wav(wav_file(6, 1, 8_000, 8, b"\xd5\x55"), 8_000) == pcm_of(8, -8)


def test_stereo_becomes_mono() -> None:
    pcm = pcm_of(100, 300, -100, -300)
    assert load_wav(wav_file(1, 2, 8_000, 16, pcm), 8_000) == pcm_of(200, -200)


def test_a_recording_at_another_rate_is_resampled() -> None:
    pcm = load_wav(wav_file(1, 1, 44_100, 16, bytes(88_200)), 24_000)
    assert len(pcm) == pytest.approx(48_000, abs=4)


def test_an_extensible_wav_file_is_read_by_its_inner_format() -> None:
    fmt = struct.pack("<HHIIHHHHIH14s", 0xFFFE, 1, 8_000, 16_000, 2, 16, 22, 16, 4, 1, b"guid")
    body = struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + struct.pack("<4sI", b"data", 2) + b"ab"
    assert load_wav(b"RIFF\0\0\0\0WAVE" + body, 8_000) == b"ab"


def test_a_wav_file_that_was_written_to_a_pipe_is_read_to_its_end() -> None:
    pcm = pcm_of(*range(100))
    assert load_wav(stream_header(MediaFormat.WAV_LPCM16_16K) + pcm, 16_000) == pcm


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a WAV file"),
        (b"ID3\x04 this is an mp3", "not a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "no fmt chunk"),
        (wav_file(1, 1, 8_000, 16, b"ab")[:36], "no data chunk"),
        (wav_file(1, 1, 8_000, 16, b""), "empty"),
        (wav_file(1, 6, 8_000, 16, bytes(12)), "6 channels"),
        (wav_file(1, 1, 0, 16, bytes(12)), "0 samples per second"),
        (wav_file(85, 1, 8_000, 16, bytes(12)), "encoded as 85"),
        (wav_file(1, 1, 8_000, 12, bytes(12)), "12 bit"),
    ],
)
def test_a_file_that_cannot_be_played_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_wav(data, 16_000)


@given(junk=st.binary(max_size=200), riff=st.booleans())
def test_junk_is_either_read_or_refused_with_a_value_error(junk: bytes, *, riff: bool) -> None:
    data = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" * riff + junk
    try:
        pcm = load_wav(data, 8_000)
    except ValueError:
        return
    assert array.array("h", pcm)
