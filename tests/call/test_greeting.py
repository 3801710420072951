from __future__ import annotations

import pytest

from opusagent.call.greeting import Greeting
from opusagent.call.plan import Recording

NOTHING = Recording()


def test_a_text_is_asked_for_twice_at_most() -> None:
    greeting = Greeting("Greet.", NOTHING)
    assert greeting.pending
    assert [greeting.ask(), greeting.ask(), greeting.ask()] == [True, True, False]
    assert not greeting.pending


@pytest.mark.parametrize("text", ["", "  \n"])
def test_without_a_text_nothing_is_asked_for(text: str) -> None:
    greeting = Greeting(text, NOTHING)
    assert not greeting.pending
    assert not greeting.ask()


def test_a_recording_stands_for_the_text() -> None:
    greeting = Greeting("Welcome.", Recording({8_000: b"\x01\x00"}))
    assert not greeting.pending
    assert greeting.sound_at(8_000) == b"\x01\x00"


def test_a_new_stream_is_asked_anew() -> None:
    greeting = Greeting("Greet.", NOTHING)
    greeting.ask()
    greeting.ask()
    greeting.stream_lost()
    assert greeting.ask()


def test_what_is_done_stays_done() -> None:
    greeting = Greeting("Greet.", NOTHING)
    greeting.ask()
    greeting.done()
    greeting.stream_lost()
    assert not greeting.pending
    assert not greeting.ask()
