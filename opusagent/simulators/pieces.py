"""Recordings, and the pieces of them that are found in audio: alignment frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from opusagent.simulators.resampling import Samples

__all__ = [
    "COARSE_HZ",
    "FRAME",
    "FRAME_MS",
    "QUIET",
    "RATE_HZ",
    "Mask",
    "Piece",
    "Recording",
    "align",
    "power_of_frames",
    "runs",
]

RATE_HZ: Final = 16_000
"""Pieces are compared at this rate, whatever rate the stream has."""
COARSE_HZ: Final = 4_000
"""Recordings are searched for at this rate."""
FRAME: Final = 160
"""10 ms at 16 kHz: the grain of everything that is reported."""
FRAME_MS: Final = 10
QUIET: Final = 0.003
"""Share of the mean power below which a frame is a pause."""
_ALIKE: Final = 0.75
"""Correlation from which a frame of audio is the frame of the recording."""
_LEAST_FRAMES: Final = 6
"""Frames in a row from which likeness is no chance."""
_BRIDGED_FRAMES: Final = 2
"""Frames that are there, only unlike, count as heard up to this many in a row."""
_HISS: Final = 0.2
"""Power of a frame's slope against its own power: above, it is a hiss, which every filter changes."""
_WEAK: Final = 0.03
"""Share of the mean power below which a frame drowns in what a bad resampler folds into it."""
_PRESENT: Final = 0.1
"""Share of a frame's power that must be there for an unlike frame to count."""
_SAME_SAYING: Final = 0.9
"""Pieces whose beginnings lie within this share of the phrase belong to one saying of it."""

type Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Recording:
    """A phrase's recording at `RATE_HZ` and at `COARSE_HZ`, and what its frames are like.

    `frames` is [frame, sample]; `power`, `loud` (no pause) and `soft` (a hiss, or weak) have one entry for each frame.
    """

    phrase_id: str
    text: str
    fine: Samples
    coarse: Samples
    frames: npt.NDArray[np.float32] = field(init=False)
    power: npt.NDArray[np.float32] = field(init=False)
    loud: Mask = field(init=False)
    soft: Mask = field(init=False)

    def __post_init__(self) -> None:
        n_frames = -(-len(self.fine) // FRAME)
        padded = np.zeros(n_frames * FRAME, dtype=np.float32)
        padded[: len(self.fine)] = self.fine
        self.frames = padded.reshape(n_frames, FRAME)
        self.power = np.einsum("ij,ij->i", self.frames, self.frames)
        self.loud = self.power > QUIET * self.power.mean()
        slopes = np.diff(self.frames, axis=1)
        hiss = np.einsum("ij,ij->i", slopes, slopes) > _HISS * self.power
        self.soft = hiss | (self.power < _WEAK * self.power.mean())

    def __len__(self) -> int:
        return len(self.power)


@dataclass(frozen=True, slots=True)
class Piece:
    """A recording found in the audio: its frame 0 would be at sample `at`; `heard` of it is there."""

    recording: Recording
    at: int
    heard: Mask
    product: npt.NDArray[np.float32]
    power: npt.NDArray[np.float32]
    weight: float

    def goes_on(self, other: Piece) -> bool:
        """Whether both belong to one saying of a phrase."""
        near = abs(self.at - other.at) < _SAME_SAYING * self.recording.frames.size
        return near and self.recording is other.recording

    def completes(self, other: Piece) -> bool:
        """Whether both belong to one saying and are different parts of it."""
        return self.goes_on(other) and not (self.heard & other.heard).any()


def align(recording: Recording, audio: Samples, near: int) -> Piece | None:
    """What of a recording is in the audio when it begins within a few samples of `near`."""
    n_samples = recording.frames.size
    slack = RATE_HZ // COARSE_HZ
    window = np.zeros(n_samples + 2 * slack, dtype=np.float32)
    begin, end = max(0, near - slack), min(len(audio), near + n_samples + slack)
    if end <= begin:
        return None
    window[begin - near + slack : end - near + slack] = audio[begin:end]
    shifts = np.correlate(window, recording.frames.ravel(), mode="valid")
    shift = int(shifts.argmax())
    there = window[shift : shift + n_samples].reshape(recording.frames.shape)
    return _compare(recording, there, near - slack + shift)


def _compare(recording: Recording, there: npt.NDArray[np.float32], at: int) -> Piece | None:
    power = np.einsum("ij,ij->i", there, there)
    product = np.einsum("ij,ij->i", recording.frames, there)
    alike = recording.loud & (product > _ALIKE * np.sqrt(power * recording.power))
    present = power > _PRESENT * recording.power
    heard = _joined(alike, recording.loud & ~(recording.soft & present), present)
    weight = float(recording.power[heard].sum())
    return Piece(recording, at, heard, product, power, weight) if weight else None


def _joined(alike: Mask, telling: Mask, present: Mask) -> Mask:
    """The frames that count as heard: likeness in a row, and the pauses and hisses in between."""
    heard = np.zeros(len(alike), dtype=np.bool_)
    stretches: list[tuple[int, int]] = []
    for first, last in runs(alike | ~telling):  # the others fit everything
        found = np.flatnonzero(alike[first:last])
        if len(found) >= _LEAST_FRAMES:
            stretches.append((first + int(found[0]), first + int(found[-1]) + 1))
    if not stretches:
        return heard
    ends = [0, *(last for _, last in stretches)]
    starts = [*(first for first, _ in stretches), len(alike)]
    for first, last in stretches:
        heard[first:last] = True
    for last, first in zip(ends, starts, strict=True):
        if _bridged(telling[last:first], present[last:first]):
            heard[last:first] = True
    return heard


def _bridged(telling: Mask, present: Mask) -> bool:
    return bool(telling.sum() <= _BRIDGED_FRAMES and not (telling & ~present).any())


def runs(mask: Mask) -> list[tuple[int, int]]:
    """Where a mask is true, as half-open ranges."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def power_of_frames(audio: Samples) -> npt.NDArray[np.float32]:
    """Power of each frame of the audio."""
    n_frames = len(audio) // FRAME
    frames = audio[: n_frames * FRAME].reshape(n_frames, FRAME)
    power: npt.NDArray[np.float32] = np.einsum("ij,ij->i", frames, frames)
    return power
