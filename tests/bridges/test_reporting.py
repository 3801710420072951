"""What a call reports, as log lines and as counts."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from opusagent.bridges.reporting import Reporter
from opusagent.call.events import CallOutcome, EndedBy, Report
from opusagent.call.plan import ContinuationPolicy
from opusagent.config import Settings
from opusagent.observability import Metrics, configure_logging
from tests.call.driver import PLAN, CallDriver

OPENED: dict[str, JsonValue] = {
    "stream": 1,
    "open_ms": 120,
    "history_items": 0,
    "history_bytes": 0,
    "history_trimmed": 0,
    "replayed_ms": 0,
    "lost_ms": 0,
    "gap_ms": 0,
}
SWITCHED: dict[str, JsonValue] = {
    "from_stream": 1,
    "stream": 2,
    "reason": "turn_complete",
    "age_s": 371.25,
    "standby_age_s": 8.5,
    "gap_ms": 40,
    "replayed_ms": 1840,
    "lost_ms": 0,
    "history_items": 12,
    "history_bytes": 2345,
    "history_trimmed": 3,
}


pytestmark = pytest.mark.usefixtures("logging_as_it_was")


class Told:
    """A reporter, and what came of what it was told."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._out = io.StringIO()
        configure_logging(settings or Settings(), self._out)
        self.metrics = Metrics()
        self.reporter = Reporter(self.metrics, conversation_id="c-1")

    def __call__(self, event: str, fields: dict[str, JsonValue] | None = None) -> None:
        self.reporter.report(Report(event, fields or {}))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]

    def number(self, name: str) -> float:
        number = self.metrics.snapshot()[name]
        assert isinstance(number, float)
        return number

    def numbers(self, name: str) -> dict[str, float]:
        numbers = self.metrics.snapshot().get(name, {})
        assert isinstance(numbers, dict)
        return numbers


def test_threshold_preparation_and_switch_are_logged_with_their_numbers() -> None:
    told = Told()
    told("threshold reached", {"stream": 1, "age_s": 362.5})
    told("standby asked", {"stream": 2, "cause": "bot_started"})
    told("standby opened", {"stream": 2, "open_ms": 95})
    told("stream switched", SWITCHED)
    assert {(line["level"], line["topic"]) for line in told.lines} == {("info", "transition")}
    without = ("timestamp", "conversation_id", "level", "topic")
    assert [{k: v for k, v in line.items() if k not in without} for line in told.lines] == [
        {"event": "threshold reached", "stream": 1, "age_s": 362.5},
        {"event": "standby asked", "stream": 2, "cause": "bot_started"},
        {"event": "standby opened", "stream": 2, "open_ms": 95},
        {"event": "stream switched", **SWITCHED},
    ]


@pytest.mark.parametrize(
    ("setting", "event", "fields"),
    [
        ("log_transitions", "threshold reached", {"stream": 1, "age_s": 362.5}),
        ("log_transitions", "standby asked", {"stream": 2, "cause": "silence"}),
        ("log_transitions", "standby opened", {"stream": 2, "open_ms": 95}),
        ("log_transitions", "stream switched", SWITCHED),
        ("log_transitions", "stream opened", OPENED),
        ("log_transitions", "stream closed", {"stream": 1, "age_s": 3.0}),
        ("log_barge_in_events", "barge-in", {"cause": "model", "heard_ms": 9, "dropped_ms": 7}),
        ("log_audio_events", "bot speaks", {"after_caller_ms": 700, "after_initiate_ms": None}),
        ("log_audio_events", "play finished", {"ms": 700, "status": "ok"}),
    ],
)
def test_each_switch_turns_its_lines_on_and_off(
    setting: str, event: str, fields: dict[str, JsonValue]
) -> None:
    for wanted in (True, False):
        values: dict[str, Any] = {setting: wanted}
        told = Told(Settings(**values))
        told(event, fields)
        assert [line["event"] for line in told.lines] == [event] * wanted


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("standby lost", {"stream": 2, "code": "ThrottlingException", "remedy": "reopen_later"}),
        ("stream deaf", {"stream": 1, "kind": "deaf", "after_s": 10.0}),
        ("audio dropped", {"where": "outbox", "ms": 200}),
    ],
)
def test_trouble_is_a_warning_that_no_switch_silences(
    event: str, fields: dict[str, JsonValue]
) -> None:
    told = Told(Settings(log_transitions=False, log_audio_events=False))
    told(event, fields)
    (line,) = told.lines
    assert line["level"] == "warning"


def test_a_switch_is_counted_with_its_figures() -> None:
    told = Told()
    told("stream opened", OPENED)
    told("standby asked", {"stream": 2, "cause": "bot_started"})
    told("standby opened", {"stream": 2, "open_ms": 95})
    told("stream switched", SWITCHED)
    assert told.numbers("stream_switches_total") == {"turn_complete": 1}
    assert told.numbers("standbys_total") == {"bot_started": 1}
    assert told.number("stream_age_at_switch_seconds_sum") == 371.25
    assert told.number("stream_gap_seconds_count") == 1  # before the first stream there is no gap
    assert told.number("stream_gap_seconds_sum") == 0.04
    assert told.number("replayed_seconds_total") == 1.84
    assert told.number("history_items_count") == 2
    assert told.number("history_items_sum") == 12
    assert told.number("history_bytes_sum") == 2345
    assert told.number("history_items_trimmed_total") == 3
    assert told.number("streams_opened_total") == 2
    assert told.number("stream_open_seconds_sum") == pytest.approx(0.215)


@pytest.mark.parametrize("log_private", [False, True])
def test_what_a_call_is_ended_with_in_words_is_private(*, log_private: bool) -> None:
    told = Told(Settings(log_private=log_private))
    told.reporter.ended(CallOutcome(EndedBy.BOT, "bot-disconnected", words="Ann has paid"), 8.0)
    told.reporter.ended(CallOutcome(EndedBy.CALLER, "client-disconnected"), 8.0)
    first, second = told.lines
    assert first["reason"] == "bot-disconnected"
    assert first.get("pii.reason") == ("Ann has paid" if log_private else None)
    assert ("Ann" in str(first)) is log_private
    assert "pii.reason" not in second


def test_the_share_of_calls_in_transition_can_be_computed() -> None:
    told = Told()
    told("stream opened", OPENED)
    told("first frame", {"stream": 1, "after_ms": 900})  # the call has just begun
    told("stream switched", SWITCHED)
    told("first frame", {"stream": 2, "after_ms": 4})
    told("stream switched", {**SWITCHED, "from_stream": 2, "stream": 3})
    told("first frame", {"stream": 3, "after_ms": 8})
    told.reporter.ended(CallOutcome(EndedBy.CALLER), 800.0)
    line = told.lines[-1]
    assert (line["event"], line["transition_ms"]) == ("call ended", 12)
    assert told.number("switch_seconds_count") == 2
    share = told.number("transition_seconds_total") / told.number("call_seconds_sum")
    assert share == pytest.approx(0.000_015)


def test_a_stream_that_is_closed_before_the_next_is_there_counts_as_replaced() -> None:
    told = Told()
    told("closed first", {"stream": 1, "age_s": 460.0})
    (line,) = told.lines
    assert (line["level"], line["topic"]) == ("info", "transition")
    assert told.numbers("stream_switches_total") == {"closed_first": 1}
    assert told.number("stream_age_at_switch_seconds_sum") == 460


def test_what_a_whole_call_reports_of_its_switch_is_logged_and_counted() -> None:
    policy = ContinuationPolicy(transition_threshold_s=10, audio_start_timeout_s=20, limit_s=60)
    call = CallDriver(replace(PLAN, continuation=policy), random=lambda: 0.0)
    call.answer()
    call.quiet(20.0)
    told = Told()
    for _, report in call.reports:
        told.reporter.report(report)
    lines = {line["event"]: line for line in told.lines}
    assert lines["threshold reached"]["age_s"] == pytest.approx(10, abs=0.02)
    assert lines["standby asked"]["cause"] == "silence"
    assert lines["standby opened"]["open_ms"] == 100
    assert {*SWITCHED} - {*lines["stream switched"]} == set()
    assert told.numbers("stream_switches_total") == {"silence": 1}
    assert told.number("streams_open") == 2  # in memory nothing says that the old one has closed
    assert told.number("switch_seconds_count") == 1
    assert told.number("switch_seconds_sum") <= 0.02


def test_standbys_that_fail_and_streams_that_go_deaf_are_counted_by_kind() -> None:
    told = Told()
    lost: dict[str, JsonValue] = {
        "stream": 2,
        "code": "ThrottlingException",
        "remedy": "reopen_later",
    }
    told("standby lost", lost)
    told("standby lost", {**lost, "stream": 3})
    told("standby lost", {**lost, "code": "no code\n" * 9})
    told("stream deaf", {"stream": 1, "kind": "dumb", "after_s": 10.0})
    assert told.numbers("standby_failures_total") == {
        "ThrottlingException,reopen_later": 2,
        "invalid,reopen_later": 1,
    }
    assert told.numbers("streams_deaf_total") == {"dumb": 1}


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("stream switched", {**SWITCHED, "lost_ms": 2000}),
        ("stream opened", {**OPENED, "lost_ms": 2000}),
    ],
)
def test_speech_that_overflowed_the_replay_buffer_is_warned_of_and_counted(
    event: str, fields: dict[str, JsonValue]
) -> None:
    told = Told(Settings(log_transitions=False))
    told(event, fields)
    (line,) = told.lines
    assert (line["event"], line["level"]) == ("audio dropped", "warning")
    assert (line["where"], line["ms"]) == ("ring", 2000)
    assert told.numbers("audio_dropped_seconds_total") == {"ring": 2.0}


def test_every_stream_is_counted_once_from_its_head_to_its_end() -> None:
    told = Told()
    told("stream opened", OPENED)
    told("standby opened", {"stream": 2, "open_ms": 95})
    assert told.number("streams_open") == 2
    told("stream switched", SWITCHED)
    told("stream opened", {**OPENED, "stream": 2, "replayed_ms": 1840})
    assert told.number("streams_open") == 2
    assert told.number("replayed_seconds_total") == 1.84
    for stream in (1, 2, 3):  # the third one's head came too late: nobody reported it
        told("stream closed", {"stream": stream, "age_s": 9.0})
    assert told.number("streams_open") == 0
    assert told.number("stream_seconds_count") == 3
