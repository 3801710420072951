"""A call with the real cores at both ends, in memory, on a clock that is a number."""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import JsonValue

from opusagent.audiocodes.peer import AudioCodesPeer
from opusagent.audiocodes.peer_events import (
    Accepted,
    HangupRequested,
    PeerEvent,
    PlayChunk,
    PlayStarted,
    PlayStopped,
    PromptsAborted,
    Refused,
    Speech,
    SpeechKind,
)
from opusagent.call.call import Ambient, Call
from opusagent.call.events import (
    AudioToSonic,
    CallerAttached,
    CallerLost,
    CallInput,
    CallOutcome,
    CloseReason,
    CloseStream,
    ControlToSonic,
    Effect,
    Finish,
    FromCaller,
    FromSonic,
    HangUpSocket,
    NoteSent,
    OpenStream,
    Record,
    RecordSilence,
    Report,
    RunTool,
    Save,
    StreamId,
    StreamLost,
    StreamOpened,
    StreamSent,
    ToCaller,
    ToolCall,
    ToolFinished,
)
from opusagent.call.plan import CallPlan
from opusagent.models.agent import Agent, Greeting
from opusagent.models.session_state import Role, SessionState, ToolSpec, Turn
from opusagent.sonic import events as wire
from opusagent.sonic.failures import classify
from opusagent.sonic.peer_brain import ToolAsk
from opusagent.sonic.peer_rules import Kind, Rules
from opusagent.sonic.peer_writer import INTERRUPTED, PeerWriter
from opusagent.sonic.profiles import PROFILES
from opusagent.sonic.reader import Stage, StopReason
from opusagent.sonic.wire import UnknownEvent

T0 = 100.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CALLER_RATE_HZ = 16_000
PLAY_RATE_HZ = 24_000
FRAME_S = 0.02
EPSILON_S = 1e-6

LOOKUP = ToolSpec(name="lookup", description="Looks up.", input_schema={"type": "object"})
SILENT_AGENT = Agent(system_prompt="You answer the telephone.")
GREETING_AGENT = SILENT_AGENT.model_copy(update={"greeting": Greeting(text="Greet the caller.")})
PLAN = CallPlan(agent=SILENT_AGENT, tools=(LOOKUP,))

_MARK = 77
_DIGIT = 64  # three of them number the frames of more than an hour
_SAMPLES = int(CALLER_RATE_HZ * FRAME_S)
_LOUD = struct.pack(f"<{_SAMPLES - 4}h", *(4000 if i % 2 else -4000 for i in range(_SAMPLES - 4)))


def counted(prefix: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers)}"


def caller_frame(number: int, *, loud: bool) -> bytes:
    """20 ms of the caller, with its number in the first samples, too faint to count as sound."""
    digits = (number % _DIGIT, number // _DIGIT % _DIGIT, number // _DIGIT**2)
    return struct.pack("<4h", _MARK, *digits) + (_LOUD if loud else bytes(len(_LOUD)))


def frame_numbers(audio: bytes) -> list[int]:
    """Which frames of the caller are in a stream's audio, in order."""
    numbers = []
    for start in range(0, len(audio), 2 * _SAMPLES):
        mark, *digits = struct.unpack_from("<4h", audio, start)
        if mark == _MARK:
            numbers.append(digits[0] + digits[1] * _DIGIT + digits[2] * _DIGIT**2)
    return numbers


def bot_pcm(value: int, seconds: float) -> bytes:
    """Bot audio that can be told apart: every sample is `value`."""
    return value.to_bytes(2, "little", signed=True) * round(PLAY_RATE_HZ * seconds)


class Service:
    """The service's end of one stream: refuses what the real one would, and says what a test wants.

    Attributes:
        frames: The caller's frames that came, in order.
    """

    def __init__(self, stream: StreamId, *, prompt: str = "P") -> None:
        self.id = stream
        self._rules = Rules(PROFILES["nova-2"], strict_samples=True)
        self.writer = PeerWriter(new_id=counted(f"s{stream}"))
        self.writer.prompt_name = prompt
        self.system_prompt = ""
        self.rates: tuple[int, int] = (0, 0)
        self.prompt_start: tuple[object, ...] = ()
        self.history: list[Turn] = []
        self.typed: list[str] = []
        self.results: list[tuple[str, str]] = []
        self.audio = bytearray()
        self.frames: list[int] = []
        self.audio_when_typed: list[int] = []
        self.session_ended = False
        self.closed: CloseReason | None = None

    @property
    def told(self) -> list[tuple[str, str]]:
        """The history as role and text."""
        return [(turn.role.value, turn.text) for turn in self.history]

    def receive(self, payload: bytes) -> None:
        """Take an event; `Refused` is what the service would end the stream with."""
        event = wire.parse_client(payload)
        assert not isinstance(event, UnknownEvent)
        block = self._rules.check(event)
        match event:
            case wire.PromptStart():
                self.rates = (0, event.audio_output_configuration.sample_rate_hertz)
                self.prompt_start = (
                    event.audio_output_configuration,
                    event.tool_configuration,
                    event.tool_use_output_configuration,
                )
            case wire.AudioInput() if block is not None:
                self.audio += block.pcm
                self.frames += frame_numbers(block.pcm)
                self.rates = (block.rate_hz, self.rates[1])
            case wire.SessionEnd():
                self.session_ended = True
            case wire.ClientContentEnd() if block is not None:
                match block.kind:
                    case Kind.SYSTEM:
                        self.system_prompt = block.text
                    case Kind.HISTORY:
                        self.history.append(Turn(role=Role(block.role), text=block.text))
                    case Kind.TYPED:
                        self.typed.append(block.text)
                        self.audio_when_typed.append(len(self.audio))
                    case Kind.TOOL:
                        self.results.append((block.tool_use_id, block.text))

    def ask(self, tool_use_id: str, name: str, arguments: JsonValue) -> None:
        """Ask for a tool, in one whole block."""
        self._rules.expect_result(tool_use_id)
        self.writer.tools([(tool_use_id, ToolAsk(name, arguments))])


@dataclass
class CallDriver:
    """Drives a call: `phone` says what VoiceAI Connect says, `service` what the model says."""

    plan: CallPlan = PLAN
    head_s: float | None = 0.1
    """How long a stream's head takes; None: a test opens streams itself."""
    sent_s: float | None = 0.0
    """How long it takes until what is ordered for a stream has been sent; None: a test says when."""
    random: Callable[[], float] = lambda: 1.0
    now: float = T0
    conversation_id: str = "c-1"
    offered: Sequence[str] | None = ("raw/lpcm16", "raw/lpcm16_24")
    resume_from: SessionState | None = None
    start_afresh: bool = False
    clock_s: float = 0.0
    """How far the time of day of this process is ahead of another's."""

    services: dict[StreamId, Service] = field(default_factory=dict)
    heard: list[tuple[float, PeerEvent]] = field(default_factory=list)
    saves: list[SessionState] = field(default_factory=list)
    reports: list[tuple[float, Report]] = field(default_factory=list)
    ran: list[tuple[float, Effect]] = field(default_factory=list)
    tools: list[ToolCall] = field(default_factory=list)
    socket_closed: tuple[int, str] | None = None
    outcome: CallOutcome | None = None
    finished: int = 0

    def __post_init__(self) -> None:
        ambient = Ambient(new_id=counted("bot"), utcnow=self.utcnow, random=self.random)
        self.call = Call(
            self.plan,
            ambient=ambient,
            resume_from=self.resume_from,
            start_afresh=self.start_afresh,
        )
        self.phone = AudioCodesPeer(new_id=counted("vaic"), utcnow=self.utcnow)
        self._encoders: dict[StreamId, Callable[[bytes], bytes]] = {}
        self._heads: list[tuple[float, StreamId]] = []
        self._sent: list[tuple[float, StreamId]] = []
        self._played_until = 0.0
        self._next_frame = 0

    def utcnow(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now + self.clock_s)

    # Running effects, as a shell does

    def handle(self, event: CallInput) -> None:
        """Give the call an input now."""
        self._run(self.call.handle(event, self.now))

    def _run(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert not self.finished or isinstance(effect, Save | Report), f"{effect} after Finish"
            self.ran.append((self.now, effect))
            self._run_one(effect)
        if self.sent_s == 0.0:
            self._say_what_is_sent()

    def _run_one(self, effect: Effect) -> None:
        match effect:
            case ToCaller(text):
                assert self.socket_closed is None, "a text after the socket was closed"
                for event in self.phone.receive(text):
                    self._hear(event)
            case HangUpSocket(code, reason):
                self.socket_closed = (code, reason)
            case OpenStream(stream):
                assert stream not in self.services
                self.services[stream] = Service(stream)
                self._encoders[stream] = self.call.audio_encoder(stream)
                if self.head_s is not None:
                    self._heads.append((self.now + self.head_s, stream))
            case ControlToSonic(stream, payload):
                self._open_service(stream).receive(payload)
            case AudioToSonic(stream, pcm):
                self._open_service(stream).receive(self._encoders[stream](pcm))
            case NoteSent(stream):
                after_s = math.inf if self.sent_s is None else self.sent_s
                self._sent.append((self.now + after_s, stream))
            case CloseStream(stream, reason):
                self._open_service(stream).closed = reason
            case RunTool(call):
                self.tools.append(call)
            case Save(state):
                self.saves.append(state)
            case Report():
                self.reports.append((self.now, effect))
            case Record() | RecordSilence():
                assert self.plan.record
            case Finish(outcome):
                self.outcome = outcome
                self.finished += 1

    def _open_service(self, stream: StreamId) -> Service:
        service = self.services[stream]
        assert service.closed is None, f"stream {stream} is closed"
        return service

    def _hear(self, event: PeerEvent) -> None:
        self.heard.append((self.now, event))
        match event:
            case PlayChunk(data=data):
                seconds = len(data) / 2 / PLAY_RATE_HZ
                self._played_until = max(self._played_until, self.now) + seconds
                ahead_s = self._played_until - self.now
                assert ahead_s <= self.plan.play_lead_s + 1e-3, f"{ahead_s} s ahead"
            case PromptsAborted() | Speech(kind=SpeechKind.STARTED):
                self._played_until = self.now  # one of them makes VoiceAI Connect fall silent

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass; whatever is due in it happens at its time."""
        self.until(self.now + seconds)

    def until(self, at: float) -> None:
        """As `advance`, to a point in time."""
        while (due := self._next_due()) is not None and due <= at:
            self.now = max(self.now, due)
            self._do_due()
        self.now = max(self.now, at)

    def _next_due(self) -> float | None:
        times = [at for at, _ in (*self._heads, *self._sent) if at < math.inf]
        if (timer := self.call.next_timer()) is not None:
            times.append(timer)
        return min(times, default=None)

    def _do_due(self) -> None:
        for head in [head for head in self._heads if head[0] <= self.now]:
            self._heads.remove(head)
            if self.services[head[1]].closed is None:
                self.handle(StreamOpened(head[1]))
        self._say_what_is_sent()
        self.tick()

    def _say_what_is_sent(self) -> None:
        for one in [one for one in self._sent if one[0] <= self.now]:
            self._sent.remove(one)
            if self.services[one[1]].closed is None and not self.finished:
                self.handle(StreamSent(one[1]))

    def send(self) -> None:
        """Send what was ordered."""
        self._sent = [(self.now, stream) for _, stream in self._sent]
        self._say_what_is_sent()

    def tick(self) -> None:
        """Run the timer of the call if it is due; it must not be due again at once."""
        due = self.call.next_timer()
        if due is not None and due <= self.now:
            self._run(self.call.handle_timer(self.now))
            again = self.call.next_timer()
            assert again is None or again > self.now, "a timer that does not move on"

    # The phone

    def flush(self) -> None:
        """Carry what VoiceAI Connect has said to the call."""
        for text in self.phone.texts_to_send():
            self.handle(FromCaller(text))

    def initiate(self, formats: Sequence[str] | None = None) -> None:
        """A call comes in."""
        self.phone.initiate(self.conversation_id, formats=formats or self.offered)
        self.flush()

    def start(self) -> None:
        """The call is through and the caller is listened to."""
        self.phone.start()
        self.phone.start_user_stream()
        self.flush()

    def answer(self) -> None:
        """A call that is accepted and started, with a live stream."""
        self.initiate()
        self.advance(0.1)
        assert self.accepted
        self.advance(0.06)
        self.start()

    def lose_socket(self) -> None:
        """The websocket breaks, and the bridge notices."""
        self.phone.texts_to_send()
        self.handle(CallerLost())

    def attach(
        self,
        formats: Sequence[str] | None = ("raw/lpcm16", "raw/lpcm16_24"),
        *,
        unsent: tuple[str, ...] = (),
    ) -> None:
        """VoiceAI Connect comes back on another websocket, to the process that has the call."""
        self.phone.resume(self.conversation_id, formats)
        (text,) = self.phone.texts_to_send()
        self.handle(CallerAttached(text, unsent))

    def come_back(self, formats: Sequence[str] | None = ("raw/lpcm16", "raw/lpcm16_24")) -> None:
        """VoiceAI Connect comes back to a process that has not heard of the call yet."""
        self.phone.resume(self.conversation_id, formats)
        self.flush()

    def elsewhere(self, state: SessionState | None = None, **changes: Any) -> CallDriver:
        """Another process, which the same phone comes back to; by default with what was saved last."""
        stored = SessionState.from_dict(json.loads(json.dumps((state or self.saves[-1]).to_dict())))
        stored.increment_resume_count()
        other = replace(
            self,
            **{"resume_from": stored, "now": self.now, **changes},
            services={},
            heard=[],
            saves=[],
            reports=[],
            ran=[],
            tools=[],
            socket_closed=None,
            outcome=None,
            finished=0,
        )
        other.phone, other._played_until = self.phone, self._played_until
        other._next_frame = self._next_frame
        return other

    def frame(self, *, loud: bool) -> int:
        """The caller says 20 ms of something; returns the number of the frame."""
        number = self._next_frame
        self._next_frame += 1
        self.phone.chunk(caller_frame(number, loud=loud))
        self.flush()
        return number

    def talk(self, seconds: float, *, loud: bool = True) -> list[int]:
        """The caller speaks in real time, in frames of 20 ms; returns their numbers."""
        numbers = []
        for _ in range(round(seconds / FRAME_S)):
            self.advance(FRAME_S)
            numbers.append(self.frame(loud=loud))
        return numbers

    def quiet(self, seconds: float) -> list[int]:
        """The caller is silent, which is audio, too."""
        return self.talk(seconds, loud=False)

    # The service

    @property
    def live(self) -> Service:
        """The stream that hears the caller, or else the newest one."""
        hears = [one for one in self.services.values() if one.closed is None and one.audio]
        return hears[-1] if hears else self.newest

    @property
    def newest(self) -> Service:
        """The stream that was opened last; it may be a standby."""
        return self.services[max(self.services)]

    def deliver(self, service: Service | None = None) -> None:
        """Carry what the service has written to the call."""
        service = service or self.live
        for payload in service.writer.drain():
            self.handle(FromSonic(service.id, payload))

    def hears(self, text: str) -> None:
        """The model has understood the caller."""
        self.live.writer.text(Role.USER, Stage.FINAL, [text], StopReason.PARTIAL_TURN)
        self.deliver()

    def plans(self, text: str) -> None:
        """The model announces a sentence."""
        self.live.writer.text(Role.ASSISTANT, Stage.SPECULATIVE, [text], StopReason.PARTIAL_TURN)
        self.deliver()

    def speaks(self, value: int, seconds: float, *, end: StopReason | None) -> None:
        """The model sends a block of audio, faster than real time: at once. `end`: None leaves it open."""
        writer = self.live.writer
        if not writer.audio_open:
            writer.start_audio()
        if seconds:
            writer.audio(bot_pcm(value, seconds))
        if end is not None:
            writer.end_audio(end)
        self.deliver()

    def says(
        self, text: str, value: int, seconds: float, end: StopReason | None = StopReason.END_TURN
    ) -> None:
        """The model announces a sentence and speaks it."""
        self.plans(text)
        self.speaks(value, seconds, end=end)

    def confirms(self, text: str, service: Service | None = None) -> None:
        """The model says what was really spoken."""
        service = service or self.live
        service.writer.text(Role.ASSISTANT, Stage.FINAL, [text], StopReason.PARTIAL_TURN)
        self.deliver(service)

    def interrupts(self) -> None:
        """The model says that it was interrupted, in the order of the reference."""
        writer = self.live.writer
        writer.end_audio(StopReason.END_TURN)
        writer.text(Role.ASSISTANT, Stage.FINAL, [INTERRUPTED], StopReason.INTERRUPTED)
        self.deliver()

    def breaks(self, code: str = "ConnectionLost", message: str = "") -> None:
        """The live stream is lost."""
        self.breaks_stream(self.live, code, message)

    def breaks_standby(self, code: str = "ConnectionLost", message: str = "") -> None:
        """The stream that was opened last is lost."""
        self.breaks_stream(self.newest, code, message)

    def breaks_stream(self, service: Service, code: str, message: str = "") -> None:
        """A stream is lost."""
        self.handle(StreamLost(service.id, classify(code, message)))

    def tool_done(self, call: ToolCall, result: dict[str, JsonValue]) -> None:
        """A tool has given its result."""
        self.handle(ToolFinished(call, result))

    # What came of it

    @property
    def accepted(self) -> bool:
        """Whether VoiceAI Connect was told that the call is taken."""
        return any(isinstance(event, Accepted) for _, event in self.heard)

    @property
    def refused(self) -> str | None:
        """The reason of `session.error`."""
        return next((e.reason for _, e in self.heard if isinstance(e, Refused)), None)

    @property
    def hung_up(self) -> str | None:
        """The reason of our hang-up."""
        return next((e.reason for _, e in self.heard if isinstance(e, HangupRequested)), None)

    def since(self, at: float) -> list[PeerEvent]:
        """What VoiceAI Connect was told from a point in time on."""
        return [event for when, event in self.heard if when >= at]

    @property
    def speech(self) -> list[SpeechKind]:
        """What VoiceAI Connect was told of the caller's speech."""
        return [event.kind for _, event in self.heard if isinstance(event, Speech)]

    def plays(self) -> list[dict[int, float]]:
        """For each play stream, what was played: seconds by the value of the samples."""
        played: list[dict[int, float]] = []
        for _, event in self.heard:
            match event:
                case PlayStarted():
                    played.append({})
                case PlayChunk(data=data):
                    for value, n in Counter(memoryview(data).cast("h")).items():
                        played[-1][value] = played[-1].get(value, 0.0) + n / PLAY_RATE_HZ
        return [{v: round(s, 3) for v, s in one.items()} for one in played]

    @property
    def play_is_open(self) -> bool:
        """Whether a play stream is open."""
        return self.phone.play is not None

    @property
    def said(self) -> list[tuple[str, str]]:
        """The transcript as last saved."""
        return [(item.type, item.text) for item in self.saves[-1].conversation_history]

    def report(self, event: str) -> list[dict[str, JsonValue]]:
        """The fields of every report of one kind."""
        return [dict(report.fields) for _, report in self.reports if report.event == event]

    def times(self, kind: type[PeerEvent]) -> Iterator[float]:
        """When VoiceAI Connect was told this."""
        return (at for at, event in self.heard if isinstance(event, kind))

    def assert_lawful_end(self) -> None:
        """Fail unless the call is over and has left nothing open."""
        assert self.finished == 1
        assert self.call.next_timer() is None
        assert all(service.closed is not None for service in self.services.values())
        self.assert_lawful()

    def assert_lawful(self) -> None:
        """Fail if VoiceAI Connect was told of speech in a disorderly way."""
        turns = [k for k in self.speech if k in (SpeechKind.STARTED, SpeechKind.STOPPED)]
        alternating = [SpeechKind.STARTED, SpeechKind.STOPPED] * len(turns)
        assert turns == alternating[: len(turns)]


def with_agent(**changes: object) -> CallPlan:
    """The plan with some fields of its agent changed."""
    return replace(PLAN, agent=SILENT_AGENT.model_copy(update=changes))


def stops(driver: CallDriver) -> int:
    """How many play streams were closed."""
    return sum(1 for _ in driver.times(PlayStopped))
