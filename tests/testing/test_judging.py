from __future__ import annotations

from opusagent.simulators.caller_record import CallRecord, Violation
from opusagent.testing.judging import faults
from opusagent.testing.steps import Acts, CallerStep, HangsUp, Told

STEPS: list[CallerStep] = ["Hello.", "Bye."]


def judged(
    record: CallRecord | None = None,
    *,
    met: tuple[str, ...] = (),
    steps: list[CallerStep] = STEPS,
    n_begun: int = 2,
    left: tuple[Acts, ...] = (),
) -> list[str]:
    return faults(
        record or CallRecord(began_at=0.0), met=met, steps=steps, n_begun=n_begun, left=left
    )


def test_a_play_in_which_all_was_done_has_no_fault() -> None:
    assert judged() == []


def test_what_voiceai_connect_may_not_be_told_is_a_fault() -> None:
    record = CallRecord(
        began_at=0.0, violations=[Violation(1.0, "playStream.chunk outside its stream")]
    )
    assert judged(record) == ["VoiceAI Connect: playStream.chunk outside its stream"]


def test_a_call_that_broke_off_is_a_fault() -> None:
    assert judged(CallRecord(began_at=0.0, failure="no answer")) == ["no answer"]


def test_a_step_that_was_not_reached_is_a_fault_unless_there_is_another_one() -> None:
    assert judged(n_begun=1) == ["the call was over before 'Bye.'"]
    assert judged(n_begun=1, met=("no answer to 'Hello.'",)) == ["no answer to 'Hello.'"]


def test_a_turn_that_the_model_was_not_asked_for_is_a_fault_unless_there_is_another_one() -> None:
    assert judged(left=("Hi.",)) == ["the model was not asked for its last turn: 'Hi.'"]
    assert judged(n_begun=1, left=("Hi.",)) == ["the call was over before 'Bye.'"]


def test_who_hangs_up_leaves_turns_behind_but_none_that_must_be_told_something() -> None:
    steps: list[CallerStep] = ["Hello.", HangsUp()]
    assert judged(steps=steps, left=("Hi.", ())) == []
    words = "the model was not asked for its last 2 turns: 'Hi.', Told('bye', 'Bye.')"
    assert judged(steps=steps, left=("Hi.", Told("bye", "Bye."))) == [words]
