from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from opusagent.audio.formats import MediaFormat
from opusagent.demo.comebacks import Comeback, comebacks_in
from opusagent.models.session_state import Role, Turn
from opusagent.simulators.caller_playout import PlaySpan, Sound
from opusagent.simulators.caller_record import CallRecord, Loss
from opusagent.simulators.scenario import Scenario, load_scenario
from opusagent.simulators.stream_report import StreamReport

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SCENARIO = """
name = "mine"
description = "Any."
[setup]
bridges = 2
store = true
[[phrase]]
id = "hello"
text = "Hello."
[[step]]
do = "{do}"
"""
PAST = (Turn(role=Role.USER, text="Hello."),)
FRAME = bytes(5_120)  # 160 ms at 16 kHz
OF_FRAME, OF_SILENCE = 6_900, 4_400  # their events


def scenario(tmp_path: Path, do: str) -> Scenario:
    path = tmp_path / "mine.toml"
    path.write_text(SCENARIO.format(do=do))
    return load_scenario(path)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def at_s(moment: datetime) -> float:
    return (moment - BEGAN).total_seconds()


def stream(number: int, asked: float, *events: tuple[float, int], **more: object) -> StreamReport:
    audio = [(at(when), "audioInput", size) for when, size in events]
    fields = {"stream": number, "model_id": "any", "asked_at": at(asked), "events": audio}
    return StreamReport.model_validate(fields | more)


def lost_at_5(*, accepted_at: float | None = 6.01) -> CallRecord:
    """She loses the websocket at 5.0 s, comes back at 6.0 and is heard from 6.4 on."""
    record = CallRecord(began_at=0.0)
    record.losses = [Loss(5.0, resumed_at=6.0, accepted_at=accepted_at)]
    record.caller_sound = [Sound(4.8, FRAME, 16_000), Sound(6.4, FRAME, 16_000)]
    for began in (4.0, 6.5):
        media_format = MediaFormat.LPCM16_24K
        span = PlaySpan(stream_id="1", media_format=media_format, opened_at=began, began_at=began)
        record.played.append(span)
    return record


def test_after_a_cut_the_same_stream_gets_the_callers_first_frame(tmp_path: Path) -> None:
    events = ((4.96, OF_FRAME), (6.5, OF_SILENCE), (6.561, OF_SILENCE), (6.57, OF_FRAME))
    streams = [stream(1, 0.1, *events)]
    (one,) = comebacks_in(scenario(tmp_path, "cut_socket"), lost_at_5(), streams, at_s)
    assert one == Comeback(
        old=1,
        new=1,
        killed=False,
        at_s=5.0,
        resume_ms=1000,
        accepted_ms=10,
        frame_sent_ms=1560,
        frame_ms=10,
        bot_ms=1500,
    )
    assert one.what == "socket cut"


def test_after_a_kill_the_next_stream_is_the_one_that_counts(tmp_path: Path) -> None:
    streams = [stream(1, 0.1), stream(2, 6.005, (6.565, OF_FRAME), history=PAST)]
    (one,) = comebacks_in(scenario(tmp_path, "kill_bridge"), lost_at_5(), streams, at_s)
    assert (one.old, one.new, one.killed, one.what) == (1, 2, True, "bridge 1 killed")
    assert (one.stream, one.history, one.frame_ms) == (2, PAST, 5)
    assert one.as_json()["history"] == 1


def test_what_did_not_come_is_none(tmp_path: Path) -> None:
    record = lost_at_5(accepted_at=None)
    (one,) = comebacks_in(scenario(tmp_path, "kill_bridge"), record, [stream(1, 0.1)], at_s)
    assert (one.accepted_ms, one.frame_sent_ms, one.frame_ms, one.stream) == (None,) * 4


def test_a_loss_that_nobody_planned_counts_as_well(tmp_path: Path) -> None:
    record = lost_at_5()
    record.losses.append(Loss(8.0))
    _, second = comebacks_in(scenario(tmp_path, "kill_bridge"), record, [], at_s)
    assert (second.old, second.new, second.killed, second.resume_ms) == (2, 2, False, None)
