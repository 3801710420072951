"""What came of a demo's call: everything that was measured, and whether it is as it should be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from opusagent.demo.stage import LogLine
from opusagent.demo.switches import Switch
from opusagent.models.session_state import ConversationItem
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.calling import summary
from opusagent.simulators.hearing import Heard
from opusagent.simulators.scenario import Scenario
from opusagent.simulators.stream_report import StreamReport
from opusagent.simulators.verdict import Verdict

__all__ = ["DemoResult", "HeardPhrase", "load_heard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardPhrase:
    """What the service understood of one phrase."""

    phrase: str
    text: str
    score: float
    whole: bool
    missing_ms: int
    repeated_ms: int


@dataclass(slots=True, kw_only=True)
class DemoResult:
    """A call and its judgement.

    Attributes:
        streams: What each stream to the service was and got.
        switches: The changes of stream, as the bridge reported them.
        at_phone: What was heard of the bot at the phone, for each play stream.
        log: The bridges' logs, one object a line, with `at_s` in seconds of the call.
        broken: Every promise that was broken, in words.
    """

    scenario: Scenario
    record: CallRecord
    verdict: Verdict
    transcript: list[ConversationItem]
    heard: list[HeardPhrase]
    at_phone: list[tuple[Heard, ...]]
    streams: list[StreamReport]
    switches: list[Switch]
    log: list[LogLine]
    began: datetime
    broken: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken

    @property
    def largest_gap_s(self) -> float:
        """The longest silence inside something that the bot said, at the phone."""
        holes = (hole.seconds for span in self.record.played for hole in span.holes)
        return max(holes, default=0.0)

    def at_s(self, moment: datetime | None) -> float:
        """Seconds of the call at a moment of the day."""
        return 0.0 if moment is None else (moment - self.began).total_seconds()

    def as_json(self) -> dict[str, JsonValue]:
        """The figures, for `--json`."""
        phrases: list[JsonValue] = [
            {
                "text": h.text,
                "score": h.score,
                "missing_ms": h.missing_ms,
                "repeated_ms": h.repeated_ms,
            }
            for h in self.heard
        ]
        return {
            **summary(self.record, self.verdict),
            "ok": self.ok,
            "scenario": self.scenario.name,
            "broken": list(self.broken),
            "heard": phrases,
            "switches": [switch.as_json() for switch in self.switches],
        }


def load_heard(folder: Path) -> list[HeardPhrase]:
    """The phrases that the service heard, in order, from the folder of its records."""
    path = folder / "heard.json"
    if not path.exists():
        return []
    utterances = json.loads(path.read_text(encoding="utf-8"))
    return [HeardPhrase(**phrase) for utterance in utterances for phrase in utterance]
