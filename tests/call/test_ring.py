from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from opusagent.call.ring import ReplayRing

RATE = 32_000
FRAME = 640  # 20 ms


class Caller:
    """Puts numbered frames into a ring."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.ring = ReplayRing(RATE, seconds)
        self._next = 0

    def says(
        self, seconds: float, *, speech: bool = True, heard: bool = True, rising: bool = False
    ) -> list[int]:
        numbers = []
        for _ in range(round(seconds * 50)):
            pcm = self._next.to_bytes(4, "little") + bytes(FRAME - 4)
            self.ring.add(pcm, speech=speech, heard=heard, rising=rising)
            numbers.append(self._next)
            self._next += 1
        return numbers

    def pauses(self, seconds: float) -> list[int]:
        return self.says(seconds, speech=False)

    def clicks(self, seconds: float) -> list[int]:
        return self.says(seconds, speech=False, rising=True)

    @property
    def replay(self) -> list[int]:
        return [int.from_bytes(pcm[:4], "little") for pcm in self.ring.uncommitted()]


def test_silence_is_nothing_to_replay() -> None:
    caller = Caller()
    caller.pauses(5.0)
    assert caller.replay == []


def test_speech_is_replayed_from_half_a_second_before_it_to_the_newest_frame() -> None:
    caller = Caller()
    before = caller.pauses(2.0)
    said, after = caller.says(1.0), caller.pauses(0.3)
    assert caller.replay == before[-25:] + said + after


def test_sound_too_short_to_be_speech_is_replayed_because_it_may_begin_a_word() -> None:
    caller = Caller()
    caller.pauses(2.0)
    caller.clicks(0.04)
    assert caller.replay == [100, 101]
    caller.pauses(0.1)
    assert caller.replay == []


def test_it_is_forgotten_when_nothing_more_comes() -> None:
    caller = Caller()
    caller.clicks(0.04)
    caller.ring.pause()
    assert caller.replay == []


def test_committed_speech_is_not_replayed() -> None:
    caller = Caller()
    caller.says(1.0)
    caller.pauses(1.0)
    caller.ring.commit()
    caller.pauses(1.0)
    assert caller.replay == []


def test_silence_does_not_push_out_what_was_said_and_not_answered() -> None:
    caller = Caller()
    said = caller.says(6.0)
    after = caller.pauses(20.0)
    assert caller.replay == said + after[-100:]


def test_answered_speech_is_pushed_out_by_silence() -> None:
    caller = Caller(seconds=1.0)
    caller.says(0.5)
    caller.pauses(0.5)
    caller.ring.commit()
    caller.pauses(5.0)
    assert not caller.ring.has_unanswered_speech
    caller.ring.add(bytes(FRAME), speech=True, heard=True)
    assert caller.ring.has_unanswered_speech


def test_what_was_replayed_has_reached_a_stream_and_is_not_lost() -> None:
    caller = Caller(seconds=1.0)
    caller.says(1.0, heard=False)
    caller.ring.replayed()
    caller.says(2.0)
    assert caller.ring.take_lost() == 0


def test_what_is_being_said_at_a_commit_stays_with_what_led_to_it() -> None:
    caller = Caller()
    caller.says(1.0)
    between, new = caller.pauses(1.0), caller.says(0.4)
    caller.ring.commit()
    new += caller.says(0.4)
    assert caller.replay == between[-25:] + new


def test_the_pause_before_new_speech_is_no_longer_than_it_is() -> None:
    caller = Caller()
    caller.says(1.0)
    between, new = caller.pauses(0.2), caller.says(0.4)
    caller.ring.commit()
    assert caller.replay == between + new


def test_a_word_that_the_detector_has_not_noticed_at_a_commit_is_kept() -> None:
    caller = Caller()
    caller.says(1.0)
    caller.pauses(1.5)
    onset = caller.pauses(0.06)
    caller.ring.commit()
    new = caller.says(0.4)
    assert set(onset + new) <= set(caller.replay)


def test_of_speech_that_goes_on_all_but_the_newest_is_done_with() -> None:
    caller = Caller()
    said = caller.says(8.0)
    caller.ring.commit()
    assert caller.replay == said[-100:]


def test_speech_that_was_broken_off_is_over() -> None:
    caller = Caller()
    caller.says(1.0)
    caller.ring.pause()
    caller.ring.commit()
    assert caller.replay == []


def test_everything_can_be_given_up_also_what_is_being_said() -> None:
    caller = Caller()
    caller.says(1.0)
    caller.ring.commit_all()
    said = caller.says(0.5)
    assert caller.replay == said


def test_the_oldest_leaves_when_the_ring_is_full() -> None:
    caller = Caller(1.0)
    said = caller.says(3.0)
    assert caller.replay == said[-50:]


def test_only_speech_that_no_stream_heard_counts_as_lost() -> None:
    caller = Caller(1.0)
    caller.says(2.0)
    caller.pauses(2.0)
    assert caller.ring.take_lost() == 0
    caller.says(1.5, heard=False)
    caller.says(1.0)
    assert caller.ring.take_lost() == 75 * FRAME


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.floats(0.02, 2.0)),
        st.tuples(st.just("pauses"), st.floats(0.02, 2.0)),
        st.tuples(st.just("commit"), st.just(0.0)),
    ),
    max_size=15,
)


@given(_steps)
def test_a_replay_leaves_out_only_the_middle_of_long_silence_and_holds_all_speech_after_a_commit(
    steps: list[tuple[str, float]],
) -> None:
    caller = Caller(seconds=1000.0)
    newest, owed = -1, []
    spoken: set[int] = set()
    for step, seconds in steps:
        match step:
            case "says":
                numbers = caller.says(seconds)
                owed += numbers
                spoken |= set(numbers)
            case "pauses":
                numbers = caller.pauses(seconds)
            case _:
                caller.ring.commit()
                numbers, owed = [], []
        newest = numbers[-1] if numbers else newest
        replay = caller.replay
        assert set(owed) <= set(replay)
        assert replay or not owed
        if replay:
            assert replay[-1] == newest
            for before, after in itertools.pairwise(replay):
                left_out = set(range(before + 1, after))
                assert before < after
                # Of a pause, its older part, so that what is kept still ends a turn.
                assert not left_out or before in spoken
                assert not left_out & spoken


@given(_steps)
def test_what_was_committed_in_silence_is_never_replayed(steps: list[tuple[str, float]]) -> None:
    caller = Caller(seconds=1000.0)
    done: set[int] = set()
    spoken: set[int] = set()
    for step, seconds in steps:
        match step:
            case "says":
                spoken |= set(caller.says(seconds))
            case "pauses":
                caller.pauses(seconds)
            case _:
                caller.pauses(0.02)
                caller.ring.commit()
                done |= spoken
        assert not done & set(caller.replay)
