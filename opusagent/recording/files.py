"""The files of a recording: `call.wav`, `events.jsonl` and `session.json`, in a folder of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, assert_never

from pydantic import BaseModel, ConfigDict, JsonValue

from opusagent.audio.formats import MediaFormat
from opusagent.audio.riff import pcm_header
from opusagent.audio.stereo import StereoTrack
from opusagent.call.events import Record, RecordSilence, Report, Voice

__all__ = ["CallFiles", "End", "Item", "RecordedCall", "RecordedTurn"]


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
class End:
    """The call is over."""

    by: str
    reason: str


type Item = Record | RecordSilence | Report | End


class CallFiles:
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

    def take(self, item: Item, at_s: float) -> bool:
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
            case End():
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
            case "call accepted" | "session resumed" if "play_format" in report.fields:
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

    def _end(self, end: End, at_s: float) -> None:
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
