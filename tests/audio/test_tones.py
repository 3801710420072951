from __future__ import annotations

import array
import itertools

import pytest

from opusagent.audio.speech import rms
from opusagent.audio.tones import comfort_tone, tone


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000])
def test_a_tone_has_its_length_and_its_pitch(rate_hz: int) -> None:
    pcm = tone(440, 1.0, rate_hz)
    samples = array.array("h", pcm)
    assert len(samples) == rate_hz
    rising = sum(a < 0 <= b for a, b in itertools.pairwise(samples))
    assert rising == pytest.approx(440, abs=2)


def test_a_tone_begins_and_ends_softly_and_reaches_its_volume() -> None:
    samples = array.array("h", tone(440, 0.5, 16_000, volume=0.5))
    assert max(abs(sample) for sample in (*samples[:16], *samples[-16:])) < 1_000
    assert max(samples) == pytest.approx(16_383, rel=0.01)


@pytest.mark.parametrize("seconds", [0.0, 0.0001, 0.001])
def test_a_very_short_tone_is_still_whole_samples(seconds: float) -> None:
    assert len(tone(440, seconds, 8_000)) == 2 * round(seconds * 8_000)


@pytest.mark.parametrize("volume", [-0.1, 1.1])
def test_a_volume_that_would_clip_is_refused(volume: float) -> None:
    with pytest.raises(ValueError, match="volume"):
        tone(440, 0.1, 8_000, volume=volume)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000])
def test_the_comfort_tone_is_a_soft_beep_and_silence_of_two_seconds(rate_hz: int) -> None:
    pcm = comfort_tone(rate_hz)
    assert len(pcm) == 2 * 2 * rate_hz
    assert 500 < rms(pcm[: rate_hz // 2]) < 3_000
    assert not any(pcm[rate_hz:])
