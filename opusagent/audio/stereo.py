"""Two voices on one clock, as one stereo sound that is written while it is made.

Times are seconds since the sound began. PCM means signed 16-bit little-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import audioop

__all__ = ["HOLD_S", "StereoTrack"]

HOLD_S: Final = 2.0
"""How long sound waits before it is written: until then it can be moved, or fall silent after all."""

_BLOCK_S: Final = 1
_JITTER_S: Final = 0.2
"""A live chunk that is late by no more goes on where the one before ended."""

_AHEAD_S: Final = 10.0
"""How far a voice may run ahead of the clock."""


@dataclass(slots=True)
class _Side:
    """One voice: what of it is not written yet. Positions are samples at the common rate."""

    source_hz: int
    rate_hz: int
    first: int = 0  # position of the first sample of `waiting`
    gap_from: int = 0  # the newest run of sound has silence before it, from here
    run_from: int = 0  # to here
    waiting: bytearray = field(default_factory=bytearray)
    state: Any = None  # of the resampling
    half: bytes = b""  # the first byte of a sample whose other one has not come

    @property
    def end(self) -> int:
        return self.first + len(self.waiting) // 2

    def skip_to(self, position: int) -> None:
        """Be silent up to there; a new run of sound begins."""
        self.gap_from, self.run_from = self.end, position
        self.waiting += bytes(2 * (position - self.end))
        self._restart()

    def append(self, pcm: bytes) -> None:
        if self.half or len(pcm) & 1:
            pcm = self.half + pcm
            whole = len(pcm) & ~1
            pcm, self.half = pcm[:whole], pcm[whole:]
        if self.source_hz != self.rate_hz:
            pcm, self.state = audioop.ratecv(pcm, 2, 1, self.source_hz, self.rate_hz, self.state)
        self.waiting += pcm

    def pull_back(self, n_samples: int) -> None:
        """Move the newest run of sound earlier, as far as there is unwritten silence before it."""
        n_samples = min(n_samples, self.run_from - max(self.gap_from, self.first))
        if n_samples > 0:
            run_at = 2 * (self.run_from - self.first)
            del self.waiting[run_at - 2 * n_samples : run_at]
            self.run_from -= n_samples

    def cut(self, position: int) -> None:
        """Nothing sounds from there on."""
        del self.waiting[2 * max(position - self.first, 0) :]
        self._restart()

    def take(self, n_samples: int) -> bytes:
        pcm = bytes(self.waiting[: 2 * n_samples])
        del self.waiting[: 2 * n_samples]
        self.first += n_samples
        return pcm.ljust(2 * n_samples, b"\0")

    def _restart(self) -> None:
        self.state = None
        self.half = b""


class StereoTrack:
    """The caller on the left, the bot on the right, in step with the clock.

    Holds `HOLD_S` of sound and writes the rest, so that its length does not matter. Calls come in
    the order of their times.

    Args:
        caller_hz: Sample rate of the caller's sound.
        bot_hz: Sample rate of the bot's sound.
        write: Takes interleaved PCM at `rate_hz`, the higher of both.
    """

    def __init__(self, *, caller_hz: int, bot_hz: int, write: Callable[[bytes], None]) -> None:
        self.rate_hz = max(caller_hz, bot_hz)
        self._caller = _Side(caller_hz, self.rate_hz)
        self._bot = _Side(bot_hz, self.rate_hz)
        self._write = write

    def caller(self, pcm: bytes, at_s: float) -> bool:
        """Live sound that came now: it is of the time before. False if there is no room for it.

        What comes in a burst after a stall is put where it was spoken, up to `HOLD_S` back.
        """
        self.advance(at_s)
        side, now = self._caller, self._position(at_s)
        if self._is_full(side, now):
            return False
        begins = now - len(pcm) // 2 * self.rate_hz // side.source_hz
        if begins > side.end + _JITTER_S * self.rate_hz or not side.end:
            side.skip_to(max(begins, 0))
        side.append(pcm)
        side.pull_back(side.end - now)  # nobody can be heard before she speaks
        return True

    def bot(self, pcm: bytes, at_s: float) -> bool:
        """Sound that is played when what was given before has been, now at the earliest.

        False if there is no room for it.
        """
        self.advance(at_s)
        side, now = self._bot, self._position(at_s)
        if self._is_full(side, now):
            return False
        if now > side.end:
            side.skip_to(now)
        side.append(pcm)
        return True

    def bot_silenced(self, at_s: float) -> None:
        """What the bot was given and has not played by now is not played."""
        self.advance(at_s)
        self._bot.cut(self._position(at_s))

    def advance(self, at_s: float) -> None:
        """Write what nothing can change any more."""
        self._write_until(self._position(at_s - HOLD_S), whole_blocks=True)

    def finish(self, at_s: float) -> None:
        """Write the rest: the sound ends here."""
        self._write_until(self._position(at_s), whole_blocks=False)

    def _position(self, at_s: float) -> int:
        return round(at_s * self.rate_hz)

    def _is_full(self, side: _Side, now: int) -> bool:
        return side.end > now + _AHEAD_S * self.rate_hz

    def _write_until(self, position: int, *, whole_blocks: bool) -> None:
        block = _BLOCK_S * self.rate_hz
        while (left := position - self._caller.first) >= (block if whole_blocks else 1):
            n_samples = min(left, block)
            caller, bot = self._caller.take(n_samples), self._bot.take(n_samples)
            self._write(
                audioop.add(audioop.tostereo(caller, 2, 1, 0), audioop.tostereo(bot, 2, 0, 1), 2)
            )
