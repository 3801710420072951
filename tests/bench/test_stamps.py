import pytest

from opusagent.bench.stamps import Arrivals, Stamper, stamps

FRAME_BYTES = 640


def test_a_stamp_survives_the_way_and_tells_the_age_of_its_frame() -> None:
    arrivals = Arrivals()
    arrivals.add(Stamper(7, FRAME_BYTES).frame(1_000_000), 3_500_000)
    assert arrivals.frames == 1
    assert arrivals.ages_ms == [pytest.approx(2.5)]


def test_frames_that_were_joined_on_the_way_are_told_apart() -> None:
    stamper = Stamper(1, FRAME_BYTES)
    joined = stamper.frame(10) + stamper.frame(20) + stamper.frame(30)
    assert list(stamps(joined)) == [(1, 0, 10), (1, 1, 20), (1, 2, 30)]


def test_a_frame_that_comes_twice_is_doubled_and_counted_once() -> None:
    arrivals = Arrivals()
    frame = Stamper(1, FRAME_BYTES).frame(0)
    arrivals.add(frame, 1)
    arrivals.add(frame, 2)
    assert (arrivals.frames, arrivals.doubled) == (1, 1)


def test_a_frame_that_is_overtaken_is_disordered_and_one_that_never_comes_is_missing() -> None:
    arrivals = Arrivals()
    stamper = Stamper(1, FRAME_BYTES)
    first, second, _, fourth = (stamper.frame(0) for _ in range(4))
    for frame in (second, first, fourth):
        arrivals.add(frame, 1)
    assert (arrivals.disordered, arrivals.missing) == (1, 1)


def test_calls_are_counted_apart() -> None:
    arrivals = Arrivals()
    for call in range(3):
        arrivals.add(Stamper(call, FRAME_BYTES).frame(0), 1)
    assert (arrivals.frames, arrivals.doubled, arrivals.missing) == (3, 0, 0)


def test_what_was_sent_before_the_measurement_began_is_not_counted() -> None:
    arrivals = Arrivals()
    stamper = Stamper(1, FRAME_BYTES)
    waited = stamper.frame(100)
    arrivals.begin(200)
    arrivals.add(waited + stamper.frame(300), 400)
    assert arrivals.ages_ms == [pytest.approx(100 / 1e6)]
    assert arrivals.missing == 0
