from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.formats import (
    PREFERRED_CALLER,
    PREFERRED_PLAY,
    Encoding,
    MediaFormat,
    choose,
)
from opusagent.errors import NoCommonFormat

LIVE_HUB = [
    "raw/lpcm16",
    "wav/lpcm16",
    "raw/lpcm16_8",
    "wav/lpcm16_8",
    "raw/lpcm16_24",
    "wav/lpcm16_24",
    "raw/mulaw",
    "wav/mulaw",
]


@pytest.mark.parametrize(
    ("name", "rate_hz", "encoding", "is_wav", "bytes_per_second"),
    [
        ("raw/mulaw", 8_000, Encoding.MULAW, False, 8_000),
        ("wav/mulaw", 8_000, Encoding.MULAW, True, 8_000),
        ("raw/lpcm16", 16_000, Encoding.PCM16, False, 32_000),
        ("wav/lpcm16", 16_000, Encoding.PCM16, True, 32_000),
        ("raw/lpcm16_8", 8_000, Encoding.PCM16, False, 16_000),
        ("wav/lpcm16_8", 8_000, Encoding.PCM16, True, 16_000),
        ("raw/lpcm16_24", 24_000, Encoding.PCM16, False, 48_000),
        ("wav/lpcm16_24", 24_000, Encoding.PCM16, True, 48_000),
    ],
)
def test_a_format_name_says_rate_encoding_and_container(
    name: str, rate_hz: int, encoding: Encoding, *, is_wav: bool, bytes_per_second: int
) -> None:
    media_format = MediaFormat(name)
    assert media_format.sample_rate_hz == rate_hz
    assert media_format.encoding is encoding
    assert media_format.is_wav is is_wav
    assert media_format.bytes_per_second == bytes_per_second


def test_a_live_hub_chunk_of_mulaw_lasts_160_ms() -> None:
    assert MediaFormat.MULAW_8K.seconds(1_280) == 0.16


def test_what_live_hub_offers_needs_no_resampling_either_way() -> None:
    assert choose(LIVE_HUB, PREFERRED_CALLER) is MediaFormat.LPCM16_16K
    assert choose(LIVE_HUB, PREFERRED_PLAY) is MediaFormat.LPCM16_24K


def test_a_small_tenant_that_offers_one_format_gets_it_both_ways() -> None:
    assert choose(["raw/lpcm16"], PREFERRED_CALLER) is MediaFormat.LPCM16_16K
    assert choose(["raw/lpcm16"], PREFERRED_PLAY) is MediaFormat.LPCM16_16K


@pytest.mark.parametrize("preferred", [PREFERRED_CALLER, PREFERRED_PLAY])
def test_every_known_format_will_do_when_it_is_the_only_one(
    preferred: tuple[MediaFormat, ...],
) -> None:
    assert {choose(["alaw", one], preferred) for one in MediaFormat} == set(MediaFormat)


@pytest.mark.parametrize("preferred", [PREFERRED_CALLER, PREFERRED_PLAY])
def test_a_raw_format_is_taken_before_any_wav(preferred: tuple[MediaFormat, ...]) -> None:
    assert choose(["wav/lpcm16", "wav/lpcm16_24", "raw/mulaw"], preferred) is MediaFormat.MULAW_8K


@given(st.lists(st.text().filter(lambda name: name not in set(MediaFormat))))
def test_formats_that_nobody_knows_are_no_common_format(offered: list[str]) -> None:
    with pytest.raises(NoCommonFormat) as refusal:
        choose(offered, PREFERRED_CALLER)
    assert refusal.value.offered == tuple(offered)
