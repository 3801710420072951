from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.tail import AudioTail

whole_samples = st.binary(max_size=60).map(lambda pcm: pcm[: len(pcm) & ~1])


def test_audio_comes_out_in_order_and_only_once() -> None:
    tail = AudioTail(32_000, 1.0)
    assert tail.append(b"abcd") == 0
    assert tail.append(b"ef") == 0
    assert len(tail) == 6
    assert tail.take() == b"abcdef"
    assert tail.take() == b""
    assert len(tail) == 0


def test_the_oldest_audio_goes_first_and_is_counted() -> None:
    tail = AudioTail(10, 1.0)
    assert tail.append(b"0123456789") == 0
    assert tail.append(b"abcd") == 4
    assert tail.take() == b"456789abcd"


def test_a_chunk_longer_than_the_tail_leaves_its_end() -> None:
    tail = AudioTail(10, 1.0)
    tail.append(b"xy")
    assert tail.append(b"0123456789abcd") == 6
    assert tail.take() == b"456789abcd"


def test_it_knows_how_many_seconds_it_holds() -> None:
    tail = AudioTail(32_000, 10.0)
    tail.append(bytes(5_120))
    assert tail.seconds == 0.16
    tail.clear()
    assert tail.seconds == 0


def test_half_a_sample_is_refused_and_changes_nothing() -> None:
    tail = AudioTail(32_000, 1.0)
    tail.append(b"ab")
    with pytest.raises(ValueError, match="half a sample"):
        tail.append(b"c")
    assert tail.take() == b"ab"


@pytest.mark.parametrize(("rate", "max_s"), [(0, 1.0), (32_000, 0.0), (-1, 1.0)])
def test_a_tail_that_could_hold_nothing_is_refused(rate: int, max_s: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        AudioTail(rate, max_s)


@given(
    st.lists(whole_samples | st.none()),
    st.integers(min_value=2, max_value=100),
)
def test_a_tail_is_the_end_of_what_came_since_it_was_taken(
    steps: list[bytes | None], rate: int
) -> None:
    """`None` takes; the oracle is a plain byte string."""
    tail, plain = AudioTail(rate, 1.0), b""
    for step in steps:
        if step is None:
            assert tail.take() == plain
            plain = b""
            continue
        kept = (plain + step)[-(rate & ~1) :]
        assert tail.append(step) == len(plain) + len(step) - len(kept)
        plain = kept
        assert len(tail) == len(plain) <= rate
    assert tail.take() == plain
