from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.simulators.resampling import Samples, pcm_of, resample, samples_of


def sine(frequency_hz: float, rate_hz: int, seconds: float = 0.5) -> Samples:
    moments = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 8000 * np.sin(2 * np.pi * frequency_hz * moments) * np.hanning(len(moments))
    return wave.astype(np.float32)


@pytest.mark.parametrize("target_hz", [8_000, 16_000, 24_000])
@pytest.mark.parametrize("source_hz", [8_000, 16_000, 22_050, 24_000])
def test_a_tone_is_the_same_tone_at_another_rate(source_hz: int, target_hz: int) -> None:
    expected = sine(1000, target_hz)
    resampled = resample(sine(1000, source_hz), source_hz, target_hz)[: len(expected)]
    assert np.abs(resampled - expected[: len(resampled)]).max() < 20


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    assert np.abs(resample(sine(6000, 16_000), 16_000, 8_000)).max() < 20


def test_a_band_can_be_cut_off() -> None:
    assert np.abs(resample(sine(3800, 8_000), 8_000, 8_000, below_hz=3400)).max() < 20


@given(st.integers(0, 3000), st.sampled_from([8_000, 16_000, 22_050, 24_000]))
def test_the_length_is_rounded_up(n_samples: int, source_hz: int) -> None:
    resampled = resample(np.zeros(n_samples, dtype=np.float32), source_hz, 16_000)
    assert len(resampled) == -(-n_samples * 16_000 // source_hz)


@given(st.binary())
def test_samples_and_bytes_are_the_same_thing(pcm: bytes) -> None:
    assert pcm_of(samples_of(pcm)) == pcm[: len(pcm) // 2 * 2]


def test_too_loud_is_clipped_not_wrapped() -> None:
    assert pcm_of(np.array([1e6, -1e6], dtype=np.float32)) == b"\xff\x7f\x00\x80"
