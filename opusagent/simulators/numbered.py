"""Audio whose frames carry a number, to state which frame reached which stream, and how often.

A frame begins with a mark and its number and goes on as a tone, loud enough to count as speech. Mark
and number are written in levels that mu-law keeps exactly, so the number comes out of PCM16 and out
of a mu-law telephone line alike. It does not survive a resampler: live audio is never resampled.
"""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import audioop

__all__ = ["NumberedAudio", "NumberedFrame", "NumberedReader"]

_MARK: Final = audioop.ulaw2lin(bytes([0x00, 0x90, 0x00, 0x00, 0x90, 0x90, 0x10, 0x80]), 2)
"""Eight samples that jump from one end to the other, as no tone and no speech does."""
_NIBBLE_CODES: Final = bytes(range(0x10, 0x20))  # levels -15,996 to -8,316
_LEVELS: Final = tuple(audioop.ulaw2lin(_NIBBLE_CODES[i : i + 1], 2) for i in range(16))
_NIBBLE_OF: Final = {level: f"{i:x}" for i, level in enumerate(_LEVELS)}
_NUMBER_BYTES: Final = 6  # four of number, two of checksum
_HEAD_BYTES: Final = len(_MARK) + 2 * 2 * _NUMBER_BYTES
_TONE_HZ: Final = 440.0
_TONE_LEVEL: Final = 6000


@dataclass(frozen=True, slots=True)
class NumberedFrame:
    """A frame as it was found.

    Attributes:
        number: Which one it is.
        at_sample: Where in everything that was fed it begins.
        whole: Whether all of it is there, as far as its length can tell.
    """

    number: int
    at_sample: int
    whole: bool


class NumberedAudio:
    """Writes and reads numbered frames of one length at one rate.

    Numbers go from 0 to 2**32 - 1. Let calls or directions begin at different numbers, and a frame
    that went to the wrong call shows.
    """

    def __init__(self, frame_ms: int = 20, rate_hz: int = 16_000) -> None:
        """Set the shape of a frame.

        Args:
            frame_ms: Length of a frame; at least 5 ms at 8 kHz, for the number to fit.
            rate_hz: Sample rate.

        Raises:
            ValueError: If a frame is too short for its number.
        """
        self.frame_ms = frame_ms
        self.rate_hz = rate_hz
        self.n_samples = rate_hz * frame_ms // 1000
        if 2 * self.n_samples < _HEAD_BYTES:
            raise ValueError(f"a frame of {frame_ms} ms at {rate_hz} Hz cannot hold a number")
        self._tail = _tone(self.n_samples - _HEAD_BYTES // 2, rate_hz)

    def frame(self, number: int) -> bytes:
        """Frame `number` as PCM16 mono, with an RMS of more than 2,000."""
        return _head(number) + self._tail

    def frames(self, first: int, count: int) -> bytes:
        """`count` frames in a row, from number `first` on."""
        return b"".join(self.frame(number) for number in range(first, first + count))

    def decode(self, pcm: bytes) -> list[int]:
        """The numbers of the whole frames in some PCM16, in order, however it was cut into chunks.

        What is no numbered frame (silence, speech, a frame cut short) is passed over.
        """
        return [frame.number for frame in self.find(pcm) if frame.whole]

    def find(self, pcm: bytes) -> list[NumberedFrame]:
        """Every frame whose number can be read, cut ones included."""
        reader = NumberedReader(self)
        return [*reader.feed(pcm), *reader.finish()]


class NumberedReader:
    """Reads numbered frames from audio that arrives in chunks of any size."""

    def __init__(self, audio: NumberedAudio) -> None:
        self._n_bytes = 2 * audio.n_samples
        self._kept = b""
        self._passed = 0

    def feed(self, pcm: bytes) -> list[NumberedFrame]:
        """The frames that are complete or known to be cut with this chunk."""
        return self._read(self._kept + pcm if self._kept else pcm, at_end=False)

    def finish(self) -> list[NumberedFrame]:
        """The frame that was under way when the audio ended, if it could be read."""
        return self._read(self._kept, at_end=True)

    def _read(self, pcm: bytes, *, at_end: bool) -> list[NumberedFrame]:
        found: list[NumberedFrame] = []
        begin = _next_mark(pcm, 0)
        while begin >= 0 and (at_end or len(pcm) - begin >= self._n_bytes):
            following = _next_mark(pcm, begin + 2)
            end = len(pcm) if following < 0 else following
            number = _number(pcm[begin : begin + _HEAD_BYTES])
            if number is not None:
                at_sample = (self._passed + begin) // 2
                found.append(NumberedFrame(number, at_sample, end - begin >= self._n_bytes))
            begin = following
        if at_end:
            keep = len(pcm)
        elif begin >= 0:
            keep = begin
        else:  # the beginning of a mark may stand at the end
            keep = max(0, len(pcm) - len(pcm) % 2 - len(_MARK) + 2)
        self._kept = pcm[keep:]
        self._passed += keep
        return found


@lru_cache(maxsize=4096)
def _head(number: int) -> bytes:
    raw = struct.pack(">I", number)
    digits = (raw + struct.pack(">H", binascii.crc_hqx(raw, 0x5A5A))).hex()
    return _MARK + b"".join(_LEVELS[int(digit, 16)] for digit in digits)


def _number(head: bytes) -> int | None:
    digits = "".join(_NIBBLE_OF.get(head[i : i + 2], "") for i in range(len(_MARK), len(head), 2))
    if len(digits) != 2 * _NUMBER_BYTES:
        return None
    raw = bytes.fromhex(digits)
    number, checksum = struct.unpack(">IH", raw)
    return int(number) if binascii.crc_hqx(raw[:4], 0x5A5A) == checksum else None


def _next_mark(pcm: bytes, start: int) -> int:
    """Where the next mark begins, on a whole sample; -1 where there is none."""
    at = pcm.find(_MARK, start)
    while at % 2 and at >= 0:
        at = pcm.find(_MARK, at + 1)
    return at


def _tone(n_samples: int, rate_hz: int) -> bytes:
    turn = 2 * math.pi * _TONE_HZ / rate_hz
    samples = (round(_TONE_LEVEL * math.sin(turn * i)) for i in range(n_samples))
    return struct.pack(f"<{n_samples}h", *samples)
