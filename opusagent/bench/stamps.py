"""Audio that says when it was sent: a time stamp in the samples of each frame.

Both simulators run on one machine and read the same monotonic clock, so the age of a frame on arrival
is what the way through the bridge took, both simulators' own work included.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["Arrivals", "Stamper", "stamps"]

_HEAD: Final = struct.Struct("<8sIIQ")  # mark, call, number, nanoseconds
_MARK: Final = b"\x11\x22OPUS\x33\x44"


class Stamper:
    """Makes the frames of one direction of one call.

    Args:
        call: Number of the call.
        n_bytes: Length of a frame; at least 24.
    """

    def __init__(self, call: int, n_bytes: int) -> None:
        """Begin at frame 0."""
        self._call = call
        self._filling = bytes(n_bytes - _HEAD.size)
        self.sent = 0
        """How many frames were made."""

    def frame(self, now_ns: int) -> bytes:
        """The next frame, sent now."""
        head = _HEAD.pack(_MARK, self._call, self.sent, now_ns)
        self.sent += 1
        return head + self._filling


def stamps(pcm: bytes) -> Iterator[tuple[int, int, int]]:
    """Call, number and nanoseconds of every frame that begins in `pcm`."""
    at = pcm.find(_MARK)
    while at >= 0:
        if at + _HEAD.size <= len(pcm):
            _, call, number, sent_ns = _HEAD.unpack_from(pcm, at)
            yield call, number, sent_ns
        at = pcm.find(_MARK, at + _HEAD.size)


class Arrivals:
    """Counts what came of the frames of one direction, over all calls."""

    def __init__(self) -> None:
        """Nothing has come."""
        self.begin(0)

    def begin(self, now_ns: int) -> None:
        """Count anew, and only what is sent from now on: the rest waited for the measurement to begin."""
        self._since_ns = now_ns
        self.ages_ms: list[float] = []
        self.doubled = 0
        self.disordered = 0
        self._seen: dict[int, set[int]] = {}
        self._newest: dict[int, int] = {}

    def add(self, pcm: bytes, now_ns: int) -> None:
        """Take audio that arrived now."""
        for call, number, sent_ns in stamps(pcm):
            if sent_ns < self._since_ns:
                continue
            seen = self._seen.setdefault(call, set())
            if number in seen:
                self.doubled += 1
                continue
            seen.add(number)
            self.ages_ms.append((now_ns - sent_ns) / 1e6)
            newest = self._newest.get(call, -1)
            if number < newest:
                self.disordered += 1
            self._newest[call] = max(newest, number)

    @property
    def frames(self) -> int:
        """How many different frames came."""
        return len(self.ages_ms)

    @property
    def missing(self) -> int:
        """How many frames did not come although a later one of their call did."""
        return sum(max(seen) - min(seen) + 1 - len(seen) for seen in self._seen.values())
