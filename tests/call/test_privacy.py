"""Secret entries and recordings: AudioCodes', which the model has a hand in, and our own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from opusagent.call.events import Drain, Record, Voice
from opusagent.models.telephone import Dtmf, TelephoneFunction, TelephoneTools
from tests.call import test_keypad
from tests.call.driver import CallDriver
from tests.call.test_keypad import PIN, SECRET, collect, press
from tests.call.test_telephone import activities, ask, result

PAUSE, RESUME = "pauseCallRecording", "resumeCallRecording"
PINS = Dtmf(pause_recording=True, inputs={"pin": PIN})
TELEPHONE = TelephoneTools(
    type="telephone",
    functions=tuple(
        one for one in TelephoneFunction if one == "collect_digits" or one.endswith("_recording")
    ),
)


def a_call(dtmf: Dtmf = PINS, **changes: Any) -> CallDriver:
    return test_keypad.a_call(dtmf, TELEPHONE, **changes)


def orders(call: CallDriver) -> list[str]:
    """What AudioCodes was told to do with its recording."""
    return [one["name"] for one in activities(call)]


def collect_again(call: CallDriver) -> None:
    ask(call, "collect_digits", {"input": "pin"}, "t-again")


def recorded(call: CallDriver, before: int) -> list[Record]:
    """The caller's sound that was recorded since."""
    sound = [e for _, e in call.ran[before:] if isinstance(e, Record)]
    return [one for one in sound if one.voice is Voice.CALLER]


# AudioCodes' recording


def test_the_recording_pauses_while_secret_digits_are_entered() -> None:
    call = a_call()
    collect(call, input="pin")
    assert activities(call) == [{"type": "event", "name": PAUSE}]
    press(call, SECRET)
    call.quiet(1.0)
    assert activities(call) == [{"type": "event", "name": PAUSE}, {"type": "event", "name": RESUME}]


def test_the_recording_pauses_for_secret_digits_that_nobody_asked_for() -> None:
    call = a_call(Dtmf(count=4, sensitive=True, pause_recording=True))
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call) == [PAUSE, RESUME]


@pytest.mark.parametrize("dtmf", [Dtmf(), Dtmf(pause_recording=True)])
def test_the_recording_goes_on_where_nothing_is_secret(dtmf: Dtmf) -> None:
    call = a_call(dtmf)
    collect(call, count=2)
    press(call, "12")
    call.quiet(1.0)
    assert orders(call) == []


def test_the_recording_goes_on_only_after_the_tone_of_the_last_key() -> None:
    call = a_call()
    collect(call, input="pin")
    press(call, SECRET)
    assert len(call.tools) == 1  # the tool has the digits at once
    call.quiet(0.4)
    assert orders(call) == [PAUSE]
    call.quiet(0.2)
    assert orders(call) == [PAUSE, RESUME]


def test_an_entry_right_after_another_is_in_the_same_pause() -> None:
    call = a_call()
    collect(call, input="pin")
    press(call, SECRET)
    call.quiet(0.3)
    collect_again(call)
    call.quiet(2.0)
    assert orders(call) == [PAUSE]
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call) == [PAUSE, RESUME]


def test_the_recording_goes_on_when_the_caller_is_back() -> None:
    call = a_call()
    collect(call, input="pin")
    call.lose_socket()
    call.advance(20.0)
    assert orders(call) == [PAUSE]
    call.attach()
    assert orders(call) == [PAUSE, RESUME]


def test_a_pause_that_may_have_been_lost_with_the_line_is_ordered_again() -> None:
    call = a_call()
    collect(call, input="pin")
    call.lose_socket()
    call.advance(1.0)
    call.attach()
    assert orders(call) == [PAUSE, PAUSE]
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call) == [PAUSE, PAUSE, RESUME]


def test_so_it_is_where_the_model_has_ended_the_recording_and_it_stays_ended() -> None:
    call = a_call()
    collect(call, input="pin")
    ask(call, "pause_recording", {}, "t-2")
    call.lose_socket()
    call.attach()
    assert orders(call) == [PAUSE, PAUSE, PAUSE]
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call)[3:] == []


@pytest.mark.parametrize(("later_s", "again"), [(3.0, [RESUME]), (30.0, [])])
def test_a_resume_that_may_have_been_lost_with_the_line_is_ordered_again(
    later_s: float, again: list[str]
) -> None:
    call = a_call()
    collect(call, input="pin")
    press(call, SECRET)
    call.quiet(0.6 + later_s)
    call.lose_socket()
    call.advance(5.0)
    call.attach()
    assert orders(call) == [PAUSE, RESUME, *again]
    call.quiet(20.0)
    call.lose_socket()
    call.attach()
    assert orders(call) == [PAUSE, RESUME, *again]


@pytest.mark.parametrize("name", ["pause_recording", "stop_recording"])
def test_what_the_model_has_ended_since_does_not_go_on_when_the_caller_is_back(name: str) -> None:
    call = a_call()
    collect(call, input="pin")
    press(call, SECRET)
    call.quiet(1.0)
    ask(call, name, {}, "t-2")
    before = orders(call)
    call.lose_socket()
    call.attach()
    call.quiet(1.0)
    assert orders(call) == before


def test_an_entry_after_a_lost_resume_pauses_the_recording_all_the_same() -> None:
    call = a_call()
    collect(call, input="pin")
    press(call, SECRET)
    call.quiet(1.0)
    call.lose_socket()
    collect_again(call)
    call.attach()
    assert orders(call) == [PAUSE, RESUME, PAUSE]
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call)[3:] == [RESUME]


def test_an_entry_that_is_asked_for_while_the_line_is_lost_pauses_the_recording_once_it_is_back() -> (
    None
):
    call = a_call()
    call.lose_socket()
    collect(call, input="pin")
    assert orders(call) == []
    call.attach()
    assert orders(call) == [PAUSE]
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call) == [PAUSE, RESUME]


def test_an_entry_that_ends_while_the_line_is_lost_does_not_end_the_pause_of_the_next() -> None:
    call = a_call()
    collect(call, input="pin")
    call.lose_socket()
    call.advance(16.0)
    call.attach()
    collect_again(call)
    call.advance(5.0)
    assert orders(call) == [PAUSE, RESUME, PAUSE]
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call)[3:] == [RESUME]


# What the model does with it


@pytest.mark.parametrize("name", ["pause_recording", "stop_recording"])
def test_a_recording_that_the_model_has_ended_does_not_go_on_after_an_entry(name: str) -> None:
    call = a_call()
    ask(call, name, {}, "t-0")
    ended = orders(call)
    collect(call, input="pin")
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call) == ended
    ask(call, "resume_recording", {}, "t-2")
    collect_again(call)
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call) == [*ended, RESUME, PAUSE, RESUME]


def test_a_recording_that_the_model_ends_during_an_entry_does_not_go_on_after_it() -> None:
    call = a_call()
    collect(call, input="pin")
    ask(call, "stop_recording", {}, "t-2")
    press(call, SECRET)
    call.quiet(1.0)
    assert orders(call) == [PAUSE, "stopCallRecording"]


@pytest.mark.parametrize("dtmf", [PINS, PINS.model_copy(update={"pause_recording": False})])
@pytest.mark.parametrize("name", ["start_recording", "resume_recording"])
def test_the_model_cannot_have_a_secret_entry_recorded(name: str, dtmf: Dtmf) -> None:
    call = a_call(dtmf)
    collect(call, input="pin")
    press(call, SECRET[:2])
    before = orders(call)
    ask(call, name, {}, "t-2")
    assert "the caller is entering something secret" in result(call, "t-2")["error"]
    assert orders(call) == before


@pytest.mark.parametrize(
    ("name", "wire"), [("start_recording", "startCallRecording"), ("resume_recording", RESUME)]
)
def test_what_the_model_asks_for_right_after_an_entry_waits_for_the_last_tone(
    name: str, wire: str
) -> None:
    call = a_call()
    ask(call, "pause_recording", {}, "t-0")
    collect(call, input="pin")
    press(call, SECRET)
    ask(call, name, {}, "t-2")
    assert result(call, "t-2") == {"status": "recording"}
    assert orders(call) == [PAUSE]
    call.quiet(0.6)
    assert orders(call) == [PAUSE, wire]


def test_a_recording_that_the_model_starts_right_after_an_entry_goes_on_if_it_was_paused() -> None:
    call = a_call()
    collect(call, input="pin")
    press(call, SECRET)
    ask(call, "start_recording", {}, "t-2")
    call.quiet(0.6)
    assert orders(call) == [PAUSE, RESUME, "startCallRecording"]


def test_a_recording_that_the_model_has_stopped_is_only_started() -> None:
    call = a_call()
    collect(call, input="pin")
    ask(call, "stop_recording", {}, "t-2")
    press(call, SECRET)
    ask(call, "start_recording", {}, "t-3")
    call.quiet(0.6)
    assert orders(call) == [PAUSE, "stopCallRecording", "startCallRecording"]


# In another process


def test_another_process_lets_the_recording_go_on() -> None:
    call = a_call()
    collect(call, input="pin")
    other = call.elsewhere()
    other.come_back()
    other.advance(0.5)
    assert orders(other) == [RESUME]


def test_another_process_leaves_a_recording_alone_that_does_not_pause() -> None:
    call = a_call(Dtmf(inputs={"pin": PIN}))
    collect(call, input="pin")
    other = call.elsewhere()
    other.come_back()
    other.advance(0.5)
    assert orders(other) == []


def test_another_process_lets_the_recording_go_on_if_the_last_digit_was_just_pressed() -> None:
    call = a_call(PINS.model_copy(update={"inputs": {}}))
    collect(call, count=4, sensitive=True)
    press(call, SECRET)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.5)
    assert orders(other) == [RESUME]


def test_another_process_lets_the_recording_go_on_after_an_entry_that_nobody_asked_for() -> None:
    dtmf = Dtmf(count=4, sensitive=True, tool="check_pin", argument="pin", pause_recording=True)
    call = a_call(dtmf)
    press(call, SECRET)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.5)
    assert orders(other) == [RESUME]


def test_another_process_leaves_a_recording_alone_where_nothing_was_secret() -> None:
    call = a_call()
    collect(call, count=4)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.5)
    assert orders(other) == []


def test_another_process_leaves_a_recording_alone_long_after_an_entry() -> None:
    call = a_call(PINS.model_copy(update={"inputs": {}}))
    collect(call, count=4, sensitive=True)
    press(call, SECRET)
    call.quiet(15.0)
    call.says("I have found it.", 1, 1.0)
    call.quiet(1.5)
    other = call.elsewhere()
    other.come_back()
    other.advance(0.5)
    assert orders(other) == []


def test_another_process_lets_the_recording_go_on_though_it_was_fetched_late() -> None:
    call = a_call()
    collect(call, input="pin")
    state = call.saves[-1].model_copy()
    state.update_activity(call.utcnow() + timedelta(minutes=1))
    other = call.elsewhere(state)
    other.come_back()
    other.advance(0.5)
    assert orders(other) == [RESUME]


def test_another_process_leaves_a_recording_alone_that_the_model_has_paused() -> None:
    call = a_call()
    ask(call, "pause_recording", {}, "t-0")
    collect(call, input="pin")
    other = call.elsewhere()
    other.come_back()
    other.advance(0.5)
    collect_again(other)
    press(other, SECRET)
    other.advance(1.0)
    assert orders(other) == []


def test_a_process_that_lets_go_of_the_caller_leaves_no_pause_behind() -> None:
    call = a_call(Dtmf(sensitive=True, pause_recording=True))
    press(call, SECRET)
    assert orders(call) == [PAUSE]
    call.handle(Drain())
    assert orders(call) == [PAUSE, RESUME]


# Our own


def test_our_own_recording_leaves_out_what_the_caller_does_meanwhile() -> None:
    call = a_call(Dtmf(inputs={"pin": PIN}), record=True)
    collect(call, input="pin")
    before = len(call.ran)
    call.talk(0.5)
    press(call, SECRET)
    call.talk(0.48)  # with the tone of the last key
    assert recorded(call, before) == []
    call.talk(0.1)
    assert recorded(call, before) != []


def test_the_tone_of_the_last_secret_key_is_not_given_to_another_stream() -> None:
    call = a_call()
    collect(call, count=4, sensitive=True)
    press(call, SECRET)
    tone = call.talk(0.4)
    call.breaks()
    call.advance(1.0)
    assert not set(tone) & set(call.live.frames)
