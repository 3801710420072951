"""What the local Nova Sonic service understands: the phrases of its book, in the audio it received.

Nobody tells it what was said. It holds its own recordings against the audio: the recording that
explains most of what is still unexplained is aligned with it piece by piece, what the pieces cover
counts as understood, and the rest is searched again. So two phrases in one utterance are both
heard, a phrase that lost its beginning is heard without it, a hole is heard as a hole, and a part
that came twice is heard as said twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opusagent.simulators.pieces import (
    COARSE_HZ,
    FRAME,
    FRAME_MS,
    QUIET,
    RATE_HZ,
    Mask,
    Piece,
    Recording,
    align,
    power_of_frames,
    runs,
)
from opusagent.simulators.resampling import Samples, resample, samples_of
from opusagent.simulators.voice import Voice

__all__ = ["Heard", "PhraseBook"]

_BAND_HZ: Final = 3_400.0
"""Compared is what a telephone carries."""
_SEARCH_SIZE: Final = 1 << 15
"""Samples that are searched at once, audio and longest phrase together: 8 s; more where needed."""
_CANDIDATES: Final = 24
_MOST_PIECES: Final = 24
_GOES_ON: Final = 1.5
"""Lead of a piece that goes on with a phrase already begun: many phrases end with the same words."""
_LEAST_SCORE: Final = 0.35
_MOST_OTHER: Final = 0.25
"""Other speech where a phrase should go on, against what was heard of it: above, it is no clip."""
_LEAST_OTHER_FRAMES: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One phrase as it was understood.

    Attributes:
        text: The whole phrase as it stands in the book.
        words: What was understood of it; an ellipsis stands where words are missing.
        phrase_id: Its name in the book.
        score: Normalised cross-correlation of the recording with what arrived: 1.0 when whole, its
            square is about the part that arrived.
        begins_ms: Where in the audio it begins.
        ends_ms: Where in the audio it ends.
        missing_start_ms: How much was cut off its beginning.
        missing_end_ms: How much was cut off its end.
        holes_ms: How much is missing in between, silenced or skipped.
        repeated_ms: How much of it was there twice.
    """

    text: str
    words: str
    phrase_id: str
    score: float
    begins_ms: int
    ends_ms: int
    missing_start_ms: int = 0
    missing_end_ms: int = 0
    holes_ms: int = 0
    repeated_ms: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing is missing and nothing doubled, to 30 ms."""
        lost = (self.missing_start_ms, self.missing_end_ms, self.holes_ms, self.repeated_ms)
        return max(lost) <= 30


class PhraseBook:
    """Recordings of phrases, to be recognised in audio."""

    def __init__(self, phrases: Mapping[str, str], voice: Voice) -> None:
        """Record every phrase.

        Args:
            phrases: Text by the phrase's name.
            voice: Whose phrases they are: another voice saying the same is not understood.
        """
        voice.prepare(phrases.values(), RATE_HZ)
        self._recordings: list[Recording] = []
        for phrase_id, text in phrases.items():
            sound = samples_of(voice.speak(text, RATE_HZ))
            if len(sound):
                fine = resample(sound, RATE_HZ, RATE_HZ, below_hz=_BAND_HZ)
                coarse = resample(fine, RATE_HZ, COARSE_HZ)
                self._recordings.append(Recording(phrase_id, text, fine, coarse))
        self._longest = max((len(one.coarse) for one in self._recordings), default=0)
        self._spectra: dict[int, npt.NDArray[np.complex64]] = {}
        self._spectra_of(_SEARCH_SIZE)

    def hear(self, pcm: bytes, rate_hz: int) -> tuple[Heard, ...]:
        """The phrases in some audio, in the order in which they begin; nothing for unknown speech.

        Args:
            pcm: PCM16 mono.
            rate_hz: 8, 16 or 24 kHz.
        """
        sound = samples_of(pcm)
        if not self._recordings or len(sound) < rate_hz // 20:
            return ()
        audio = resample(sound, rate_hz, RATE_HZ, below_hz=_BAND_HZ)
        power = power_of_frames(audio)
        # What is no phrase explains nothing: a few likenesses must not pass for its missing end.
        groups = [group for group in _by_utterance(self._pieces_of(audio)) if _understood(group)]
        while True:
            explained = _explained_by(groups, len(audio))
            left = [group for group in groups if not _goes_elsewhere(group, explained, power)]
            if len(left) == len(groups):
                break
            groups = left
        heard = [one for one in map(_understood, groups) if one is not None]
        return tuple(sorted(heard, key=lambda one: one.begins_ms))

    def _pieces_of(self, audio: Samples) -> list[Piece]:
        """The pieces of recordings that the audio is made of."""
        pieces: list[Piece] = []
        left = audio.copy()
        floor = QUIET * float(np.dot(audio, audio))
        while len(pieces) < _MOST_PIECES and float(np.dot(left, left)) > floor:
            piece = self._best_piece(left, pieces)
            if piece is None:
                break
            pieces.append(piece)
            for begin, end in _spans(piece):
                left[begin:end] = 0.0
        return pieces

    def _best_piece(self, audio: Samples, pieces: Sequence[Piece]) -> Piece | None:
        """What explains most of the audio; phrases begin alike, so what goes on with one has a lead."""
        coarse = resample(audio, RATE_HZ, COARSE_HZ)
        size = max(_SEARCH_SIZE, 1 << (len(coarse) + self._longest - 1).bit_length())
        found = np.fft.irfft(np.fft.rfft(coarse, size) * self._spectra_of(size), size)
        # Two peaks of each recording: the second is there when its halves have come apart.
        begun = {id(piece.recording) for piece in pieces}
        candidates: list[tuple[bool, float, int, int]] = []
        for index, row in enumerate(found):
            for _ in range(2):
                peak = int(row.argmax())
                goes_on = id(self._recordings[index]) in begun
                candidates.append((goes_on, float(row[peak]), index, peak))
                row[max(0, peak - 20) : peak + 21] = 0.0
        found_now: list[Piece] = []
        for *_, index, peak in sorted(candidates, reverse=True)[:_CANDIDATES]:
            lag = peak if peak < len(coarse) else peak - size
            piece = align(self._recordings[index], audio, lag * (RATE_HZ // COARSE_HZ))
            if piece is None:
                continue
            if piece.heard.all():
                return piece
            found_now.append(piece)

        def explains(piece: Piece) -> float:
            """How much a piece explains, with what else of its phrase there is; weighed."""
            rest = max((one.weight for one in found_now if one.completes(piece)), default=0.0)
            lead = _GOES_ON if any(map(piece.goes_on, pieces)) else 1.0
            return lead * (piece.weight + rest)

        return max(found_now, key=explains, default=None)

    def _spectra_of(self, size: int) -> npt.NDArray[np.complex64]:
        """The conjugate spectra of all recordings, each of energy 1, at a transform's size."""
        if size not in self._spectra:
            rows = np.zeros((len(self._recordings), size), dtype=np.float32)
            for row, one in zip(rows, self._recordings, strict=True):
                row[: len(one.coarse)] = one.coarse / np.sqrt(np.dot(one.coarse, one.coarse))
            self._spectra[size] = np.conj(np.fft.rfft(rows))
        return self._spectra[size]


def _by_utterance(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces of one recording that belong to one time of saying it, in the order of the audio."""
    groups: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda one: one.at):
        for group in groups:
            if piece.goes_on(group[0]):
                group.append(piece)
                break
        else:
            groups.append([piece])
    return groups


def _spans(piece: Piece) -> list[tuple[int, int]]:
    """The samples of the audio in which a piece is heard, as half-open ranges."""
    at = piece.at
    return [(max(0, at + a * FRAME), at + b * FRAME) for a, b in runs(piece.heard)]


def _explained_by(groups: Sequence[Sequence[Piece]], n_samples: int) -> Mask:
    """Which samples of the audio are part of a phrase."""
    explained = np.zeros(n_samples, dtype=np.bool_)
    for begin, end in itertools.chain.from_iterable(
        _spans(piece) for group in groups for piece in group
    ):
        explained[begin:end] = True
    return explained


def _goes_elsewhere(
    group: Sequence[Piece], explained: Mask, power: npt.NDArray[np.float32]
) -> bool:
    """Whether there is other speech where the phrase should begin or go on."""
    covered = _covered(group)
    first, last = _extent(covered)
    other = _something_else(min(group, key=_begin), range(first), explained, power)
    other += _something_else(max(group, key=_end), range(last, len(covered)), explained, power)
    return bool(other > max(_LEAST_OTHER_FRAMES, _MOST_OTHER * covered.sum()))


def _covered(group: Sequence[Piece]) -> Mask:
    """Which frames of the recording were heard."""
    covered: Mask = np.logical_or.reduce([piece.heard for piece in group])
    return covered


def _extent(covered: Mask) -> tuple[int, int]:
    """From the first frame heard to the one after the last."""
    return int(covered.argmax()), len(covered) - int(covered[::-1].argmax())


def _understood(group: Sequence[Piece]) -> Heard | None:
    """What one time of saying a phrase amounts to; None where too little of it."""
    recording = group[0].recording
    covered = _covered(group)
    first, last = _extent(covered)
    product = energy = 0.0
    left = covered.copy()
    for piece in group:  # each frame counts once
        chosen = piece.heard & left
        left &= ~piece.heard
        product += float(piece.product[chosen].sum())
        energy += float(piece.power[chosen].sum())
    score = product / float(np.sqrt(recording.power.sum() * energy))
    words = _words(recording.text, covered)
    if score < _LEAST_SCORE or words == "…":
        return None
    before, after = min(group, key=_begin), max(group, key=_end)
    return Heard(
        text=recording.text,
        words=words,
        phrase_id=recording.phrase_id,
        score=min(1.0, score),
        begins_ms=max(0, _begin(before)) * 1000 // RATE_HZ,
        ends_ms=_end(after) * 1000 // RATE_HZ,
        missing_start_ms=first * FRAME_MS if recording.loud[:first].any() else 0,
        missing_end_ms=(len(covered) - last) * FRAME_MS if recording.loud[last:].any() else 0,
        holes_ms=_holes_ms(recording, covered[first:last], first),
        repeated_ms=_repeated_ms(group),
    )


def _holes_ms(recording: Recording, covered: Mask, first: int) -> int:
    """How much is missing inside; a pause at the edge of a hole may have been there, so it is not."""
    n_frames = 0
    for begin, end in runs(~covered):
        loud = np.flatnonzero(recording.loud[first + begin : first + end])
        n_frames += int(loud[-1] - loud[0]) + 1 if len(loud) else 0
    return n_frames * FRAME_MS


def _repeated_ms(group: Sequence[Piece]) -> int:
    """How much was there twice, pauses included where the pieces follow each other at once."""
    n_samples = 0
    by_time = sorted(group, key=_begin)
    for before, after in itertools.pairwise(by_time):
        doubled = int((before.heard & after.heard).sum()) * FRAME
        at_once = _begin(after) - _end(before) < 5 * FRAME
        n_samples += max(doubled, after.at - before.at) if doubled and at_once else doubled
    return n_samples * 1000 // RATE_HZ


def _begin(piece: Piece) -> int:
    """The sample of the audio where a piece begins to be heard."""
    return piece.at + int(piece.heard.argmax()) * FRAME


def _end(piece: Piece) -> int:
    return piece.at + (len(piece.heard) - int(piece.heard[::-1].argmax())) * FRAME


def _something_else(
    piece: Piece, frames: range, explained: Mask, power: npt.NDArray[np.float32]
) -> int:
    """In how many of a piece's frames the audio has other, unexplained speech instead."""
    n_other = 0
    least = QUIET * float(piece.recording.power.mean())
    for frame in frames:
        begin = piece.at + frame * FRAME
        if piece.recording.loud[frame] and 0 <= begin < len(explained):
            heard_there = power[min(begin // FRAME, len(power) - 1)]
            n_other += bool(heard_there > least and not explained[begin])
    return n_other


def _words(text: str, covered: Mask) -> str:
    """The words that were there for at least half; where they stand is estimated by letters."""
    words = text.split()
    n_letters = sum(len(word) for word in words)
    kept: list[str] = []
    begin = 0.0
    for word in words:
        end = begin + len(covered) * len(word) / n_letters
        if covered[int(begin) : max(int(begin) + 1, int(end))].mean() >= 0.5:
            kept.append(word)
        elif not kept or kept[-1] != "…":
            kept.append("…")
        begin = end
    return " ".join(kept)
