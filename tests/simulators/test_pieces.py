from __future__ import annotations

import numpy as np

from opusagent.simulators.pieces import FRAME, Recording, align, power_of_frames, runs
from opusagent.simulators.resampling import Samples


def sound(n_frames: int, seed: int = 1) -> Samples:
    """A low rumble that never repeats."""
    noise = np.random.default_rng(seed).normal(0, 3000, n_frames * FRAME + 64)
    return np.convolve(noise, np.ones(16) / 4, mode="valid")[: n_frames * FRAME].astype(np.float32)


def recording(samples: Samples) -> Recording:
    return Recording("id", "text", samples, samples[::4])


def test_the_ranges_of_a_mask_are_half_open() -> None:
    mask = np.array([True, True, False, False, True, False, True])
    assert runs(mask) == [(0, 2), (4, 5), (6, 7)]
    assert runs(np.zeros(3, dtype=np.bool_)) == []


def test_a_recording_is_aligned_to_the_sample() -> None:
    samples = sound(50)
    audio = np.concatenate([np.zeros(1234, dtype=np.float32), samples])
    piece = align(recording(samples), audio, 1232)
    assert piece is not None
    assert piece.at == 1234
    assert piece.heard.all()


def test_what_is_not_there_is_not_heard() -> None:
    samples = sound(50)
    piece = align(recording(samples), samples[: 30 * FRAME], 0)
    assert piece is not None
    assert runs(piece.heard) == [(0, 30)]


def test_another_sound_is_no_piece() -> None:
    assert align(recording(sound(50)), sound(50, seed=2), 0) is None


def test_a_place_outside_the_audio_is_no_piece() -> None:
    samples = sound(20)
    assert align(recording(samples), samples, 10 * len(samples)) is None
    assert align(recording(samples), samples, -10 * len(samples)) is None


def test_a_few_alike_frames_are_chance() -> None:
    samples = sound(50)
    piece = align(recording(samples), samples[: 4 * FRAME], 0)
    assert piece is None


def test_pauses_and_loud_frames_are_told_apart() -> None:
    samples = sound(30)
    samples[10 * FRAME : 20 * FRAME] = 0
    one = recording(samples)
    assert runs(one.loud) == [(0, 10), (20, 30)]
    assert (power_of_frames(samples) > 0).tolist() == one.loud.tolist()


def test_one_saying_of_a_phrase_is_near_in_time() -> None:
    samples = sound(50)
    one = recording(samples)
    first = align(one, np.concatenate([samples, samples]), 0)
    second = align(one, np.concatenate([samples, samples]), len(samples))
    assert first is not None
    assert second is not None
    assert first.goes_on(first)
    assert not second.goes_on(first)
