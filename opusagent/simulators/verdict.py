"""Whether a bot kept to the Bot API and to what a caller may expect, judged from a `CallRecord`."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from opusagent.simulators.caller_record import CallRecord

__all__ = ["Finding", "Limits", "Rule", "Verdict", "judge"]


class Rule(enum.StrEnum):
    """What was looked at."""

    CONNECTION = "connection"
    ACCEPT = "accept"
    PROTOCOL = "protocol"
    ACKNOWLEDGE = "acknowledge"
    LEAD = "pacing lead"
    OPEN_STREAM = "open play stream"
    HOLE = "hole in bot audio"
    ANSWER = "answer"
    BARGE_IN = "barge-in"
    NUMBERS = "numbered frames"
    RESUME = "resume"
    CALLER = "caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is still good. Seconds.

    Attributes:
        accept_s: Until `session.accepted`. A third second rings in vain for the caller.
        ack_s: Until the answer to `userStream.start` or `.stop`; 8 ms on a live capture.
        lead_s: Bot audio that may wait in VoiceAI Connect, where nothing flushes it reliably.
        lead_slack_s: What network and clocks may add to it.
        idle_s: How long a play stream may stand open with nothing to play.
        hole_s: Silence inside a play stream.
        answer_s: From the caller's last sound to the bot's first.
        silent_s: From the caller's first sound over the bot to the bot's last.
        flush_s: From the bot's own interruption messages to its last sound.
        resume_s: Until `session.accepted` after `session.resume`.
        numbers: The numbered frames that the bot's audio should hold; without it those found there
            should be whole, in order and without gaps.
    """

    accept_s: float = 3.0
    ack_s: float = 1.0
    lead_s: float = 0.3
    lead_slack_s: float = 0.1
    idle_s: float = 1.5
    hole_s: float = 0.06
    answer_s: float = 6.0
    silent_s: float = 2.0
    flush_s: float = 0.4
    resume_s: float = 3.0
    numbers: range | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        at: Seconds since the call began, where there is one moment to name.
        serious: Whether the bot has failed; otherwise worth knowing.
    """

    rule: Rule
    words: str
    at: float | None = None
    serious: bool = True

    def __str__(self) -> str:
        when = "" if self.at is None else f" at {self.at:.2f} s"
        return f"{self.rule}{when}: {self.words}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings of a call, in the order of the rules."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing serious was found."""
        return not any(finding.serious for finding in self.findings)

    def as_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "ok": self.ok,
            "findings": [
                {"rule": f.rule.value, "words": f.words, "at_s": f.at, "serious": f.serious}
                for f in self.findings
            ],
        }


def judge(record: CallRecord, limits: Limits | None = None) -> Verdict:
    """Look at everything that was measured."""
    limits = limits or Limits()
    looks = (
        _connection,
        _accept,
        _wire,
        _acks,
        _pacing,
        _plays,
        _answers,
        _barge_in,
        _numbers,
        _caller,
    )
    return Verdict(tuple(finding for look in looks for finding in look(record, limits)))


def _connection(record: CallRecord, _: Limits) -> Iterator[Finding]:
    if record.validation_asked and record.validated_after_s is None:
        yield Finding(rule=Rule.CONNECTION, words="connection.validate was not answered")
    if record.failure is not None:
        yield Finding(rule=Rule.CONNECTION, words=record.failure, at=record.ended_at)
    if record.refused is not None:
        words = f"the bot refused or ended the call: {record.refused or 'no reason given'}"
        yield Finding(rule=Rule.CONNECTION, words=words, at=record.ended_at)


def _accept(record: CallRecord, limits: Limits) -> Iterator[Finding]:
    if record.accept_s is not None and record.accept_s > limits.accept_s:
        words = f"took {record.accept_s:.2f} s, {limits.accept_s:g} s allowed"
        yield Finding(rule=Rule.ACCEPT, words=words, at=record.accepted_at)
    for seconds in record.resumed_after_s:
        if seconds > limits.resume_s:
            words = f"took {seconds:.2f} s, {limits.resume_s:g} s allowed"
            yield Finding(rule=Rule.RESUME, words=words)


def _wire(record: CallRecord, _: Limits) -> Iterator[Finding]:
    for violation in record.violations:
        yield Finding(rule=Rule.PROTOCOL, words=violation.what, at=violation.at)


def _acks(record: CallRecord, limits: Limits) -> Iterator[Finding]:
    for ack in record.acks:
        answered = ack.answered_at if ack.answered_at is not None else record.ended_at
        if answered is None or answered <= ack.asked_at + limits.ack_s:
            continue
        waited = "never" if ack.answered_at is None else f"after {answered - ack.asked_at:.2f} s"
        words = f"{ack.name} was answered {waited}"
        yield Finding(rule=Rule.ACKNOWLEDGE, words=words, at=ack.asked_at)


def _pacing(record: CallRecord, limits: Limits) -> Iterator[Finding]:
    if record.max_lead_s > limits.lead_s + limits.lead_slack_s:
        words = f"{record.max_lead_s:.2f} s of bot audio waited, {limits.lead_s:g} s allowed"
        yield Finding(rule=Rule.LEAD, words=words)


def _plays(record: CallRecord, limits: Limits) -> Iterator[Finding]:
    for span in record.played:
        for hole in span.holes:
            if limits.hole_s < hole.seconds <= limits.idle_s:
                words = f"{hole.seconds * 1000:.0f} ms in play stream {span.stream_id}"
                yield Finding(rule=Rule.HOLE, words=words, at=hole.at)
        idle_s = span.idle_s
        open_until = record.ended_at if span.lost_at is None else span.lost_at
        if span.closed_at is None and span.ended_at is not None and open_until is not None:
            idle_s = max(idle_s, open_until - span.ended_at)
        if idle_s > limits.idle_s and span.cut_at is None:
            words = (
                f"play stream {span.stream_id} stood open for {idle_s:.2f} s with nothing to play"
            )
            yield Finding(rule=Rule.OPEN_STREAM, words=words, at=span.opened_at)


def _answers(record: CallRecord, limits: Limits) -> Iterator[Finding]:
    for answer in record.answers():
        phrase, seconds = answer.phrase, answer.seconds
        if seconds is None:
            words = f"none to {phrase.label!r}"
        elif seconds > limits.answer_s:
            words = f"to {phrase.label!r} after {seconds:.2f} s, {limits.answer_s:g} s allowed"
        else:
            continue
        yield Finding(rule=Rule.ANSWER, words=words, at=phrase.ended_at)


def _barge_in(record: CallRecord, limits: Limits) -> Iterator[Finding]:
    for over in record.interruptions() if record.barge_in else ():
        if over.silent_after_s > limits.silent_s:
            words = f"the bot was heard for {over.silent_after_s:.2f} s more"
            yield Finding(rule=Rule.BARGE_IN, words=words, at=over.phrase.began_at)
        if over.flushed_after_s is not None and over.flushed_after_s > limits.flush_s:
            words = f"{over.flushed_after_s:.2f} s of bot audio were heard after the interruption"
            yield Finding(rule=Rule.BARGE_IN, words=words, at=over.phrase.began_at)
    for span in record.played:
        if span.discarded_s:
            words = f"{span.discarded_s:.2f} s came for play stream {span.stream_id} after it was silenced"
            yield Finding(rule=Rule.BARGE_IN, words=words, at=span.cut_at)


def _caller(record: CallRecord, _: Limits) -> Iterator[Finding]:
    """Nothing here is the bot's fault, but it explains much."""
    for phrase in record.phrases:
        share = record.sent_share(phrase)
        if share < 0.99:
            words = f"only {share:.0%} of {phrase.label!r} was sent"
            yield Finding(rule=Rule.CALLER, words=words, at=phrase.began_at, serious=False)
    for what in record.in_vain:
        yield Finding(rule=Rule.CALLER, words=f"waited in vain for {what}", serious=False)


def _numbers(record: CallRecord, limits: Limits) -> Iterator[Finding]:
    if limits.numbers is None and not record.numbers_heard:
        return
    check = record.numbers(limits.numbers)
    parts = {
        "lost": len(check.lost),
        "doubled": len(check.doubled),
        "out of order": check.disordered,
        "foreign": len(check.foreign),
        "broken": check.broken,
    }
    if wrong := ", ".join(f"{n} {what}" for what, n in parts.items() if n):
        yield Finding(rule=Rule.NUMBERS, words=f"{wrong}; {check.count} came whole")
