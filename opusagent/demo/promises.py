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
from opusagent.simulators.scenario import Scenario, names_in
from opusagent.simulators.steps import CutSocket, Dtmf, Interrupt, KillBridge, Say
from opusagent.simulators.stream_report import Spoken, StreamReport

__all__ = ["PROMISES", "broken_promises"]

_GAP_S = 0.04
"""Silence inside something that the bot says, at the phone, that nobody notices."""
_ENDS_S = 0.1
"""A play stream that is over so shortly before the call is, may have been cut by its end."""
_SAVED_S = 0.1
"""What the model understood so long before its bridge was killed is stored."""
_ACCEPTED_MS = 500
"""How long a caller who comes back may wait for `session.accepted` on a machine that does all parts."""

type Promise = Callable[[DemoResult], Iterable[str]]


def broken_promises(result: DemoResult) -> list[str]:
    """Everything that is not as it should be."""
    return [words for promise in PROMISES for words in promise(result)]


def _the_bot_api_is_kept(result: DemoResult) -> Iterator[str]:
    yield from (str(finding) for finding in result.verdict.findings if finding.serious)


def _answers_are_right(result: DemoResult) -> Iterator[str]:
    yield from complaints(result.scenario, result.transcript)


def _nobody_waits_in_vain(result: DemoResult) -> Iterator[str]:
    for what in result.record.in_vain:
        yield f"the caller waited in vain for {what}"


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
    said = Counter(one.text for stream in result.streams for one in _said(result, stream))
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
    heard = Counter(
        one.text
        for span, sentences in zip(result.record.played, result.at_phone, strict=True)
        for one in sentences
        if one.whole or not _is_cut(result, span)
    )
    said = Counter(spoken.text for stream in result.streams for spoken in stream.said)
    any_cut = any(_is_cut(result, span) for span in result.record.played)
    for text in heard | said:
        if heard[text] > said[text] or (heard[text] < said[text] and not any_cut):
            yield f"{text!r} was said {said[text]} times and heard {heard[text]} times at the phone"


def _the_bot_does_not_falter(result: DemoResult) -> Iterator[str]:
    for span in result.record.played:
        for hole in span.holes:
            if hole.seconds > _GAP_S:
                gap = f"for {hole.seconds * 1000:.0f} ms at {hole.at:.2f} s"
                since_s = hole.at - (span.began_at or hole.at)
                yield f"the bot was silent {gap}, {since_s:.2f} s into something it said"


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
    for stream in result.streams:
        if stream.history and stream.history[0].role is not Role.USER:
            first = stream.history[0].role.value
            yield f"the history of stream {stream.stream} begins with {first}"
    for switch in result.switches:
        streams = [one for one in result.streams if result.bridge_of(one) == switch.bridge]
        given = streams[switch.new - 1].history if switch.new <= len(streams) else ()
        if len(given) != switch.history_items:
            yield f"stream {switch.new} did not get the {switch.history_items} turns of its history"


def _the_caller_is_greeted_once(result: DemoResult) -> Iterator[str]:
    typed = [text for stream in result.streams for text in stream.typed]
    said = Counter(spoken.text for stream in result.streams for spoken in stream.said)
    for rule in result.scenario.typed:
        if typed and rule.search(typed[0].text):
            for sentence in rule.answer:
                if said[sentence] > 1:
                    yield f"the caller was greeted {said[sentence]} times with {sentence!r}"


def _the_line_is_lost_as_told_and_found_again(result: DemoResult) -> Iterator[str]:
    losses = (isinstance(step, CutSocket | KillBridge) for step in result.scenario.step)
    if len(result.comebacks) != (due := sum(losses)):
        yield f"the websocket was lost {len(result.comebacks)} times, not {due}"
    for one in result.comebacks:
        if one.accepted_ms is None or one.accepted_ms > _ACCEPTED_MS:
            took = "was not taken" if one.accepted_ms is None else f"took {one.accepted_ms} ms"
            yield f"{one.what}: session.resume {took}"
        if one.frame_ms is None:
            yield f"{one.what}: no frame of the caller reached the model after it"


def _no_turn_is_lost(result: DemoResult) -> Iterator[str]:
    for text in result.turns_lost:
        yield f"{text!r} was heard and is not in the transcript"


def _what_nobody_heard_is_not_in_the_transcript(result: DemoResult) -> Iterator[str]:
    heard = {one.text for sentences in result.at_phone for one in sentences}
    said = dict.fromkeys(spoken.text for stream in result.streams for spoken in stream.said)
    turns = " ".join(item.text for item in result.transcript if item.type == "output")
    unheard = [text for text in said if text in turns and text not in heard]
    # Where nothing unfinished was recognised, the sentence that was cut off was too short for that.
    too_short = [
        span
        for span, sentences in zip(result.record.played, result.at_phone, strict=True)
        if _is_cut(result, span) and all(one.whole for one in sentences)
    ]
    if len(unheard) > len(too_short):
        yield from (f"{text!r} is in the transcript and nobody has heard it" for text in unheard)


def _another_bridge_knows_what_was_said(result: DemoResult) -> Iterator[str]:
    """Its stream is told everything that the model had understood before, but for the last moment."""
    for one in result.comebacks:
        if one.old == one.new:
            continue
        stream = next((s for s in result.streams if s.stream == one.stream), None)
        if stream is None:
            yield f"{one.what}: no stream was opened for the caller who came back"
            continue
        told = [turn.text for turn in stream.history] + [text.text for text in stream.typed]
        for before in result.streams:
            for heard in before.heard:
                known = heard.text in " ".join(told)
                if result.at_s(heard.at) < one.at_s - _SAVED_S and not known:
                    yield f"{one.what}: stream {stream.stream} was not told {heard.text!r}"


def _tools_have_a_result(result: DemoResult) -> Iterator[str]:
    for run in result.tools:
        if run.seconds is None and result.scenario.end == "caller":
            yield f"{run.name}, asked for at {run.at_s:.1f} s, had no result"


def _what_is_secret_stands_nowhere(result: DemoResult) -> Iterator[str]:
    for place in result.secrets_in:
        yield f"keys that are secret stand in {place}"


def _the_call_ends_as_told(result: DemoResult) -> Iterator[str]:
    due = {"bot": "bot-disconnected"}.get(result.scenario.end, result.scenario.end)
    if due not in {"caller", result.record.end_reason}:
        yield f"the call ended with {result.record.end_reason!r}, not with {due!r}"


def _no_errors_are_logged(result: DemoResult) -> Iterator[str]:
    for line in result.log:
        if line.get("level") in {"error", "critical"}:
            yield f"the bridge logged an error: {line['event']}"


PROMISES: tuple[Promise, ...] = (
    _the_bot_api_is_kept,
    _answers_are_right,
    _nobody_waits_in_vain,
    _each_phrase_is_heard_whole_and_once,
    _each_phrase_is_answered_once,
    _the_bot_is_heard_whole_and_once,
    _the_bot_does_not_falter,
    _streams_change_as_told,
    _nothing_of_the_caller_is_lost,
    _no_stream_outlives_its_limit_or_the_call,
    _histories_begin_with_the_caller,
    _the_caller_is_greeted_once,
    _the_line_is_lost_as_told_and_found_again,
    _no_turn_is_lost,
    _what_nobody_heard_is_not_in_the_transcript,
    _another_bridge_knows_what_was_said,
    _tools_have_a_result,
    _what_is_secret_stands_nowhere,
    _the_call_ends_as_told,
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


def _said(result: DemoResult, stream: StreamReport) -> Iterable[Spoken]:
    """What was said on a stream; not the answer that died with its bridge, for it is given again."""
    asked_at = max((text.at for text in (*stream.heard, *stream.typed)), default=None)
    for one in result.comebacks:
        lived = result.at_s(stream.head_at) < one.at_s < result.at_s(stream.ended_at) + _ENDS_S
        if one.killed and lived and asked_at is not None:
            return [spoken for spoken in stream.said if spoken.at < asked_at]
    return stream.said


def _is_cut(result: DemoResult, span: PlaySpan) -> bool:
    """Whether a play stream was cut off: by the caller, who spoke or hung up, or with its bridge."""
    over = result.record.ended_at
    by_end = over is not None and (span.ended_at is None or span.ended_at > over - _ENDS_S)
    killed = span.lost_at is not None and span.lost_at in {
        one.at_s for one in result.comebacks if one.killed
    }
    return span.cut_at is not None or by_end or killed
