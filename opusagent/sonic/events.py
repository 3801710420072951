"""Every event of a Nova Sonic stream, as it stands on the wire.

The client's events first, the service's below; `Client` and `Service` tell apart the two names that
both use. Sources: Nova and Nova 2 user guides, speech input and output events. What the field has
seen missing or renamed is optional here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, Literal

from pydantic import Field, JsonValue

from opusagent.sonic.wire import (
    UnknownEvent,
    WireEvent,
    WireModel,
    decode_audio,
    read,
)

__all__ = [
    "CLIENT_EVENTS",
    "SERVICE_EVENTS",
    "AudioConfiguration",
    "AudioInput",
    "AudioOutput",
    "AudioOutputConfiguration",
    "ClientContentEnd",
    "ClientContentStart",
    "CompletionEnd",
    "CompletionStart",
    "FromService",
    "InferenceConfiguration",
    "InputSchema",
    "MediaConfiguration",
    "PromptEnd",
    "PromptStart",
    "ServiceContentEnd",
    "ServiceContentStart",
    "SessionEnd",
    "SessionStart",
    "TextInput",
    "TextOutput",
    "Tool",
    "ToolConfiguration",
    "ToolResult",
    "ToolResultInputConfiguration",
    "ToolSpecification",
    "ToolUse",
    "TurnDetectionConfiguration",
    "UsageEvent",
    "parse_client",
    "parse_service",
]

type ContentType = Literal["TEXT", "AUDIO", "TOOL"]
type SampleRate = Literal[8000, 16000, 24000]


class MediaConfiguration(WireModel):
    """Only a media type: `text/plain` or `application/json`."""

    media_type: str = "text/plain"


class AudioConfiguration(WireModel):
    """What audio looks like: one channel of signed 16-bit little-endian PCM as base64."""

    media_type: str = "audio/lpcm"
    sample_rate_hertz: SampleRate
    sample_size_bits: Literal[16] = 16
    channel_count: Literal[1] = 1
    encoding: Literal["base64"] = "base64"
    audio_type: str | None = "SPEECH"


class AudioOutputConfiguration(AudioConfiguration):
    """The same for the bot's voice."""

    voice_id: str


# The client's events


class InferenceConfiguration(WireModel):
    """How the model samples. livekit's client refuses more than 10 000 tokens."""

    max_tokens: int = Field(1024, ge=1, le=10_000)
    top_p: float = Field(0.9, ge=0, le=1)
    temperature: float = Field(0.7, ge=0, le=1)


class TurnDetectionConfiguration(WireModel):
    """How soon the model takes its turn: HIGH 1.5 s, MEDIUM 1.75 s, LOW 2 s (Nova 2 user guide)."""

    endpointing_sensitivity: Literal["HIGH", "MEDIUM", "LOW"]


class SessionStart(WireEvent):
    """The first event of a stream."""

    wire_name: ClassVar[str] = "sessionStart"
    inference_configuration: InferenceConfiguration
    turn_detection_configuration: TurnDetectionConfiguration | None = None
    endpointing_sensitivity: JsonValue = None
    """Never written: the old flat form, which Nova 2 refuses. The service's end has to see it."""


class InputSchema(WireModel):
    """A JSON schema as a string of JSON; an object is a parse error for the service."""

    text: str = Field(validation_alias="json", serialization_alias="json")


class ToolSpecification(WireModel):
    """One tool."""

    name: str
    description: str
    input_schema: InputSchema


class Tool(WireModel):
    """One entry of the list of tools."""

    tool_spec: ToolSpecification


class ToolConfiguration(WireModel):
    """All tools of a session; they cannot change."""

    tools: tuple[Tool, ...]
    tool_choice: dict[str, JsonValue] | None = None


class PromptStart(WireEvent):
    """Names the one prompt of a session; fixes voice, rates and tools for its life."""

    wire_name: ClassVar[str] = "promptStart"
    prompt_name: str
    text_output_configuration: MediaConfiguration = MediaConfiguration()
    audio_output_configuration: AudioOutputConfiguration
    tool_use_output_configuration: MediaConfiguration | None = None
    tool_configuration: ToolConfiguration | None = None


class ToolResultInputConfiguration(WireModel):
    """Which tool use a result answers."""

    tool_use_id: str
    type: str = "TEXT"
    text_input_configuration: MediaConfiguration = MediaConfiguration()


class ClientContentStart(WireEvent):
    """`contentStart` from the client: opens a block of text, audio or a tool's result."""

    wire_name: ClassVar[str] = "contentStart"
    prompt_name: str
    content_name: str
    type: ContentType
    interactive: bool = False
    role: str
    text_input_configuration: MediaConfiguration | None = None
    audio_input_configuration: AudioConfiguration | None = None
    tool_result_input_configuration: ToolResultInputConfiguration | None = None


class TextInput(WireEvent):
    """A piece of a text block."""

    wire_name: ClassVar[str] = "textInput"
    prompt_name: str
    content_name: str
    content: str


class AudioInput(WireEvent):
    """Caller audio as base64."""

    wire_name: ClassVar[str] = "audioInput"
    prompt_name: str
    content_name: str
    content: str


class ToolResult(WireEvent):
    """A tool's result: a string that holds a JSON object."""

    wire_name: ClassVar[str] = "toolResult"
    prompt_name: str
    content_name: str
    content: str


class ClientContentEnd(WireEvent):
    """`contentEnd` from the client: closes a block."""

    wire_name: ClassVar[str] = "contentEnd"
    prompt_name: str
    content_name: str


class PromptEnd(WireEvent):
    """No more content will come; whatever was open has been closed before."""

    wire_name: ClassVar[str] = "promptEnd"
    prompt_name: str


class SessionEnd(WireEvent):
    """The last event before the input ends."""

    wire_name: ClassVar[str] = "sessionEnd"


# The service's events


class FromService(WireEvent):
    """What every event of the service carries beside its content."""

    session_id: str = ""
    prompt_name: str = ""
    completion_id: str = ""


class CompletionStart(FromService):
    """Comes once, before the first content; not once per turn (measured on a live service)."""

    wire_name: ClassVar[str] = "completionStart"


class ServiceContentStart(FromService):
    """`contentStart` from the service. The additional fields are JSON in a string, or missing."""

    wire_name: ClassVar[str] = "contentStart"
    content_id: str
    type: str
    role: str = ""
    additional_model_fields: str | None = None
    text_output_configuration: MediaConfiguration | None = None
    audio_output_configuration: AudioConfiguration | None = None
    tool_use_output_configuration: MediaConfiguration | None = None


class TextOutput(FromService):
    """What was heard, what will be said, or what was said: the block's stage tells."""

    wire_name: ClassVar[str] = "textOutput"
    content_id: str
    content: str
    role: str | None = None


class AudioOutput(FromService):
    """Bot audio as base64."""

    wire_name: ClassVar[str] = "audioOutput"
    content_id: str
    content: str

    def pcm(self) -> bytes:
        """The audio. Raises `RemoteProtocolError` if the content is no base64."""
        return decode_audio(self.content)


class ToolUse(FromService):
    """The model asks for a tool. `content` is a JSON object in a string, or encoded twice."""

    wire_name: ClassVar[str] = "toolUse"
    content_id: str
    content: JsonValue
    tool_name: str
    tool_use_id: str
    role: str | None = None


class ServiceContentEnd(FromService):
    """`contentEnd` from the service. It carries no role, so the start has to be remembered."""

    wire_name: ClassVar[str] = "contentEnd"
    content_id: str
    stop_reason: str | None = None
    type: str | None = None


class TokenCount(WireModel):
    """Tokens of one direction."""

    speech_tokens: int = 0
    text_tokens: int = 0


class TokenCounts(WireModel):
    """Tokens of both directions."""

    input: TokenCount = TokenCount()
    output: TokenCount = TokenCount()


class UsageDetails(WireModel):
    """What was added since the last usage event, and the totals of the session."""

    delta: TokenCounts = TokenCounts()
    total: TokenCounts = TokenCounts()


class UsageEvent(FromService):
    """Tokens used so far; comes at any point, many times."""

    wire_name: ClassVar[str] = "usageEvent"
    details: UsageDetails = UsageDetails()
    total_input_tokens: int = 0
    total_output_tokens: int = 0
    total_tokens: int = 0


class CompletionEnd(FromService):
    """Seen only after the client's `promptEnd`; nothing may depend on it."""

    wire_name: ClassVar[str] = "completionEnd"
    stop_reason: str | None = None


type ClientEvent = (
    SessionStart
    | PromptStart
    | ClientContentStart
    | TextInput
    | AudioInput
    | ToolResult
    | ClientContentEnd
    | PromptEnd
    | SessionEnd
)
type ServiceEvent = (
    CompletionStart
    | ServiceContentStart
    | TextOutput
    | AudioOutput
    | ToolUse
    | ServiceContentEnd
    | UsageEvent
    | CompletionEnd
)

CLIENT_EVENTS: Final[Mapping[str, type[ClientEvent]]] = {
    event.wire_name: event
    for event in (
        SessionStart,
        PromptStart,
        ClientContentStart,
        TextInput,
        AudioInput,
        ToolResult,
        ClientContentEnd,
        PromptEnd,
        SessionEnd,
    )
}
SERVICE_EVENTS: Final[Mapping[str, type[ServiceEvent]]] = {
    event.wire_name: event
    for event in (
        CompletionStart,
        ServiceContentStart,
        TextOutput,
        AudioOutput,
        ToolUse,
        ServiceContentEnd,
        UsageEvent,
        CompletionEnd,
    )
}


def parse_client(payload: bytes) -> ClientEvent | UnknownEvent:
    """What a client sent. Raises `RemoteProtocolError` if it is no event."""
    return read(payload, CLIENT_EVENTS)


def parse_service(payload: bytes) -> ServiceEvent | UnknownEvent:
    """What the service sent. Raises `RemoteProtocolError` if it is no event."""
    return read(payload, SERVICE_EVENTS)
