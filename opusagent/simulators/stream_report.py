"""What one stream of the local Nova Sonic service was and got, by the time of day: its record as a file.

nova --record DIR    writes stream-1.json, stream-1.pcm, stream-2.json, ...
load_reports(DIR)    reads them
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from opusagent.models.session_state import Turn
from opusagent.simulators.timeline import StreamBar
from opusagent.sonic.events import AudioInput
from opusagent.sonic.peer_record import At, StreamRecord

if TYPE_CHECKING:
    from opusagent.simulators.sonic_service import StreamLog

__all__ = ["Spoken", "StreamReport", "load_reports", "replayed_s"]

AT_ONCE_S: Final = 0.5
"""A replay is sent in one step; what comes later comes as it is spoken."""
LIVE_S: Final = 0.3
"""So much may be what was just spoken, a chunk of VoiceAI Connect's (160 ms), behind silence that only
opens the model's ears (100 ms)."""


class Spoken(BaseModel):
    """A text and its time."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    text: str


class StreamReport(BaseModel):
    """One stream. Times are UTC.

    Attributes:
        stream: Its number, from 1, refused ones counted.
        refused: The error type, if it was refused; then there is nothing else to tell.
        asked_at: When the client asked for it.
        head_at: When it got its response head, from which its age counts.
        live_at: When the client opened audio on it; before that it was a standby.
        audio_ended_at: When the client ended the audio.
        ended_at: When it came to its end, cut or closed.
        closed_at: When it was gone from the wire.
        cut: The exception or fault that ended it; empty if the client did.
        tool_results: The results of tools that it was given, the name before each.
        history: The turns that it was given.
        history_bytes: Their size in UTF-8.
        audio_s: Caller audio that it was given.
        replayed_s: How much of that had been spoken before it was live.
        events: Time, name and size of everything that the client sent.
    """

    model_config = ConfigDict(frozen=True)

    stream: int
    model_id: str
    refused: str = ""
    asked_at: AwareDatetime
    head_at: AwareDatetime | None = None
    live_at: AwareDatetime | None = None
    audio_ended_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    closed_at: AwareDatetime | None = None
    cut: str = ""
    failure: tuple[str, str] | None = None
    system_prompt: str = ""
    history: tuple[Turn, ...] = ()
    history_bytes: int = 0
    heard: tuple[Spoken, ...] = ()
    typed: tuple[Spoken, ...] = ()
    said: tuple[Spoken, ...] = ()
    tool_results: tuple[Spoken, ...] = ()
    audio_rate_hz: int = 0
    audio_s: float = 0.0
    replayed_s: float = 0.0
    events: tuple[tuple[AwareDatetime, str, int], ...] = ()

    @classmethod
    def of(cls, log: StreamLog, began: datetime) -> Self:
        """The report of a stream; `began` is the time of day at the service's second 0."""

        def day(at: float) -> datetime:
            return began + timedelta(seconds=at)

        def maybe(at: float | None) -> datetime | None:
            return None if at is None else day(at)

        def spoken(texts: list[At[str]]) -> tuple[Spoken, ...]:
            return tuple(Spoken(at=day(one.at), text=one.value) for one in texts)

        record = log.record or StreamRecord(opened_at=log.asked_at)
        return cls(
            stream=log.number,
            model_id=log.model_id,
            refused=log.refused,
            asked_at=day(log.asked_at),
            head_at=maybe(log.head_at),
            live_at=maybe(record.audio_opened_at),
            audio_ended_at=maybe(record.audio_ended_at),
            ended_at=maybe(log.ended_at),
            closed_at=maybe(log.closed_at),
            cut=log.cut,
            failure=record.failure,
            system_prompt=record.system_prompt,
            history=tuple(record.history),
            history_bytes=sum(len(turn.text.encode()) for turn in record.history),
            heard=spoken(record.heard),
            typed=spoken(record.typed),
            said=spoken(record.said),
            tool_results=spoken(
                [
                    At(one.at, f"{one.value.name} {json.dumps(one.value.result)}")
                    for one in record.tool_results
                ]
            ),
            audio_rate_hz=record.audio_rate_hz,
            audio_s=round(record.audio_s, 3),
            replayed_s=round(replayed_s(record), 3),
            events=tuple((day(event.at), event.name, event.n_bytes) for event in record.events),
        )

    def bar(self, began: datetime, now: datetime) -> StreamBar:
        """The stream for a timeline.

        Args:
            began: Second 0 of the timeline.
            now: Its end, for a stream that is open still.
        """

        def at_s(moment: datetime) -> float:
            return (moment - began).total_seconds()

        opened_at = self.head_at or self.asked_at
        ended_at = self.asked_at if self.refused else self.ended_at or now
        return StreamBar(
            name=str(self.stream),
            opened_s=at_s(opened_at),
            live_s=None if self.live_at is None else at_s(self.live_at),
            closed_s=at_s(ended_at),
            replayed_s=self.replayed_s,
            cut=self.refused or self.cut,
        )


def replayed_s(record: StreamRecord) -> float:
    """Seconds of audio that a stream was given before they could have been spoken on it.

    That is how far the audio was ahead of the clock in the half second after it was opened.
    """
    began, rate_hz = record.audio_opened_at, record.audio_rate_hz
    if began is None:
        return 0.0
    leads = (
        (event.audio_offset + event.audio_bytes) / 2 / rate_hz - (event.at - began)
        for event in record.events
        if event.name == AudioInput.wire_name and began <= event.at <= began + AT_ONCE_S
    )
    lead_s = max(leads, default=0.0)
    return lead_s if lead_s > LIVE_S else 0.0


def load_reports(folder: Path) -> list[StreamReport]:
    """The reports that `nova --record` left, by number; none where there is no such folder."""
    reports = [
        StreamReport.model_validate_json(path.read_bytes()) for path in folder.glob("stream-*.json")
    ]
    return sorted(reports, key=lambda report: report.stream)
