"""Audio of which every frame is known: whose it is, which one, and when it was sent.

A frame begins with 20 bytes, each written as one sample too quiet for speech, and goes on as a tone or as
silence. So silence is numbered as well as speech; it survives whatever leaves samples as they are.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = [
    "BOT_RATE_HZ",
    "CALLER_RATE_HZ",
    "FRAME_MS",
    "FRAME_S",
    "Frame",
    "FrameReader",
    "find",
    "write",
]

FRAME_MS: Final = 20
FRAME_S: Final = FRAME_MS / 1000
CALLER_RATE_HZ: Final = 16_000
BOT_RATE_HZ: Final = 24_000

_HEAD: Final = struct.Struct("<4sHHIQ")  # mark, call, turn, number, extra
_MARK: Final = b"\x21\xdf\x2b\xd5"
_TONE_HZ: Final = 400.0  # a whole number of periods in a frame: frames join without a click
_TONE_LEVEL: Final = 6000


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes:
        call: Number of the call.
        turn: Number of the caller's turn that it belongs to or answers, from 1; 0 is silence.
        number: Which frame: of the caller's of one call, or of the bot's of one answer; from 0.
        extra: Of a caller's frame the monotonic nanoseconds at which it was sent, of a bot's the stream
            that it comes from.
    """

    call: int
    turn: int
    number: int
    extra: int


def write(frame: Frame, rate_hz: int) -> bytes:
    """`FRAME_MS` of 16-bit mono PCM: sound for a turn, silence (RMS below 40) without one."""
    head = _HEAD.pack(_MARK, frame.call, frame.turn, frame.number, frame.extra)
    return _as_samples(head) + _tail(rate_hz, loud=frame.turn > 0)


def find(pcm: bytes) -> list[Frame]:
    """Every frame whose head is in `pcm`, in order."""
    return [frame for frame, _ in _find(pcm)]


class FrameReader:
    """Finds frames in audio that arrives in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, pcm: bytes) -> list[Frame]:
        """The frames whose heads are complete with this piece."""
        pcm = self._rest + pcm
        found = _find(pcm)
        begin = found[-1][1] + _HEAD_BYTES if found else 0
        self._rest = pcm[max(begin, len(pcm) - _HEAD_BYTES + 2) :]
        return [frame for frame, _ in found]


def _as_samples(data: bytes) -> bytes:
    return b"".join(_SAMPLES[byte] for byte in data)


_SAMPLES: Final = tuple(struct.pack("<h", byte - 128) for byte in range(256))
_MARK_SAMPLES: Final = _as_samples(_MARK)
_HEAD_BYTES: Final = 2 * _HEAD.size
_TO_BYTES: Final = bytes(byte ^ 0x80 for byte in range(256))


def _find(pcm: bytes) -> list[tuple[Frame, int]]:
    found = []
    at = pcm.find(_MARK_SAMPLES)
    while 0 <= at <= len(pcm) - _HEAD_BYTES:
        head = pcm[at : at + _HEAD_BYTES : 2].translate(_TO_BYTES)
        _, call, turn, number, extra = _HEAD.unpack(head)
        found.append((Frame(call, turn, number, extra), at))
        at = pcm.find(_MARK_SAMPLES, at + _HEAD_BYTES)
    return found


@lru_cache
def _tail(rate_hz: int, *, loud: bool) -> bytes:
    n_samples = rate_hz * FRAME_MS // 1000 - _HEAD.size
    if not loud:
        return bytes(2 * n_samples)
    turn = 2 * math.pi * _TONE_HZ / rate_hz
    samples = (round(_TONE_LEVEL * math.sin(turn * i)) for i in range(n_samples))
    return struct.pack(f"<{n_samples}h", *samples)
