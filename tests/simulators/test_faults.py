from __future__ import annotations

import pytest

from opusagent.errors import ConfigError
from opusagent.simulators.faults import FAULT_NAMES, FaultSpec, WireFault, parse_fault
from opusagent.simulators.wire import ConnectionFault
from opusagent.sonic.peer_faults import STREAM_FAULTS, Fault


def test_a_name_alone_means_the_first_stream() -> None:
    fault = parse_fault("reset")
    assert fault == FaultSpec(name="reset")
    assert [fault.hits(stream) for stream in (1, 2)] == [True, False]


def test_every_option_can_be_given() -> None:
    fault = parse_fault("531:stream=2:after=3.5:event=audioInput:nth=50:seconds=4")
    assert fault == FaultSpec(
        name="531", stream=2, after_s=3.5, on_event="audioInput", nth=50, seconds=4.0
    )


def test_a_star_means_every_stream() -> None:
    assert all(parse_fault("throttled:stream=*").hits(stream) for stream in range(1, 10))


@pytest.mark.parametrize("name", FAULT_NAMES)
def test_every_fault_acts_in_exactly_one_place(name: str) -> None:
    fault = parse_fault(name)
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
    ("text", "words"),
    [
        ("explode", "'explode' is none of throttled"),
        ("", "'' is none of"),
        ("reset:when=1", "unknown when"),
        ("reset:after", "could not convert"),
        ("reset:stream=first", "invalid literal"),
        ("reset:nth=1.5", "invalid literal"),
    ],
)
def test_a_mistake_is_said_in_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_fault(text)
