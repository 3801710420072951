"""The service's end of one Nova Sonic stream, strict and without I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

from pydantic_core import from_json

from opusagent.errors import RemoteProtocolError
from opusagent.models.session_state import Role, Turn
from opusagent.sonic import events as wire
from opusagent.sonic.peer_brain import Brain, Ears
from opusagent.sonic.peer_faults import STREAM_FAULTS, Fault, StreamFault
from opusagent.sonic.peer_mind import Mind
from opusagent.sonic.peer_record import At, Received, StreamRecord
from opusagent.sonic.peer_refusals import IDLE, NO_EVENTS, UNPARSABLE, Refused
from opusagent.sonic.peer_rules import ClientBlock, Kind, Rules
from opusagent.sonic.peer_writer import PeerWriter
from opusagent.sonic.profiles import PROFILES, Profile, Timing
from opusagent.sonic.wire import UnknownEvent

__all__ = ["SonicPeer"]

PRIMING_S: Final = 0.068
"""A typed text is ignored before this much audio (measured on a live service: 66 ms fails)."""
DIES_AFTER_S: Final = 5.0
PAUSES_S: Final = {"HIGH": 1.5, "MEDIUM": 1.75, "LOW": 2.0}
"""How long a caller must be quiet to be done (Nova 2 user guide). What counts where the client does
not choose is not documented; here it is MEDIUM."""
UNREADABLE: Final = "?"


class SonicPeer:
    """Answers one client as the real service would, and records what it got.

    Driven by the client (`receive`, `end_input`) and by a timer (`handle_timer` at `next_timer`).
    What is to be sent is taken from `events_to_send` after each of them. Once `failure` is set the
    stream is over with that exception; once `ended` is true it is over without one.

    Time is whatever the driver says: a clock that runs faster makes every limit shorter. The
    caller's speech is measured in samples, so that bursts and stalls of the network change nothing
    about what is heard.

    Args:
        brain: Answers, and speaks.
        ears: Recognise speech; without them every utterance is a noise.
        now: When the stream was opened; its age counts from here.
        new_id: Names sessions, blocks and tool uses; each value must be new.
        profile: Which generation of the model this is.
        timing: How long things take.
        faults: Names of `Fault`.
        stream_faults: Exceptions to come.
        strict_samples: Refuse audio events with half a sample.

    Raises:
        ValueError: If a fault is not known.

    Source: Nova 2 user guide for the order of events; field measurements for the times.
    """

    def __init__(
        self,
        brain: Brain,
        ears: Ears | None = None,
        *,
        now: float,
        new_id: Callable[[], str],
        profile: Profile = PROFILES["nova-2"],
        timing: Timing | None = None,
        faults: Collection[str] = (),
        stream_faults: Sequence[StreamFault] = (),
        strict_samples: bool = False,
    ) -> None:
        self._new_id = new_id
        self._profile = profile
        self._timing = timing or Timing()
        self._faults = frozenset(Fault(name) for name in faults)
        self._stream_faults = tuple(stream_faults)
        self._rules = Rules(profile, strict_samples=strict_samples)
        self._writer = PeerWriter(new_id=new_id, faults=self._faults)
        self.record = StreamRecord(opened_at=now)
        self._mind = Mind(
            brain,
            ears,
            self._writer,
            self.record,
            new_id=new_id,
            profile=profile,
            timing=self._timing,
            faults=self._faults,
        )
        self._counts: dict[str, int] = {}
        self._early_texts: list[str] = []
        self._active_at = now
        self._end_at = math.inf
        self._deaths = self._planned_deaths(now)
        self.failure: tuple[str, str] | None = None
        self.ended = False

    @property
    def over(self) -> bool:
        """Whether the stream has ended, with an exception or without."""
        return self.ended or self.failure is not None

    def events_to_send(self) -> list[bytes]:
        """Payloads since the last call, in order."""
        payloads = self._writer.drain()
        # Audio that was closed and opened again stalls the conversation for good, without an error.
        mute = Fault.ZOMBIE in self._faults or self._rules.audio_blocks > 1
        return [] if mute else payloads

    def fail(self, code: str, message: str, now: float) -> None:
        """End the stream with an exception, unless it is over.

        Args:
            code: The exception's name on the wire, e.g. `modelTimeoutException`.
            message: Its words; those of a `validationException` get a request id in front.
            now: The present.
        """
        if self.over:
            return
        self.record.failure = (code, message)
        self.record.ended_at = now
        prefix = f"RequestId={self._new_id()} : " if code == "validationException" else ""
        self.failure = (code, prefix + message)

    # The client

    def receive(self, payload: bytes, now: float) -> None:
        """Take one event of the client. What it breaks shows in `failure`."""
        self.handle_timer(now)
        event, name = _read(payload)
        self._strike(name, now)
        if event is None or self.over:
            self.record.events.append(Received(now, name, len(payload)))
            self.fail("validationException", UNPARSABLE, now)
            return
        try:
            block = self._rules.check(event)
        except Refused as refused:
            self.record.events.append(Received(now, name, len(payload)))
            self.fail(refused.code, refused.message, now)
            return
        pcm = block.pcm if block is not None and isinstance(event, wire.AudioInput) else b""
        offset = len(self.record.audio)
        self.record.events.append(Received(now, name, len(payload), offset, len(pcm)))
        self.record.open_blocks = tuple(self._rules.open)
        self._act(event, block, now)
        self.handle_timer(now)

    def end_input(self, now: float) -> None:
        """The client has ended its input; the output ends too."""
        self.handle_timer(now)
        if self.record.input_ended_at is None:
            self.record.input_ended_at = now
        if not self.record.events:
            self.fail("validationException", NO_EVENTS, now)
        self._end(now)

    # The timer

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        if self.over:
            return None
        times = [self._end_at, self._idle_at(), *(at for at, _, _ in self._deaths)]
        mind_at = self._mind.next_timer()
        if mind_at is not None:
            times.append(mind_at)
        return min(times)

    def handle_timer(self, now: float) -> None:
        """Do all that is due, in the order in which it was due, however late the call is."""
        while (due := self.next_timer()) is not None and due <= now:
            self._step(due)

    def _step(self, now: float) -> None:
        if self._end_at <= now:
            self._end(now)
        if self._idle_at() <= now:
            self.fail("validationException", IDLE.format(self._profile.idle_limit_s), now)
        for at, code, message in self._deaths:
            if at <= now:
                self.fail(code, message, now)
        if not self.over:
            self._mind.step(now)
            for tool_use_id in self._mind.tool_uses():
                self._rules.expect_result(tool_use_id)
            if self._mind.gave_up:
                self._end(now)

    def _idle_at(self) -> float:
        if self.record.prompt_ended_at is not None:
            return math.inf
        return self._active_at + self._profile.idle_limit_s

    def _planned_deaths(self, now: float) -> list[tuple[float, str, str]]:
        wall = (now + self._timing.limit_s, *STREAM_FAULTS["model-timeout"])
        planned = [
            (now + fault.after_s, fault.code, fault.message)
            for fault in self._stream_faults
            if fault.after_s is not None
        ]
        return [*planned, wall]

    def _end(self, now: float) -> None:
        if not self.over:
            self.ended = True
            self.record.ended_at = now

    # What events do

    def _strike(self, name: str, now: float) -> None:
        for counted in (name, ""):
            self._counts[counted] = self._counts.get(counted, 0) + 1
        for fault in self._stream_faults:
            if fault.on_event in (name, "") and self._counts[fault.on_event] == fault.nth:
                self.fail(fault.code, fault.message, now)

    def _act(self, event: wire.ClientEvent, block: ClientBlock | None, now: float) -> None:
        match event:
            case wire.AudioInput() if block is not None:
                self._hear(block, now)
            case wire.SessionStart():
                self.record.session = event
            case wire.PromptStart():
                self._set_up(event)
            case wire.ClientContentStart(type="AUDIO") if block is not None:
                self._open_audio(block, now)
            case wire.ClientContentEnd() if block is not None:
                self._close_block(block, now)
            case wire.PromptEnd():
                self.record.prompt_ended_at = now
                self._mind.close(now)
            case wire.SessionEnd():
                self.record.session_ended_at = now
                self._end_at = now + self._timing.linger_s
            case _:
                pass  # a start or a part of a block, which counts when the block ends

    def _set_up(self, event: wire.PromptStart) -> None:
        self.record.prompt = event
        self._writer.prompt_name = event.prompt_name
        self._writer.rate_hz = event.audio_output_configuration.sample_rate_hertz
        tools = event.tool_configuration.tools if event.tool_configuration else ()
        self._mind.set_up(tool_names=tuple(tool.tool_spec.name for tool in tools))

    def _open_audio(self, block: ClientBlock, now: float) -> None:
        self.record.audio_opened_at = now
        self.record.audio_ended_at = None
        self.record.audio_rate_hz = block.rate_hz
        self._mind.open_ears(block.rate_hz, self._pause_s())
        if Fault.DIES_AFTER_REPLAY in self._faults and self.record.history:
            self._deaths.append((now + DIES_AFTER_S, *STREAM_FAULTS["model-stream"]))

    def _pause_s(self) -> float:
        chosen = self.record.session.turn_detection_configuration if self.record.session else None
        if self._timing.pause_s is not None:
            return self._timing.pause_s
        if chosen is None or not self._profile.takes_turn_detection:
            return PAUSES_S["MEDIUM"]
        return PAUSES_S[chosen.endpointing_sensitivity]

    def _hear(self, block: ClientBlock, now: float) -> None:
        self.record.audio += block.pcm
        speech = self._mind.hear(block.pcm, now)
        if block.pcm and (speech or self._profile.silence_is_activity):
            self._active_at = now
        if self._early_texts and self._primed(block):
            texts, self._early_texts = self._early_texts, []
            for text in texts:
                self._mind.read(text, now)

    def _close_block(self, block: ClientBlock, now: float) -> None:
        match block.kind:
            case Kind.SYSTEM:
                self.record.system_prompt = block.text
                self._mind.set_up(system_prompt=block.text)
            case Kind.HISTORY:
                turn = Turn(role=Role(block.role), text=block.text)
                self.record.history.append(turn)
                self._mind.remember(turn)
            case Kind.TYPED:
                self._active_at = now
                self.record.typed.append(At(now, block.text))
                self._typed(block.text, now)
            case Kind.TOOL:
                self._active_at = now
                answer = self._mind.take_result(block.tool_use_id, from_json(block.text), now)
                self.record.tool_results.append(At(now, answer))
            case Kind.AUDIO:
                self.record.audio_ended_at = now
            case Kind.STYLE | Kind.DROPPED:
                pass

    def _typed(self, text: str, now: float) -> None:
        open_audio = [block for block in self._rules.open.values() if block.kind is Kind.AUDIO]
        if not self._rules.audio_blocks:
            self._early_texts.append(text)  # accepted before audio is open; answered once it flows
        elif any(self._primed(block) for block in open_audio):
            self._mind.read(text, now)

    def _primed(self, block: ClientBlock) -> bool:
        return block.audio_bytes >= PRIMING_S * 2 * block.rate_hz


def _read(payload: bytes) -> tuple[wire.ClientEvent | None, str]:
    try:
        event = wire.parse_client(payload)
    except RemoteProtocolError:
        return None, UNREADABLE
    if isinstance(event, UnknownEvent):
        return None, event.name
    return event, event.wire_name
