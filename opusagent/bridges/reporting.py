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
    "barge-in": Topic.BARGE_IN,
    "bot speaks": Topic.AUDIO,
    "audio dropped": Topic.AUDIO,
    "play finished": Topic.AUDIO,
}
_WARNINGS = frozenset({"stream lost", "audio dropped", "broken message", "caller does not read"})
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
        self._counters: Mapping[str, Callable[[Mapping[str, JsonValue]], None]] = {
            "call accepted": self._accepted,
            "bot speaks": self._bot_speaks,
            "barge-in": lambda f: metrics.barge_ins.labels(f["cause"]).inc(),
            "dtmf": lambda f: metrics.dtmf_digits.inc(_number(f["count"])),
            "stream opened": self._stream_opened,
            "stream lost": lambda f: metrics.stream_failed(str(f["code"]), str(f["remedy"])),
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

    def report(self, report: Report) -> None:
        """Count and log one report."""
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

    def ended(self, outcome: CallOutcome, seconds: float) -> None:
        """Count and log the end of the call."""
        self._metrics.calls.labels(outcome.by.value).inc()
        self._metrics.call_seconds.observe(seconds)
        self._log.info(
            "call ended", by=outcome.by.value, reason=outcome.reason, seconds=round(seconds, 1)
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

    def _stream_opened(self, fields: Mapping[str, JsonValue]) -> None:
        self._metrics.streams_opened.inc()
        self._metrics.streams_open.inc()
        self._metrics.stream_open_seconds.observe(_number(fields["open_ms"]) / 1000)
        self._metrics.replayed_seconds.inc(_number(fields["replayed_ms"]) / 1000)
        if lost_ms := _number(fields["lost_ms"]):
            self._metrics.audio_dropped_seconds.labels("ring").inc(lost_ms / 1000)

    def _stream_closed(self, fields: Mapping[str, JsonValue]) -> None:
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
