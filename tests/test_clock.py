from datetime import UTC, timedelta

import pytest

from opusagent.clock import FakeClock, SystemClock


def test_the_systems_clock_gives_utc_and_never_goes_back() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    assert clock.utcnow().tzinfo is UTC
    assert clock.monotonic() >= before


def test_a_fake_clock_moves_both_times_by_what_it_is_told() -> None:
    clock = FakeClock(monotonic=5.0)
    at = clock.utcnow()
    clock.advance(1.5)
    assert clock.monotonic() == 6.5
    assert clock.utcnow() - at == timedelta(seconds=1.5)


def test_a_fake_clock_refuses_to_go_back() -> None:
    with pytest.raises(ValueError, match="does not go back"):
        FakeClock().advance(-1)
