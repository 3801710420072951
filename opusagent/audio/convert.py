"""Between the wire's sound and PCM. Live audio is decoded and encoded, never resampled.

PCM means signed 16-bit little-endian mono throughout.
"""

from __future__ import annotations

import audioop

from opusagent.audio import riff
from opusagent.audio.formats import Encoding, MediaFormat

__all__ = ["Decoder", "Encoder", "load_wav", "resample"]


class Decoder:
    """One stream of wire audio into PCM at the same rate.

    Chunks may have any size: half a sample waits for its other half, and feeding in chunks gives
    what feeding at once gives. A RIFF header is cut off a `wav/*` stream at its start (there it
    may come in pieces) and off every later chunk that begins with one.
    """

    def __init__(self, source: MediaFormat) -> None:
        self._mulaw = source.encoding is Encoding.MULAW
        self._wav = source.is_wav
        self._header: bytes | None = b"" if source.is_wav else None  # None: past the header
        self._half = b""

    def feed(self, data: bytes) -> bytes:
        """PCM of `data`, whole samples only; the same object where nothing has to be done."""
        if self._wav:
            data = self._without_header(data)
        if self._mulaw:
            return audioop.ulaw2lin(data, 2)
        if self._half:
            data, self._half = self._half + data, b""
        if len(data) & 1:
            data, self._half = data[:-1], data[-1:]
        return data

    def _without_header(self, data: bytes) -> bytes:
        if self._header is None:
            if not data.startswith(b"RIFF"):
                return data
            self._header = b""
            self._half = b""  # half a sample of the file before has no other half
        self._header += data
        length = riff.header_length(self._header)
        if length is None:
            return b""
        data, self._header = self._header[length:], None
        return data


class Encoder:
    """PCM into one stream of wire audio at the same rate.

    A `wav/*` stream begins with one header. Feeding in chunks gives what feeding at once gives.
    """

    def __init__(self, target: MediaFormat) -> None:
        self._mulaw = target.encoding is Encoding.MULAW
        self._header = riff.stream_header(target) if target.is_wav else b""
        self._half = b""

    def feed(self, pcm: bytes) -> bytes:
        """The wire's bytes for `pcm`; the same object where nothing has to be done."""
        if self._half:
            pcm, self._half = self._half + pcm, b""
        if len(pcm) & 1:
            pcm, self._half = pcm[:-1], pcm[-1:]
        if not pcm:
            return b""
        data = audioop.lin2ulaw(pcm, 2) if self._mulaw else pcm
        if self._header:
            data, self._header = self._header + data, b""
        return data


def resample(pcm: bytes, source_hz: int, target_hz: int) -> bytes:
    """A whole recording at another rate (linear interpolation: for prompts, not for live audio)."""
    if source_hz == target_hz:
        return pcm
    return audioop.ratecv(pcm, 2, 1, source_hz, target_hz, None)[0]


def load_wav(data: bytes, rate_hz: int) -> bytes:
    """PCM of a WAV file at `rate_hz`: PCM of 8 to 32 bit, mu-law or A-law, mono or stereo.

    Raises:
        ValueError: If the file cannot be used; says why.
    """
    wav = riff.read_wav(data)
    if wav.channels not in (1, 2):
        raise ValueError(f"the WAV file has {wav.channels} channels; 1 or 2 can be used")
    if not 1_000 <= wav.rate_hz <= 384_000:
        raise ValueError(f"the WAV file claims {wav.rate_hz} samples per second")
    samples, tag = wav.samples, wav.format_tag
    frame = wav.channels * max(1, wav.bits // 8)
    samples = samples[: len(samples) - len(samples) % frame]
    match tag, wav.bits:
        case riff.PCM_TAG, 8:  # unsigned, alone among the widths
            pcm = audioop.lin2lin(audioop.bias(samples, 1, -128), 1, 2)
        case riff.PCM_TAG, 16 | 24 | 32:
            pcm = audioop.lin2lin(samples, wav.bits // 8, 2)
        case riff.MULAW_TAG, 8:
            pcm = audioop.ulaw2lin(samples, 2)
        case riff.ALAW_TAG, 8:
            pcm = audioop.alaw2lin(samples, 2)
        case _:
            raise ValueError(
                f"the WAV file is encoded as {tag} with {wav.bits} bit; "
                "PCM of 8, 16, 24 or 32 bit, mu-law and A-law can be used"
            )
    if wav.channels == 2:
        pcm = audioop.tomono(pcm, 2, 0.5, 0.5)
    if not pcm:
        raise ValueError("the WAV file is empty")
    return resample(pcm, wav.rate_hz, rate_hz)
