from __future__ import annotations

from opusagent.models.remembered import Remembered


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number


def test_each_thing_is_made_once_for_as_long_as_it_is_asked_for() -> None:
    asked: list[str] = []

    def shout(word: str) -> str:
        asked.append(word)
        return word.upper()

    remembered = Remembered(shout)
    a, b = "a", "b"
    assert remembered.of([a, b]) == ["A", "B"]
    assert remembered.of([b, a, b]) == ["B", "A", "B"]
    assert asked == ["a", "b"]
    assert remembered.of([a]) == ["A"]
    assert remembered.of([b]) == ["B"]  # it was forgotten meanwhile
    assert asked == ["a", "b", "b"]
    remembered.forget()
    assert remembered.of([b]) == ["B"]
    assert asked == ["a", "b", "b", "b"]


def test_nothing_is_taken_for_a_thing_that_is_gone() -> None:
    remembered = Remembered[Thing, int](lambda thing: thing.number)
    for n in range(100):  # each has the place in memory of the one before it
        assert remembered.of([Thing(n)]) == [n]
