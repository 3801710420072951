from __future__ import annotations

from typing import Any

from opusagent.demo.switches import switches_in, words_of

FED = {
    "history_items": 4,
    "history_bytes": 118,
    "history_trimmed": 0,
    "replayed_ms": 0,
    "lost_ms": 0,
    "gap_ms": 0,
}


def line(event: str, at_s: float, **fields: Any) -> dict[str, Any]:
    return {"event": event, "at_s": at_s, **fields}


FIRST = line("stream opened", 0.1, stream=1, open_ms=20, **FED)


def test_the_first_stream_of_a_call_is_no_change_of_stream() -> None:
    assert switches_in([FIRST, line("first frame", 0.7, stream=1, after_ms=600)]) == []


def test_a_planned_change_has_the_bridges_reason_and_the_time_to_its_first_frame() -> None:
    fields = {"from_stream": 1, "stream": 2, "reason": "silence", "age_s": 14.0, **FED}
    log = [FIRST, line("stream switched", 14.2, **fields)]
    log.append(line("first frame", 14.3, stream=2, after_ms=42))
    (switch,) = switches_in(log)
    assert (switch.old, switch.new, switch.reason, switch.at_s) == (1, 2, "silence", 14.2)
    assert (switch.age_s, switch.history_items, switch.first_frame_ms) == (14.0, 4, 42)


def test_a_stream_that_is_cut_and_the_one_that_follows_are_one_change() -> None:
    log = [
        FIRST,
        line("stream lost", 5.0, stream=1, code="ConnectionLost", age_s=4.9),
        line("stream lost", 5.1, stream=2, code="ThrottlingException", age_s=None),
        line("stream opened", 5.6, stream=3, open_ms=20, **{**FED, "gap_ms": 600}),
    ]
    (switch,) = switches_in(log)
    assert (switch.old, switch.new, switch.reason) == (1, 3, "lost")
    assert (switch.age_s, switch.gap_ms, switch.first_frame_ms) == (4.9, 600, None)


def test_a_standby_that_takes_over_from_a_stream_that_was_cut_is_one_change() -> None:
    fields = {"from_stream": 1, "stream": 2, "reason": "lost", "age_s": 9.0, **FED}
    log = [
        FIRST,
        line("stream lost", 9.1, stream=1, code="ConnectionLost", age_s=9.0),
        line("stream switched", 9.1, **fields),
        line("stream opened", 9.2, stream=3, open_ms=20, **FED),
    ]
    assert [(one.new, one.reason) for one in switches_in(log)] == [(2, "lost")]


def test_a_stream_that_was_closed_before_the_next_one_came_says_so() -> None:
    log = [
        FIRST,
        line("closed first", 18.0, stream=1, age_s=17.9),
        line("stream opened", 18.2, stream=3, open_ms=20, **FED),
    ]
    assert [(one.old, one.new, one.reason) for one in switches_in(log)] == [(1, 3, "closed_first")]


def test_the_streams_of_two_bridges_are_not_mixed_up() -> None:
    lost = line("stream lost", 5.0, stream=1, code="ConnectionLost", age_s=4.9, bridge=1)
    other = line("stream opened", 5.3, stream=1, open_ms=20, bridge=2, **FED)
    next_one = line("stream opened", 5.6, stream=2, open_ms=20, bridge=1, **FED)
    (switch,) = switches_in([FIRST | {"bridge": 1}, lost, other, next_one])
    assert (switch.bridge, switch.old, switch.new) == (1, 1, 2)


def test_progress_tells_of_streams_and_of_nothing_else_in_the_log() -> None:
    assert "takes over from 1 (silence)" in words_of(
        line("stream switched", 1.0, from_stream=1, stream=2, reason="silence")
    )
    assert "is cut (ConnectionLost)" in words_of(
        line("stream lost", 1.0, stream=1, code="ConnectionLost")
    )
    assert "bridge 2 goes on" in words_of(
        line("session resumed", 1.0, where="other process", bridge=2)
    )
    assert words_of(FIRST) == ""
    assert words_of(line("call accepted", 0.1)) == ""
