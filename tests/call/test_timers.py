from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opusagent.call.timers import Timers


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
