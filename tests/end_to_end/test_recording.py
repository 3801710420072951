"""Recordings of calls over real sockets: every frame of either side, in step."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from opusagent.audio.riff import read_wav
from opusagent.errors import ConfigError
from opusagent.recording.files import RecordedCall
from opusagent.simulators.caller_record import check_numbers
from opusagent.simulators.caller_script import SendNumbers, WaitForBot
from opusagent.simulators.numbered import NumberedAudio
from tests.end_to_end.rig import PLAN, Line, NumberBrain, run

pytestmark = pytest.mark.integration

BRAIN = NumberBrain(first=1000, count=40)
ONE_RATE = replace(PLAN, media_formats=["raw/lpcm16"], numbered_ms=20)


async def a_call(line: Line) -> None:
    await line.call(SendNumbers(count=50), WaitForBot(quiet_s=0.1), plan=ONE_RATE)


def test_a_recorded_call_holds_every_frame_of_either_side(tmp_path: Path) -> None:
    run(
        a_call,
        brain=lambda: BRAIN,
        enable_session_recording=True,
        recording_output_dir=tmp_path / "recordings",
    )
    (folder,) = (tmp_path / "recordings").iterdir()
    wav = read_wav((folder / "call.wav").read_bytes())
    both = array("h", wav.samples)
    numbers = NumberedAudio(20, wav.rate_hz)
    assert check_numbers(numbers.find(both[0::2].tobytes()), range(50)).ok
    assert check_numbers(numbers.find(both[1::2].tobytes()), BRAIN.expected).ok
    session = RecordedCall.model_validate_json((folder / "session.json").read_bytes())
    assert session.complete
    assert session.seconds == pytest.approx(len(both) / 2 / wav.rate_hz, abs=0.001)


def test_without_being_asked_for_nothing_is_recorded(tmp_path: Path) -> None:
    run(a_call, brain=lambda: BRAIN, recording_output_dir=tmp_path / "recordings")
    assert not (tmp_path / "recordings").exists()


def test_a_bridge_whose_recordings_cannot_be_written_does_not_start() -> None:
    with pytest.raises(ConfigError, match="RECORDING_OUTPUT_DIR: /proc cannot be written"):
        run(a_call, enable_session_recording=True, recording_output_dir=Path("/proc"))
