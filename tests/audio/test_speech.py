from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.speech import SpeechChange, SpeechDetector, rms
from opusagent.audio.tones import tone

RATE = 16_000
CHUNK_MS = [10, 20, 40, 160]


def noise(ms: int, level: int) -> bytes:
    return struct.pack("<2h", level, -level) * (RATE * ms // 2_000)


def changes(detector: SpeechDetector, pcm: bytes, chunk_ms: int) -> list[tuple[int, SpeechChange]]:
    """What changed, and how many milliseconds of sound had been heard by then."""
    size = RATE * 2 * chunk_ms // 1_000
    return [
        ((at + size) * 1_000 // (2 * RATE), change)
        for at in range(0, len(pcm), size)
        if (change := detector.feed(pcm[at : at + size]))
    ]


def test_loudness_is_the_root_mean_square_of_the_samples() -> None:
    assert rms(b"") == 0
    assert rms(noise(20, 1_000)) == 1_000
    assert rms(tone(440, 1.0, RATE, volume=0.5)) == pytest.approx(32_767 * 0.5 / 2**0.5, rel=0.02)


@pytest.mark.parametrize("chunk_ms", CHUNK_MS)
def test_speech_starts_soon_and_stops_after_the_hang_time_whatever_the_chunks(
    chunk_ms: int,
) -> None:
    detector = SpeechDetector(RATE)
    pcm = noise(320, 20) + noise(640, 2_000) + noise(960, 20)
    (started_ms, started), (stopped_ms, stopped) = changes(detector, pcm, chunk_ms)
    assert (started, stopped) == (SpeechChange.STARTED, SpeechChange.STOPPED)
    assert 320 + 60 <= started_ms <= 320 + 60 + chunk_ms
    assert 960 + 400 <= stopped_ms <= 960 + 400 + chunk_ms
    assert not detector.speaking


@pytest.mark.parametrize("chunk_ms", CHUNK_MS)
def test_a_pause_between_words_is_not_the_end_of_speech(chunk_ms: int) -> None:
    detector = SpeechDetector(RATE)
    pcm = noise(320, 2_000) + noise(320, 20) + noise(320, 2_000)
    assert [change for _, change in changes(detector, pcm, chunk_ms)] == [SpeechChange.STARTED]
    assert detector.speaking


def test_a_click_is_no_speech() -> None:
    detector = SpeechDetector(RATE)
    click = noise(20, 8_000) + noise(180, 20)
    assert changes(detector, click * 20, 20) == []


def test_a_short_gap_in_the_first_word_does_not_hide_it() -> None:
    detector = SpeechDetector(RATE)
    pcm = noise(40, 2_000) + noise(20, 20) + noise(60, 2_000)
    assert [change for _, change in changes(detector, pcm, 20)] == [SpeechChange.STARTED]


def test_line_noise_is_silence() -> None:
    assert changes(SpeechDetector(RATE), noise(5_000, 150), 20) == []


def test_a_chunk_without_samples_says_nothing() -> None:
    assert SpeechDetector(RATE).feed(b"") is None


def test_the_thresholds_are_settings() -> None:
    detector = SpeechDetector(RATE, threshold_rms=3_000, start_s=0.2, hang_s=0.1)
    pcm = noise(400, 2_000) + noise(400, 4_000) + noise(400, 2_000)
    assert changes(detector, pcm, 20) == [
        (600, SpeechChange.STARTED),
        (900, SpeechChange.STOPPED),
    ]


@given(st.lists(st.tuples(st.sampled_from([0, 20, 250, 400, 9_000]), st.integers(0, 700))))
def test_starts_and_stops_take_turns(sounds: list[tuple[int, int]]) -> None:
    detector = SpeechDetector(RATE)
    found = []
    for level, ms in sounds:
        if change := detector.feed(noise(ms, level)):
            found.append(change)
        assert detector.speaking is (bool(found) and found[-1] is SpeechChange.STARTED)
    assert found[::2] == [SpeechChange.STARTED] * len(found[::2])
    assert found[1::2] == [SpeechChange.STOPPED] * len(found[1::2])


@pytest.mark.parametrize("chunk_ms", CHUNK_MS)
def test_noise_that_never_pauses_is_taken_for_noise_after_ten_seconds(chunk_ms: int) -> None:
    detector = SpeechDetector(RATE)
    assert changes(detector, noise(10_000, 500), chunk_ms)[-1][1] is SpeechChange.STARTED
    assert changes(detector, noise(1_000, 500), chunk_ms)[-1][1] is SpeechChange.STOPPED
    assert changes(detector, noise(500, 2_000), chunk_ms)[-1][1] is SpeechChange.STARTED


def test_when_the_noise_is_gone_quiet_speech_is_heard_again() -> None:
    detector = SpeechDetector(RATE)
    changes(detector, noise(11_000, 500) + noise(10_000, 0) + noise(10_000, 0), 20)
    assert changes(detector, noise(200, 400), 20)


def test_speech_with_pauses_between_words_raises_nothing() -> None:
    detector = SpeechDetector(RATE)
    words = (noise(700, 3_000) + noise(100, 50)) * 20
    assert [change for _, change in changes(detector, words, 20)] == [SpeechChange.STARTED]


def test_the_threshold_never_rises_above_what_a_caller_can_reach() -> None:
    detector = SpeechDetector(RATE, threshold_rms=300)
    changes(detector, noise(20_000, 20_000), 20)
    assert detector.speaking
