import contextlib
import io
import json
import logging
from pathlib import Path

import pytest
import structlog

from opusagent.config import Settings
from opusagent.observability import (
    NAMED_LOGGERS,
    Metrics,
    Topic,
    bound,
    configure_logging,
    named_logger,
)

pytestmark = pytest.mark.usefixtures("logging_as_it_was")


def configured(settings: Settings) -> io.StringIO:
    out = io.StringIO()
    configure_logging(settings, out)
    return out


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


log = structlog.get_logger()


def test_a_log_line_away_from_a_terminal_is_one_json_object_with_its_context() -> None:
    out = configured(Settings())
    with bound(conversation_id="c1"):
        log.info("stream opened", stream=2)
    log.info("later")
    first, second = lines(out)
    assert first.pop("timestamp")
    assert first == {
        "event": "stream opened",
        "stream": 2,
        "conversation_id": "c1",
        "level": "info",
    }
    assert "conversation_id" not in second


def test_a_log_that_cannot_be_written_disturbs_nobody_who_logs() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        configure_logging(Settings(), full)
        log.warning("stream lost")
        named_logger("session_manager_service").warning("sessions are not saved")
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        with contextlib.suppress(OSError):
            full.close()
        log.warning("stream lost")


def test_private_fields_are_dropped_unless_they_are_asked_for() -> None:
    out = configured(Settings())
    log.info("heard", length=5, pii={"text": "hello"}, **{"pii.caller": "+49"})
    assert "hello" not in out.getvalue()
    assert "+49" not in out.getvalue()
    out = configured(Settings(log_private=True))
    log.info("heard", pii={"text": "hello"}, **{"pii.caller": "+49"})
    (line,) = lines(out)
    assert line["pii.text"] == "hello"
    assert line["pii.caller"] == "+49"


def test_lines_below_the_level_are_not_written() -> None:
    out = configured(Settings(log_level="WARNING"))
    log.info("quiet")
    log.warning("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_a_topic_can_be_silenced_but_not_its_warnings() -> None:
    out = configured(Settings(log_audio_events=False, log_transitions=True))
    log.info("chunk", topic=Topic.AUDIO)
    log.info("switched", topic=Topic.TRANSITION)
    log.warning("audio dropped", topic=Topic.AUDIO)
    assert [line["event"] for line in lines(out)] == ["switched", "audio dropped"]


def test_libraries_are_heard_from_warning_on_in_the_same_format() -> None:
    out = configured(Settings(log_level="DEBUG"))
    logging.getLogger("websockets.server").info("payload")
    logging.getLogger("asyncio").error("lost a %s", "task")
    (line,) = lines(out)
    assert line["event"] == "lost a task"
    assert line["logger"] == "asyncio"
    assert line["level"] == "error"


def fail_with(secret: str) -> None:
    raise ValueError(len(secret))


def test_an_error_carries_its_traceback_but_no_local_variables() -> None:
    for settings in (Settings(), Settings(log_format="console")):
        out = configured(settings)
        try:
            fail_with("hunter" + str(2))
        except ValueError:
            log.exception("it broke")
        assert "ValueError: 7" in out.getvalue()
        assert "hunter2" not in out.getvalue()


def test_the_console_format_is_for_people() -> None:
    out = configured(Settings(log_format="console"))
    log.info("stream opened", stream=2)
    assert "stream opened" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_a_snapshot_holds_every_number_by_name_and_label() -> None:
    metrics = Metrics()
    metrics.calls_active.inc()
    metrics.calls.labels("caller").inc(3)
    metrics.accept_seconds.observe(0.25)
    metrics.stream_failed("ThrottlingException", "retry")
    numbers = metrics.snapshot()
    assert numbers["calls_active"] == 1
    assert numbers["calls_total"] == {"caller": 3}
    assert numbers["call_accept_seconds_count"] == 1
    assert numbers["call_accept_seconds_sum"] == 0.25
    assert numbers["stream_failures_total"] == {"ThrottlingException,retry": 1}
    assert numbers["process_resident_memory_bytes"] > 0  # type: ignore[operator]  # has no labels
    json.dumps(numbers)


def test_an_unknown_message_is_new_once_per_wire() -> None:
    metrics = Metrics()
    assert metrics.unknown_message("audiocodes", "video.start")
    assert not metrics.unknown_message("audiocodes", "video.start")
    assert metrics.unknown_message("sonic", "video.start")


def test_a_peer_cannot_grow_the_metrics_by_inventing_names() -> None:
    metrics = Metrics()
    news = sum(metrics.unknown_message("audiocodes", f"type{n}") for n in range(1_000))
    assert not metrics.unknown_message("audiocodes", "type0")
    counted = metrics.snapshot()["unknown_messages_total"]
    assert isinstance(counted, dict)
    assert news == len(counted) == 51
    assert counted["audiocodes,other"] == 950
    assert counted["audiocodes,type0"] == 2


@pytest.mark.parametrize("name", ["", "call me on +49 30 1234", "x" * 65, "a\nb", "größe"])
def test_a_name_that_is_no_identifier_is_not_made_a_label(name: str) -> None:
    metrics = Metrics()
    metrics.unknown_message("audiocodes", name)
    assert metrics.snapshot()["unknown_messages_total"] == {"audiocodes,invalid": 1}


def test_two_bridges_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.calls_active.inc()
    assert other.snapshot()["calls_active"] == 0


@pytest.mark.parametrize("name", NAMED_LOGGERS)
def test_the_documented_loggers_follow_the_level_and_can_be_set_while_we_run(name: str) -> None:
    out = configured(Settings(log_level="INFO"))
    named = named_logger(name)
    with bound(conversation_id="c1"):
        named.debug("too fine")
        named.info("session created", items=2)
    logging.getLogger(name).setLevel(logging.DEBUG)
    named.debug("fine")
    logging.getLogger(name).setLevel(logging.ERROR)
    named.warning("too coarse")
    first, second = lines(out)
    assert first.pop("timestamp")
    assert first == {
        "event": "session created",
        "items": 2,
        "conversation_id": "c1",
        "level": "info",
        "logger": name,
    }
    assert second["event"] == "fine"
