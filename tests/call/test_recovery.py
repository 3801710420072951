from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.call.recovery import Recovery
from opusagent.sonic.failures import Failure, Remedy

LOST = Failure(Remedy.REOPEN, "ConnectionLost")
BUSY = Failure(Remedy.REOPEN_LATER, "Throttling")
REFUSED = Failure(Remedy.REOPEN_SHORTER, "Validation")


def new(chance: float = 1.0) -> Recovery:
    return Recovery(lambda: chance)


def test_the_first_try_is_immediate_and_later_ones_back_off() -> None:
    recovery = new()
    waits = [recovery.after(LOST, lived_s=None, had_history=False) for _ in range(6)]
    assert waits == [0.0, 0.2, 0.5, 1.0, 2.0, 2.0]


def test_a_stream_that_has_carried_the_caller_is_replaced_at_once() -> None:
    recovery = new()
    waits = [recovery.after(LOST, lived_s=s, had_history=False) for s in (3.0, 0.5, 0.4, 0.1, 5.0)]
    assert waits == [0.0, 0.0, 0.2, 0.5, 0.0]


def test_throttling_backs_off_longer() -> None:
    recovery = new()
    waits = [recovery.after(BUSY, lived_s=None, had_history=False) for _ in range(5)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0]


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_jitter_takes_at_most_half(chance: float) -> None:
    wait_s = new(chance).after(BUSY, lived_s=None, had_history=False)
    assert wait_s is not None
    assert 0.5 <= wait_s <= 1.0


def test_a_stream_that_lived_makes_everything_begin_anew() -> None:
    recovery = new()
    for _ in range(4):
        recovery.after(LOST, lived_s=1.0, had_history=True)
    assert recovery.history_share == 0.0
    assert recovery.after(LOST, lived_s=400.0, had_history=False) == 0.0
    assert recovery.history_share == 1.0


def test_nothing_helps_against_a_fatal_failure() -> None:
    fatal = Failure(Remedy.FATAL, "AccessDenied")
    assert new().after(fatal, lived_s=None, had_history=False) is None
    assert new().after(fatal, lived_s=100.0, had_history=True) is None


def test_two_early_deaths_after_a_history_leave_it_out() -> None:
    recovery = new()
    recovery.after(LOST, lived_s=3.0, had_history=True)
    assert recovery.history_share == 1.0
    recovery.after(LOST, lived_s=9.9, had_history=True)
    assert recovery.history_share == 0.0


def test_early_deaths_without_a_history_say_nothing_about_it() -> None:
    recovery = new()
    for _ in range(3):
        recovery.after(LOST, lived_s=3.0, had_history=False)
    assert recovery.history_share == 1.0


def test_a_refused_history_is_halved_and_then_left_out() -> None:
    recovery = new()
    recovery.after(REFUSED, lived_s=0.1, had_history=True)
    assert recovery.history_share == 0.5
    recovery.after(REFUSED, lived_s=0.1, had_history=True)
    assert recovery.history_share == 0.0


def test_a_refusal_of_a_stream_that_had_lived_is_no_refusal_of_its_history() -> None:
    recovery = new()
    recovery.after(REFUSED, lived_s=300.0, had_history=True)
    assert recovery.history_share == 1.0


def test_a_refusal_without_a_history_is_tried_once_more() -> None:
    recovery = new()
    assert recovery.after(REFUSED, lived_s=0.1, had_history=False) == 0.0
    assert recovery.after(REFUSED, lived_s=0.1, had_history=False) is None


def test_credentials_are_asked_for_three_times() -> None:
    recovery = new()
    expired = Failure(Remedy.REFRESH, "ExpiredToken")
    waits = [recovery.after(expired, lived_s=None, had_history=False) for _ in range(4)]
    assert waits == [0.0, 0.2, 0.5, None]


@given(
    st.lists(
        st.tuples(st.sampled_from(Remedy), st.none() | st.floats(0.0, 9.0), st.booleans()),
        min_size=1,
    )
)
def test_streams_that_open_and_die_are_not_opened_for_ever(
    deaths: list[tuple[Remedy, float | None, bool]],
) -> None:
    recovery = new()
    tries = 0
    for remedy, age_s, had_history in deaths:
        failure = Failure(remedy, "x")
        if recovery.after(failure, lived_s=age_s, had_history=had_history) is None:
            break
        tries += age_s is not None
    assert tries <= 6
    assert recovery.history_share in (0.0, 0.5, pytest.approx(1.0))


def test_throttling_of_a_stream_that_lived_is_tried_at_once_and_then_later() -> None:
    recovery = new()
    assert recovery.after(BUSY, lived_s=100.0, had_history=True) == 0.0
    wait_s = recovery.after(BUSY, lived_s=None, had_history=False)
    assert wait_s is not None
    assert wait_s >= 0.5


@pytest.mark.parametrize("replaced", [True, False])
def test_a_call_that_was_carried_asks_often_for_its_place(*, replaced: bool) -> None:
    recovery = new()
    if replaced:
        recovery.lived(100.0)
    else:
        recovery.after(LOST, lived_s=100.0, had_history=True)
    waits = [recovery.after(BUSY, lived_s=None, had_history=False) for _ in range(9)]
    assert all(wait_s is not None and 0.5 <= wait_s <= 1.0 for wait_s in waits)


def test_what_was_refused_once_is_not_tried_again_in_the_same_call() -> None:
    recovery = new()
    recovery.after(REFUSED, lived_s=0.1, had_history=True)
    recovery.lived(300.0)
    assert recovery.history_share == 0.5


def test_a_standby_that_was_told_ahead_and_is_lost_is_the_last_one_that_was() -> None:
    recovery = new()
    recovery.standby_lost(LOST, told_ahead=False)
    assert recovery.takes_ahead
    recovery.standby_lost(LOST, told_ahead=True)
    assert not recovery.takes_ahead
    assert recovery.history_share == 1.0


def test_a_standby_that_is_refused_for_what_it_was_told_is_told_less_next() -> None:
    recovery = new()
    recovery.standby_lost(REFUSED, told_ahead=False)
    assert recovery.history_share == 1.0
    recovery.standby_lost(REFUSED, told_ahead=True)
    assert recovery.history_share == 0.5


@pytest.mark.parametrize(("lived_s", "goes_on"), [(0.5, False), (9.9, False), (10.0, True)])
def test_one_that_was_told_ahead_and_dies_soon_is_the_last_one_that_was(
    lived_s: float, *, goes_on: bool
) -> None:
    recovery = new()
    recovery.after(LOST, lived_s=lived_s, had_history=True, told_ahead=True)
    assert recovery.takes_ahead is goes_on
