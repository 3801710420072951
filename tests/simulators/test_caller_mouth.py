from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.tones import tone
from opusagent.simulators.caller_mouth import Mouth, speech_bounds


def test_silence_wherever_nothing_is_said() -> None:
    mouth = Mouth(8_000)
    mouth.say(b"\x01\x00\x02\x00", 3)

    assert mouth.sound(0, 3) == bytes(6)
    assert mouth.sound(3, 4) == b"\x01\x00\x02\x00" + bytes(4)
    assert mouth.sound(7, 2) == bytes(4)


def test_what_is_said_while_something_is_being_said_comes_after_it() -> None:
    mouth = Mouth(8_000)
    assert mouth.say(b"\x01\x00" * 10, 0) == 0
    assert mouth.say(b"\x02\x00" * 10, 4) == 10
    assert mouth.ends_at == 20
    assert mouth.sound(8, 4) == b"\x01\x00" * 2 + b"\x02\x00" * 2


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), max_size=6),
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_sound_taken_in_chunks_is_sound_taken_at_once(
    said: list[tuple[int, int]], sizes: list[int]
) -> None:
    whole, chunked = Mouth(8_000), Mouth(8_000)
    at = 0
    for value, (pause, length) in enumerate(said, start=1):
        at += pause
        for mouth in (whole, chunked):
            mouth.say(bytes([value, 0]) * length, at)
    pieces, first = b"", 0
    for size in sizes:
        pieces += chunked.sound(first, size)
        first += size
    assert pieces == whole.sound(0, first)


def test_speech_begins_and_ends_where_the_silence_does() -> None:
    sound = tone(440, 1.0, 8_000)
    pcm = bytes(2 * 4_000) + sound + bytes(2 * 2_000)

    first, end = speech_bounds(pcm, 8_000)

    assert abs(first - 4_000) <= 160  # the tone rises softly
    assert abs(end - 12_000) <= 160


def test_a_recording_of_silence_is_taken_as_a_whole() -> None:
    assert speech_bounds(bytes(1_000), 8_000) == (0, 500)
