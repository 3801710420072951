from __future__ import annotations

import re

import pytest

from opusagent.errors import ConfigError
from opusagent.simulators.faults import (
    FAULT_NAMES,
    FaultSpec,
    WireFault,
    fault_help,
    parse_fault,
)
from opusagent.simulators.wire import ConnectionFault
from opusagent.sonic.peer_faults import STREAM_FAULTS, Fault


def test_a_name_alone_means_the_first_stream() -> None:
    fault = parse_fault("reset")
    assert fault == FaultSpec(name="reset")
    assert [fault.hits(stream) for stream in (1, 2)] == [True, False]


def test_every_option_can_be_given() -> None:
    assert parse_fault("531:stream=2:event=audioInput:nth=50") == FaultSpec(
        name="531", stream=2, on_event="audioInput", nth=50
    )
    assert parse_fault("stall:after=3.5:into=300:nth=2:seconds=4") == FaultSpec(
        name="stall", after_s=3.5, into_s=0.3, nth=2, seconds=4.0
    )
    assert parse_fault("reset:stream=2,after=5.3") == FaultSpec(name="reset", stream=2, after_s=5.3)


def test_a_star_means_every_stream() -> None:
    assert all(parse_fault("throttled:stream=*").hits(stream) for stream in range(1, 10))


@pytest.mark.parametrize("name", FAULT_NAMES)
def test_every_fault_acts_in_exactly_one_place(name: str) -> None:
    fault = parse_fault(f"{name}:code=503" if name == "refuse" else name)
    places = [
        fault.refusal is not None,
        fault.connection is not None,
        fault.wire is not None,
        name in STREAM_FAULTS,
        name in Fault,
        name in ("no-head", "slow-head"),
    ]
    assert places.count(True) == 1


def test_names_are_told_apart() -> None:
    assert len(set(FAULT_NAMES)) == len(FAULT_NAMES)
    assert parse_fault("drop").connection is ConnectionFault.DROP
    assert parse_fault("half-frame").wire is WireFault.HALF_FRAME
    refusal = parse_fault("throttled-open").refusal
    assert refusal is not None
    assert (refusal.status, refusal.leave_open) == (429, True)


@pytest.mark.parametrize(
    ("code", "status", "error_type"),
    [
        ("429", 429, "ThrottlingException"),
        ("418", 418, "UnknownException"),
        ("ServiceUnavailableException", 503, "ServiceUnavailableException"),
        ("WeirdException", 400, "WeirdException"),
    ],
)
def test_a_stream_can_be_refused_with_any_code(code: str, status: int, error_type: str) -> None:
    refusal = parse_fault(f"refuse:stream=2:code={code}").refusal
    assert refusal is not None
    assert (refusal.status, refusal.error_type) == (status, error_type)


def test_what_cuts_a_stream_is_told_from_what_only_hinders_it() -> None:
    cuts = {name for name in FAULT_NAMES if FaultSpec(name=name).cuts}
    assert {"reset", "end", "531", "model-timeout", "half-frame"} < cuts
    assert not cuts & {"stall", "no-read", "zombie", "throttled", "no-head"}


def test_the_help_has_every_fault_and_every_option_with_its_meaning() -> None:
    lines = fault_help().splitlines()
    for name in FAULT_NAMES:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line.split()) > 1
    for option in ("stream", "after", "into", "event", "nth", "seconds", "code"):
        assert any(line.startswith(f"  {option}= ") for line in lines)
    assert "  slow-head              A response head after a while (2 s). (also: seconds)" in lines


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("explode", "'explode' is none of refuse, throttled"),
        ("", "'' is none of"),
        ("reset:when=1", "reset does not take 'when', only stream, after, into, event, nth"),
        ("reset:seconds=1", "reset does not take 'seconds'"),
        ("throttled:after=1", "throttled does not take 'after', only stream"),
        ("zombie:event=audioInput", "zombie does not take 'event'"),
        ("slow-head:after=1", "slow-head does not take 'after', only stream, seconds"),
        ("throttled:code=503", "throttled does not take 'code'"),
        ("reset:after", "after needs one value"),
        ("reset:after=1:after=2", "after needs one value"),
        ("reset:after=soon", "after must be a number, not 'soon'"),
        ("reset:after=-1", "after must be a number"),
        ("reset:after=nan", "after must be a number"),
        ("reset:stream=first", "stream must be a number from 1 on"),
        ("reset:stream=0", "stream must be a number from 1 on"),
        ("reset:event=audioInput:nth=1.5", "nth must be a number from 1 on"),
        ("reset:nth=2", "nth of what"),
        ("reset:event=audioInput:after=1", "event does not go together"),
        ("refuse", "code must be an HTTP status"),
        ("refuse:code=200", "code must be an HTTP status"),
    ],
)
def test_a_mistake_is_said_in_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse_fault(text)
