from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opusagent.call.timers import Timers, earliest


def test_a_deadline_is_due_at_its_time_once() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 2.0)
    assert timers.pop_due(1.9) is None
    assert "a" in timers
    assert timers.pop_due(2.0) == "a"
    assert timers.pop_due(9.0) is None
    assert timers.next() is None


def test_a_deadline_can_be_moved_and_cleared() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    timers.set("b", 2.0)
    timers.clear("b", "never set")
    assert timers.next() == 5.0
    timers.clear_all()
    assert timers.next() is None


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 100)), st.floats(0, 100))
def test_what_is_due_comes_in_the_order_of_time(deadlines: dict[str, float], now: float) -> None:
    timers: Timers[str] = Timers()
    for name, at in deadlines.items():
        timers.set(name, at)
    popped = []
    while (due := timers.pop_due(now)) is not None:
        popped.append(deadlines[due])
    assert popped == sorted(at for at in deadlines.values() if at <= now)


times = st.floats(0, 100)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(0, 4), times),
            st.tuples(st.just("clear"), st.integers(0, 4), times),
            st.tuples(st.just("pop"), st.just(0), times),
            st.tuples(st.just("clear_all"), st.just(0), times),
        )
    )
)
def test_the_next_deadline_is_the_earliest_of_those_that_are_set(
    steps: list[tuple[str, int, float]],
) -> None:
    timers: Timers[int] = Timers()
    expected: dict[int, float] = {}
    for step, name, at in steps:
        match step:
            case "set":
                timers.set(name, at)
                expected[name] = at
            case "clear":
                timers.clear(name)
                expected.pop(name, None)
            case "pop":
                due = timers.pop_due(at)
                assert (due is None) == (min(expected.values(), default=at + 1) > at)
                if due is not None:
                    assert expected.pop(due) <= at
            case _:
                timers.clear_all()
                expected.clear()
        assert timers.next() == min(expected.values(), default=None)
        assert all(name in timers for name in expected)


@given(st.lists(st.none() | times))
def test_the_earliest_time_leaves_out_what_is_not_set(some: list[float | None]) -> None:
    assert earliest(*some) == min((at for at in some if at is not None), default=None)
