"""One websocket joined to Nova Sonic, and recorded."""

from __future__ import annotations

import asyncio
import json
from array import array
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from opusagent.audio.riff import read_wav
from opusagent.audiocodes.peer import AudioCodesPeer
from opusagent.audiocodes.peer_events import PlayChunk
from opusagent.bridges.audiocodes_bridge import TOOL_WAITS_S, AudioCodesBridge
from opusagent.call.events import Report, ToolCall
from opusagent.observability import Metrics
from opusagent.recording import Recorder, Recordings
from opusagent.recording.files import RecordedCall
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.session_storage.memory_storage import MemorySessionStorage
from opusagent.transports.memory import caller_pair
from tests.bridges.rig import EPOCH, Line, Services, carried
from tests.call.driver import PLAN, counted
from tests.services.faulty import FaultyStorage
from tests.virtual_time import run

RATE_HZ = 24_000


class LoopClock:
    """The calendar on the loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def utcnow(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic())


def new_line(services: Services, recorder: Recorder | None = None, **options: Any) -> Line:
    """The bridge that is served, with a phone at its end."""
    bridge_end, phone_end = caller_pair()
    reports: list[Report] = []
    bridge = AudioCodesBridge(
        platform_websocket=bridge_end,
        realtime_websocket=services,
        session_config=replace(PLAN, record=recorder is not None),
        report=reports.append,
        recorder=recorder,
        clock=LoopClock(),
        **options,
    )
    peer = AudioCodesPeer(new_id=counted("vaic"), utcnow=LoopClock().utcnow)
    return Line(bridge, phone_end, peer, reports=reports)


@dataclass
class Kept:
    """What is in the folder of a call."""

    folder: Path
    line: Line

    @property
    def session(self) -> RecordedCall:
        return RecordedCall.model_validate_json((self.folder / "session.json").read_bytes())

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = (self.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    @property
    def sides(self) -> tuple[array[int], array[int]]:
        both = array("h", read_wav((self.folder / "call.wav").read_bytes()).samples)
        return both[0::2], both[1::2]


def recorded(folder: Path) -> Kept:
    """A call in which the caller says something, is answered, and hangs up."""

    async def caller(line: Line) -> None:
        await line.dial()
        await line.quiet(1.0)
        await line.talk(1.0)
        await line.quiet(6.0)
        await line.hang_up()

    async def main() -> Line:
        services = Services()
        recorder = recordings.begin("c-1", agent="default", at=EPOCH, now=0.0)
        line = new_line(services, recorder)
        await carried(line, services, caller)
        return line

    recordings = Recordings(folder, Metrics())
    try:
        return Kept(folder / "c-1", run(main()))
    finally:
        recordings.close()


def test_a_recorded_call_leaves_its_events_and_its_transcript(tmp_path: Path) -> None:
    kept = recorded(tmp_path)
    assert [event["event"] for event in kept.events] == [r.event for r in kept.line.reports]
    assert kept.events[0]["at_s"] == pytest.approx(0.1, abs=0.01)
    session = kept.session
    assert session.complete
    assert (session.streams, session.ended_by) == (1, "caller")
    assert [(turn.type, turn.text) for turn in session.transcript] == [
        ("input", "hello"),
        ("output", "Hello. How can I help?"),
    ]
    assert all(0 < (turn.at_s or 0) < session.seconds for turn in session.transcript)
    assert session.seconds == pytest.approx(8.2, abs=0.1)  # and not until its stream has ended
    assert len(kept.sides[0]) == len(kept.sides[1]) == round(session.seconds * RATE_HZ)


def test_a_recorded_call_sounds_as_it_was_heard_on_the_phone(tmp_path: Path) -> None:
    kept = recorded(tmp_path)
    caller, bot = kept.sides
    loud = [at for at, sample in enumerate(caller) if abs(sample) > 2_000]
    assert (loud[-1] - loud[0]) / RATE_HZ == pytest.approx(1.0, abs=0.01)
    assert loud[0] / RATE_HZ == pytest.approx(1.2, abs=0.05)
    first_chunk_at = next(at for at, event in kept.line.heard if isinstance(event, PlayChunk))
    sounding = [at for at, sample in enumerate(bot) if sample]
    assert sounding[0] / RATE_HZ == pytest.approx(first_chunk_at, abs=0.01)
    assert len(sounding) / RATE_HZ == pytest.approx(kept.line.bot_audio_s, abs=0.01)


@pytest.mark.parametrize("delay_s", [0.03, 1000.0])
def test_a_tool_runs_once_its_call_is_stored_or_the_store_has_had_its_time(delay_s: float) -> None:
    ran: list[tuple[float, list[str]]] = []

    async def main() -> None:
        storage = FaultyStorage(MemorySessionStorage(clock=LoopClock()))
        sessions = SessionManagerService(storage, clock=LoopClock())

        async def tool(call: ToolCall) -> dict[str, JsonValue]:
            stored = await storage.inner.retrieve_session("c-1")
            assert stored is not None
            names = [entry["name"] for entry in stored["function_calls"]]
            ran.append((asyncio.get_running_loop().time(), names))
            return {"found": 7}

        async def asks(line: Line) -> None:
            await line.dial()
            await line.quiet(1.0)
            storage.delay_s = delay_s
            await line.talk(4.0)
            await line.quiet(3.0)
            storage.delay_s = 0.0
            await line.hang_up()

        await sessions.start()
        services = Services()
        line = new_line(services, session_storage=sessions, tool=tool)
        await carried(line, services, asks)
        await sessions.stop()
        assert len(services.peers[0].record.tool_results) == 1

    run(main())
    ((_, names),) = ran
    assert names == (["lookup"] if delay_s < TOOL_WAITS_S else [])
