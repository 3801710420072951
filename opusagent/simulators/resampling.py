"""Recordings at another sample rate, by their spectrum: exact in the band that both rates have.

For whole recordings of the simulators. The bridge itself never resamples live audio.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

type Samples = npt.NDArray[np.float32]


def samples_of(pcm: bytes) -> Samples:
    """Little-endian PCM16 as floats in units of one step; an odd last byte is ignored."""
    return np.frombuffer(pcm, dtype="<i2", count=len(pcm) // 2).astype(np.float32)


def pcm_of(samples: Samples) -> bytes:
    """Floats in units of one step as little-endian PCM16, clipped where too loud."""
    return np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()


def resample(
    samples: Samples, source_hz: int, target_hz: int, *, below_hz: float | None = None
) -> Samples:
    """The same sound at `target_hz`, its length rounded up to a whole sample.

    Args:
        samples: Mono samples at `source_hz`.
        source_hz: Sample rate of the input.
        target_hz: Sample rate of the result.
        below_hz: Where given, only what is below this frequency is kept.
    """
    if source_hz == target_hz and below_hz is None:
        return samples
    n_wanted = -(-len(samples) * target_hz // source_hz)
    step = source_hz // gcd(source_hz, target_hz)
    n_source = _quick_size(-(-len(samples) // step) + 1) * step  # whole samples at both rates
    n_target = n_source * target_hz // source_hz
    spectrum = np.fft.rfft(samples, n_source)
    n_kept = min(len(spectrum), n_target // 2 + 1)
    if below_hz is not None:
        n_kept = min(n_kept, int(below_hz * n_source / source_hz) + 1)
    resampled = np.fft.irfft(spectrum[:n_kept] * np.float32(target_hz / source_hz), n_target)
    return resampled[:n_wanted].astype(np.float32, copy=False)


def _quick_size(least: int) -> int:
    """A size from `least` on, at most an eighth larger, that a Fourier transform likes."""
    unit = max(1, 1 << max(0, least.bit_length() - 4))
    return -(-least // unit) * unit
