"""The websockets that were lost in a call, and how long it took until everything went on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from pydantic import JsonValue

from opusagent.models.session_state import Turn
from opusagent.simulators.caller_record import CallRecord, Loss
from opusagent.simulators.scenario import Scenario
from opusagent.simulators.steps import CutSocket, KillBridge
from opusagent.simulators.stream_report import StreamReport
from opusagent.sonic.events import AudioInput

__all__ = ["Comeback", "comebacks_in"]

_CLOCKS_S = 0.002
"""By so much the clocks of caller and service may differ: one is the time of day, one only goes on."""

type AtS = Callable[[datetime], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comeback:
    """A websocket that was lost, and what came after it; None where it did not come.

    Attributes:
        old: The bridge that had the call, from 1.
        new: The one that has it then.
        killed: Whether the old one was killed, rather than the websocket cut.
        at_s: When the websocket was lost, in seconds of the call.
        resume_ms: From there until VoiceAI Connect sent `session.resume`, as it was told to.
        accepted_ms: From `session.resume` to `session.accepted`.
        frame_sent_ms: From the loss until VoiceAI Connect sent the caller's first frame.
        frame_ms: From there until the frame was on the model's stream.
        bot_ms: From the loss until the bot was heard again.
        stream: The stream that was opened for it, as the service counts; None if the old one lived on.
        history: The turns that this stream was given.
    """

    old: int
    new: int
    killed: bool
    at_s: float
    resume_ms: int | None = None
    accepted_ms: int | None = None
    frame_sent_ms: int | None = None
    frame_ms: int | None = None
    bot_ms: int | None = None
    stream: int | None = None
    history: tuple[Turn, ...] = ()

    @property
    def what(self) -> str:
        """What happened, in words."""
        if self.killed:
            return f"bridge {self.old} killed"
        return "socket cut" if self.old == self.new else f"socket cut, on to bridge {self.new}"

    def as_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        figures = {"what": self.what, "at_s": round(self.at_s, 3), "history": len(self.history)}
        return asdict(self) | figures


def comebacks_in(
    scenario: Scenario, record: CallRecord, streams: Sequence[StreamReport], at_s: AtS
) -> list[Comeback]:
    """One for each websocket that was lost, in order.

    Args:
        scenario: Says which was lost how.
        record: Of the caller.
        streams: As the service saw them.
        at_s: The second of the call at a time of day.
    """
    steps = [step for step in scenario.step if isinstance(step, CutSocket | KillBridge)]
    found = []
    for n, loss in enumerate(record.losses):
        planned = n < len(steps)  # otherwise nobody knows where VoiceAI Connect went
        found.append(
            _comeback(
                loss,
                record,
                streams,
                at_s,
                old=scenario.route[n if planned else -1],
                new=scenario.route[n + 1 if planned else -1],
                killed=planned and isinstance(steps[n], KillBridge),
            )
        )
    return found


def _comeback(
    loss: Loss,
    record: CallRecord,
    streams: Sequence[StreamReport],
    at_s: AtS,
    *,
    old: int,
    new: int,
    killed: bool,
) -> Comeback:
    sent_s, frame_s = _first_frame(loss, record, streams, at_s)
    stream = None
    if old != new and loss.resumed_at is not None:
        asked_s = loss.resumed_at - _CLOCKS_S
        stream = next((one for one in streams if at_s(one.asked_at) >= asked_s), None)
    bot_s = record.bot_began_after(loss.at)
    return Comeback(
        old=old,
        new=new,
        killed=killed,
        at_s=loss.at,
        resume_ms=_ms(loss.at, loss.resumed_at),
        accepted_ms=_ms(loss.resumed_at, loss.accepted_at),
        frame_sent_ms=_ms(loss.at, sent_s),
        frame_ms=_ms(sent_s, frame_s),
        bot_ms=_ms(loss.at, bot_s),
        stream=None if stream is None else stream.stream,
        history=() if stream is None else stream.history,
    )


def _first_frame(
    loss: Loss, record: CallRecord, streams: Sequence[StreamReport], at_s: AtS
) -> tuple[float | None, float | None]:
    """When VoiceAI Connect sent the caller's first frame, and when a stream had it.

    The silence that a stream is fed with meanwhile comes in smaller pieces.
    """
    accepted_at = loss.accepted_at
    if accepted_at is None:
        return None, None
    first = next((sound for sound in record.caller_sound if sound.at >= accepted_at), None)
    if first is None:
        return None, None
    n_bytes = len(first.pcm) * 4 // 3  # base64, in an event with a name
    came = (
        at_s(at)
        for stream in streams
        for at, name, size in stream.events
        if name == AudioInput.wire_name and size >= n_bytes
    )
    return first.ends_at, min((s for s in came if s >= first.ends_at - _CLOCKS_S), default=None)


def _ms(begin_s: float | None, end_s: float | None) -> int | None:
    if begin_s is None or end_s is None:
        return None
    return max(0, round((end_s - begin_s) * 1000))
