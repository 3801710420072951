"""What the service says of its streams and the bridge of its switches, typed, on one clock."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opusagent.bench.switches.frames import Frame
from opusagent.bench.switches.mind import FINISH, answer_parts, turns_in
from opusagent.clock import SystemClock

__all__ = [
    "Arrival",
    "BridgeLine",
    "BridgeLog",
    "Reply",
    "ServiceStream",
    "Told",
    "read_replies",
    "read_streams",
]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame of the caller's on a stream, and when it came in monotonic seconds."""

    at: float
    frame: Frame


@dataclass(frozen=True, slots=True)
class Told:
    """A text and its time in monotonic seconds."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that a model began: when, the model's number, call and turn."""

    at: float
    mind: int
    call: int
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStream:
    """A stream that was live: it was given the caller's audio. Times in monotonic seconds.

    Attributes:
        mind: Number of the model on it; it stands in every frame that it spoke.
        opened_at: When its audio was opened: when it took over.
        struck_at: When the service cut it.
        known: What it was told of the past: history and prompt.
        typed: What was typed to it.
        heard: What it understood.
        said: The sentences that it spoke to their end.
        results: Turns that the results of tools were for.
    """

    number: int
    call: int
    mind: int
    opened_at: float
    struck_at: float | None
    frames: Sequence[Arrival]
    known: str
    typed: Sequence[Told]
    heard: Sequence[Told]
    said: Sequence[Told]
    results: frozenset[int]

    @property
    def known_turns(self) -> frozenset[int]:
        """The caller's turns that it was told of, in whatever way."""
        told = [self.known, *(text.text for text in self.typed)]
        spoken = {arrival.frame.turn for arrival in self.frames}
        return frozenset(turn for _, turn in turns_in(" ".join(told))) | spoken

    @property
    def typed_turns(self) -> frozenset[int]:
        """The turns that were typed to it, or whose results were."""
        return frozenset(turn for text in self.typed for _, turn in turns_in(text.text))

    @property
    def finishes(self) -> frozenset[tuple[int, int]]:
        """The answers that it was asked to finish: the turn, and the part that had broken off."""
        asked = (text.text for text in self.typed if text.text.startswith(FINISH))
        return frozenset((turn, part) for text in asked for _, turn, part in answer_parts(text))

    @property
    def known_parts(self) -> frozenset[tuple[int, int]]:
        """The sentences of the bot's that it was told of: turn and part."""
        return frozenset((turn, part) for _, turn, part in answer_parts(self.known))


@dataclass(frozen=True, slots=True)
class BridgeLine:
    """A line of the bridge's log about one call; its time in monotonic seconds."""

    at: float
    conversation: str
    event: str
    fields: Mapping[str, Any]


class BridgeLog:
    """Takes the lines of the bridge's log as they come."""

    def __init__(self) -> None:
        """Nothing has been said."""
        # Both clocks are the machine's own; what they differ by does not change in a few minutes.
        self._zero = SystemClock().utcnow().timestamp() - time.monotonic()
        self.lines: list[BridgeLine] = []
        self.warnings: list[str] = []
        self.n_switches = 0
        self._live: set[str] = set()

    def take(self, line: str) -> None:
        """Read one line; what is none of a call's is kept if it is a warning."""
        try:
            fields = json.loads(line)
        except ValueError:
            self.warnings.append(line.rstrip())
            return
        if fields.get("level") in ("error", "critical"):
            self.warnings.append(line.rstrip())
        conversation = fields.get("conversation_id")
        if conversation is None:
            return
        at = datetime.fromisoformat(fields["timestamp"]).timestamp() - self._zero
        event = fields["event"]
        self.lines.append(BridgeLine(at, conversation, event, fields))
        if event == "stream switched" or (event == "stream opened" and conversation in self._live):
            self.n_switches += 1
        elif event == "stream opened":
            self._live.add(conversation)


def read_streams(figures: Mapping[str, Any]) -> dict[int, list[ServiceStream]]:
    """The streams of each call that were live, in the order in which they took over."""
    calls: dict[int, list[ServiceStream]] = {}
    for facts in figures["streams"]:
        if facts.get("call") is not None:
            stream = _read_stream(facts)
            calls.setdefault(stream.call, []).append(stream)
    for streams in calls.values():
        streams.sort(key=lambda stream: stream.opened_at)
    return calls


def read_replies(figures: Mapping[str, Any]) -> list[Reply]:
    """Every answer that was begun on any stream."""
    return [Reply(*reply) for reply in figures["replies"]]


def _read_stream(facts: Mapping[str, Any]) -> ServiceStream:
    call = facts["call"]
    history = " ".join(turn["text"] for turn in facts["history"])
    named = [f"turn {result.get('turn')}" for _, result in facts["results"]]
    return ServiceStream(
        number=facts["number"],
        call=call,
        mind=facts["mind"],
        opened_at=facts["audio_opened_at"],
        struck_at=facts["struck_at"],
        frames=[
            Arrival(at, Frame(call, turn, number, sent_ns))
            for at, turn, number, sent_ns in facts["frames"]
        ],
        known=f"{facts['prompt']} {history}",
        typed=[Told(*text) for text in facts["typed"]],
        heard=[Told(*text) for text in facts["heard"]],
        said=[Told(*text) for text in facts["said"]],
        results=frozenset(turn for _, turn in turns_in("; ".join(named))),
    )
