from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.tones import tone
from opusagent.simulators.speech_cue import SpeechCue

RATE_HZ = 8_000


def word(seconds: float) -> bytes:
    return tone(300, seconds, RATE_HZ)


def quiet(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE_HZ))


def cue(into_s: float, nth: int = 1) -> SpeechCue:
    return SpeechCue(into_s, nth, rate_hz=RATE_HZ, threshold_rms=300)


def moment(of: SpeechCue, pcm: bytes, chunk: int = 320) -> float | None:
    """Seconds of audio that were fed when it came, in chunks of so many bytes."""
    for start in range(0, len(pcm), chunk):
        if of.feed(pcm[start : start + chunk]):
            return min(start + chunk, len(pcm)) / 2 / RATE_HZ
    return None


def test_it_comes_when_the_caller_has_been_speaking_so_long() -> None:
    assert moment(cue(0.3), quiet(1) + word(2)) == pytest.approx(1.3, abs=0.021)


def test_it_does_not_come_in_the_pause_after_a_word_that_was_too_short() -> None:
    assert moment(cue(0.5), word(0.4) + quiet(2)) is None


def test_a_pause_within_what_she_says_counts_but_does_not_strike() -> None:
    pcm = word(0.4) + quiet(0.3) + word(0.4)
    assert moment(cue(0.5), pcm) == pytest.approx(0.7, abs=0.021)


def test_it_comes_the_nth_time_that_she_speaks_so_long() -> None:
    pcm = word(0.4) + quiet(1) + word(0.1) + quiet(1) + word(0.4)
    assert moment(cue(0.3, nth=2), pcm) == pytest.approx(2.8, abs=0.021)


def test_it_comes_once() -> None:
    watched = cue(0.1)
    assert watched.feed(word(0.5))
    assert not watched.feed(word(5) + quiet(1) + word(5))


def test_only_what_begins_once_it_is_armed_counts() -> None:
    watched = cue(0.3)
    assert not watched.feed(word(0.4), armed=False)
    assert not watched.feed(word(1), armed=True)
    assert watched.feed(quiet(1) + word(0.4), armed=True)


@given(st.integers(1, 5_000))
def test_the_size_of_the_chunks_changes_nothing(chunk: int) -> None:
    at_s = moment(cue(0.2), quiet(0.5) + word(0.5), chunk)
    assert at_s is not None
    assert 0.7 <= at_s < 0.72 + chunk / 2 / RATE_HZ
