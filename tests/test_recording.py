"""Recordings: what is in their files, and what becomes of a call whose recording fails."""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import stat
import threading
import wave
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from structlog.testing import capture_logs

from opusagent.audio.riff import read_wav
from opusagent.call.events import (
    CallOutcome,
    EndedBy,
    Record,
    RecordSilence,
    Report,
    Voice,
)
from opusagent.errors import ConfigError
from opusagent.observability import Metrics
from opusagent.recording import Recorder, Recordings
from opusagent.recording.files import RecordedCall, RecordedTurn

T0 = 5_000.0
BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACCEPTED = Report(
    "call accepted",
    {"after_ms": 100, "caller_format": "raw/lpcm16", "play_format": "raw/lpcm16_24"},
)
SWITCHED: dict[str, JsonValue] = {"from_stream": 1, "stream": 2, "reason": "silence", "gap_ms": 0}
TRANSCRIPT = Report(
    "transcript",
    {"caller_turns": 1, "bot_turns": 1},
    {
        "turns": [
            {"type": "output", "text": "Hello.", "at": None, "interrupted": True},
            {
                "type": "input",
                "text": "Grüße",
                "at": "2026-03-01T12:00:02.500000Z",
                "interrupted": False,
            },
        ]
    },
)
BY_CALLER = CallOutcome(EndedBy.CALLER, "bye")


def tone(value: int, seconds: float, rate_hz: int) -> bytes:
    return array("h", [value] * round(seconds * rate_hz)).tobytes()


def talk(recorder: Recorder, seconds: float, *, begins: float = 0.0) -> None:
    """The caller is heard for so long, in chunks of 20 ms; her level is 5."""
    for n in range(1, round(seconds * 50) + 1):
        recorder.sound(Record(Voice.CALLER, tone(5, 0.02, 16_000)), T0 + begins + n * 0.02)


def level(samples: list[int]) -> list[int]:
    """Sound that was raised to a higher rate, which takes the last sample of a run with it."""
    return [here or before for before, here in itertools.pairwise([0, *samples])]


def eventually(look: Callable[[], bool], within_s: float = 5.0) -> bool:
    """Whether something is so within some seconds of real time."""
    pause = threading.Event()
    return any(look() or pause.wait(0.01) for _ in range(round(within_s * 100)))


class Desk:
    """Recordings in a folder, and what came of them once all is written."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.metrics = Metrics()
        self.recordings = Recordings(folder, self.metrics, **options)

    def begin(self, conversation_id: str = "c-1") -> Recorder:
        return self.recordings.begin(conversation_id, agent="default", at=BEGAN, now=T0)

    def sound(self, name: str = "c-1") -> tuple[list[int], list[int]]:
        """Caller and bot, at 24 kHz."""
        wav = read_wav((self.folder / name / "call.wav").read_bytes())
        assert (wav.channels, wav.rate_hz, wav.bits) == (2, 24_000, 16)
        both = array("h", wav.samples)
        return list(both[0::2]), list(both[1::2])

    def events(self, name: str = "c-1") -> list[dict[str, Any]]:
        text = (self.folder / name / "events.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def session(self, name: str = "c-1") -> RecordedCall:
        text = (self.folder / name / "session.json").read_text(encoding="utf-8")
        return RecordedCall.model_validate_json(text)

    def count(self, name: str) -> float | dict[str, float]:
        return self.metrics.snapshot()[name]


@contextmanager
def desk(folder: Path, **options: Any) -> Iterator[Desk]:
    """A desk whose thread has written everything when the block is left."""
    made = Desk(folder, **options)
    try:
        yield made
    finally:
        made.recordings.close()


def test_caller_and_bot_are_recorded_in_step_with_the_clock(tmp_path: Path) -> None:
    with desk(tmp_path) as made:
        recorder = made.begin()
        recorder.report(ACCEPTED, T0 + 0.1)
        talk(recorder, 1.0, begins=1.0)
        recorder.sound(Record(Voice.BOT, tone(7, 1.0, 24_000)), T0 + 2.5)
        recorder.sound(RecordSilence(), T0 + 3.0)
        recorder.close(BY_CALLER, T0 + 4.0)
    caller, bot = made.sound()
    assert len(caller) == len(bot) == 4 * 24_000
    assert level(caller) == [0] * 24_000 + [5] * 24_000 + [0] * 48_000
    assert bot == [0] * 60_000 + [7] * 12_000 + [0] * 24_000
    assert made.count("recordings_total") == {"complete": 1}


def test_events_are_written_with_their_seconds_and_their_fields(tmp_path: Path) -> None:
    with desk(tmp_path) as made:
        recorder = made.begin()
        recorder.report(ACCEPTED, T0 + 0.1)
        recorder.report(Report("stream switched", SWITCHED), T0 + 361.2504)
        recorder.report(Report("barge-in", {"cause": "model"}), T0 + 370.0)
        recorder.close(BY_CALLER, T0 + 400.0)
    accepted, switched, barge_in = made.events()
    assert accepted == {"at_s": 0.1, "event": "call accepted", **ACCEPTED.fields}
    assert switched == {"at_s": 361.25, "event": "stream switched", **SWITCHED}
    assert barge_in == {"at_s": 370.0, "event": "barge-in", "cause": "model"}


def test_the_session_file_has_metadata_switches_and_transcript_by_its_schema(
    tmp_path: Path,
) -> None:
    with desk(tmp_path) as made:
        recorder = made.begin("call 7")
        recorder.report(ACCEPTED, T0 + 0.1)
        recorder.report(Report("stream opened", {"stream": 1}), T0 + 0.1)
        recorder.report(Report("stream switched", SWITCHED), T0 + 2.0)
        lost: dict[str, JsonValue] = {"stream": 2, "code": "Ended", "remedy": "reopen"}
        recorder.report(Report("stream lost", lost), T0 + 3.0)
        recorder.report(Report("stream opened", {"stream": 3}), T0 + 3.2)
        recorder.report(Report("barge-in", {"cause": "model"}), T0 + 4.0)
        recorder.report(TRANSCRIPT, T0 + 6.0)
        recorder.close(BY_CALLER, T0 + 8.0)  # after its streams have been closed
    assert made.session("call_7") == RecordedCall(
        conversation_id="call 7",
        agent="default",
        began_at=BEGAN,
        seconds=6.0,
        ended_by="caller",
        reason="bye",
        caller_format="raw/lpcm16",
        play_format="raw/lpcm16_24",
        rate_hz=24_000,
        streams=3,
        barge_ins=1,
        switches=[{"at_s": 2.0, "event": "stream switched", **SWITCHED}],
        losses=[{"at_s": 3.0, "event": "stream lost", **lost}],
        transcript=[
            RecordedTurn(at_s=None, type="output", text="Hello.", interrupted=True),
            RecordedTurn(at_s=2.5, type="input", text="Grüße", interrupted=False),
        ],
    )
    caller, _ = made.sound("call_7")
    assert len(caller) == 6 * 24_000


@pytest.mark.parametrize("with_private", [True, False])
def test_private_fields_are_among_the_events_only_where_private_logs_are_on(
    with_private: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    with desk(tmp_path, with_private=with_private) as made:
        recorder = made.begin()
        recorder.report(Report("dtmf", {"count": 2}, {"digits": "42"}), T0)
        recorder.report(TRANSCRIPT, T0 + 1)
        recorder.close(BY_CALLER, T0 + 1)
    dtmf, transcript = made.events()
    assert dtmf.get("pii") == ({"digits": "42"} if with_private else None)
    assert ("pii" in transcript) is with_private
    assert [turn.text for turn in made.session().transcript] == ["Hello.", "Grüße"]


def test_a_recording_is_for_its_owner_s_eyes_only(tmp_path: Path) -> None:
    with desk(tmp_path / "new" / "recordings") as made:
        recorder = made.begin()
        recorder.report(ACCEPTED, T0)
        recorder.close(BY_CALLER, T0 + 1)
    folder = made.folder / "c-1"
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert files == {"call.wav": 0o600, "events.jsonl": 0o600, "session.json": 0o600}


@pytest.mark.parametrize(
    ("conversation_id", "name"),
    [
        ("5f0c-77", "5f0c-77"),
        ("../../etc/passwd", "etc_passwd"),
        ("/", "call"),
        ("..", "call"),
        ("größe\n\0", "gr_e_"),
        ("x" * 256, "x" * 100),
    ],
)
def test_a_folder_s_name_is_safe_whatever_the_conversation_is_called(
    conversation_id: str, name: str, tmp_path: Path
) -> None:
    with desk(tmp_path / "in") as made:
        recorder = made.begin(conversation_id)
        recorder.close(BY_CALLER, T0 + 1)
    assert [path.name for path in (tmp_path / "in").iterdir()] == [name]
    assert made.session(name).conversation_id == conversation_id


def test_a_second_recording_of_a_conversation_leaves_the_first_alone(tmp_path: Path) -> None:
    with desk(tmp_path) as made:
        for by in (EndedBy.CALLER, EndedBy.SOCKET, EndedBy.BOT):
            made.begin().close(CallOutcome(by), T0 + 1)
    assert made.session("c-1").ended_by == "caller"
    assert made.session("c-1-2").ended_by == "socket"
    assert made.session("c-1-3").ended_by == "bot"


def test_a_process_that_is_killed_leaves_files_that_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "c-1" / "call.wav"

    def frames() -> int:
        with wave.open(str(path)) as wav:
            return int(wav.getnframes())

    with desk(tmp_path) as made:
        recorder = made.begin()
        recorder.report(ACCEPTED, T0)
        talk(recorder, 9.0)
        # All but the last seconds is in the file, and the header says so, before anything is closed.
        assert eventually(lambda: path.exists() and path.stat().st_size >= 44)
        assert eventually(lambda: frames() == 7 * 24_000)
        assert made.sound()[0] == [5] * (7 * 24_000)
        assert [line["event"] for line in made.events()] == ["call accepted"]


def test_what_finds_no_room_is_dropped_counted_and_warned_of_once(tmp_path: Path) -> None:
    with capture_logs() as logs, desk(tmp_path, max_waiting_bytes=2_000) as made:
        recorder = made.begin()
        recorder.report(ACCEPTED, T0)
        for n in (1, 2):
            recorder.sound(Record(Voice.BOT, tone(7, 0.1, 24_000)), T0 + n)
        recorder.close(BY_CALLER, T0 + 3)
    assert [line["event"] for line in logs] == ["recording has gaps"]
    assert made.count("recording_dropped_bytes_total") == 2 * 5_300
    assert made.count("recordings_total") == {"incomplete": 1}
    session = made.session()
    assert (session.complete, session.dropped_bytes) == (False, 10_600)
    caller, bot = made.sound()
    assert not any(caller + bot)
    assert len(bot) == 3 * 24_000  # the rest is still in its place


def test_what_was_written_makes_room_for_more(tmp_path: Path) -> None:
    with desk(tmp_path, max_waiting_bytes=30_000) as made:
        for n in range(3):
            recorder = made.begin(f"c-{n}")
            recorder.report(ACCEPTED, T0)
            recorder.sound(Record(Voice.BOT, tone(7, 0.5, 24_000)), T0)
            recorder.close(BY_CALLER, T0 + 1)
            written = made.folder / f"c-{n}" / "session.json"
            assert eventually(lambda: written.exists() and written.stat().st_size > 0)  # noqa: B023
    assert made.count("recording_dropped_bytes_total") == 0


def test_sound_before_the_formats_are_known_has_no_place(tmp_path: Path) -> None:
    with capture_logs(), desk(tmp_path) as made:
        recorder = made.begin()
        recorder.sound(Record(Voice.CALLER, tone(5, 0.02, 16_000)), T0)
        recorder.sound(RecordSilence(), T0)
        recorder.close(CallOutcome(EndedBy.REFUSED, "no common media format"), T0 + 1)
    assert made.session().dropped_bytes == 640
    assert not (tmp_path / "c-1" / "call.wav").exists()


def test_a_call_that_is_resumed_from_another_process_is_recorded_from_there_on(
    tmp_path: Path,
) -> None:
    formats: dict[str, JsonValue] = {"caller_format": "raw/mulaw", "play_format": "raw/lpcm16_24"}
    resumed = Report("session resumed", {"where": "other process", **formats})
    with desk(tmp_path) as made:
        recorder = made.begin()
        recorder.report(resumed, T0)
        recorder.sound(Record(Voice.BOT, tone(7, 1.0, 24_000)), T0)
        recorder.report(resumed, T0 + 0.5)  # once more, in this process
        recorder.close(BY_CALLER, T0 + 1)
    assert made.sound()[1] == [7] * 24_000
    assert made.session().caller_format == "raw/mulaw"


def test_a_call_that_a_bug_ended_has_its_recording_all_the_same(tmp_path: Path) -> None:
    with desk(tmp_path) as made:
        recorder = made.begin()
        recorder.report(ACCEPTED, T0)
        talk(recorder, 1.0)
        recorder.close(None, T0 + 1)
    assert made.session().ended_by == "bug"
    assert level(made.sound()[0]) == [5] * 24_000


def test_a_full_disk_costs_the_recording_and_nothing_else(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with capture_logs() as logs:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
        try:
            with desk(tmp_path) as made:
                recorder = made.begin()
                recorder.report(ACCEPTED, T0)
                talk(recorder, 12.0)
                recorder.close(BY_CALLER, T0 + 12)
                other = made.begin("c-2")
                other.report(ACCEPTED, T0)
                other.close(BY_CALLER, T0 + 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("recording failed", "warning")
    assert line["conversation_id"] == "c-1"
    assert "File too large" in line["error"]
    assert made.count("recordings_total") == {"failed": 1, "complete": 1}
    caller, _ = made.sound()
    assert caller == [5] * len(caller)
    assert len(caller) == 5 * 24_000  # what was written before can be heard


def test_a_folder_that_goes_away_costs_the_recording_and_nothing_else(tmp_path: Path) -> None:
    with capture_logs() as logs, desk(tmp_path / "there") as made:
        shutil.rmtree(made.folder)
        recorder = made.begin()
        recorder.report(ACCEPTED, T0)
        talk(recorder, 1.0)
        recorder.close(BY_CALLER, T0 + 1)
    assert [line["event"] for line in logs] == ["recording failed"]
    assert made.count("recordings_total") == {"failed": 1}


def test_a_bug_in_one_recording_ends_no_other(tmp_path: Path) -> None:
    with capture_logs() as logs, desk(tmp_path) as made:
        broken, whole = made.begin("broken"), made.begin("whole")
        whole.report(ACCEPTED, T0)
        broken.report(Report("call accepted", {"play_format": "raw/lpcm16"}), T0)
        whole.close(BY_CALLER, T0 + 1)
    (line,) = logs
    assert line["exc_info"] is True
    assert made.count("recordings_total") == {"failed": 1, "complete": 1}


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        (Path(__file__) / "x", "Not a directory"),
        (Path("/proc"), "No such file or directory"),  # it is there, and takes no file
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_at_start_up(folder: Path, why: str) -> None:
    words = f"RECORDING_OUTPUT_DIR: {folder} cannot be written: {why}"
    with pytest.raises(ConfigError, match=words):
        Recordings(folder, Metrics())
