"""What must be true of a call, whatever the scenario. Each promise yields what broke it, in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from opusagent.demo.result import DemoResult
from opusagent.demo.script import complaints
from opusagent.models.session_state import Role
from opusagent.simulators.caller_playout import PlaySpan
from opusagent.simulators.caller_record import Phrase
from opusagent.simulators.scenario import Dtmf, Interrupt, Say, Scenario, names_in

__all__ = ["PROMISES", "broken_promises"]

_GAP_S = 0.04
"""Silence inside something that the bot says, at the phone, that nobody notices."""
_ENDS_S = 0.1
"""A play stream that is over so shortly before the call is, may have been cut by its end."""

type Promise = Callable[[DemoResult], Iterable[str]]


def broken_promises(result: DemoResult) -> list[str]:
    """Everything that is not as it should be."""
    return [words for promise in PROMISES for words in promise(result)]


def _the_bot_api_is_kept(result: DemoResult) -> Iterator[str]:
    yield from (str(finding) for finding in result.verdict.findings if finding.serious)


def _answers_are_right(result: DemoResult) -> Iterator[str]:
    yield from complaints(result.scenario, result.transcript)


def _each_phrase_is_heard_whole_and_once(result: DemoResult) -> Iterator[str]:
    understood = Counter(phrase.text for phrase in result.heard if phrase.whole)
    told = " ".join(item.text for item in result.transcript if item.type == "input")
    for text, times in _to_be_heard(result).items():
        if understood[text] != times:
            yield f"the service heard {text!r} as a whole {understood[text]} times, not {times}"
        if told.count(text) != times:
            yield f"the transcript has {text!r} {told.count(text)} times, not {times}"


def _each_phrase_is_answered_once(result: DemoResult) -> Iterator[str]:
    """The service says no answer more often than somebody asked; whether it did, others look at."""
    said = Counter(spoken.text for stream in result.streams for spoken in stream.said)
    asked = _asked(result.scenario)
    for text, times in said.items():
        most = [n for template, n in asked.items() if re.fullmatch(template, text)]
        if most and times > max(most):
            yield f"the service said {text!r} {times} times, not {max(most)}"


def _the_bot_is_heard_whole_and_once(result: DemoResult) -> Iterator[str]:
    for span, sentences in zip(result.record.played, result.at_phone, strict=True):
        for one in sentences:
            if one.repeated_ms > 30 or (not one.whole and not _is_cut(result, span)):
                missing_ms = one.missing_start_ms + one.missing_end_ms + one.holes_ms
                yield (
                    f"{one.text!r} was heard at the phone with {missing_ms} ms missing and"
                    f" {one.repeated_ms} ms doubled"
                )
    heard = Counter(one.text for sentences in result.at_phone for one in sentences)
    said = Counter(spoken.text for stream in result.streams for spoken in stream.said)
    any_cut = any(_is_cut(result, span) for span in result.record.played)
    for text in heard | said:
        if heard[text] > said[text] or (heard[text] < said[text] and not any_cut):
            yield f"{text!r} was said {said[text]} times and heard {heard[text]} times at the phone"


def _the_bot_does_not_falter(result: DemoResult) -> Iterator[str]:
    if result.largest_gap_s > _GAP_S:
        yield f"the bot was silent for {result.largest_gap_s * 1000:.0f} ms in something it said"


def _streams_change_as_told(result: DemoResult) -> Iterator[str]:
    expected = [switch.reason for switch in result.scenario.switch]
    happened = [switch.reason for switch in result.switches]
    if happened != expected:
        listed = " and ".join(", ".join(reasons) or "none" for reasons in (happened, expected))
        yield f"the changes of stream and those that should be: {listed}"
        return
    for switch, due in zip(result.switches, result.scenario.switch, strict=True):
        # Where a stream is cut, the cut is what counts, not when the next one was there.
        at_s = switch.at_s - switch.gap_ms / 1000
        speaking = [p.label for p in result.record.phrases if p.began_at < at_s < p.ended_at]
        wanted = [result.scenario.phrases[due.during]] if due.during else []
        if speaking != wanted:
            yield f"stream {switch.new} came while the caller said {speaking}, not {wanted}"


def _nothing_of_the_caller_is_lost(result: DemoResult) -> Iterator[str]:
    lost_ms = sum(switch.lost_ms for switch in result.switches)
    if lost_ms:
        yield f"{lost_ms} ms of the caller reached no stream"
    for line in result.log:
        if line["event"] == "audio dropped":
            yield f"{line['ms']} ms of audio were dropped ({line['where']})"


def _no_stream_outlives_its_limit_or_the_call(result: DemoResult) -> Iterator[str]:
    limit_s = result.scenario.setup.limit_s
    to_be_cut = {fault.stream for fault in result.scenario.setup.fault_specs}
    for stream in result.streams:
        name = f"stream {stream.stream}"
        if stream.cut and not to_be_cut & {stream.stream, None}:
            yield f"{name} was ended by the service: {stream.cut}"
        if stream.head_at is None:
            continue
        if stream.ended_at is None or stream.closed_at is None:
            yield f"{name} was left open"
        elif (age_s := (stream.ended_at - stream.head_at).total_seconds()) >= limit_s:
            yield f"{name} lived for {age_s:.1f} s, {limit_s:g} s allowed"


def _histories_begin_with_the_caller(result: DemoResult) -> Iterator[str]:
    given = {stream.stream: stream.history for stream in result.streams}
    for stream, history in given.items():
        if history and history[0].role is not Role.USER:
            yield f"the history of stream {stream} begins with {history[0].role.value}"
    for switch in result.switches:
        if len(given.get(switch.new, ())) != switch.history_items:
            yield f"stream {switch.new} did not get the {switch.history_items} turns of its history"


def _no_errors_are_logged(result: DemoResult) -> Iterator[str]:
    for line in result.log:
        if line.get("level") in {"error", "critical"}:
            yield f"the bridge logged an error: {line['event']}"


PROMISES: tuple[Promise, ...] = (
    _the_bot_api_is_kept,
    _answers_are_right,
    _each_phrase_is_heard_whole_and_once,
    _each_phrase_is_answered_once,
    _the_bot_is_heard_whole_and_once,
    _the_bot_does_not_falter,
    _streams_change_as_told,
    _nothing_of_the_caller_is_lost,
    _no_stream_outlives_its_limit_or_the_call,
    _histories_begin_with_the_caller,
    _no_errors_are_logged,
)


def _to_be_heard(result: DemoResult) -> Counter[str]:
    """How often each phrase was said; not what the caller said last, which runs into the hang-up."""
    said: list[Phrase] = list(result.record.phrases)
    if said and not said[-1].expects_answer:
        said.pop()
    return Counter(phrase.label for phrase in said)


def _asked(scenario: Scenario) -> Counter[str]:
    """How often each sentence may be said at most, as regular expressions."""
    said = Counter(step.phrase for step in scenario.step if isinstance(step, Say | Interrupt))
    times: Counter[str] = Counter()
    for phrase in scenario.phrase:
        for sentence in {*phrase.answer, *(phrase.forgets or scenario.bot.forgets)}:
            times[_pattern(sentence)] += said[phrase.id]
    n_keys = sum(isinstance(step, Dtmf) for step in scenario.step)
    for sentence in scenario.bot.unknown:
        times[_pattern(sentence)] += n_keys
    return times


def _pattern(template: str) -> str:
    pattern = re.escape(template)
    for name in names_in(template):
        pattern = pattern.replace(re.escape(f"{{{name}}}"), ".+")
    return pattern


def _is_cut(result: DemoResult, span: PlaySpan) -> bool:
    """Whether the caller cut a play stream off, by speaking or by hanging up."""
    over = result.record.ended_at
    by_end = over is not None and (span.ended_at is None or span.ended_at > over - _ENDS_S)
    return span.cut_at is not None or by_end
