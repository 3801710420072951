"""The changes of stream in a call, as the bridge reported them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import JsonValue

__all__ = ["Switch", "switches_in", "words_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """From one stream to the next. Streams are numbered by the bridge, from 1.

    Attributes:
        bridge: Which one, from 1.
        reason: `lost` where the service ended the old one, otherwise why this moment was taken.
        at_s: When the new stream heard the caller, in seconds of the call.
        age_s: How old the old one was; None if it never began.
        history_items: Turns that the new one was told.
        history_bytes: Their size.
        replayed_ms: Caller audio that it was given again.
        lost_ms: Caller audio that no stream was given.
        gap_ms: How long no stream heard the caller.
        first_frame_ms: From the decision to the first live frame; None if there was none.
    """

    old: int
    new: int
    bridge: int = 1
    reason: str
    at_s: float
    age_s: float | None
    history_items: int
    history_bytes: int
    replayed_ms: int
    lost_ms: int
    gap_ms: int
    first_frame_ms: int | None

    def as_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return asdict(self)


def switches_in(log: Sequence[dict[str, Any]]) -> list[Switch]:
    """Every change of stream in the logs of all bridges, in order; each line needs `at_s`."""
    bridges = sorted({line.get("bridge", 1) for line in log})
    found = [
        switch
        for bridge in bridges
        for switch in _switches_of([line for line in log if line.get("bridge", 1) == bridge])
    ]
    return sorted(found, key=lambda switch: switch.at_s)


def _switches_of(log: Sequence[dict[str, Any]]) -> list[Switch]:
    frames = {line["stream"]: line["after_ms"] for line in log if line["event"] == "first frame"}
    found: list[Switch] = []
    left: dict[str, Any] | None = None  # the line about the stream that is gone
    for line in log:
        match line["event"]:
            case "stream lost" | "closed first":
                left = left or line
            case "stream switched":
                found.append(_switch(line, line, line["reason"], frames))
                left = None
            case "stream opened" if left is not None:
                reason = "lost" if left["event"] == "stream lost" else "closed_first"
                found.append(_switch(left | {"from_stream": left["stream"]}, line, reason, frames))
                left = None
    return found


def words_of(line: dict[str, Any]) -> str:
    """A log line about a change of stream as a line of progress; empty for any other."""
    match line["event"]:
        case "standby asked":
            return f"-- stream {line['stream']} is opened ({line['cause']})"
        case "stream switched":
            return f"-- stream {line['stream']} takes over from {line['from_stream']} ({line['reason']})"
        case "stream lost":
            return f"-- stream {line['stream']} is cut ({line['code']})"
        case "stream opened" if line["stream"] > 1:
            return f"-- stream {line['stream']} takes over"
        case "session resumed":
            return f"-- bridge {line['bridge']} goes on with the call ({line['where']})"
    return ""


def _switch(
    old: dict[str, Any], new: dict[str, Any], reason: str, frames: dict[int, int]
) -> Switch:
    return Switch(
        old=old["from_stream"],
        new=new["stream"],
        bridge=new.get("bridge", 1),
        reason=reason,
        at_s=round(new["at_s"], 2),
        age_s=old["age_s"],
        history_items=new["history_items"],
        history_bytes=new["history_bytes"],
        replayed_ms=new["replayed_ms"],
        lost_ms=new["lost_ms"],
        gap_ms=new["gap_ms"],
        first_frame_ms=frames.get(new["stream"]),
    )
