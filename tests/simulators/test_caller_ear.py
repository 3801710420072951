from __future__ import annotations

import pytest

from opusagent.audio.formats import MediaFormat
from opusagent.simulators.caller_ear import Floor
from opusagent.simulators.caller_playout import PlayOut
from opusagent.simulators.caller_script import CallerPlan

PLAN = CallerPlan(listen_delay_s=0.5, resume_recognition_s=10.0)


@pytest.fixture
def playout() -> PlayOut:
    return PlayOut()


@pytest.fixture
def floor(playout: PlayOut) -> Floor:
    return Floor(PLAN, playout)


def play(playout: PlayOut, floor: Floor, *, at: float, seconds: float) -> None:
    playout.start(str(at), MediaFormat.MULAW_8K, at)
    floor.bot_plays()
    playout.chunk(bytes(round(8_000 * seconds)), at)


def test_before_the_call_is_through_nobody_is_listened_to(floor: Floor) -> None:
    assert floor.listen_at() is None


def test_with_barge_in_the_caller_is_listened_to_from_the_start(floor: Floor) -> None:
    floor.start(1.0)
    floor.set_barge_in(True, 1.2)
    assert floor.listen_at() == pytest.approx(1.7)


def test_with_barge_in_the_bot_may_play_meanwhile(floor: Floor, playout: PlayOut) -> None:
    floor.set_barge_in(True, 0.0)
    floor.start(1.0)
    play(playout, floor, at=1.5, seconds=3)
    assert floor.listen_at() == pytest.approx(1.5)


def test_without_barge_in_the_bot_has_the_word_first_but_not_for_ever(floor: Floor) -> None:
    floor.start(1.0)
    assert floor.listen_at() == pytest.approx(11.0)


def test_without_barge_in_a_bot_that_plays_is_heard_out(floor: Floor, playout: PlayOut) -> None:
    floor.start(1.0)
    play(playout, floor, at=2.0, seconds=3)
    assert floor.listen_at() is None
    playout.stop(2.5)
    assert floor.listen_at() == pytest.approx(5.5)
    playout.cut(3.0)
    assert floor.listen_at() == pytest.approx(3.5)


def test_without_barge_in_the_word_can_be_given_back_to_the_bot(
    floor: Floor, playout: PlayOut
) -> None:
    floor.start(1.0)
    play(playout, floor, at=2.0, seconds=1)
    playout.stop(2.0)
    floor.give_to_bot(8.0)
    assert floor.listen_at() == pytest.approx(18.0)


def test_on_hold_nobody_is_listened_to(floor: Floor) -> None:
    floor.set_barge_in(True, 0.0)
    floor.start(1.0)
    floor.hold(until=7.0)
    assert floor.listen_at() == pytest.approx(7.0)
