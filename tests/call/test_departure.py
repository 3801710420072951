"""What becomes of a caller when no stream can be had."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opusagent.call.call import Phase
from opusagent.call.events import EndedBy, StreamLost
from opusagent.call.plan import Recording
from opusagent.models.agent import Agent
from opusagent.models.telephone import Failure, Target, TelephoneFunction, TelephoneTools
from opusagent.sonic.failures import classify
from tests.call.driver import PLAN, CallDriver, bot_pcm
from tests.call.test_telephone import activities, ask, status

TELEPHONE = TelephoneTools(
    type="telephone",
    functions=(TelephoneFunction.TRANSFER_CALL,),
    targets={"support": Target(to="tel:+15551234")},
)
SORRY = 9


def a_call(failure: Failure, *, sorry_s: float = 0.0, head_s: float | None = 0.1) -> CallDriver:
    agent = Agent(
        system_prompt="x", tools=(TELEPHONE,), failure=failure, goodbye_on_failure="no model"
    )
    audio = Recording({24_000: bot_pcm(SORRY, sorry_s)}) if sorry_s else Recording()
    return CallDriver(plan=replace(PLAN, agent=agent, failure_audio=audio), head_s=head_s)


def fail(call: CallDriver) -> None:
    call.answer()
    call.quiet(0.1)
    call.breaks("AccessDeniedException")


def test_without_more_audiocodes_own_fail_over_runs() -> None:
    call = a_call(Failure())
    fail(call)
    assert call.refused == "no model"
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.FAILURE
    call.assert_lawful_end()


def test_a_recording_is_heard_before() -> None:
    call = a_call(Failure(), sorry_s=2.0)
    fail(call)
    call.advance(1.9)
    assert call.refused is None
    call.advance(1.0)
    assert call.plays() == [{SORRY: 2.0}]
    assert call.refused == "no model"
    call.assert_lawful_end()


def test_the_call_may_be_hung_up_with_a_reason() -> None:
    call = a_call(Failure(then="hang_up"), sorry_s=1.0)
    fail(call)
    call.advance(2.0)
    assert activities(call) == [
        {"type": "event", "name": "hangup", "activityParams": {"hangupReason": "no model"}}
    ]
    assert call.refused is None
    call.phone.end("bot-disconnected")
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.FAILURE
    call.assert_lawful_end()


def test_the_caller_may_be_transferred() -> None:
    call = a_call(Failure(then="transfer", target="support"), sorry_s=1.0)
    fail(call)
    call.advance(0.9)
    assert activities(call) == []
    call.advance(1.0)
    (transfer,) = activities(call)
    assert transfer["activityParams"] == {
        "transferTarget": "tel:+15551234",
        "handoverReason": "no model",
    }
    call.advance(30.0)
    assert call.outcome is None
    call.phone.end("transferred")
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.TRANSFERRED
    call.assert_lawful_end()


def test_a_transfer_that_a_half_open_websocket_has_swallowed_is_ordered_again() -> None:
    call = a_call(Failure(then="transfer", target="support"))
    fail(call)
    call.attach()
    assert [one["name"] for one in activities(call)] == ["transfer", "transfer"]
    assert call.hung_up is None
    call.advance(30.0)
    assert not call.finished
    call.phone.end("transferred")
    call.flush()
    call.assert_lawful_end()


def test_where_the_transfer_fails_too_the_fail_over_runs() -> None:
    call = a_call(Failure(then="transfer", target="support"))
    fail(call)
    call.advance(0.5)
    status(call, status="failed", reasonCode="busy")
    assert call.refused == "no model"
    call.assert_lawful_end()


def test_a_transfer_of_which_nothing_is_told_does_not_keep_the_call_for_ever() -> None:
    call = a_call(Failure(then="transfer", target="support"))
    fail(call)
    call.advance(89.0)
    assert call.call.phase is Phase.ENDING
    call.advance(3.0)
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.FAILURE
    call.assert_lawful_end()


@pytest.mark.parametrize("then", ["hang_up", "transfer"])
def test_a_call_that_fails_before_it_is_taken_is_taken_for_that(then: str) -> None:
    call = a_call(Failure.model_validate({"then": then, "target": "support"}), head_s=None)
    call.initiate()
    call.handle(StreamLost(call.newest.id, classify("AccessDeniedException")))
    call.advance(1.0)
    assert call.accepted
    assert [one["name"] for one in activities(call)] == [
        {"hang_up": "hangup", "transfer": "transfer"}[then]
    ]


def test_a_transfer_under_way_is_not_broken_off_by_the_loss_of_the_model() -> None:
    call = a_call(Failure())
    call.answer()
    call.quiet(0.1)
    ask(call, "transfer_call", {"target": "support"})
    call.advance(0.5)
    call.breaks("AccessDeniedException")
    call.advance(20.0)
    assert call.refused is None
    status(call, status="failed", reasonCode="busy")
    assert call.refused == "no model"
    call.assert_lawful_end()
