"""Logs that hold facts in fields, and metrics of one bridge in one registry.

What a caller said, typed or is called travels in the log field `pii` and is dropped unless
`LOG_PRIVATE` is on. A log line may carry a `topic`; the topics of `Topic` can be switched off one
by one. Metrics take labels only from small closed sets, or through `KnownLabels`, which caps them,
because a peer must not be able to grow our memory by inventing names.
"""

from __future__ import annotations

import enum
import logging
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO, cast

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from structlog.typing import EventDict, Processor, WrappedLogger

from opusagent.config import Settings
from opusagent.labels import KnownLabels
from opusagent.log_stream import LossyStream

__all__ = [
    "NAMED_LOGGERS",
    "RECOVERY_OUTCOMES",
    "Metrics",
    "Topic",
    "bound",
    "configure_logging",
    "named_logger",
]

NAMED_LOGGERS: Final = (
    "session_manager_service",
    "memory_session_storage",
    "redis_session_storage",
    "file_session_storage",
)
"""Standard-library loggers under names that users know; `setLevel` works on each while we run."""


class Topic(enum.StrEnum):
    """What a log line is about, where a setting can silence it."""

    TRANSITION = "transition"
    BARGE_IN = "barge_in"
    AUDIO = "audio"


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every log line of this process, ours and the libraries', to `stream` in one format.

    Libraries are heard from WARNING on, whatever the level: below it some of them print payloads
    and credentials.

    Args:
        settings: Level, format, silenced topics, and whether private fields are kept.
        stream: Standard error unless given; standard output belongs to `--json`.
    """
    out = sys.stderr if stream is None else stream
    written = cast("TextIO", LossyStream(out))
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _keep_private if settings.log_private else _drop_private,
    ]
    as_json = settings.log_format == "json" or (settings.log_format is None and not out.isatty())
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [
            # A plain traceback: the pretty one prints local variables, callers' words among them.
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[_silence(_silenced(settings)), *shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        logger_factory=structlog.WriteLoggerFactory(written),
        cache_logger_on_first_use=False,  # a second configuration must reach every module
    )
    handler = logging.StreamHandler(written)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in NAMED_LOGGERS:
        logging.getLogger(name).setLevel(settings.log_level)


def named_logger(name: str) -> Any:
    """A structlog logger whose lines go through `logging.getLogger(name)`, so by its level.

    Its lines carry no private fields, so none are dropped here.
    """
    return structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
    )


def bound(**fields: object) -> AbstractContextManager[Any]:
    """Put `fields` on every log line that is written inside the block, in tasks born there too."""
    return structlog.contextvars.bound_contextvars(**fields)


def _silenced(settings: Settings) -> frozenset[str]:
    wanted = {
        Topic.TRANSITION: settings.log_transitions,
        Topic.BARGE_IN: settings.log_barge_in_events,
        Topic.AUDIO: settings.log_audio_events,
    }
    return frozenset(topic for topic, is_wanted in wanted.items() if not is_wanted)


def _silence(topics: frozenset[str]) -> Processor:
    def drop(_logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if event.get("topic") in topics and level in {"debug", "info"}:
            raise structlog.DropEvent
        return event

    return drop


def _drop_private(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    for name in [name for name in event if name == "pii" or name.startswith("pii.")]:
        del event[name]
    return event


def _keep_private(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    if isinstance(private := event.get("pii"), Mapping):
        del event["pii"]
        event.update({f"pii.{name}": value for name, value in private.items()})
    return event


_LATENCY_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_CALL_S: Final = (10.0, 30.0, 60.0, 120.0, 300.0, 480.0, 900.0, 1800.0, 3600.0)
_TOOL_S: Final = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_SWITCH_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_AGE_S: Final = (30.0, 60.0, 120.0, 240.0, 360.0, 400.0, 440.0, 460.0, 470.0, 480.0)
_ITEMS: Final = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
_HISTORY_BYTES: Final = (0.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 4e4)

RECOVERY_OUTCOMES: Final = (
    "resumed",
    "unknown",
    "expired",
    "ended",
    "foreign",
    "at_capacity",
    "unreadable",
    "taken",
    "unavailable",
)
"""What may become of a caller who comes back."""


def _from_zero(counter: Counter, *labels: str) -> None:
    """Show these from the start: of a counter that appears with its first event, no rate shows it."""
    for label in labels:
        counter.labels(label)


class Metrics:
    """Everything that a bridge counts. One instance per process; tests make their own.

    Attributes are prometheus-client's; durations are seconds. What arrives under names from outside
    goes through the methods, which cap the number of distinct labels.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._known = KnownLabels()

        self.calls_active = self._gauge("calls_active", "Calls under way.")
        self.calls = self._counter("calls", "Calls that ended, by who ended them.", "ended_by")
        self.calls_refused = self._counter("calls_refused", "Calls refused.", "reason")
        _from_zero(self.calls_refused, "at_capacity")
        self.call_seconds = self._histogram("call_seconds", "Length of calls.", _CALL_S)
        self.accept_seconds = self._histogram(
            "call_accept_seconds", "From session.initiate to session.accepted.", _LATENCY_S
        )
        self.time_to_first_bot_audio = self._histogram(
            "time_to_first_bot_audio_seconds", "From session.initiate to bot audio.", _LATENCY_S
        )
        self.answer_seconds = self._histogram(
            "answer_seconds", "From the end of caller speech to bot audio.", _LATENCY_S
        )
        self.barge_ins = self._counter("barge_ins", "Interruptions of the bot.", "cause")
        self.dtmf_digits = self._counter("dtmf_digits", "Keys that callers pressed.")
        self.turns = self._counter("turns", "Turns of the transcript.", "role")

        self.streams_open = self._gauge("streams_open", "Nova Sonic streams that are open.")
        self.streams_opened = self._counter("streams_opened", "Nova Sonic streams opened.")
        self.stream_open_seconds = self._histogram(
            "stream_open_seconds", "From connecting to the response head.", _LATENCY_S
        )
        self.stream_seconds = self._histogram("stream_seconds", "Age of streams at end.", _CALL_S)
        self._stream_failures = self._counter(
            "stream_failures", "Streams that failed.", "code", "remedy"
        )
        self.switches = self._counter(
            "stream_switches",
            "Streams replaced before their limit, by what made the moment.",
            "reason",
        )
        self.stream_age_at_switch = self._histogram(
            "stream_age_at_switch_seconds", "Age of streams when they were replaced.", _AGE_S
        )
        self.switch_seconds = self._histogram(
            "switch_seconds",
            "From the decision to the first live audio on a new stream.",
            _SWITCH_S,
        )
        self.transition_seconds = self._counter(
            "transition_seconds",
            "The sum of these; divided by call_seconds_sum it is the share of calls in transition.",
        )
        self.gap_seconds = self._histogram(
            "stream_gap_seconds", "In which no stream heard the caller, at each change.", _SWITCH_S
        )
        self.history_items = self._histogram(
            "history_items", "Texts that a new stream was told of the conversation.", _ITEMS
        )
        self.history_bytes = self._histogram(
            "history_bytes", "Their length in UTF-8 bytes.", _HISTORY_BYTES
        )
        self.history_trimmed = self._counter(
            "history_items_trimmed", "Texts left out of a history because it was full."
        )
        self.standbys = self._counter("standbys", "Standby streams asked for.", "cause")
        self._standby_failures = self._counter(
            "standby_failures", "Standby streams that could not be had or broke.", "code", "remedy"
        )
        self.streams_deaf = self._counter(
            "streams_deaf", "Streams given up because nothing came from them, or no sound.", "kind"
        )
        self.tokens = self._counter("tokens", "Tokens that Bedrock reported.", "kind")
        self.tool_calls = self._counter("tool_calls", "Tool calls, by how they ended.", "status")
        self.tool_seconds = self._histogram(
            "tool_seconds", "What tools took, by what became of them.", _TOOL_S, "outcome"
        )
        self._tool_threads = self._gauge(
            "tool_threads_abandoned", "Threads of tools that nobody waits for any more."
        )

        self._of_agents_and_events()

        self.audio_dropped_seconds = self._counter(
            "audio_dropped_seconds", "Audio given up because it came too late.", "where"
        )
        self.replayed_seconds = self._counter(
            "replayed_seconds", "Caller audio replayed to a new stream."
        )
        self.recoveries = self._counter(
            "session_recoveries", "Callers who came back, by what became of it.", "outcome"
        )
        _from_zero(self.recoveries, *RECOVERY_OUTCOMES)
        self.session_load_seconds = self._histogram(
            "session_load_seconds", "Taking a session up from the store.", _SWITCH_S
        )
        self.session_saves = self._counter(
            "session_saves", "Writes of sessions to the store.", "outcome"
        )
        _from_zero(self.session_saves, "ok", "failed", "fenced")
        self.session_save_seconds = self._histogram(
            "session_save_seconds", "From an event to its being stored.", _SWITCH_S
        )
        self.recordings = self._counter("recordings", "Recordings of calls.", "status")
        self.recording_dropped_bytes = self._counter(
            "recording_dropped_bytes", "Sound and events that a recording had no room for."
        )
        self._unknown_messages = self._counter(
            "unknown_messages", "Messages of a type that we do not know.", "wire", "type"
        )
        self.broken_messages = self._counter(
            "broken_messages", "Messages that break their protocol; dropped.", "wire"
        )

    def _of_agents_and_events(self) -> None:
        self.event_deliveries = self._counter(
            "event_deliveries", "Events for applications, by what became of them.", "to", "outcome"
        )
        for to in ("function", "webhook"):
            for outcome in ("delivered", "refused", "failed", "dropped"):
                self.event_deliveries.labels(to, outcome)
        self.event_retries = self._counter("event_retries", "Webhooks that were posted again.")
        self.events_waiting = self._gauge("events_waiting", "Events that are not delivered yet.")
        self.agents_broken = self._gauge(
            "agents_broken", "Files of agents that cannot be used; their last good state goes on."
        )
        self.agent_reloads = self._counter(
            "agent_reloads", "Changes of agents' files that were found.", "outcome"
        )
        _from_zero(self.agent_reloads, "ok", "failed")

    def saved(self, outcome: str, seconds: float) -> None:
        """Count a write of a session: `ok`, `failed` (to be tried again) or `fenced`."""
        self.session_saves.labels(outcome).inc()
        if outcome == "ok":
            self.session_save_seconds.observe(seconds)

    def loaded(self, seconds: float) -> None:
        """Note how long it took to take a session up."""
        self.session_load_seconds.observe(seconds)

    def recovery(self, outcome: str) -> None:
        """Count a caller who came back: `resumed`, or why not."""
        self.recoveries.labels(outcome).inc()

    def tool_ended(self, name: str, outcome: str, seconds: float) -> None:
        """Note what became of a tool, and how long it took; from any agent's file, so without its name."""
        self.tool_seconds.labels(outcome).observe(seconds)

    def tool_threads_abandoned(self, count: int) -> None:
        """Note how many threads of tools nobody waits for any more."""
        self._tool_threads.set(count)

    def unknown_message(self, wire: str, message_type: str) -> bool:
        """Count a message of unknown type; true the first time, which is when to log it."""
        label, is_new = self._known.label(f"unknown {wire}", message_type)
        self._unknown_messages.labels(wire, label).inc()
        return is_new

    def stream_failed(self, code: str, remedy: str) -> None:
        """Count a stream that failed with the peer's `code`, by what was done about it."""
        label, _ = self._known.label("failure", code)
        self._stream_failures.labels(label, remedy).inc()

    def standby_failed(self, code: str, remedy: str) -> None:
        """Count a standby that failed with the peer's `code`, by what was done about it."""
        label, _ = self._known.label("failure", code)
        self._standby_failures.labels(label, remedy).inc()

    def snapshot(self) -> dict[str, float | dict[str, float]]:
        """Every number now, for `/stats`: by name, and where there are labels by label.

        Of a histogram the count and the sum. Without the prefix `opusagent_`.
        """
        numbers: dict[str, float | dict[str, float]] = {}
        for sample in (s for family in self.registry.collect() for s in family.samples):
            if sample.name.endswith(("_created", "_bucket")):
                continue
            name = sample.name.removeprefix("opusagent_")
            if not sample.labels:
                numbers[name] = sample.value
                continue
            by_label = numbers.setdefault(name, {})
            if isinstance(by_label, dict):
                by_label[",".join(sample.labels.values())] = sample.value
        return numbers

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, namespace="opusagent", registry=self.registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(name, help_text, namespace="opusagent", registry=self.registry)

    def _histogram(
        self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            name, help_text, labels, namespace="opusagent", registry=self.registry, buckets=buckets
        )
