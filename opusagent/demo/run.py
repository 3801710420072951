"""`demo`: a caller, bridges and the local Nova Sonic service, and what came of their call."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from opusagent.clock import SystemClock
from opusagent.demo.comebacks import comebacks_in
from opusagent.demo.listening import listen
from opusagent.demo.promises import broken_promises
from opusagent.demo.result import DemoResult, load_heard
from opusagent.demo.script import steps_of
from opusagent.demo.stage import LogLine, Stage
from opusagent.demo.switches import switches_in, words_of
from opusagent.demo.tool_runs import tools_in
from opusagent.models.session_state import ConversationItem
from opusagent.simulators.caller import CallerSocket, SimulatedCaller
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import CallerPlan
from opusagent.simulators.scenario import Scenario, find_scenario
from opusagent.simulators.stream_report import load_reports
from opusagent.simulators.verdict import judge
from opusagent.simulators.voice import Voice, open_voice
from opusagent.transports.websocket import connect

__all__ = ["run_demo"]

type Say = Callable[[str], None]


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
    clock = SystemClock()
    began = clock.utcnow()

    def heed(line: LogLine) -> None:
        if words := words_of(line):
            say(_progress(_at_s(line, began), words))

    async with Stage(name, scenario.setup, folder, say=say, heed=heed) as stage:
        say(f"calling {stage.bridges[0].url}")
        began = clock.utcnow()
        record = await _call(scenario, voice, stage, say)
    log = [line | {"at_s": _at_s(line, began)} for line in stage.log]
    streams = load_reports(stage.received)
    said = {spoken.text for stream in streams for spoken in stream.said}
    comebacks = comebacks_in(scenario, record, streams, lambda at: (at - began).total_seconds())
    lived_on = {one.at_s for one in comebacks if one.old == one.new}
    voice = open_voice(scenario.bot.style)
    result = DemoResult(
        scenario=scenario,
        record=record,
        verdict=judge(record),
        transcript=_transcript(log),
        heard=load_heard(stage.received),
        at_phone=await asyncio.to_thread(
            listen, record, said, voice, goes_on=lambda span: span.lost_at in lived_on
        ),
        streams=streams,
        switches=switches_in(log),
        comebacks=comebacks,
        tools=tools_in(log),
        log=log,
        began=began,
    )
    result.broken = broken_promises(result) + stage.failures
    return result


async def _call(scenario: Scenario, voice: Voice, stage: Stage, say: Say) -> CallRecord:
    n_sockets = 0

    async def dial() -> CallerSocket:
        nonlocal n_sockets
        number = scenario.route[min(n_sockets, len(scenario.route) - 1)]
        socket = await connect(stage.bridges[number - 1].url)
        n_sockets += 1
        return socket

    bot_name = scenario.setup.agent or scenario.name
    plan = CallerPlan(caller=scenario.caller.number, bot_name=bot_name)
    caller = SimulatedCaller(
        plan,
        dial,
        progress=lambda at_s, what, words: say(_progress(at_s, f"{what} {words}".rstrip())),
    )
    return await caller.run(steps_of(scenario, voice, stage.kill))


def _prepare(voice: Voice, scenario: Scenario) -> None:
    for rate_hz in (16_000, 24_000):
        voice.prepare(scenario.phrases.values(), rate_hz)


def _progress(at_s: float, words: str) -> str:
    return f"{at_s:5.1f} s  {words}"


def _at_s(line: LogLine, began: datetime) -> float:
    return (datetime.fromisoformat(line["timestamp"]) - began).total_seconds()


def _transcript(log: list[LogLine]) -> list[ConversationItem]:
    told = [line["pii.turns"] for line in log if line["event"] == "transcript"]
    items: list[Any] = told[-1] if told else []
    return [ConversationItem.model_validate(item) for item in items]
