"""Two voices on one clock. At 1 kHz a sample is a millisecond."""

from __future__ import annotations

import math
from array import array

import audioop
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.stereo import HOLD_S, StereoTrack

HZ = 1_000


class Tape:
    """A track, and what it wrote."""

    def __init__(self, caller_hz: int = HZ, bot_hz: int = HZ) -> None:
        self.pieces: list[bytes] = []
        self.track = StereoTrack(caller_hz=caller_hz, bot_hz=bot_hz, write=self.pieces.append)

    def sides(self, until_s: float) -> tuple[list[int], list[int]]:
        """End it; the samples of caller and bot."""
        self.track.finish(until_s)
        both = array("h", b"".join(self.pieces))
        assert len(both) == 2 * round(until_s * self.track.rate_hz)
        return list(both[0::2]), list(both[1::2])


def pcm(value: int, n: int) -> bytes:
    return array("h", [value] * n).tobytes()


def spans(samples: list[int]) -> list[tuple[int, int, int]]:
    """Runs of sound: first position, position after the last, value."""
    runs: list[tuple[int, int, int]] = []
    for at, value in enumerate(samples):
        if runs and runs[-1][1:] == (at, value):
            runs[-1] = (runs[-1][0], at + 1, value)
        elif value:
            runs.append((at, at + 1, value))
    return runs


def test_the_caller_s_chunk_ends_when_it_came_and_the_bot_s_begins_then() -> None:
    tape = Tape()
    assert tape.track.caller(pcm(5, 100), 1.0)
    assert tape.track.bot(pcm(7, 100), 1.0)
    caller, bot = tape.sides(3.0)
    assert spans(caller) == [(900, 1000, 5)]
    assert spans(bot) == [(1000, 1100, 7)]


def test_what_the_bot_is_given_early_waits_for_what_it_was_given_before() -> None:
    tape = Tape()
    tape.track.bot(pcm(1, 300), 1.0)
    tape.track.bot(pcm(2, 100), 1.1)
    tape.track.bot(pcm(3, 100), 2.0)
    _, bot = tape.sides(3.0)
    assert spans(bot) == [(1000, 1300, 1), (1300, 1400, 2), (2000, 2100, 3)]


def test_a_bot_that_is_silenced_is_not_heard_from_that_moment_on() -> None:
    tape = Tape()
    tape.track.bot(pcm(1, 300), 1.0)
    tape.track.bot_silenced(1.2)
    tape.track.bot(pcm(2, 100), 1.25)
    _, bot = tape.sides(3.0)
    assert spans(bot) == [(1000, 1200, 1), (1250, 1350, 2)]


def test_what_the_bot_has_not_played_when_the_call_ends_is_not_heard() -> None:
    tape = Tape()
    tape.track.bot(pcm(1, 300), 1.0)
    _, bot = tape.sides(1.1)
    assert spans(bot) == [(1000, 1100, 1)]


def test_silence_of_the_caller_stays_silence() -> None:
    tape = Tape()
    tape.track.caller(pcm(1, 20), 1.0)
    tape.track.caller(pcm(2, 20), 1.5)
    caller, _ = tape.sides(2.0)
    assert spans(caller) == [(980, 1000, 1), (1480, 1500, 2)]


def test_a_voice_is_not_early_because_the_call_is_young() -> None:
    tape = Tape()
    tape.track.caller(pcm(1, 20), 0.15)
    caller, _ = tape.sides(1.0)
    assert spans(caller) == [(130, 150, 1)]


def test_chunks_that_come_unevenly_leave_no_seam() -> None:
    tape = Tape()
    for at_ms in (1000, 1050, 1051, 1060, 1200, 1201, 1202):
        tape.track.caller(pcm(1, 20), at_ms / 1000)
    caller, _ = tape.sides(2.0)
    ((begins, ends, _),) = spans(caller)
    assert ends - begins == 7 * 20
    assert begins <= 980


def test_a_burst_after_a_stall_is_put_where_it_was_spoken() -> None:
    tape = Tape()
    tape.track.caller(pcm(1, 20), 1.0)
    for _ in range(50):  # a second of sound, all at once
        tape.track.caller(pcm(2, 20), 2.5)
    tape.track.caller(pcm(3, 20), 2.52)
    caller, _ = tape.sides(3.0)
    assert spans(caller) == [(980, 1000, 1), (1500, 2500, 2), (2500, 2520, 3)]


def test_the_lower_rate_is_raised_without_seams() -> None:
    wave = array("h", (round(9000 * math.sin(n / 7)) for n in range(8_000))).tobytes()
    tape = Tape(caller_hz=8_000, bot_hz=24_000)
    at = 0
    for n, size in enumerate([160, 38, 802, 1_000, 6_000, 8_000]):
        piece = wave[at : at + size]
        at += size
        tape.track.caller(piece, 1.0 + at / 16_000)
        assert tape.track.bot(pcm(n, 10), 1.0)
    caller, _ = tape.sides(2.5)
    at_once, _ = audioop.ratecv(wave, 2, 1, 8_000, 24_000, None)
    assert caller[24_000 : 24_000 + len(at_once) // 2] == list(array("h", at_once))


def test_half_a_sample_waits_for_its_other_half() -> None:
    tape = Tape()
    sound = pcm(0x0102, 100)
    tape.track.bot(sound[:33], 1.0)
    tape.track.bot(sound[33:66], 1.0)
    tape.track.bot(sound[66:], 1.0)
    _, bot = tape.sides(2.0)
    assert spans(bot) == [(1000, 1100, 0x0102)]


def test_sound_is_written_while_the_call_goes_on() -> None:
    tape = Tape()
    for n in range(1, 1_000):
        at_s = n * 0.02
        tape.track.caller(pcm(1, 20), at_s)
        held_s = at_s - sum(map(len, tape.pieces)) / 4 / HZ
        assert held_s < HOLD_S + 1.0


def test_a_long_silence_is_written_piece_by_piece() -> None:
    tape = Tape()
    tape.track.caller(pcm(1, 20), 3_600.0)
    assert max(map(len, tape.pieces)) == 4 * HZ
    caller, _ = tape.sides(3_600.5)
    assert spans(caller) == [(3_599_980, 3_600_000, 1)]


def test_a_voice_that_runs_ten_seconds_ahead_of_the_clock_finds_no_room() -> None:
    tape = Tape()
    taken = [tape.track.caller(pcm(1, 1_000), 1.0) for _ in range(20)]
    assert taken == [True] * 12 + [False] * 8
    taken = [tape.track.bot(pcm(1, 1_000), 1.0) for _ in range(20)]
    assert taken == [True] * 11 + [False] * 9


@given(st.lists(st.integers(0, 180), max_size=60), st.integers(1, 9))
def test_jitter_neither_loses_nor_repeats_nor_reorders_sound(late_ms: list[int], hz: int) -> None:
    tape = Tape(HZ * hz, HZ * hz)
    arrival = 0.0
    for n, late in enumerate(late_ms):
        arrival = max(arrival, 1.0 + n * 0.02 + late / 1000)
        assert tape.track.caller(pcm(n + 1, 20 * hz), arrival)
    caller, _ = tape.sides(10.0)
    assert [value for *_, value in spans(caller)] == list(range(1, len(late_ms) + 1))
    assert sum(ends - begins for begins, ends, _ in spans(caller)) == 20 * hz * len(late_ms)


@pytest.mark.parametrize(("caller_hz", "bot_hz"), [(8_000, 24_000), (16_000, 8_000)])
def test_the_higher_rate_is_the_common_one(caller_hz: int, bot_hz: int) -> None:
    tape = Tape(caller_hz, bot_hz)
    assert tape.track.rate_hz == max(caller_hz, bot_hz)
