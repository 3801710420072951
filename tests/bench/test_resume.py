"""What `bench --resume` counts, and what it makes of that."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import time
from typing import cast

import pytest

from opusagent.bench.resume.measure import (
    SAFE_S,
    Kills,
    Moves,
    Outage,
    Returns,
    Writes,
    percentile,
)
from opusagent.bench.resume.promises import STORED_BYTES, ResumeFigures, rows
from opusagent.bench.resume.report import show_resume
from opusagent.bench.resume.service import TalkingService, TalkingStream
from opusagent.bench.resume.stage import Log
from opusagent.bench.resume.stall import Stall
from opusagent.bench.resume.stored import Stored, long_session, measure_stored
from opusagent.bench.stamps import Stamper
from opusagent.models.session_state import SessionState
from opusagent.session_storage.codec import Codec
from opusagent.simulators.h2_stream import StreamHandler
from opusagent.simulators.wire import StreamRequest
from opusagent.sonic.events import parse_service
from opusagent.sonic.wire import UnknownEvent

KILLED_AT = 100.0

GOOD = ResumeFigures(
    kills=Kills(kills=200, calls=800, items=20_000),
    returns=Returns(returns=200, frames_sent=2000, accepted_ms=[2.0] * 200),
    moves=Moves(moves=200, accepted_ms=[5.0] * 200, heard_ms=[30.0] * 200),
    stored=Stored(
        loads=300,
        load_ms=[3.0] * 300,
        history_bytes=40_000,
        plain_bytes=64_000,
        compressed_bytes=7_000,
    ),
    outage=Outage(calls=50, heard_again=50, seconds=1.5),
    writes=Writes(items=300, writes=300, idle_s=5.0),
    stall=Stall(calls=10, well_ms=[2.0] * 99, stalled_ms=[3.0] * 99),
)


def missed(**changes: object) -> list[str]:
    found = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]
    return [row.words for row in rows(found) if not row.met]


def test_what_was_said_a_tenth_of_a_second_before_a_kill_must_be_told() -> None:
    stream = TalkingStream(0.0, said=["i0x", "i1x", "i2x", "i3x"])
    stream.reached = [(KILLED_AT - 5.0, 1), (KILLED_AT - SAFE_S, 3), (KILLED_AT - 0.05, 4)]
    due = stream.said[: stream.reached_by(KILLED_AT - SAFE_S)]
    assert due == ["i0x", "i1x", "i2x"]
    assert stream.reached_by(KILLED_AT - 10.0) == 0
    found = Kills()
    found.judge(due, ["i0x", "i2x"])
    assert (found.calls, found.items, found.lost, found.twice) == (1, 3, 1, 0)


def test_what_is_told_twice_is_counted() -> None:
    found = Kills()
    found.judge(["i0x", "i1x"], ["i0x", "i1x", "i1x"])
    assert (found.lost, found.twice) == (0, 1)


def test_a_call_that_was_told_nothing_has_lost_everything() -> None:
    found = Kills()
    found.judge(["i0x", "i1x"], [])
    assert found.lost == found.items == 2


def test_good_figures_meet_every_row() -> None:
    assert len(rows(GOOD)) == 16
    assert missed() == []
    assert show_resume(GOOD)


def test_each_promise_can_be_broken() -> None:
    assert missed(kills=Kills(kills=1, items=9, lost=1)) == ["turns and function calls lost"]
    assert missed(kills=Kills(kills=1, items=9, twice=1)) == ["told twice to the next stream"]
    assert missed(kills=Kills(kills=1, items=9, refused=["no"])) == ["callers refused or given up"]
    moves = dataclasses.replace(GOOD.moves, hang_ups=1)
    assert missed(moves=moves) == ["hung up by the process that was left"]
    moves = dataclasses.replace(GOOD.moves, accepted_ms=[50.0])
    assert missed(moves=moves) == ["accepted, other process, p99"]
    moves = dataclasses.replace(GOOD.moves, heard_ms=[100.0])
    assert missed(moves=moves) == ["resume to first frame beyond opening, p99"]
    returns = dataclasses.replace(GOOD.returns, frames_lost=1)
    assert missed(returns=returns) == ["caller frames lost, same process"]
    returns = dataclasses.replace(GOOD.returns, frames_doubled=1)
    assert missed(returns=returns) == ["caller frames doubled, same process"]
    returns = dataclasses.replace(GOOD.returns, accepted_ms=[20.0])
    assert missed(returns=returns) == ["accepted, same process, p99"]
    stored = dataclasses.replace(GOOD.stored, load_ms=[20.0])
    assert missed(stored=stored) == ["load of a long history, p99"]
    stored = dataclasses.replace(GOOD.stored, compressed_bytes=10_000)
    assert missed(stored=stored) == ["compressed session"]
    assert missed(outage=Outage(calls=50, seconds=3.0)) == [
        "50 calls, one process killed, all heard"
    ]
    assert missed(writes=Writes(items=10, writes=11)) == ["writes per committed item"]
    writes = Writes(items=10, writes=10, idle_writes=1)
    assert missed(writes=writes) == ["writes without an item"]
    stall = dataclasses.replace(GOOD.stall, stalled_ms=[3.0] * 90 + [22.0] * 9)
    assert missed(stall=stall) == ["audio delayed by a store that stands still, p99"]
    stall = dataclasses.replace(GOOD.stall, missing=1)
    assert missed(stall=stall) == ["caller frames lost meanwhile"]


def test_what_was_not_measured_is_not_met() -> None:
    assert "turns and function calls lost" in missed(kills=Kills())
    assert "caller frames lost, same process" in missed(returns=Returns())
    assert missed(stall=Stall()) == ["audio delayed by a store that stands still, p99"]
    assert missed(outage=Outage(calls=50, heard_again=49)) == [
        "50 calls, one process killed, all heard"
    ]
    assert math.isnan(percentile([], 99))


def test_the_figures_are_json_without_long_lists() -> None:
    told = json.loads(json.dumps(GOOD.as_json()))
    assert told["figures"]["moves"]["heard_ms_p99"] == 30.0
    assert all(row["met"] for row in told["rows"])
    assert len(json.dumps(told)) < 6_000


def test_a_long_session_is_as_long_as_it_is_said_to_be_and_can_be_stored() -> None:
    session = long_session("c")
    size = sum(len(item.text.encode()) for item in session.conversation_history)
    assert 39_500 < size <= 40_000
    kinds = [item.type for item in session.conversation_history]
    assert kinds[:4] == ["input", "output", "input", "output"]
    codec = Codec(compress=True)
    again = SessionState.from_dict(codec.decode("c", codec.encode("c", session.to_dict())))
    assert again == session
    texts = [item.text for item in session.conversation_history]
    assert len(set(texts)) > 0.8 * len(texts)  # not one line again and again


@pytest.mark.integration
def test_a_long_session_is_loaded_from_a_real_store_long_before_the_alarm() -> None:
    found = asyncio.run(measure_stored(n_loads=20))
    assert len(found.load_ms) == 20
    assert percentile(found.load_ms, 99) < 2_000
    assert found.compressed_bytes < STORED_BYTES < found.plain_bytes


class _Writer:
    """Takes what a service says."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = False

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)

    def end(self) -> None:
        self.ended = True


def test_the_talking_service_knows_its_callers_and_what_it_was_told() -> None:
    async def main() -> None:
        service = TalkingService()
        service.pause_s = (0.001, 0.002)
        writer = _Writer()
        taken = service.open_stream(StreamRequest("m", {}, ""), writer)  # type: ignore[arg-type]
        handler = cast("StreamHandler", taken)
        events = [
            {"promptStart": {"promptName": "p"}},
            {"textInput": {"promptName": "p", "contentName": "h", "content": "USER i7x and i"}},
            {"textInput": {"promptName": "p", "contentName": "h", "content": "12x."}},
            {"contentEnd": {"promptName": "p", "contentName": "h"}},
        ]
        for event in events:
            handler.receive(json.dumps({"event": event}).encode())
        (stream,) = service.streams
        assert stream.told == ["i7x", "i12x"]
        frame = Stamper(5, 640).frame(1)
        handler.receive(_audio(bytes(100) + frame))
        assert (stream.call, stream.frames) == (5, [0])
        await service.until_heard(5, 1)
        async with asyncio.timeout(5):
            while len(service.items_of(5)) < 6:
                await asyncio.get_running_loop().run_in_executor(None, int)
        result = {"toolResultInputConfiguration": {"toolUseId": stream.said[3]}}
        handler.receive(json.dumps({"event": {"contentStart": result}}).encode())
        assert stream.reached_by(time.monotonic()) == 4
        service.speaks = True
        async with asyncio.timeout(5):
            while not any(b'"SPECULATIVE' in p.replace(b"\\", b"") for p in writer.sent):
                await asyncio.get_running_loop().run_in_executor(None, int)
        handler.end_of_input()
        assert writer.ended
        for payload in writer.sent:  # nothing that the real one would not say
            assert not isinstance(parse_service(payload), UnknownEvent)
        assert [item.token for item in service.items] == stream.said

    asyncio.run(main())


def _audio(pcm: bytes) -> bytes:
    from base64 import b64encode  # noqa: PLC0415

    return b'{"event":{"audioInput":{"content":"' + b64encode(pcm) + b'"}}}'


def test_a_caller_who_is_not_heard_again_is_not_waited_for_for_ever() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await TalkingService().until_heard(1, 1, timeout_s=0.01)

    asyncio.run(main())


def test_a_bridges_log_tells_openings_and_trouble() -> None:
    log = Log()
    log.take('{"event":"stream opened","level":"info","conversation_id":"c","open_ms":31}')
    log.take('{"event":"call ended","level":"info"}')
    log.take('{"event":"session store","level":"warning"}')
    log.take("Traceback (most recent call last):")
    assert log.open_ms == {"c": [31]}
    assert [line["event"] for line in log.trouble] == [
        "session store",
        "Traceback (most recent call last):",
    ]
