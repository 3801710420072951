"""What the service accepts: the order of a client's events, and what each must hold.

Sources: Nova and Nova 2 user guides for the order, reports of clients for what is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Never, assert_never

from pydantic import JsonValue
from pydantic_core import from_json

from opusagent.errors import RemoteProtocolError
from opusagent.models.session_state import Role
from opusagent.sonic import events as wire
from opusagent.sonic.peer_refusals import (
    CONTENTS_OPEN,
    EMPTY_VOICE,
    HISTORY_FIRST,
    HISTORY_LIMIT,
    INVALID,
    NO_AUDIO,
    NO_DATA,
    SECOND_SYSTEM,
    TOOL_MEDIA,
    TOOL_PARSING,
    UNEXPECTED,
    UNPARSABLE,
    VOICE,
    Refused,
)
from opusagent.sonic.profiles import Profile
from opusagent.sonic.wire import decode_audio

__all__ = ["ClientBlock", "Kind", "Phase", "Rules"]


class Kind(enum.Enum):
    """What a content block of the client is for."""

    SYSTEM = "system"
    STYLE = "style"  # role SYSTEM_SPEECH: how to speak, Nova 2
    HISTORY = "history"
    TYPED = "typed"
    DROPPED = "dropped"  # text of the assistant in the middle of a session
    AUDIO = "audio"
    TOOL = "tool"


TEXTS: Final = frozenset({Kind.SYSTEM, Kind.STYLE, Kind.HISTORY, Kind.TYPED, Kind.DROPPED})


@dataclass(slots=True)
class ClientBlock:
    """One content block of the client, open or closed.

    Attributes:
        parts: The texts of a text block, or the one result of a tool block.
        pcm: The newest piece of an audio block, as it came.
        audio_bytes: Size of all its pieces.
    """

    name: str
    kind: Kind
    role: str
    tool_use_id: str = ""
    rate_hz: int = 0
    parts: list[str] = field(default_factory=list)
    pcm: bytes = b""
    audio_bytes: int = 0

    @property
    def text(self) -> str:
        """All texts of the block."""
        return "".join(self.parts)


class Phase(enum.Enum):
    """How far a session has come."""

    NEW = "new"
    SESSION = "session"
    PROMPT = "prompt"
    PROMPT_ENDED = "prompt ended"
    SESSION_ENDED = "session ended"


type _ContentEvent = (
    wire.AudioInput
    | wire.ClientContentStart
    | wire.TextInput
    | wire.ToolResult
    | wire.ClientContentEnd
)

_NEXT: Final[Mapping[tuple[Phase, type[wire.ClientEvent]], Phase]] = {
    (Phase.NEW, wire.SessionStart): Phase.SESSION,
    (Phase.SESSION, wire.PromptStart): Phase.PROMPT,
    (Phase.PROMPT, wire.ClientContentStart): Phase.PROMPT,
    (Phase.PROMPT, wire.TextInput): Phase.PROMPT,
    (Phase.PROMPT, wire.AudioInput): Phase.PROMPT,
    (Phase.PROMPT, wire.ToolResult): Phase.PROMPT,
    (Phase.PROMPT, wire.ClientContentEnd): Phase.PROMPT,
    (Phase.PROMPT, wire.PromptEnd): Phase.PROMPT_ENDED,
    (Phase.PROMPT_ENDED, wire.SessionEnd): Phase.SESSION_ENDED,
}
"""Where an event leads. A pair that is not here is an invalid request."""


class Rules:
    """Checks each event of a client against everything that came before.

    Args:
        profile: Decides what differs between the generations of the model.
        strict_samples: Refuse audio events with half a sample. What the real service does with them
            is not known; by default they pass, and shift all later audio by a byte.
    """

    def __init__(self, profile: Profile, *, strict_samples: bool = False) -> None:
        self._profile = profile
        self._strict_samples = strict_samples
        self.phase = Phase.NEW
        self.open: dict[str, ClientBlock] = {}
        self.audio_blocks = 0
        self._prompt_name = ""
        self._names: set[str] = set()
        self._kinds: set[Kind] = set()
        self._history_role: Role | None = None
        self._history_bytes = 0
        self._history_turns = 0
        self._pending_tools: set[str] = set()

    def expect_result(self, tool_use_id: str) -> None:
        """Allow one result for this tool use from now on."""
        self._pending_tools.add(tool_use_id)

    def check(self, event: wire.ClientEvent) -> ClientBlock | None:
        """Take an event. Returns the content block that it is about, if it is about one.

        Raises:
            Refused: If the service would end the stream because of it.
        """
        after = _NEXT.get((self.phase, type(event)))
        if after is None:
            _refuse()
        self.phase = after
        match event:
            case wire.SessionStart():
                self._session(event)
            case wire.PromptStart():
                self._prompt(event)
            case wire.PromptEnd():
                self._prompt_end(event)
            case wire.SessionEnd():
                pass
            case _:
                return self._content(event)
        return None

    def _content(self, event: _ContentEvent) -> ClientBlock:
        match event:
            case wire.AudioInput():
                return self._audio(event)
            case wire.ClientContentStart():
                return self._start(event)
            case wire.TextInput():
                return self._text(event)
            case wire.ToolResult():
                return self._result(event)
            case wire.ClientContentEnd():
                return self._end(event)
            case _:
                assert_never(event)

    def _session(self, event: wire.SessionStart) -> None:
        if event.endpointing_sensitivity is not None and self._profile.refuses_flat_endpointing:
            _refuse()

    def _prompt(self, event: wire.PromptStart) -> None:
        voice = event.audio_output_configuration.voice_id
        if voice not in self._profile.voices:
            _refuse(VOICE.format(voice or EMPTY_VOICE))
        tools = event.tool_configuration.tools if event.tool_configuration else ()
        for tool in tools:
            schema = _json(tool.tool_spec.input_schema.text)
            if not isinstance(schema, dict) or not _refers_within(schema, schema):
                _refuse(UNPARSABLE)
        self._prompt_name = event.prompt_name

    def _start(self, event: wire.ClientContentStart) -> ClientBlock:
        if event.prompt_name != self._prompt_name or event.content_name in self._names:
            _refuse()
        match event.type:
            case "TEXT":
                block = self._text_start(event)
            case "AUDIO":
                block = self._audio_start(event)
            case "TOOL":
                block = self._tool_start(event)
            case _:
                assert_never(event.type)
        self._names.add(block.name)
        self._kinds.add(block.kind)
        self.open[block.name] = block
        return block

    def _text_start(self, event: wire.ClientContentStart) -> ClientBlock:
        if event.text_input_configuration is None:
            _refuse(UNPARSABLE)
        kind = self._text_kind(event)
        if kind is Kind.SYSTEM and Kind.SYSTEM in self._kinds:
            _refuse(SECOND_SYSTEM)
        if any(block.kind in TEXTS for block in self.open.values()):
            _refuse()
        talking = self.audio_blocks > 0
        match kind:
            case Kind.SYSTEM | Kind.STYLE if talking or {kind, Kind.HISTORY} & self._kinds:
                _refuse()
            case Kind.HISTORY:
                self._check_history(event.role, talking=talking)
        return ClientBlock(event.content_name, kind, event.role)

    def _text_kind(self, event: wire.ClientContentStart) -> Kind:
        match event.role:
            case "SYSTEM":
                return Kind.SYSTEM
            case "SYSTEM_SPEECH" if self._profile.typed_text_answered:
                return Kind.STYLE
            case "USER":
                return Kind.TYPED if event.interactive else Kind.HISTORY
            case "ASSISTANT":
                return Kind.DROPPED if self.audio_blocks else Kind.HISTORY
        raise Refused(INVALID)

    def _check_history(self, role: str, *, talking: bool) -> None:
        expected = Role.ASSISTANT if self._history_role is Role.USER else Role.USER
        if talking or role != expected:
            _refuse()
        self._history_role = expected
        self._history_turns += 1
        most = self._profile.max_history_turns
        if most is not None and self._history_turns > most:
            _refuse(HISTORY_LIMIT)

    def _audio_start(self, event: wire.ClientContentStart) -> ClientBlock:
        configuration = event.audio_input_configuration
        if configuration is None:
            _refuse(UNPARSABLE)
        if any(block.kind is Kind.AUDIO for block in self.open.values()):
            raise Refused(UNEXPECTED, "internalServerException")
        if any(block.kind in TEXTS for block in self.open.values()):
            _refuse(HISTORY_FIRST)
        if event.role != Role.USER:
            _refuse()
        self.audio_blocks += 1
        return ClientBlock(
            event.content_name, Kind.AUDIO, event.role, rate_hz=configuration.sample_rate_hertz
        )

    def _tool_start(self, event: wire.ClientContentStart) -> ClientBlock:
        configuration = event.tool_result_input_configuration
        if configuration is None:
            _refuse(UNPARSABLE)
        if configuration.text_input_configuration.media_type != "text/plain":
            _refuse(TOOL_MEDIA)
        if configuration.tool_use_id not in self._pending_tools or event.role != "TOOL":
            _refuse()
        if any(block.tool_use_id == configuration.tool_use_id for block in self.open.values()):
            _refuse()
        return ClientBlock(
            event.content_name, Kind.TOOL, event.role, tool_use_id=configuration.tool_use_id
        )

    def _text(self, event: wire.TextInput) -> ClientBlock:
        block = self._block(event.prompt_name, event.content_name)
        if block.kind not in TEXTS:
            _refuse()
        if block.kind is Kind.HISTORY:
            size = len(event.content.encode())
            self._history_bytes += size
            if (
                size > self._profile.max_history_part_bytes
                or self._history_bytes > self._profile.max_history_bytes
            ):
                _refuse(HISTORY_LIMIT)
        block.parts.append(event.content)
        return block

    def _audio(self, event: wire.AudioInput) -> ClientBlock:
        if any(block.kind in TEXTS for block in self.open.values()):
            _refuse(HISTORY_FIRST)
        block = self._block(event.prompt_name, event.content_name)
        if block.kind is not Kind.AUDIO:
            _refuse()
        if self._pending_tools and not self._profile.audio_during_tool:
            _refuse()
        try:
            pcm = decode_audio(event.content)
        except RemoteProtocolError:
            _refuse(UNPARSABLE)
        if len(pcm) % 2 and self._strict_samples:
            _refuse()
        block.pcm = pcm
        block.audio_bytes += len(pcm)
        return block

    def _result(self, event: wire.ToolResult) -> ClientBlock:
        block = self._block(event.prompt_name, event.content_name)
        if block.kind is not Kind.TOOL or block.parts:
            _refuse()
        if not isinstance(_json(event.content), dict):
            _refuse(TOOL_PARSING)
        block.parts.append(event.content)
        return block

    def _end(self, event: wire.ClientContentEnd) -> ClientBlock:
        block = self._block(event.prompt_name, event.content_name)
        if not (block.text or block.audio_bytes):
            _refuse(NO_DATA.format(block.name))
        if block.kind is Kind.TOOL:
            self._pending_tools.discard(block.tool_use_id)
        del self.open[block.name]
        return block

    def _prompt_end(self, event: wire.PromptEnd) -> None:
        if event.prompt_name != self._prompt_name:
            _refuse()
        if self.open:
            _refuse(CONTENTS_OPEN)
        if not self.audio_blocks:
            _refuse(NO_AUDIO)

    def _block(self, prompt_name: str, content_name: str) -> ClientBlock:
        block = self.open.get(content_name)
        if block is None or prompt_name != self._prompt_name:
            _refuse()
        return block


def _json(text: str) -> JsonValue:
    try:
        value: JsonValue = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return value


def _refers_within(part: JsonValue, schema: JsonValue) -> bool:
    """Whether each reference in a part of a JSON schema leads somewhere in the schema."""
    match part:
        case list():
            return all(_refers_within(item, schema) for item in part)
        case dict():
            reference = part.get("$ref", "#")
            if not isinstance(reference, str) or not reference.startswith("#"):
                return False
            at = schema
            for name in reference.split("/")[1:]:
                if not isinstance(at, dict) or name not in at:
                    return False
                at = at[name]
            return all(_refers_within(value, schema) for value in part.values())
        case _:
            return True


def _refuse(message: str = INVALID) -> Never:
    raise Refused(message)
