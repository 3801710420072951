from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.call.playback import Playback

RATE = 48_000
T0 = 100.0


def pcm(seconds: float) -> bytes:
    return bytes(2 * round(RATE / 2 * seconds))


def drained(playback: Playback, now: float) -> tuple[list[tuple[float, bytes]], float]:
    """Everything that is handed over from now on, with its time."""
    pieces = []
    while (due_at := playback.next_timer()) is not None:
        now = max(now, due_at)
        piece = playback.due(now)
        assert piece, "nothing at the time of the timer"
        pieces.append((now, piece))
    return pieces, now


def test_the_lead_leaves_at_once_and_the_rest_in_step_with_the_ear() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.add(pcm(1.0), "a")
    assert playback.due(T0) == pcm(0.3)
    assert playback.due(T0) == b""
    assert playback.next_timer() == pytest.approx(T0 + 0.1)
    pieces, now = drained(playback, T0)
    assert [len(piece) for _, piece in pieces] == [4800] * 7
    assert now == pytest.approx(T0 + 0.7)
    assert playback.ends_at == pytest.approx(T0 + 1.0)


def test_a_stall_of_this_process_is_caught_up_at_once_and_not_beyond_the_lead() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.add(pcm(10.0), "a")
    playback.due(T0)
    assert len(playback.due(T0 + 5.0)) == len(pcm(0.3))


def test_a_block_has_begun_once_the_first_of_it_was_handed_over() -> None:
    playback = Playback(RATE)
    playback.begin()
    for block in "abc":
        playback.add(pcm(0.25), block)
    assert playback.begun() == []
    playback.due(T0)
    assert playback.begun() == ["a", "b"]
    playback.due(T0 + 0.1)
    assert playback.begun() == []
    playback.due(T0 + 0.3)
    assert playback.begun() == ["c"]
    playback.begin()
    playback.add(pcm(0.25), "d")
    assert playback.begun() == []
    playback.interrupt(T0 + 0.4, flushed=True)
    assert playback.begun() == []


def test_what_was_heard_at_an_interruption_is_what_the_phone_had_time_to_play() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.add(pcm(0.2), "a")
    playback.add(pcm(0.2), "b")
    playback.add(pcm(2.0), "c")
    playback.due(T0)
    cut = playback.interrupt(T0 + 0.1, flushed=True)
    assert cut.heard_s == pytest.approx(0.1)
    assert cut.dropped_s == pytest.approx(2.1)
    assert cut.heard == {"a"}
    assert cut.unheard == {"b", "c"}
    assert not playback.audible(T0 + 0.1)
    assert playback.next_timer() is None


def test_what_the_phone_was_not_told_to_drop_still_counts_as_its_lead() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.add(pcm(2.0), "a")
    playback.due(T0)
    playback.interrupt(T0 + 0.1, flushed=False)
    assert playback.audible(T0 + 0.1)
    playback.begin()
    playback.add(pcm(2.0), "b")
    assert len(playback.due(T0 + 0.1)) == len(pcm(0.1))


def test_a_new_play_stream_counts_from_its_own_beginning() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.add(pcm(0.1), "a")
    playback.due(T0)
    playback.begin()
    playback.add(pcm(5.0), "b")
    playback.due(T0 + 1.0)
    cut = playback.interrupt(T0 + 1.2, flushed=True)
    assert cut.heard_s == pytest.approx(0.2, abs=1e-3)
    assert cut.heard == {"b"}


@given(
    sizes=st.lists(st.integers(1, 4000).map(lambda n: 2 * n), min_size=1, max_size=20),
    rate=st.sampled_from([16_000, 32_000, 48_000]),
    lead_s=st.floats(0.0, 1.0),
    start=st.floats(0.0, 1e7),
)
def test_audio_leaves_whole_in_order_and_never_more_than_the_lead_ahead(
    sizes: list[int], rate: int, lead_s: float, start: float
) -> None:
    playback = Playback(rate, lead_s=lead_s)
    playback.begin()
    audio = b"".join(bytes([i % 256]) * size for i, size in enumerate(sizes))
    position = 0
    for size in sizes:
        playback.add(audio[position : position + size], str(position))
        position += size
    first = playback.due(start)
    pieces, _ = drained(playback, start)
    assert first + b"".join(piece for _, piece in pieces) == audio
    ends_at = start + len(first) / rate
    allowed_s = max(lead_s, 0.01) + 1e-4
    assert len(first) / rate <= allowed_s
    for at, piece in pieces:
        ends_at = max(ends_at, at) + len(piece) / rate
        assert ends_at - at <= allowed_s
    assert all(len(piece) % 2 == 0 for _, piece in pieces)


@given(
    lead_s=st.floats(0.05, 1.0),
    seconds=st.floats(0.5, 5.0),
    start=st.floats(0.0, 1e6),
)
def test_the_phone_never_runs_dry_while_audio_waits(
    lead_s: float, seconds: float, start: float
) -> None:
    playback = Playback(RATE, lead_s=lead_s)
    playback.begin()
    playback.add(pcm(seconds), "a")
    ends_at = start + len(playback.due(start)) / RATE
    pieces, _ = drained(playback, start)
    for at, piece in pieces:
        assert at <= ends_at + 1e-4
        ends_at += len(piece) / RATE


def test_what_never_left_is_handed_over_again_before_what_waits() -> None:
    playback = Playback(RATE)
    playback.begin()
    sound = bytes(range(256)) * 64
    playback.add(sound, "a")
    first = playback.due(T0)
    kept, unsent = first[:600], first[600:]
    playback.put_back(unsent)
    assert playback.remaining_s(T0) == pytest.approx(len(sound) / RATE)
    left, now = b"", T0 + 60.0
    while (due_at := playback.next_timer()) is not None:
        now = max(now, due_at)
        left += playback.due(now)
    assert kept + left == sound
    assert playback.given_s == pytest.approx(len(sound) / RATE)


def test_what_never_left_of_the_play_stream_before_does_not_count_as_heard_of_this_one() -> None:
    playback = Playback(RATE)
    playback.begin()
    playback.add(pcm(0.1), "a")
    playback.due(T0)
    playback.begin()
    playback.add(pcm(0.1), "b")
    playback.due(T0)
    playback.put_back(pcm(0.2))
    playback.add(pcm(0.1), "c")
    playback.due(T0 + 10.0)
    assert playback.interrupt(T0 + 10.05, flushed=True).unheard == {"b", "c"}


def test_what_comes_after_what_never_left_is_heard_after_it() -> None:
    playback = Playback(RATE, lead_s=1.0)
    playback.begin()
    playback.add(pcm(0.2), "a")
    playback.due(T0)
    playback.begin()
    playback.put_back(pcm(0.2))
    playback.add(pcm(0.2), "b")
    playback.due(T0 + 10.0)
    assert playback.interrupt(T0 + 10.15, flushed=True).unheard == {"b"}
