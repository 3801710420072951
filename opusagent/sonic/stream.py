"""Our end of one Nova Sonic stream, from `sessionStart` to `sessionEnd`, without I/O."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue
from pydantic_core import to_json

from opusagent.errors import LocalProtocolError
from opusagent.models.agent import Inference
from opusagent.models.session_state import Role, ToolSpec, Turn
from opusagent.sonic import events as wire
from opusagent.sonic.history import split_utf8
from opusagent.sonic.reader import SonicEvent, StreamReader, ToolRequested
from opusagent.sonic.wire import AudioWriter, EventWriter, WireEvent, dump

__all__ = ["SonicConfig", "SonicStream"]

SILENT_FRAME_S: Final = 0.02
V1_MODEL: Final = "nova-sonic-v1"
_NAME: Final = "the name of a block"
_TEXT: Final = "the text of a block"
_JSON: Final = wire.MediaConfiguration(media_type="application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class SonicConfig:
    """What a stream is opened with; none of it can change while it lives.

    Attributes:
        model_id: Decides what the model understands; matched by substring, because inference
            profiles put a region in front.
        input_rate_hz: Rate of the caller's audio: 8000, 16000 or 24000.
        output_rate_hz: Rate of the bot's audio; independent of the other.
        endpointing: HIGH, MEDIUM or LOW, or `None` for the model's own choice. Nova Sonic v1 has
            no such field and is never sent it.
        max_part_bytes: Texts longer than this travel as several `textInput` events of one block.
    """

    system_prompt: str
    model_id: str = "amazon.nova-2-sonic-v1:0"
    voice: str = "tiffany"
    tools: tuple[ToolSpec, ...] = ()
    input_rate_hz: int = 16_000
    output_rate_hz: int = 24_000
    inference: Inference = field(default_factory=Inference)
    endpointing: str | None = None
    max_part_bytes: int = 1_000


class _Phase(enum.Enum):
    NEW = "new"
    PROMPTED = "prompted"  # the system prompt is out, perhaps some history; no audio
    TALKING = "talking"  # audio is open
    CLOSED = "closed"


class SonicStream:
    """One bidirectional stream, driven by the call (methods) and by the service (`receive`).

    Everything that is to be sent, but for audio, waits in `payloads_to_send`, in order. Each call
    of a method queues whole content blocks, so as long as a shell keeps the order, no audio comes
    between the events of a text block, which the service would refuse. Audio is encoded by
    `encode_audio` just before it is sent.
    """

    def __init__(self, config: SonicConfig, *, new_id: Callable[[], str]) -> None:
        """Prepare a stream. `new_id` names the prompt and every block; each value must be new."""
        self._config = config
        self._new_id = new_id
        self._prompt = new_id()
        self._audio_name = new_id()
        self._audio = AudioWriter(
            wire.AudioInput(prompt_name=self._prompt, content_name=self._audio_name, content="")
        )
        self._text_starts: dict[tuple[str, bool], EventWriter] = {}
        self._text_input = EventWriter(
            wire.TextInput(prompt_name=self._prompt, content_name=_NAME, content=_TEXT),
            _NAME,
            _TEXT,
        )
        self._content_end = EventWriter(
            wire.ClientContentEnd(prompt_name=self._prompt, content_name=_NAME), _NAME
        )
        self._phase = _Phase.NEW
        self._audio_sent = False
        self._told = 0  # turns of history
        self._payloads: list[bytes] = []
        self._reader = StreamReader()

    def open(self) -> None:
        """Queue `sessionStart`, `promptStart` and the system prompt.

        Raises:
            LocalProtocolError: If the stream has been opened before.
        """
        self._require(_Phase.NEW, "open")
        self._phase = _Phase.PROMPTED
        self._queue(_session_start(self._config))
        self._queue(_prompt_start(self._config, self._prompt))
        if self._config.system_prompt.strip():
            self._text_block("SYSTEM", self._config.system_prompt, interactive=False)

    def tell(self, history: Sequence[Turn]) -> None:
        """Queue history, one block a turn; more of it may follow until audio is open.

        Args:
            history: Turns as `history.build` gives them.

        Raises:
            LocalProtocolError: If audio is open already, or the service would refuse this history:
                all of it together must begin with a USER turn, alternate, and hold no blank text.
        """
        self._require(_Phase.PROMPTED, "tell")
        for position, turn in enumerate(history, self._told):
            expected = Role.ASSISTANT if position % 2 else Role.USER
            if turn.role is not expected or not turn.text.strip():
                raise LocalProtocolError(f"history turn {position} is {turn.role} or blank")
        self._told += len(history)
        for turn in history:
            self._text_block(turn.role, turn.text, interactive=False)

    def start_audio(self, history: Sequence[Turn] = ()) -> None:
        """Queue the history, or the rest of it, and open audio, which stays open to the end.

        Raises:
            LocalProtocolError: As `tell` does.
        """
        self.tell(history)
        self._open_audio()

    @property
    def audio_open(self) -> bool:
        """Whether audio and typed text may be sent."""
        return self._phase is _Phase.TALKING

    def encode_audio(self, pcm: bytes) -> bytes:
        """The payload that carries caller audio: whole samples at the input rate.

        Allowed after `close` as well, for what waited in a queue in front of the closing events.

        Raises:
            LocalProtocolError: If audio was never opened, or half a sample is left over.
        """
        if self._phase in (_Phase.NEW, _Phase.PROMPTED):
            raise LocalProtocolError("audio before start_audio")
        if len(pcm) % 2:
            raise LocalProtocolError("caller audio with half a sample")
        self._audio_sent = True
        return self._audio(pcm)

    def note_audio_sent(self) -> None:
        """Say that audio went out without `encode_audio`, so that `close` adds none."""
        self._audio_sent = True

    def type_text(self, text: str) -> None:
        """Queue a typed turn of the user, which the model answers (Nova 2 and later).

        The model ignores it until the block has had about 70 ms of audio (measured on a live
        service).

        Raises:
            LocalProtocolError: If audio is not open or the text is blank.
        """
        self._require(_Phase.TALKING, "type_text")
        if not text.strip():
            raise LocalProtocolError("a typed text is blank")
        self._text_block("USER", text, interactive=True)

    def tool_result(self, tool_use_id: str, result: Mapping[str, JsonValue]) -> None:
        """Queue the one answer to a tool use. NaN and infinity are written as null.

        Raises:
            LocalProtocolError: If this stream did not ask, was answered before, or is closed.
        """
        self._require(_Phase.TALKING, "tool_result")
        if not self._reader.answer(tool_use_id):
            raise LocalProtocolError("a result for a tool use that is not pending")
        name = self._new_id()
        self._queue(
            wire.ClientContentStart(
                prompt_name=self._prompt,
                content_name=name,
                type="TOOL",
                role="TOOL",
                tool_result_input_configuration=wire.ToolResultInputConfiguration(
                    tool_use_id=tool_use_id, text_input_configuration=wire.MediaConfiguration()
                ),
            )
        )
        content = to_json(dict(result), inf_nan_mode="null").decode()
        self._queue(wire.ToolResult(prompt_name=self._prompt, content_name=name, content=content))
        self._queue(wire.ClientContentEnd(prompt_name=self._prompt, content_name=name))

    @property
    def pending_tools(self) -> tuple[str, ...]:
        """Tool uses without a result, oldest first; those only announced are among them."""
        return self._reader.pending_tools

    def close(self) -> None:
        """Queue the events that end the session in order.

        Closing twice, or before `open`, does nothing.
        The service refuses to end a prompt that never had audio, and a block that never had data,
        so one silent frame is sent where there was none.
        """
        phase, self._phase = self._phase, _Phase.CLOSED
        if phase in (_Phase.NEW, _Phase.CLOSED):
            return
        if phase is _Phase.PROMPTED:
            self._open_audio()
            self._phase = _Phase.CLOSED
        if not self._audio_sent:
            silence = bytes(2 * int(self._config.input_rate_hz * SILENT_FRAME_S))
            self._payloads.append(self._audio(silence))
        self._queue(wire.ClientContentEnd(prompt_name=self._prompt, content_name=self._audio_name))
        self._queue(wire.PromptEnd(prompt_name=self._prompt))
        self._queue(wire.SessionEnd())

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._phase is _Phase.CLOSED

    def payloads_to_send(self) -> list[bytes]:
        """What has been queued since the last call, in order."""
        payloads, self._payloads = self._payloads, []
        return payloads

    def receive(self, payload: bytes) -> list[SonicEvent]:
        """Take one event of the service and say what it means.

        Works on after `close`: late texts count.

        Raises:
            RemoteProtocolError: If the payload is broken; the stream goes on without it.
        """
        return self._reader.receive(payload)

    def release_tools(self) -> list[ToolRequested]:
        """The tool uses whose block was never ended, to be run all the same."""
        return self._reader.release_tools()

    def _require(self, phase: _Phase, what: str) -> None:
        if self._phase is not phase:
            raise LocalProtocolError(f"{what} on a stream that is {self._phase.value}")

    def _queue(self, event: WireEvent) -> None:
        self._payloads.append(dump(event))

    def _text_block(self, role: str, text: str, *, interactive: bool) -> None:
        name = self._new_id()
        if (start := self._text_starts.get((role, interactive))) is None:
            start = self._text_starts[role, interactive] = EventWriter(
                wire.ClientContentStart(
                    prompt_name=self._prompt,
                    content_name=_NAME,
                    type="TEXT",
                    interactive=interactive,
                    role=role,
                    text_input_configuration=wire.MediaConfiguration(),
                ),
                _NAME,
            )
        self._payloads.append(start(name))
        for part in split_utf8(text, self._config.max_part_bytes):
            self._payloads.append(self._text_input(name, part))
        self._payloads.append(self._content_end(name))

    def _open_audio(self) -> None:
        self._phase = _Phase.TALKING
        self._queue(
            wire.ClientContentStart(
                prompt_name=self._prompt,
                content_name=self._audio_name,
                type="AUDIO",
                interactive=True,
                role="USER",
                audio_input_configuration=wire.AudioConfiguration.model_validate(
                    {"sample_rate_hertz": self._config.input_rate_hz}
                ),
            )
        )


def _session_start(config: SonicConfig) -> wire.SessionStart:
    return wire.SessionStart(
        inference_configuration=wire.InferenceConfiguration(
            max_tokens=config.inference.max_tokens,
            top_p=config.inference.top_p,
            temperature=config.inference.temperature,
        ),
        turn_detection_configuration=_turn_detection(config),
    )


def _turn_detection(config: SonicConfig) -> wire.TurnDetectionConfiguration | None:
    if config.endpointing is None or V1_MODEL in config.model_id:
        return None
    return wire.TurnDetectionConfiguration.model_validate(
        {"endpointing_sensitivity": str(config.endpointing)}
    )


def _prompt_start(config: SonicConfig, prompt_name: str) -> wire.PromptStart:
    tools = wire.ToolConfiguration(tools=tuple(_tool(spec) for spec in config.tools))
    return wire.PromptStart(
        prompt_name=prompt_name,
        audio_output_configuration=wire.AudioOutputConfiguration.model_validate(
            {"sample_rate_hertz": config.output_rate_hz, "voice_id": config.voice}
        ),
        # Left out when there are no tools, as every known client does.
        tool_use_output_configuration=_JSON if config.tools else None,
        tool_configuration=tools if config.tools else None,
    )


def _tool(spec: ToolSpec) -> wire.Tool:
    schema = wire.InputSchema(text=json.dumps(spec.input_schema, ensure_ascii=False))
    return wire.Tool(
        tool_spec=wire.ToolSpecification(
            name=spec.name, description=spec.description, input_schema=schema
        )
    )
