"""What a Nova Sonic stream says, event by event: content blocks by id, stages, tools."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, assert_never

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from opusagent.models.session_state import Role
from opusagent.sonic import events as wire
from opusagent.sonic.wire import UnknownEvent

__all__ = [
    "BotAudio",
    "BotSpeechEnded",
    "BotSpeechStarted",
    "Interrupted",
    "ResponseCompleted",
    "ResponseStarted",
    "SonicEvent",
    "Stage",
    "StopReason",
    "StreamReader",
    "TextEnded",
    "TextHeard",
    "ToolAnnounced",
    "ToolRequested",
    "UnknownEventReceived",
    "UsageReported",
]


class Stage(enum.StrEnum):
    """How sure a text is: `FINAL` was said, `SPECULATIVE` is what the bot plans to say."""

    FINAL = "FINAL"
    SPECULATIVE = "SPECULATIVE"


class StopReason(enum.StrEnum):
    """Why a content block ended."""

    PARTIAL_TURN = "PARTIAL_TURN"
    END_TURN = "END_TURN"
    INTERRUPTED = "INTERRUPTED"
    TOOL_USE = "TOOL_USE"


@dataclass(frozen=True, slots=True)
class BotSpeechStarted:
    """A block of bot audio begins: one sentence or so, not a whole turn."""

    content_id: str


@dataclass(frozen=True, slots=True)
class BotAudio:
    """Bot audio: whole samples at the stream's output rate."""

    content_id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class BotSpeechEnded:
    """A block of bot audio is complete; with `END_TURN` the turn is. `None`: not known."""

    content_id: str
    stop_reason: StopReason | None


@dataclass(frozen=True, slots=True)
class TextHeard:
    """A text of a block: what the caller said (USER) or the bot says (ASSISTANT)."""

    role: Role
    text: str
    stage: Stage
    content_id: str


@dataclass(frozen=True, slots=True)
class TextEnded:
    """A text block is complete."""

    role: Role
    stage: Stage
    content_id: str
    stop_reason: StopReason | None


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The caller spoke over the bot: drop what is not yet played. May come twice or more."""


@dataclass(frozen=True, slots=True)
class ToolAnnounced:
    """The model will want a tool; it is not to be run yet."""

    content_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolRequested:
    """The model waits for a tool. `arguments` is a JSON object, or what came instead of one."""

    tool_use_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class UsageReported:
    """Tokens since the stream began."""

    input_tokens: int
    output_tokens: int
    speech_in: int
    text_in: int
    speech_out: int
    text_out: int


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """The stream's first sign of life (`completionStart`)."""


@dataclass(frozen=True, slots=True)
class ResponseCompleted:
    """The stream has nothing more to say (`completionEnd`); nothing may wait for it."""


@dataclass(frozen=True, slots=True)
class UnknownEventReceived:
    """An event that means nothing here: a new name, or a known one for a block that is not open."""

    name: str


type SonicEvent = (
    BotSpeechStarted
    | BotAudio
    | BotSpeechEnded
    | TextHeard
    | TextEnded
    | Interrupted
    | ToolAnnounced
    | ToolRequested
    | UsageReported
    | ResponseStarted
    | ResponseCompleted
    | UnknownEventReceived
)


@dataclass(slots=True)
class _TextBlock:
    role: Role
    stage: Stage
    seen: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _AudioBlock:
    carry: bytes = b""


@dataclass(slots=True)
class _ToolBlock:
    requests: list[ToolRequested] = field(default_factory=list)


class StreamReader:
    """Turns the service's events into `SonicEvent`s. Blocks are told apart by their ids only."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self._blocks: dict[str, _TextBlock | _AudioBlock | _ToolBlock] = {}
        self._known_tools: set[str] = set()
        self._announced: dict[str, ToolRequested] = {}
        self._pending: dict[str, None] = {}

    def receive(self, payload: bytes) -> list[SonicEvent]:
        """What one event means, in order. Raises `RemoteProtocolError` if it is broken."""
        event = wire.parse_service(payload)
        match event:
            case wire.AudioOutput():
                return self._audio(event)
            case wire.ServiceContentStart():
                return self._start(event)
            case wire.TextOutput():
                return self._text(event)
            case wire.ServiceContentEnd():
                return self._end(event)
            case wire.ToolUse():
                return self._tool_use(event)
            case wire.UsageEvent():
                return [_usage(event)]
            case wire.CompletionStart():
                return [ResponseStarted()]
            case wire.CompletionEnd():
                return [ResponseCompleted()]
            case UnknownEvent(name=name):
                return [UnknownEventReceived(name)]
            case _:
                assert_never(event)

    @property
    def pending_tools(self) -> tuple[str, ...]:
        """Ids of the tool uses that have no result yet, oldest first."""
        return tuple(self._pending)

    def answer(self, tool_use_id: str) -> bool:
        """Whether this tool use awaited a result; it does no more."""
        if tool_use_id not in self._pending:
            return False
        del self._pending[tool_use_id]
        self._announced.pop(tool_use_id, None)
        return True

    def release_tools(self) -> list[ToolRequested]:
        """Request what was announced only; a late end of its block changes nothing then."""
        released = list(self._announced.values())
        self._announced.clear()
        return released

    def _start(self, event: wire.ServiceContentStart) -> list[SonicEvent]:
        match event.type:
            case "AUDIO":
                self._blocks[event.content_id] = _AudioBlock()
                return [BotSpeechStarted(event.content_id)]
            case "TEXT" if event.role in _ROLES:
                role = Role(event.role)
                stage = _stage(event.additional_model_fields, role)
                self._blocks[event.content_id] = _TextBlock(role, stage)
                return []
            case "TOOL":
                self._blocks[event.content_id] = _ToolBlock()
                return []
            case _:
                return [UnknownEventReceived(event.wire_name)]

    def _text(self, event: wire.TextOutput) -> list[SonicEvent]:
        block = self._blocks.get(event.content_id)
        if not isinstance(block, _TextBlock):
            return [UnknownEventReceived(event.wire_name)]
        if _is_interruption(event.content):
            return [Interrupted()]
        if not event.content.strip() or event.content in block.seen:
            return []
        block.seen.add(event.content)
        return [TextHeard(block.role, event.content, block.stage, event.content_id)]

    def _audio(self, event: wire.AudioOutput) -> list[SonicEvent]:
        block = self._blocks.get(event.content_id)
        if not isinstance(block, _AudioBlock):
            return [UnknownEventReceived(event.wire_name)]
        pcm = event.pcm()
        if block.carry:
            pcm = block.carry + pcm
            block.carry = b""
        if len(pcm) % 2:
            block.carry = pcm[-1:]
            pcm = pcm[:-1]
        return [BotAudio(event.content_id, pcm)] if pcm else []

    def _tool_use(self, event: wire.ToolUse) -> list[SonicEvent]:
        if event.tool_use_id in self._known_tools:
            return []
        self._known_tools.add(event.tool_use_id)
        request = ToolRequested(event.tool_use_id, event.tool_name, _arguments(event.content))
        self._pending[event.tool_use_id] = None
        self._announced[event.tool_use_id] = request
        block = self._blocks.get(event.content_id)
        if isinstance(block, _ToolBlock):
            block.requests.append(request)
        return [ToolAnnounced(event.content_id, event.tool_name)]

    def _end(self, event: wire.ServiceContentEnd) -> list[SonicEvent]:
        reason = _STOP_REASONS.get(event.stop_reason or "")
        interrupted = [Interrupted()] if reason is StopReason.INTERRUPTED else []
        block = self._blocks.pop(event.content_id, None)
        match block:
            case _TextBlock(role=role, stage=stage):
                return [*interrupted, TextEnded(role, stage, event.content_id, reason)]
            case _AudioBlock():
                return [*interrupted, BotSpeechEnded(event.content_id, reason)]
            case _ToolBlock(requests=requests):
                return list(self._requested(requests))
            case None:
                return [UnknownEventReceived(event.wire_name)]
            case _:
                assert_never(block)

    def _requested(self, requests: list[ToolRequested]) -> Iterator[ToolRequested]:
        for request in requests:
            # A released tool runs already.
            if self._announced.pop(request.tool_use_id, None) is not None:
                yield request


_ROLES: Final = frozenset(role.value for role in Role)
_STOP_REASONS: Final = {reason.value: reason for reason in StopReason}
_MAX_ENCODINGS: Final = 4


def _stage(additional_model_fields: str | None, role: Role) -> Stage:
    match _json(additional_model_fields or ""):
        case {"generationStage": "FINAL"}:
            return Stage.FINAL
        case {"generationStage": "SPECULATIVE"}:
            return Stage.SPECULATIVE
        case _:
            # Without a stage, the caller's words are what was heard, the bot's may never be spoken.
            return Stage.FINAL if role is Role.USER else Stage.SPECULATIVE


def _is_interruption(text: str) -> bool:
    # Matched by parsing: the spaces in the literal differ between reports.
    match _json(text) if text.lstrip().startswith("{") else None:
        case {"interrupted": True}:
            return True
        case _:
            return False


def _arguments(content: JsonValue) -> str:
    # The object comes as a string of JSON, and has been seen encoded twice.
    value = content
    for _ in range(_MAX_ENCODINGS):
        if not isinstance(value, str):
            break
        decoded = _json(value)
        if decoded is None:
            return value
        value = decoded
    return value if isinstance(value, str) else to_json(value).decode()


def _json(text: str) -> JsonValue:
    try:
        value: JsonValue = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return value


def _usage(event: wire.UsageEvent) -> UsageReported:
    total = event.details.total
    return UsageReported(
        input_tokens=event.total_input_tokens,
        output_tokens=event.total_output_tokens,
        speech_in=total.input.speech_tokens,
        text_in=total.input.text_tokens,
        speech_out=total.output.speech_tokens,
        text_out=total.output.text_tokens,
    )
