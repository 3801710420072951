from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opusagent.call.feed import Feed

RATE = 32_000
T0 = 50.0


def silence(feed: Feed, now: float, until: float) -> float:
    """Seconds of silence that are due up to a time, each taken when it is due."""
    n_bytes = 0
    while (at := feed.next_timer()) <= until:
        now = max(now, at)
        piece = feed.silence_due(now)
        assert piece, "nothing at the time of the timer"
        n_bytes += len(piece)
    return n_bytes / RATE


def listening() -> Feed:
    feed = Feed(RATE)
    feed.restart(T0)
    return feed


def test_silence_flows_in_real_time_while_the_phone_withholds_the_caller() -> None:
    assert 9.8 <= silence(listening(), T0, T0 + 10.0) <= 10.1


def test_no_silence_is_put_between_frames_that_come() -> None:
    feed = listening()
    feed.withheld = False
    for i in range(100):
        now = T0 + 0.16 * i
        assert feed.silence_due(now) == b""
        feed.fed(5120, now)


def test_an_open_stream_may_pause_for_a_second() -> None:
    feed = listening()
    feed.withheld = False
    assert feed.next_timer() >= T0 + 1.0
    feed.fed(int(1.05 * RATE), T0 + 1.05)
    assert feed.silence_due(T0 + 1.06) == b""


def test_after_a_long_stall_of_this_process_little_is_made_up_for() -> None:
    feed = listening()
    n_bytes = 0
    while piece := feed.silence_due(T0 + 60.0):
        n_bytes += len(piece)
    assert 0.5 <= n_bytes / RATE <= 1.3


def test_a_burst_does_not_hold_back_the_silence_after_it() -> None:
    feed = listening()
    feed.withheld = False
    feed.fed(10 * RATE, T0)
    feed.withheld = True
    assert feed.next_timer() <= T0 + 0.31


@given(
    st.lists(
        st.tuples(st.sampled_from(["audio", "open", "close", "wait"]), st.floats(0.0, 3.0)),
        max_size=30,
    ),
    st.floats(0.0, 1e7),
)
def test_a_stream_is_never_left_unfed_for_longer_than_a_stall_may_last(
    steps: list[tuple[str, float]], start: float
) -> None:
    feed, now, fed_at = Feed(RATE), start, start
    feed.restart(now)
    for step, seconds in steps:
        until = now + seconds
        while (at := feed.next_timer()) <= until:
            now = max(now, at)
            assert feed.silence_due(now)
            assert now - fed_at <= 1.4
            fed_at = now
        now = until
        match step:
            case "audio":
                feed.fed(640, now)
                fed_at = now
            case "open":
                feed.withheld = False
            case "close":
                feed.withheld = True
