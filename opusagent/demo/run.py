"""`demo`: a caller, the bridge and the local Nova Sonic service, and what came of their call."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from opusagent.clock import SystemClock
from opusagent.demo.script import complaints, steps_of
from opusagent.models.session_state import ConversationItem
from opusagent.processes import SETTINGS, Child
from opusagent.simulators.caller import CallerSocket, SimulatedCaller
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import CallerPlan
from opusagent.simulators.calling import summary
from opusagent.simulators.scenario import Scenario, find_scenario
from opusagent.simulators.stream_report import StreamReport, load_reports
from opusagent.simulators.verdict import Verdict, judge
from opusagent.simulators.voice import Voice, open_voice
from opusagent.transports.websocket import connect

__all__ = ["DemoResult", "run_demo"]

type Say = Callable[[str], None]


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
        log: The bridge's log, one object a line, with `at_s` in seconds of the call.
        broken: Every promise that was broken, in words.
    """

    scenario: Scenario
    record: CallRecord
    verdict: Verdict
    transcript: list[ConversationItem]
    heard: list[HeardPhrase]
    streams: list[StreamReport]
    log: list[dict[str, Any]]
    began: datetime
    broken: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken

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
        }


async def run_demo(name: str, *, say: Say) -> DemoResult:
    """Play a scenario.

    Args:
        name: A shipped scenario, or the path of a file.
        say: Takes each line of progress.

    Raises:
        ConfigError: If there is no such scenario.
        ProcessFailed: If a part does not start.
    """
    scenario = find_scenario(name)
    say("preparing the voices")
    voice = open_voice(scenario.caller.style)
    await asyncio.to_thread(_prepare, voice, scenario)
    with tempfile.TemporaryDirectory() as folder:
        return await _play(name, scenario, voice, Path(folder), say)


async def _play(name: str, scenario: Scenario, voice: Voice, folder: Path, say: Say) -> DemoResult:
    ca_file, received, settings = folder / "ca.pem", folder / "received", folder / "bridge.toml"
    settings.touch()
    log: list[dict[str, Any]] = []
    say("starting the local Nova Sonic service")
    nova = Child(
        "opusagent",
        *(
            "nova",
            "--scenario",
            name,
            "--ca-file",
            str(ca_file),
            "--record",
            str(received),
        ),
    )
    async with nova:
        endpoint = (await nova.ready()).split()[1]
        say(f"starting the bridge, towards {endpoint}")
        bridge = Child(
            "opusagent",
            *("serve", "--config", str(settings)),
            environ=_environ(endpoint, ca_file),
            hide=SETTINGS,
            log=_into(log),
        )
        async with bridge:
            url = (await bridge.ready()).split()[1]
            say(f"calling {url}")
            began = SystemClock().utcnow()
            record = await _call(scenario, voice, url, say)
    result = DemoResult(
        scenario=scenario,
        record=record,
        verdict=judge(record),
        transcript=_transcript(log),
        heard=_heard(received / "heard.json"),
        streams=load_reports(received),
        log=log,
        began=began,
    )
    for line in log:
        line["at_s"] = result.at_s(datetime.fromisoformat(line["timestamp"]))
    result.broken = _broken(result)
    for child, what in ((bridge, "the bridge"), (nova, "the service")):
        if child.returncode:
            result.broken.append(f"{what} ended with exit {child.returncode}")
    return result


async def _call(scenario: Scenario, voice: Voice, url: str, say: Say) -> CallRecord:
    async def dial() -> CallerSocket:
        return await connect(url)

    plan = CallerPlan(caller=scenario.caller.number, bot_name=scenario.name)
    caller = SimulatedCaller(
        plan,
        dial,
        progress=lambda at_s, what, words: say(f"{at_s:5.1f} s  {what} {words}".rstrip()),
    )
    return await caller.run(steps_of(scenario, voice))


def _prepare(voice: Voice, scenario: Scenario) -> None:
    for rate_hz in (16_000, 24_000):
        voice.prepare(scenario.phrases.values(), rate_hz)


def _environ(endpoint: str, ca_file: Path) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": endpoint,
        "AWS_CA_BUNDLE": str(ca_file),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": "us-east-1",
        "BRIDGE_HOST": "127.0.0.1",
        "BRIDGE_PORT": "0",
        "ADMIN_PORT": "0",
        "DRAIN_SECONDS": "4",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "INFO",
        "LOG_AUDIO_EVENTS": "true",
        "LOG_PRIVATE": "true",  # the demo's own words, for its transcript
    }


def _into(log: list[dict[str, Any]]) -> Callable[[str], None]:
    def take(line: str) -> None:
        try:
            log.append(json.loads(line))
        except ValueError:
            now = datetime.now(UTC).isoformat()  # noqa: TID251 - a line that is no log line has no time
            log.append({"event": line.rstrip(), "level": "error", "timestamp": now})

    return take


def _transcript(log: list[dict[str, Any]]) -> list[ConversationItem]:
    items: list[Any] = next(
        (line["pii.turns"] for line in log if line["event"] == "transcript"), []
    )
    return [ConversationItem.model_validate(item) for item in items]


def _heard(path: Path) -> list[HeardPhrase]:
    if not path.exists():
        return []
    utterances = json.loads(path.read_text(encoding="utf-8"))
    return [HeardPhrase(**phrase) for utterance in utterances for phrase in utterance]


def _broken(result: DemoResult) -> list[str]:
    broken = [str(finding) for finding in result.verdict.findings if finding.serious]
    broken += complaints(result.scenario, result.transcript)
    understood = {phrase.text for phrase in result.heard if phrase.whole}
    for phrase in result.record.phrases[:-1]:  # the last one runs into the hang-up
        if phrase.label not in understood:
            broken.append(f"the service did not hear {phrase.label!r} as a whole")
    broken += [
        f"the bridge logged an error: {line['event']}"
        for line in result.log
        if line.get("level") in {"error", "critical"}
    ]
    return broken
