"""What a call reports becomes a log line, a count, or both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import structlog
from pydantic import JsonValue

from opusagent.call.events import CallOutcome, Report
from opusagent.observability import Metrics, Topic

_log = structlog.get_logger("opusagent.call")

_TOPICS: Mapping[str, Topic] = {
    "stream opened": Topic.TRANSITION,
    "stream lost": Topic.TRANSITION,
    "stream closed": Topic.TRANSITION,
    "stream deaf": Topic.TRANSITION,
    "threshold reached": Topic.TRANSITION,
    "standby asked": Topic.TRANSITION,
    "standby opened": Topic.TRANSITION,
    "standby ready": Topic.TRANSITION,
    "standby lost": Topic.TRANSITION,
    "stream switched": Topic.TRANSITION,
    "closed first": Topic.TRANSITION,
    "first frame": Topic.TRANSITION,
    "barge-in": Topic.BARGE_IN,
    "bot speaks": Topic.AUDIO,
    "audio dropped": Topic.AUDIO,
    "play finished": Topic.AUDIO,
}
_WARNINGS = frozenset(
    {
        "stream lost",
        "stream deaf",
        "standby lost",
        "audio dropped",
        "broken message",
        "caller does not read",
    }
)
_ONCE = frozenset({"broken message", "unknown message", "activity ignored"})
_COUNT_ONLY = frozenset({"usage"})


class Reporter:
    """Takes the reports of one call.

    Args:
        metrics: The process's counts.
        context: What stands on every line of this call, e.g. its conversation id.
    """

    def __init__(self, metrics: Metrics, **context: JsonValue) -> None:
        """Begin with nothing said."""
        self._metrics = metrics
        self._log = _log.bind(**context)
        self._said: set[tuple[str, ...]] = set()
        self._open: set[JsonValue] = set()  # streams that are open, standbys among them
        self._fed: set[JsonValue] = set()  # streams that were given the past and hear the caller
        self._transition_ms = 0
        self._counters: Mapping[str, Callable[[Mapping[str, JsonValue]], None]] = {
            "call accepted": self._accepted,
            "bot speaks": self._bot_speaks,
            "barge-in": lambda f: metrics.barge_ins.labels(f["cause"]).inc(),
            "dtmf": lambda f: metrics.dtmf_digits.inc(_number(f["count"])),
            "stream opened": self._stream_opened,
            "stream lost": lambda f: metrics.stream_failed(str(f["code"]), str(f["remedy"])),
            "stream deaf": lambda f: metrics.streams_deaf.labels(f["kind"]).inc(),
            "standby asked": lambda f: metrics.standbys.labels(f["cause"]).inc(),
            "standby opened": self._head_came,
            "standby lost": lambda f: metrics.standby_failed(str(f["code"]), str(f["remedy"])),
            "stream switched": self._stream_switched,
            "closed first": lambda f: self._replaced("closed_first", f),
            "first frame": self._first_frame,
            "audio dropped": lambda f: metrics.audio_dropped_seconds.labels(f["where"]).inc(
                _number(f["ms"]) / 1000
            ),
            "broken message": lambda f: metrics.broken_messages.labels(f["wire"]).inc(),
            "unknown message": self._unknown,
            "tool finished": lambda f: metrics.tool_calls.labels(
                "failed" if f["failed"] else "done"
            ).inc(),
            "usage": self._usage,
            "transcript": self._transcript,
            "stream closed": self._stream_closed,
        }

    def bind(self, **context: JsonValue) -> None:
        """Put something else on every line from now on."""
        self._log = self._log.bind(**context)

    def report(self, report: Report) -> None:
        """Count and log one report; what the replay ring had to give up gets a line of its own."""
        if (count := self._counters.get(report.event)) is not None:
            count(report.fields)
        if report.event in _COUNT_ONLY or self._was_said(report):
            return
        fields = dict(report.fields)
        if (topic := _TOPICS.get(report.event)) is not None:
            fields["topic"] = topic.value
        if report.private:
            fields["pii"] = dict(report.private)
        write = self._log.warning if report.event in _WARNINGS else self._log.info
        write(report.event, **fields)
        if lost_ms := report.fields.get("lost_ms"):
            self.report(Report("audio dropped", {"where": "ring", "ms": lost_ms}))

    def ended(self, outcome: CallOutcome, seconds: float) -> None:
        """Count and log the end of the call."""
        self._metrics.calls.labels(outcome.by.value).inc()
        self._metrics.call_seconds.observe(seconds)
        private = {"pii": {"reason": outcome.words}} if outcome.words else {}
        self._log.info(
            "call ended",
            by=outcome.by.value,
            reason=outcome.reason,
            seconds=round(seconds, 1),
            transition_ms=self._transition_ms,
            **private,
        )

    def _was_said(self, report: Report) -> bool:
        """Whether a line of which one is enough in a call has been written."""
        if report.event not in _ONCE:
            return False
        kind = (report.event, *(str(value) for value in report.fields.values()))
        if kind in self._said or len(self._said) > 100:  # a bound, against floods
            return True
        self._said.add(kind)
        return False

    def _accepted(self, fields: Mapping[str, JsonValue]) -> None:
        self._metrics.accept_seconds.observe(_number(fields["after_ms"]) / 1000)

    def _bot_speaks(self, fields: Mapping[str, JsonValue]) -> None:
        if fields["after_initiate_ms"] is not None:
            seconds = _number(fields["after_initiate_ms"]) / 1000
            self._metrics.time_to_first_bot_audio.observe(seconds)
        if fields["after_caller_ms"] is not None:
            self._metrics.answer_seconds.observe(_number(fields["after_caller_ms"]) / 1000)

    def _head_came(self, fields: Mapping[str, JsonValue]) -> None:
        """A stream is open, as the live one or as a standby."""
        if fields["stream"] not in self._open:
            self._open.add(fields["stream"])
            self._metrics.streams_opened.inc()
            self._metrics.streams_open.inc()
            self._metrics.stream_open_seconds.observe(_number(fields["open_ms"]) / 1000)

    def _stream_opened(self, fields: Mapping[str, JsonValue]) -> None:
        self._head_came(fields)
        self._was_fed(fields)

    def _stream_switched(self, fields: Mapping[str, JsonValue]) -> None:
        self._replaced(str(fields["reason"]), fields)
        self._was_fed(fields)

    def _replaced(self, reason: str, fields: Mapping[str, JsonValue]) -> None:
        self._metrics.switches.labels(reason).inc()
        self._metrics.stream_age_at_switch.observe(_number(fields["age_s"]))

    def _was_fed(self, fields: Mapping[str, JsonValue]) -> None:
        """A stream was given the past, and hears the caller from now on."""
        if fields["stream"] in self._fed:
            return
        if self._fed:  # nothing comes before the first
            self._metrics.gap_seconds.observe(_number(fields["gap_ms"]) / 1000)
        self._fed.add(fields["stream"])
        self._metrics.replayed_seconds.inc(_number(fields["replayed_ms"]) / 1000)
        self._metrics.history_items.observe(_number(fields["history_items"]))
        self._metrics.history_bytes.observe(_number(fields["history_bytes"]))
        self._metrics.history_trimmed.inc(_number(fields["history_trimmed"]))

    def _first_frame(self, fields: Mapping[str, JsonValue]) -> None:
        if len(self._fed) == 1:  # the call has just begun
            return
        self._transition_ms += round(_number(fields["after_ms"]))
        self._metrics.switch_seconds.observe(_number(fields["after_ms"]) / 1000)
        self._metrics.transition_seconds.inc(_number(fields["after_ms"]) / 1000)

    def _stream_closed(self, fields: Mapping[str, JsonValue]) -> None:
        if fields["stream"] in self._open:  # not one whose head came too late to be of use
            self._open.discard(fields["stream"])
            self._metrics.streams_open.dec()
        self._metrics.stream_seconds.observe(_number(fields["age_s"]))

    def _transcript(self, fields: Mapping[str, JsonValue]) -> None:
        self._metrics.turns.labels("caller").inc(_number(fields["caller_turns"]))
        self._metrics.turns.labels("bot").inc(_number(fields["bot_turns"]))

    def _unknown(self, fields: Mapping[str, JsonValue]) -> None:
        self._metrics.unknown_message(str(fields["wire"]), str(fields["type"]))

    def _usage(self, fields: Mapping[str, JsonValue]) -> None:
        for kind, count in fields.items():
            with contextlib.suppress(ValueError):  # a service that counts backwards counts nothing
                self._metrics.tokens.labels(kind).inc(_number(count))


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
