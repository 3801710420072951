"""Sounds that need no recording."""

from __future__ import annotations

import array
import functools
import math
import sys
from typing import Final

__all__ = ["comfort_tone", "tone"]

_RAMP_S: Final = 0.02
"""Rise and fall of a tone: shorter ones click."""


def tone(frequency_hz: float, seconds: float, rate_hz: int, volume: float = 0.2) -> bytes:
    """PCM of a sine with soft edges. `volume` is the share of full scale, 0 to 1.

    Raises:
        ValueError: If `volume` is outside 0 to 1.
    """
    if not 0 <= volume <= 1:
        raise ValueError("volume is a share of full scale, 0 to 1")
    n = round(seconds * rate_hz)
    ramp = max(1, min(round(_RAMP_S * rate_hz), n // 2))
    step = 2 * math.pi * frequency_hz / rate_hz
    peak = volume * 32_767
    samples = array.array(
        "h",
        (round(peak * min(1.0, i / ramp, (n - i) / ramp) * math.sin(i * step)) for i in range(n)),
    )
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


@functools.cache
def comfort_tone(rate_hz: int) -> bytes:
    """Two seconds to repeat while a caller has to wait: a soft beep, then silence."""
    beep = tone(425, 0.25, rate_hz, volume=0.08)
    return beep + bytes(2 * 2 * rate_hz - len(beep))
