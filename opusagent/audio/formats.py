"""The media formats of the Bot API: their names, what they mean, and which one to take."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from opusagent.errors import NoCommonFormat

__all__ = ["PREFERRED_CALLER", "PREFERRED_PLAY", "Encoding", "MediaFormat", "choose"]


class Encoding(enum.StrEnum):
    """How one sample is written. Every format is mono."""

    PCM16 = "pcm16"
    """Signed 16 bit, little-endian."""
    MULAW = "mulaw"
    """G.711 mu-law, 8 bit."""


class MediaFormat(enum.StrEnum):
    """A media format, by its name in `supportedMediaFormats`.

    `raw/lpcm16` without a suffix is 16 kHz. `wav/*` is the same sound behind a RIFF header.
    Source: AudioCodes Bot API; byte order measured on AudioCodes' own prompt file.
    """

    LPCM16_8K = "raw/lpcm16_8"
    LPCM16_16K = "raw/lpcm16"
    LPCM16_24K = "raw/lpcm16_24"
    MULAW_8K = "raw/mulaw"
    WAV_LPCM16_8K = "wav/lpcm16_8"
    WAV_LPCM16_16K = "wav/lpcm16"
    WAV_LPCM16_24K = "wav/lpcm16_24"
    WAV_MULAW_8K = "wav/mulaw"

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second."""
        if self.value.endswith("/lpcm16"):
            return 16_000
        return 24_000 if self.value.endswith("_24") else 8_000

    @property
    def encoding(self) -> Encoding:
        """How one sample is written."""
        return Encoding.MULAW if self.value.endswith("/mulaw") else Encoding.PCM16

    @property
    def is_wav(self) -> bool:
        """Whether a RIFF header stands before the samples."""
        return self.value.startswith("wav/")

    @property
    def bytes_per_second(self) -> int:
        """Bytes of one second on the wire, headers apart."""
        return self.sample_rate_hz * (1 if self.encoding is Encoding.MULAW else 2)

    def seconds(self, n_bytes: int) -> float:
        """How long `n_bytes` of samples last."""
        return n_bytes / self.bytes_per_second


PREFERRED_CALLER: Final = (
    MediaFormat.LPCM16_16K,
    MediaFormat.LPCM16_24K,
    MediaFormat.LPCM16_8K,
    MediaFormat.MULAW_8K,
    MediaFormat.WAV_LPCM16_16K,
    MediaFormat.WAV_LPCM16_24K,
    MediaFormat.WAV_LPCM16_8K,
    MediaFormat.WAV_MULAW_8K,
)
"""What we like to hear, best first: 16 kHz is what the model listens to."""

PREFERRED_PLAY: Final = (
    MediaFormat.LPCM16_24K,
    MediaFormat.LPCM16_16K,
    MediaFormat.LPCM16_8K,
    MediaFormat.MULAW_8K,
    MediaFormat.WAV_LPCM16_24K,
    MediaFormat.WAV_LPCM16_16K,
    MediaFormat.WAV_LPCM16_8K,
    MediaFormat.WAV_MULAW_8K,
)
"""What we like to play, best first: 24 kHz is what the model speaks."""


def choose(offered: Sequence[str], preferred: Sequence[MediaFormat]) -> MediaFormat:
    """The first of `preferred` that the peer offers; names that nobody knows are passed over.

    Any offered format may be taken, not only the first (measured on a live capture).

    Raises:
        NoCommonFormat: If none of `preferred` is offered.
    """
    for media_format in preferred:
        if media_format in offered:
            return media_format
    raise NoCommonFormat(offered)
