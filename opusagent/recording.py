"""Recordings of calls, where they are asked for: a folder each, written by one thread of the process.

`call.wav` is the sound, the caller on the left and the bot on the right, in step with the clock.
`events.jsonl` is what happened, one object a line. `session.json` is the whole in figures, with the
transcript, written when the call has ended. A call never waits for its recording: what finds no room
is left out and counted, and a disk that fails costs the recording, not the call.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, assert_never

import structlog
from pydantic import BaseModel, ConfigDict, JsonValue

from opusagent.audio.formats import MediaFormat
from opusagent.audio.riff import pcm_header
from opusagent.audio.stereo import StereoTrack
from opusagent.call.events import CallOutcome, Record, RecordSilence, Report, Voice
from opusagent.errors import ConfigError
from opusagent.observability import Metrics

__all__ = ["RecordedCall", "RecordedTurn", "Recorder", "Recordings"]

_log = structlog.get_logger("opusagent.recording")

MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""What may wait for the disk, of all calls together: about 400 s of one call."""

BATCH_S: Final = 0.25
"""How long the thread lets things gather: to wake for every chunk would disturb the calls."""

IN_A_ROW: Final = 20
"""How many things the thread writes before it lets the event loop go on. With 100 calls a timer of the
loop was up to 20 ms late (p99) without this and 4 ms with it, as without any recording (measured)."""

_ITEM_BYTES: Final = 500
"""What a thing costs while it waits, apart from its sound."""


class RecordedTurn(BaseModel):
    """A turn of the transcript; `input` is the caller, `output` the bot."""

    model_config = ConfigDict(extra="forbid")

    at_s: float | None
    type: Literal["input", "output"]
    text: str
    interrupted: bool


class RecordedCall(BaseModel):
    """The content of `session.json`; every `at_s` is in seconds since the call began, as in the sound.

    Attributes:
        began_at: In UTC.
        rate_hz: Of `call.wav`; None where the call was never accepted and there is no sound.
        streams: How many streams heard the caller.
        switches: What each change to another stream reported.
        losses: What each loss of a stream reported.
        dropped_bytes: Sound, mostly, for which there was no room.
        complete: Whether nothing was dropped.
    """

    model_config = ConfigDict(extra="forbid")

    conversation_id: str
    agent: str
    began_at: datetime
    seconds: float = 0.0
    ended_by: str = ""
    reason: str = ""
    caller_format: str = ""
    play_format: str = ""
    rate_hz: int | None = None
    streams: int = 0
    barge_ins: int = 0
    switches: list[dict[str, JsonValue]] = []
    losses: list[dict[str, JsonValue]] = []
    transcript: list[RecordedTurn] = []
    dropped_bytes: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _End:
    """The call is over."""

    by: str
    reason: str


type _Item = Record | RecordSilence | Report | _End


class Recordings:
    """All recordings of this process.

    Args:
        folder: Where they go; made if it is not there.
        metrics: The process's counts.
        with_private: Whether the private fields of reports are kept, too. (The transcript always is.)
        max_waiting_bytes: What may wait for the disk.
    """

    def __init__(
        self,
        folder: Path,
        metrics: Metrics,
        *,
        with_private: bool = False,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        """Begin to write.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"RECORDING_OUTPUT_DIR: {folder} cannot be written: {error.strerror}"
            ) from error
        self._folder = folder
        self._metrics = metrics
        self._with_private = with_private
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[tuple[_Recording, float, _Item, int]] = deque()
        self._put_bytes = 0  # changed by the event loop only
        self._done_bytes = 0  # changed by the thread only
        self._open: set[_Recording] = set()  # the thread's
        self._dropping = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
        self._thread.start()

    def begin(self, conversation_id: str, *, agent: str, at: datetime, now: float) -> Recorder:
        """Record a call that begins `now` (monotonic seconds), which is `at` by the calendar."""
        about = RecordedCall(conversation_id=conversation_id, agent=agent, began_at=at)
        recording = _Recording(self._folder, about, with_private=self._with_private)
        return Recorder(self, recording, now)

    def close(self, within_s: float = 5.0) -> None:
        """Write what waits and stop. A disk that hangs is not waited for any longer than that."""
        self._closing.set()
        self._thread.join(within_s)

    def put(self, recording: _Recording, at_s: float, item: _Item) -> None:
        """Let the thread take a thing to a recording, or drop it where too much waits."""
        n_bytes = _ITEM_BYTES + (len(item.pcm) if isinstance(item, Record) else 0)
        waiting = self._put_bytes - self._done_bytes
        if waiting + n_bytes > self._max_waiting_bytes and not isinstance(item, _End):
            self._drop(recording, n_bytes)
            return
        self._put_bytes += n_bytes
        self._waiting.append((recording, at_s, item, n_bytes))

    def _drop(self, recording: _Recording, n_bytes: int) -> None:
        self._metrics.recording_dropped_bytes.inc(n_bytes)
        with self._dropping:
            is_first, recording.dropped_bytes = (
                not recording.dropped_bytes,
                recording.dropped_bytes + n_bytes,
            )
        if is_first:
            _log.warning("recording has gaps", conversation_id=recording.about.conversation_id)

    # In the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(BATCH_S)
            while self._waiting:
                for _ in range(min(len(self._waiting), IN_A_ROW)):
                    recording, at_s, item, n_bytes = self._waiting.popleft()
                    self._write(recording, at_s, item)
                    self._done_bytes += n_bytes
                time.sleep(0)  # the event loop may want the interpreter
        for recording in self._open:
            recording.give_up()

    def _write(self, recording: _Recording, at_s: float, item: _Item) -> None:
        if recording.failed:
            return
        self._open.add(recording)
        try:
            fits = recording.take(item, at_s)
        except Exception as error:  # noqa: BLE001 - the top of a recording: it ends this one and no other
            recording.give_up()
            self._open.discard(recording)
            self._metrics.recordings.labels("failed").inc()
            _log.warning(
                "recording failed",
                conversation_id=recording.about.conversation_id,
                error=str(error),
                exc_info=not isinstance(error, OSError),
            )
            return
        if not fits and isinstance(item, Record):
            self._drop(recording, len(item.pcm))
        if isinstance(item, _End):
            self._open.discard(recording)
            status = "incomplete" if recording.dropped_bytes else "complete"
            self._metrics.recordings.labels(status).inc()


class Recorder:
    """Takes what is recorded of one call, and never waits. Times are monotonic seconds."""

    def __init__(self, recordings: Recordings, recording: _Recording, began: float) -> None:
        """Made by `Recordings.begin`."""
        self._recordings = recordings
        self._recording = recording
        self._began = began

    def sound(self, effect: Record | RecordSilence, now: float) -> None:
        """Take sound, or the end of it."""
        self._recordings.put(self._recording, now - self._began, effect)

    def report(self, report: Report, now: float) -> None:
        """Take a report."""
        self._recordings.put(self._recording, now - self._began, report)

    def close(self, outcome: CallOutcome | None, now: float) -> None:
        """The call is over; None if a bug ended it."""
        end = _End("bug", "") if outcome is None else _End(outcome.by.value, outcome.reason)
        self._recordings.put(self._recording, now - self._began, end)


class _Recording:
    """The files of one call."""

    def __init__(self, base: Path, about: RecordedCall, *, with_private: bool) -> None:
        self.about = about
        self.dropped_bytes = 0
        self.failed = False
        self._base = base
        self._with_private = with_private
        self._folder: Path | None = None
        self._files: list[BinaryIO] = []
        self._events: BinaryIO | None = None
        self._track: StereoTrack | None = None
        self._streams: set[JsonValue] = set()
        self._over_at: float | None = None

    def take(self, item: _Item, at_s: float) -> bool:
        """Write a thing. False if it is sound for which there is no room."""
        match item:
            case Record(voice, pcm):
                if self._track is None:
                    return False
                return (self._track.caller if voice is Voice.CALLER else self._track.bot)(pcm, at_s)
            case RecordSilence():
                if self._track is not None:
                    self._track.bot_silenced(at_s)
            case Report():
                self._report(item, at_s)
            case _End():
                self._end(item, at_s)
            case _:
                assert_never(item)
        return True

    def give_up(self) -> None:
        """Leave what is written as it is."""
        self.failed = True
        for file in self._files:
            with contextlib.suppress(OSError):
                file.close()

    def _report(self, report: Report, at_s: float) -> None:
        line: dict[str, Any] = {"at_s": round(at_s, 3), "event": report.event, **report.fields}
        self._note(report, dict(line), at_s)
        if self._with_private and report.private:
            line["pii"] = dict(report.private)
        if self._events is None:
            self._events = self._new_file("events.jsonl")
        self._events.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._events.flush()

    def _note(self, report: Report, line: dict[str, JsonValue], at_s: float) -> None:
        """Remember what stands in `session.json`."""
        match report.event:
            case "call accepted":
                self._accepted(
                    str(report.fields["caller_format"]), str(report.fields["play_format"])
                )
            case "stream opened":
                self._streams.add(report.fields["stream"])
            case "stream switched":
                self._streams.add(report.fields["stream"])
                self.about.switches.append(line)
            case "closed first":
                self.about.switches.append(line)
            case "stream lost":
                self.about.losses.append(line)
            case "barge-in":
                self.about.barge_ins += 1
            case "transcript":  # it comes when the call has ended; its streams may take longer
                self._over_at = at_s
                turns: Any = report.private["turns"]
                self.about.transcript = [self._turn(turn) for turn in turns]

    def _accepted(self, caller_format: str, play_format: str) -> None:
        if self._track is not None:
            return
        self.about.caller_format, self.about.play_format = caller_format, play_format
        sound = _Sound(
            self._new_file("call.wav"),
            caller_hz=MediaFormat(caller_format).sample_rate_hz,
            bot_hz=MediaFormat(play_format).sample_rate_hz,
        )
        self._track = sound.track
        self.about.rate_hz = self._track.rate_hz

    def _turn(self, turn: dict[str, Any]) -> RecordedTurn:
        at_s = None
        if turn["at"] is not None:
            at = datetime.fromisoformat(turn["at"])
            at_s = round((at - self.about.began_at).total_seconds(), 3)
        return RecordedTurn(
            at_s=at_s, type=turn["type"], text=turn["text"], interrupted=turn["interrupted"]
        )

    def _end(self, end: _End, at_s: float) -> None:
        seconds = at_s if self._over_at is None else self._over_at
        if self._track is not None:
            self._track.finish(seconds)
        self.about.seconds = round(seconds, 3)
        self.about.ended_by, self.about.reason = end.by, end.reason
        self.about.streams = len(self._streams)
        self.about.dropped_bytes = self.dropped_bytes
        self.about.complete = not self.dropped_bytes
        self._new_file("session.json").write(self.about.model_dump_json(indent=2).encode() + b"\n")
        for file in self._files:
            file.close()

    def _new_file(self, name: str) -> BinaryIO:
        if self._folder is None:
            self._folder = _new_folder(self._base, self.about.conversation_id)
        path = self._folder / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._files.append(os.fdopen(os.open(path, flags, 0o600), "wb"))
        return self._files[-1]


class _Sound:
    """A WAV file that can be played at any moment, whatever becomes of the process."""

    def __init__(self, file: BinaryIO, *, caller_hz: int, bot_hz: int) -> None:
        self._file = file
        self._n_bytes = 0
        self.track = StereoTrack(caller_hz=caller_hz, bot_hz=bot_hz, write=self._write)
        self._write(b"")

    def _write(self, pcm: bytes) -> None:
        """Add sound, and only then say in the header how much there is."""
        n_bytes = self._n_bytes + len(pcm)
        header = pcm_header(self.track.rate_hz, channels=2, n_bytes=n_bytes)
        self._file.seek(len(header) + self._n_bytes)
        self._file.write(pcm)
        self._file.flush()
        self._file.seek(0)
        self._file.write(header)
        self._file.flush()
        self._n_bytes = n_bytes


def _new_folder(base: Path, conversation_id: str) -> Path:
    """A folder of its own, named like the conversation as far as a file system likes it."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", conversation_id)[:100].lstrip("._-") or "call"
    folder, n = base / name, 1
    while True:
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:  # the conversation was resumed, or another one has a name like it
            n += 1
            folder = base / f"{name}-{n}"
        else:
            return folder
