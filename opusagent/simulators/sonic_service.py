"""The local Nova Sonic service: one `SonicPeer` for each stream, on the real wire.

It is told nothing of the conversation: it hears what reaches it, knows the phrases of its book, and
speaks. `NovaService.streams` holds all that every stream received.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, assert_never

from opusagent.clock import Clock, SystemClock
from opusagent.simulators.faults import FaultSpec, WireFault
from opusagent.simulators.speech_cue import SpeechCue
from opusagent.simulators.stream_report import StreamReport
from opusagent.simulators.wire import (
    ConnectionFault,
    Refusal,
    StreamHandler,
    StreamRequest,
    StreamWriter,
)
from opusagent.sonic.peer import SonicPeer
from opusagent.sonic.peer_brain import Brain, Ears
from opusagent.sonic.peer_faults import STREAM_FAULTS, Fault, StreamFault
from opusagent.sonic.peer_record import StreamRecord
from opusagent.sonic.profiles import PROFILES, Profile, Timing

__all__ = ["NovaService", "ServicePlan", "StreamLog"]

STALL_S: Final = 30.0
SLOW_HEAD_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """How the service behaves.

    Attributes:
        timing: Its times; `limit_s` is the life of a stream.
        scale: How much faster than the wall its limits run: the life of a stream, and the time
            without audio. Conversation stays in real time.
        quota: Streams at once; one more is throttled.
        open_delay_s: How long the response head takes.
    """

    profile: Profile = PROFILES["nova-2"]
    timing: Timing = field(default_factory=Timing)
    faults: Sequence[FaultSpec] = ()
    scale: float = 1.0
    quota: int | None = None
    open_delay_s: float = 0.0


@dataclass(slots=True)
class StreamLog:
    """One stream as the service saw it; times are seconds since the service began.

    Attributes:
        number: From 1, refused ones counted.
        refused: The error type, if the stream was refused.
        credential_id: The access key id that signed the request.
        head_at: When it got its response head; None if it never did.
        struck: The fault that cut it.
        struck_at: When it did.
        closed_at: When the stream was gone from the wire.
    """

    number: int
    model_id: str
    credential_id: str
    asked_at: float
    refused: str = ""
    record: StreamRecord | None = None
    head_at: float | None = None
    struck: str = ""
    struck_at: float | None = None
    closed_at: float | None = None

    @property
    def cut(self) -> str:
        """The exception or fault that ended it; empty if the client did."""
        failure = self.record.failure if self.record is not None else None
        return failure[0] if failure is not None else self.struck

    @property
    def ended_at(self) -> float | None:
        """When it came to its end, cut or closed."""
        ended = (self.struck_at, self.record.ended_at if self.record else None, self.closed_at)
        return next((at for at in ended if at is not None), None)


class NovaService:
    """Answers streams; give it to a `WireServer`.

    Args:
        brain: Makes the mind of each stream: streams know only what they are told.
        ears: Recognise speech.
        plan: How it behaves.
        told: Called with each change worth showing, e.g. `("opened", 1)`.
        clock: The time of day, for reports.
    """

    def __init__(
        self,
        brain: Callable[[], Brain],
        ears: Ears | None,
        plan: ServicePlan | None = None,
        *,
        told: Callable[[str, int], None] = lambda _event, _stream: None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare; streams come by `open_stream`."""
        self._brain = brain
        self._ears = ears
        self.plan = plan or ServicePlan()
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.began_at = (clock or SystemClock()).utcnow()
        """The time of day when it began."""
        self._connections = 0
        self._live: set[_Stream] = set()
        self.streams: list[StreamLog] = []

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return self._loop.time() - self._began

    @property
    def open_streams(self) -> int:
        """Streams that are on the wire now."""
        return len(self._live)

    def at(self, now: float) -> float:
        """The event loop's time at that second."""
        return self._began + now

    @property
    def reports(self) -> list[StreamReport]:
        """Every stream so far, by the time of day."""
        return [StreamReport.of(log, self.began_at) for log in self.streams]

    def open_connection(self) -> ConnectionFault | None:
        """What happens to the next connection; each stream has one of its own."""
        self._connections += 1
        for fault in self.plan.faults:
            if fault.connection is not None and fault.hits(self._connections):
                return fault.connection
        return None

    def open_stream(self, request: StreamRequest, writer: StreamWriter) -> StreamHandler | Refusal:
        """Take a stream or refuse it."""
        number = len(self.streams) + 1
        log = StreamLog(number, request.model_id, request.credential_id, self.now)
        self.streams.append(log)
        faults = [fault for fault in self.plan.faults if fault.hits(number)]
        refusal = next((f.refusal for f in faults if f.refusal is not None), None)
        if refusal is None and self.plan.quota is not None and len(self._live) >= self.plan.quota:
            refusal = Refusal(429, "ThrottlingException", "Too many streams, please wait.")
        if refusal is not None:
            log.refused = refusal.error_type
            self._told(f"refused {refusal.error_type}", number)
            return refusal
        head_s = self._head_s(faults)
        if head_s is None or head_s > 0:
            writer.hold_head(head_s)
        log.head_at = None if head_s is None else log.asked_at + head_s
        stream = _Stream(self, log, writer, faults)
        self._live.add(stream)
        self._told("opened", number)
        return stream

    def _head_s(self, faults: Sequence[FaultSpec]) -> float | None:
        """How long the response head takes; None is for ever."""
        names = {fault.name: fault for fault in faults}
        if "no-head" in names:
            return None
        if "slow-head" in names:
            return names["slow-head"].seconds or SLOW_HEAD_S
        return self.plan.open_delay_s

    def make_peer(self, faults: Sequence[FaultSpec], head_s: float) -> SonicPeer:
        """The mind behind a stream whose response head takes `head_s`."""
        plan = self.plan
        return SonicPeer(
            self._brain(),
            self._ears,
            now=self.now,
            new_id=lambda: str(uuid.uuid4()),
            profile=replace(plan.profile, idle_limit_s=plan.profile.idle_limit_s / plan.scale),
            timing=replace(plan.timing, limit_s=plan.timing.limit_s / plan.scale),
            faults=[fault.name for fault in faults if fault.name in Fault],
            stream_faults=[
                StreamFault(
                    code=STREAM_FAULTS[fault.name][0],
                    message=STREAM_FAULTS[fault.name][1],
                    on_event=fault.on_event,
                    nth=fault.nth,
                    # Without a word about when, at once, like the faults of the wire.
                    after_s=head_s + (fault.after_s or 0.0) if fault.on_event is None else None,
                )
                for fault in faults
                if fault.name in STREAM_FAULTS and fault.into_s is None
            ],
        )

    def gone(self, stream: _Stream) -> None:
        """A stream is off the wire; for the stream itself."""
        self._live.discard(stream)
        self._told("closed", stream.log.number)

    def strike(self, fault: FaultSpec) -> None:
        """Let a fault of the wire, or an exception, happen now on the live streams that it hits."""
        for stream in tuple(self._live):
            if fault.hits(stream.log.number):
                stream.strike(fault)

    def save(self, folder: Path) -> None:
        """Write what every stream was and received: `stream-N.json` and `stream-N.pcm`."""
        folder.mkdir(parents=True, exist_ok=True)
        for log, report in zip(self.streams, self.reports, strict=True):
            path = folder / f"stream-{log.number}"
            path.with_suffix(".json").write_text(report.model_dump_json(indent=1), encoding="utf-8")
            if log.record is not None:
                path.with_suffix(".pcm").write_bytes(log.record.audio)


class _Stream:
    """Joins one stream of the wire to its peer and the clock."""

    def __init__(
        self,
        service: NovaService,
        log: StreamLog,
        writer: StreamWriter,
        faults: Sequence[FaultSpec],
    ) -> None:
        self.log = log
        self._service = service
        self._writer = writer
        self._head_at = log.asked_at if log.head_at is None else log.head_at
        self._peer = service.make_peer(faults, self._head_at - log.asked_at)
        log.record = self._peer.record
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        on_wire = [fault for fault in faults if fault.wire is not None and fault.into_s is None]
        self._fault_timers = [
            self._loop.call_at(
                service.at(self._head_at + (fault.after_s or 0.0)), self.strike, fault
            )
            for fault in on_wire
            if fault.on_event is None
        ]
        self._on_events = {fault.on_event: fault for fault in on_wire if fault.on_event}
        self._in_speech = [fault for fault in faults if fault.into_s is not None]
        self._cues: dict[FaultSpec, SpeechCue] = {}
        self._over = False
        self._carry()

    def receive(self, payload: bytes) -> None:
        """Take one event of the client."""
        if self._over:
            return
        self._peer.receive(payload, self._service.now)
        self._carry()
        if self._on_events:
            self._strike_on_event()
        if self._in_speech:
            self._strike_in_speech()

    def end_of_input(self) -> None:
        """The client has nothing more to say."""
        if not self._over:
            self._peer.end_input(self._service.now)
            self._carry()

    def closed(self) -> None:
        """The stream is gone."""
        self._over = True
        self.log.closed_at = self._service.now
        for timer in (self._timer, *self._fault_timers):
            if timer is not None:
                timer.cancel()
        self._service.gone(self)

    def _carry(self) -> None:
        for payload in self._peer.events_to_send():
            self._writer.send(payload)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._peer.failure is not None and not self._over:
            self._over = True
            self._writer.fail(*self._peer.failure)
        elif self._peer.ended and not self._over:
            self._over = True
            self._writer.end()
        elif (at := self._peer.next_timer()) is not None:
            self._timer = self._loop.call_at(self._service.at(at), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._peer.handle_timer(self._service.now)
        self._carry()

    def _strike_on_event(self) -> None:
        name = self._peer.record.events[-1].name
        fault = self._on_events.get(name)
        if fault is None:
            return
        count = sum(event.name == name for event in self._peer.record.events)
        if count == fault.nth:
            del self._on_events[name]
            self.strike(fault)

    def _strike_in_speech(self) -> None:
        record = self._peer.record
        last = record.events[-1]
        if not last.audio_bytes:
            return
        pcm = bytes(record.audio[last.audio_offset : last.audio_offset + last.audio_bytes])
        for fault in tuple(self._in_speech):
            if fault not in self._cues:
                self._cues[fault] = SpeechCue(
                    fault.into_s or 0.0,
                    fault.nth,
                    rate_hz=record.audio_rate_hz,
                    threshold_rms=self._service.plan.timing.threshold_rms,
                )
            armed = self._service.now >= self._head_at + (fault.after_s or 0.0)
            if self._cues[fault].feed(pcm, armed=armed):
                self._in_speech.remove(fault)
                self.strike(fault)

    def strike(self, fault: FaultSpec) -> None:
        """Let a fault happen now."""
        if self._over:
            return
        if fault.cuts:
            self.log.struck, self.log.struck_at = fault.name, self._service.now
        if fault.name in STREAM_FAULTS:
            self._peer.fail(*STREAM_FAULTS[fault.name], self._service.now)
            self._carry()
        elif fault.wire is not None:
            self._strike_wire(fault.wire, fault.seconds or STALL_S)

    def _strike_wire(self, kind: WireFault, stall_s: float) -> None:
        event = b'{"event":{"usageEvent":{"totalInputTokens":0,"totalOutputTokens":0}}}'
        match kind:
            case WireFault.RESET:
                self._writer.reset(0)
            case WireFault.RESET_CANCEL:
                self._writer.reset(8)
            case WireFault.END:
                self._writer.end()
            case WireFault.ABORT:
                self._writer.abort()
            case WireFault.GO_AWAY:
                self._writer.go_away()
            case WireFault.HALF_FRAME:
                self._writer.send_half_frame(event)
                self._writer.end()
            case WireFault.BAD_CRC:
                self._writer.send_bad_crc(event)
            case WireFault.STALL:
                self._writer.stop_reading()
                again = self._service.at(self._service.now + stall_s)
                self._fault_timers.append(self._loop.call_at(again, self._writer.resume_reading))
            case WireFault.NO_READ:
                self._writer.stop_reading()
            case WireFault.EXCEPTION_LEFT_OPEN:
                self._over = True
                if self._timer is not None:
                    self._timer.cancel()
                self._writer.fail(*STREAM_FAULTS["model-stream"], leave_open=True)
            case _:
                assert_never(kind)
