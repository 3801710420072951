"""What came of a demo's call: everything that was measured, and whether it is as it should be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from opusagent.demo.comebacks import Comeback
from opusagent.demo.stage import LogLine
from opusagent.demo.switches import Switch
from opusagent.demo.tool_runs import ToolRun
from opusagent.models.session_state import ConversationItem
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.calling import summary
from opusagent.simulators.hearing import Heard
from opusagent.simulators.scenario import Scenario
from opusagent.simulators.steps import Dtmf
from opusagent.simulators.stream_report import StreamReport
from opusagent.simulators.verdict import Verdict

__all__ = ["DemoResult", "HeardPhrase", "load_heard"]


_SLACK_MS = 30
"""By so little a sentence may be heard to end too late."""


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
        comebacks: The websockets that were lost, and how the call went on.
        at_phone: What was heard of the bot at the phone, for each play stream; a sentence whose rest
            came in the next one stands with its beginning, as one.
        tools: The tools that were run.
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
    comebacks: list[Comeback] = field(default_factory=list)
    tools: list[ToolRun] = field(default_factory=list)
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

    @property
    def turns_lost(self) -> list[str]:
        """What was said and heard as a whole, by either side, and is in no turn of the transcript."""
        turns = {
            kind: " ".join(item.text for item in self.transcript if item.type == kind)
            for kind in ("input", "output")
        }
        by_caller = [one.text for one in self.heard if one.whole]
        by_bot = [one.text for sentences in self.at_phone for one in sentences if one.whole]
        lost = [text for text in by_caller if text not in turns["input"]]
        return lost + [text for text in by_bot if text not in turns["output"]]

    @property
    def has_secrets(self) -> bool:
        """Whether the caller pressed keys that may stand nowhere."""
        return any(isinstance(step, Dtmf) and step.secret for step in self.scenario.step)

    @property
    def secrets_in(self) -> list[str]:
        """Where such keys stand all the same."""
        steps = [s for s in self.scenario.step if isinstance(s, Dtmf) and s.secret]
        patterns = [re.compile(rf"(?<!\d){' ?'.join(step.digits)}(?!\d)") for step in steps]
        places = {
            "the transcript": [item.text for item in self.transcript],
            "the history of a stream": [t.text for one in self.streams for t in one.history],
            "what was typed to the model": [t.text for one in self.streams for t in one.typed],
            "the result of a tool": [t.text for one in self.streams for t in one.tool_results],
            "the log": [
                str(value)
                for line in self.log
                for key, value in line.items()
                if key.startswith("pii.") or key == "digits"
            ],
        }
        return [
            place
            for place, texts in places.items()
            if any(pattern.search(text) for pattern in patterns for text in texts)
        ]

    def bridge_of(self, stream: StreamReport) -> int:
        """The bridge, from 1, that had the call when a stream was opened."""
        asked_s = self.at_s(stream.asked_at)
        here = self.scenario.route[0]
        for one in self.comebacks:
            if one.resume_ms is not None and asked_s >= one.at_s + one.resume_ms / 1000 - 0.01:
                here = one.new
        return here

    @property
    def words_at_phone(self) -> list[str]:
        """What was heard in each play stream; an ellipsis where a sentence is not all in it.

        Where the rest of a sentence came in the next one, its words are shared out by their times.
        """
        words: list[str] = []
        rest = ""  # of the sentence that the play stream before did not finish
        for span, sentences in zip(self.record.played, self.at_phone, strict=True):
            said = [f"… {rest}"] if rest else []
            said += [one.words for one in sentences]
            rest = ""
            if sentences and sentences[-1].ends_ms > span.heard_s * 1000 + _SLACK_MS:
                last = sentences[-1]
                here_ms = span.heard_s * 1000 - last.begins_ms
                spoken = last.words.split()
                n_here = round(len(spoken) * here_ms / (last.ends_ms - last.begins_ms))
                said[-1] = f"{' '.join(spoken[:n_here])} …"
                rest = " ".join(spoken[n_here:])
            words.append(" ".join(said))
        return words

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
            "comebacks": [comeback.as_json() for comeback in self.comebacks],
            "tools": [run.as_json() for run in self.tools],
            "secrets_in": list(self.secrets_in),
            "turns_lost": len(self.turns_lost),
            "at_phone": [
                {"play_stream": span.stream_id, "heard_s": round(span.heard_s, 3), "said": said}
                for span, said in zip(self.record.played, self.words_at_phone, strict=True)
            ],
        }


def load_heard(folder: Path) -> list[HeardPhrase]:
    """The phrases that the service heard, in order, from the folder of its records."""
    path = folder / "heard.json"
    if not path.exists():
        return []
    utterances = json.loads(path.read_text(encoding="utf-8"))
    return [HeardPhrase(**phrase) for utterance in utterances for phrase in utterance]
