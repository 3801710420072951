from __future__ import annotations

from itertools import pairwise

import audioop
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.simulators.numbered import NumberedAudio, NumberedReader
from opusagent.simulators.voice import EspeakVoice

AUDIO = NumberedAudio(20, 8_000)
SHAPES = [(20, 8_000), (20, 16_000), (20, 24_000), (160, 16_000), (5, 8_000), (30, 24_000)]


@pytest.mark.parametrize(("frame_ms", "rate_hz"), SHAPES)
def test_frames_are_numbered_whole_and_loud_enough_to_be_speech(
    frame_ms: int, rate_hz: int
) -> None:
    audio = NumberedAudio(frame_ms, rate_hz)
    pcm = audio.frames(1000, 50)
    assert len(pcm) == 50 * 2 * rate_hz * frame_ms // 1000
    assert audio.decode(pcm) == list(range(1000, 1050))
    assert audioop.rms(audio.frame(7), 2) > 2000


@pytest.mark.parametrize(("frame_ms", "rate_hz"), SHAPES)
def test_numbers_survive_a_mu_law_telephone_line(frame_ms: int, rate_hz: int) -> None:
    audio = NumberedAudio(frame_ms, rate_hz)
    line = audioop.ulaw2lin(audioop.lin2ulaw(audio.frames(2**32 - 9, 9), 2), 2)
    assert audio.decode(line) == list(range(2**32 - 9, 2**32))


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_any_frames_in_any_order_are_read_back(numbers: list[int]) -> None:
    assert AUDIO.decode(b"".join(map(AUDIO.frame, numbers))) == numbers


@given(st.lists(st.integers(0, 3200), max_size=20))
def test_reading_in_chunks_equals_reading_at_once(cuts: list[int]) -> None:
    pcm = AUDIO.frames(5, 4) + bytes(123 * 2) + AUDIO.frames(9, 3) + AUDIO.frame(12)[:100]
    reader = NumberedReader(AUDIO)
    edges = [0, *sorted(min(cut, len(pcm)) for cut in cuts), len(pcm)]
    found = [frame for begin, end in pairwise(edges) for frame in reader.feed(pcm[begin:end])]
    assert [*found, *reader.finish()] == AUDIO.find(pcm)


def test_silence_and_speech_between_frames_are_passed_over(caller_voice: EspeakVoice) -> None:
    pcm = (
        bytes(2 * 77)
        + AUDIO.frame(1)
        + caller_voice.speak("My name is Alice Miller.", 8_000)
        + AUDIO.frame(2)
        + bytes(2 * 5)
    )
    assert AUDIO.decode(pcm) == [1, 2]


def test_a_frame_that_lost_its_end_is_found_but_not_whole() -> None:
    pcm = AUDIO.frame(1)[:-20] + AUDIO.frame(2) + AUDIO.frame(3)[:-2]
    assert AUDIO.decode(pcm) == [2]
    assert [(f.number, f.whole) for f in AUDIO.find(pcm)] == [(1, False), (2, True), (3, False)]


def test_a_frame_says_where_it_was_found() -> None:
    pcm = bytes(2 * 100) + AUDIO.frames(0, 2)
    assert [frame.at_sample for frame in AUDIO.find(pcm)] == [100, 260]


def test_a_frame_that_lost_its_beginning_or_its_number_is_no_frame() -> None:
    frame = AUDIO.frame(77)
    assert AUDIO.find(frame[2:]) == []
    assert AUDIO.find(frame[:18] + b"\x00\x00" + frame[20:]) == []
    assert AUDIO.find(frame[:28] + frame[30:32] + frame[28:30] + frame[32:]) == []


def test_a_frame_off_by_one_byte_is_noise() -> None:
    assert AUDIO.find(b"\x00" + AUDIO.frames(1, 3)) == []


def test_a_frame_too_short_for_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="2 ms at 8000 Hz"):
        NumberedAudio(2, 8_000)
