from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from opusagent.sonic.peer_hearing import Hearing, SpeechBegan, Utterance
from tests.sonic.duet import HELLO, RATE_HZ, silence, spoken

CONVERSATION = (
    silence(0.5) + spoken(HELLO, 0.7) + silence(1.0) + spoken(HELLO, 0.3) + silence(1.6)
    + spoken(HELLO, 1.1) + silence(2.0)
)  # fmt: skip


def hearing(**options: float) -> Hearing:
    return Hearing(RATE_HZ, pause_s=1.5, **options)  # type: ignore[arg-type]


def test_a_pause_shorter_than_the_endpointing_does_not_end_an_utterance() -> None:
    found = hearing().feed(CONVERSATION)
    kinds = [type(one) for one in found]
    assert kinds == [SpeechBegan, Utterance, SpeechBegan, Utterance]
    first, second = (one for one in found if isinstance(one, Utterance))
    assert (round(first.from_s, 2), round(first.until_s, 2)) == (0.5, 2.5)
    assert (round(second.from_s, 2), round(second.until_s, 2)) == (4.1, 5.2)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 40_000), max_size=20))
def test_a_burst_is_heard_like_the_same_audio_in_pieces(sizes: list[int]) -> None:
    pieces, rest = [], CONVERSATION
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    one = hearing()
    found = [event for piece in [*pieces, rest] for event in one.feed(piece)]
    assert found == hearing().feed(CONVERSATION)


def test_an_utterance_holds_the_speech_with_a_little_around_it() -> None:
    (_, utterance) = hearing().feed(silence(2) + spoken(HELLO, 1) + silence(2))
    assert isinstance(utterance, Utterance)
    assert spoken(HELLO, 1) in utterance.pcm
    assert len(utterance.pcm) / 2 / RATE_HZ < 1.6


def test_a_click_is_no_speech() -> None:
    assert hearing().feed(silence(1) + spoken(HELLO, 0.04) + silence(2)) == []


def test_what_is_softer_than_the_threshold_is_no_speech() -> None:
    assert hearing(threshold_rms=2_500).feed(spoken(HELLO, 2) + silence(2)) == []


def test_a_fresh_stream_may_be_deaf_at_first() -> None:
    (began, _) = hearing(deaf_s=0.5).feed(spoken(HELLO, 1) + silence(2))
    assert isinstance(began, SpeechBegan)
    assert round(began.at_s, 2) == 0.5


def test_the_two_halves_of_two_utterances_do_not_mix() -> None:
    found = hearing().feed((spoken(HELLO, 0.5) + silence(1.5)) * 2)
    first, second = (one for one in found if isinstance(one, Utterance))
    assert len(first.pcm) <= len(second.pcm) < 2 * RATE_HZ
