from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from opusagent.audio.formats import MediaFormat
from opusagent.simulators.caller_playout import Hole, PlaySpan
from opusagent.simulators.caller_record import (
    CallRecord,
    Loss,
    Message,
    Phrase,
    StreamAck,
    Violation,
)
from opusagent.simulators.numbered import NumberedFrame
from opusagent.simulators.verdict import Limits, Rule, judge


def phrase(*, over_bot: bool = False, wants: bool = True) -> Phrase:
    return Phrase(
        label="my name",
        began_at=4.0,
        ended_at=5.0,
        over_bot=over_bot,
        expects_answer=wants,
        first_sample=0,
        end_sample=100,
    )


def good() -> CallRecord:
    record = CallRecord(began_at=0.0, initiated_at=0.1, accepted_at=0.3, ended_at=20.0)
    record.played.append(
        PlaySpan(
            stream_id="1",
            media_format=MediaFormat.LPCM16_24K,
            opened_at=6.0,
            began_at=6.0,
            ended_at=8.0,
            closed_at=8.0,
            received_s=2.0,
            heard_s=2.0,
        )
    )
    record.phrases.append(phrase())
    record.sent_ranges.append((0, 100))
    record.acks.append(StreamAck("userStream.start", 1.0, 1.008))
    record.max_lead_s = 0.31
    record.end_reason = "client-disconnected"
    return record


def test_a_good_call_has_no_findings() -> None:
    verdict = judge(good())
    assert verdict.ok
    assert verdict.findings == ()


def _fail(r: CallRecord) -> None:
    r.failure = "the bot closed the socket"


def _refuse(r: CallRecord) -> None:
    r.refused = "busy"


def _not_validated(r: CallRecord) -> None:
    r.validation_asked = True


def _slow_accept(r: CallRecord) -> None:
    r.accepted_at = 3.2


def _slow_resume(r: CallRecord) -> None:
    r.losses.append(Loss(1.0, resumed_at=2.0, accepted_at=6.0))


def _violation(r: CallRecord) -> None:
    r.violations.append(Violation(2.0, "a play stream without audio"))


def _late_ack(r: CallRecord) -> None:
    r.acks.append(StreamAck("userStream.stop", 3.0, 4.5))


def _no_ack(r: CallRecord) -> None:
    r.acks.append(StreamAck("userStream.stop", 3.0))


def _lead(r: CallRecord) -> None:
    r.max_lead_s = 0.5


def _idle(r: CallRecord) -> None:
    r.played[0].idle_s = 2.0


def _never_closed(r: CallRecord) -> None:
    r.played[0].closed_at = None


def _idle_when_lost(r: CallRecord) -> None:
    ended_at = r.played[0].ended_at
    assert ended_at is not None
    r.played[0].closed_at, r.played[0].lost_at = None, ended_at + 1.6


def _hole(r: CallRecord) -> None:
    r.played[0].holes.append(Hole(7.0, 0.12))


def _no_answer(r: CallRecord) -> None:
    r.played.clear()


def _slow_answer(r: CallRecord) -> None:
    r.played[0].began_at = 12.0


def _deaf(r: CallRecord) -> None:
    r.barge_in = True
    r.played[0].began_at = 3.0
    r.phrases[0] = phrase(over_bot=True, wants=False)


def _buffered(r: CallRecord) -> None:
    _deaf(r)
    r.played[0].ended_at = 5.5
    r.messages.append(Message(4.5, by_bot=True, name="abortPrompts"))


def _goes_on(r: CallRecord) -> None:
    r.played[0].cut_at = 7.0
    r.played[0].discarded_s = 0.4


def _numbers(r: CallRecord) -> None:
    r.numbers_heard += [NumberedFrame(n, 0, whole=True) for n in (1, 2, 4)]


@pytest.mark.parametrize(
    ("spoil", "rule", "word"),
    [
        (_fail, Rule.CONNECTION, "closed"),
        (_refuse, Rule.CONNECTION, "busy"),
        (_not_validated, Rule.CONNECTION, "validate"),
        (_slow_accept, Rule.ACCEPT, "3.10 s"),
        (_slow_resume, Rule.RESUME, "4.00 s"),
        (_violation, Rule.PROTOCOL, "without audio"),
        (_late_ack, Rule.ACKNOWLEDGE, "after 1.50 s"),
        (_no_ack, Rule.ACKNOWLEDGE, "never"),
        (_lead, Rule.LEAD, "0.50 s"),
        (_idle, Rule.OPEN_STREAM, "2.00 s"),
        (_never_closed, Rule.OPEN_STREAM, "12.00 s"),
        (_idle_when_lost, Rule.OPEN_STREAM, "1.60 s"),
        (_hole, Rule.HOLE, "120 ms"),
        (_no_answer, Rule.ANSWER, "none"),
        (_slow_answer, Rule.ANSWER, "7.00 s"),
        (_deaf, Rule.BARGE_IN, "4.00 s"),
        (_buffered, Rule.BARGE_IN, "1.00 s"),
        (_goes_on, Rule.BARGE_IN, "0.40 s"),
        (_numbers, Rule.NUMBERS, "1 lost"),
    ],
)
def test_what_is_wrong_is_found_and_named(
    spoil: Callable[[CallRecord], None], rule: Rule, word: str
) -> None:
    record = good()
    spoil(record)
    verdict = judge(record)

    assert not verdict.ok
    assert [f.rule for f in verdict.findings] == [rule]
    assert word in str(verdict.findings[0])


def test_words_that_were_not_sent_are_worth_knowing_but_not_the_bots_fault() -> None:
    record = good()
    record.sent_ranges.clear()
    record.in_vain.append("the bot to speak")
    verdict = judge(record)

    assert verdict.ok
    assert [f.rule for f in verdict.findings] == [Rule.CALLER, Rule.CALLER]


def test_with_barge_in_off_the_bot_may_be_heard_out() -> None:
    record = good()
    _deaf(record)
    record.barge_in = False
    assert judge(record).ok


def test_numbers_are_held_against_what_was_to_come() -> None:
    record = good()
    record.numbers_heard += [NumberedFrame(n, 0, whole=True) for n in (1, 2, 3)]
    assert judge(record).ok
    assert judge(record, Limits(numbers=range(1, 4))).ok
    assert not judge(record, Limits(numbers=range(1, 5))).ok


def test_limits_are_the_callers_choice() -> None:
    record = good()
    record.max_lead_s = 2.0
    assert judge(record, Limits(lead_s=2.0)).ok


def test_a_verdict_is_json() -> None:
    record = good()
    record.refused = "busy"
    told = json.loads(json.dumps(judge(record).as_json()))
    assert told["ok"] is False
    assert told["findings"][0]["rule"] == "connection"
