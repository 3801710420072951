"""Every message of the AudioCodes Bot API in streaming mode, both directions.

A class has the name of its message: `UserStreamChunk` is `userStream.chunk`. Making one with an
unknown field is an error; `codec` reads them and passes over what it does not know.
Source: AudioCodes Bot API; shapes measured on a live capture.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

MAX_CHUNK_BYTES: Final = 480_000
"""The most audio one message may carry: 10 s of the fastest format, as much as is ever kept."""


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _none_is_empty(value: object) -> object:
    return "" if value is None else value


def _none_is_event(value: object) -> object:
    return "event" if value is None else value


def _object_or_none(value: object) -> object:
    return value if isinstance(value, dict) else None


# Read by pydantic's own base64 (`val_json_bytes`), 3 times as fast as `binascii` (measured). It
# cannot write it: its alphabet there is the one of URLs.
Audio = Annotated[
    bytes,
    Field(max_length=MAX_CHUNK_BYTES),
    PlainSerializer(_base64, return_type=str, when_used="json"),
]
Text = Annotated[str, Field(coerce_numbers_to_str=True), BeforeValidator(_none_is_empty)]
Id = Annotated[str, Field(min_length=1, max_length=256)]
# Two pages of the vendor disagree about the key; `participant` is what its SDK sends.
Participant = Annotated[
    str | None, Field(validation_alias=AliasChoices("participant", "participantId"))
]
# Fixtures of the chat mode say `conversation`.
_CONVERSATION = AliasChoices("conversationId", "conversation")
ConversationId = Annotated[Id, Field(validation_alias=_CONVERSATION)]
OptionalConversationId = Annotated[Id | None, Field(validation_alias=_CONVERSATION)]


class Message(BaseModel):
    """Any message: immutable, camelCase on the wire."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        val_json_bytes="base64",
    )


# From VoiceAI Connect


class Activity(Message):
    """One event (or text message) of VoiceAI Connect. Fields that nobody reads may be anything."""

    type: Annotated[str, BeforeValidator(_none_is_event)] = "event"
    name: str | None = None
    id: JsonValue = None
    timestamp: JsonValue = None
    """The sender's clock; never to be compared with ours."""
    language: JsonValue = None
    """May be nonsense such as `any-CI` (measured on a live capture)."""
    value: JsonValue = None
    text: JsonValue = None
    parameters: Annotated[dict[str, JsonValue] | None, BeforeValidator(_object_or_none)] = None


@dataclass(frozen=True, slots=True)
class BrokenActivity:
    """One that cannot be read. `got` says what is wrong with it, never a content."""

    got: str


def _activity(value: object, _: object) -> Activity | BrokenActivity:
    if isinstance(value, Activity | BrokenActivity):
        return value
    try:
        return Activity.model_validate(value, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in ("activities", *first["loc"]))
        return BrokenActivity(f"{where}: {first['type']}")


class Activities(Message):
    """`activities`: events of the call. A broken one spoils no other."""

    type: Literal["activities"] = "activities"
    conversation_id: OptionalConversationId = None
    activities: Annotated[
        tuple[Annotated[Activity | BrokenActivity, WrapValidator(_activity)], ...],
        Field(min_length=1),
    ]


class ConnectionValidate(Message):
    """The administrator's test button; comes without a call and without a conversation id."""

    type: Literal["connection.validate"] = "connection.validate"
    conversation_id: OptionalConversationId = None


class SessionInitiate(Message):
    """A new call."""

    type: Literal["session.initiate"] = "session.initiate"
    conversation_id: ConversationId
    bot_name: Text = ""
    caller: Text = ""
    """Opaque: a number, `anonymous`, or the user of a SIP address."""
    expect_audio_messages: bool | None = None
    supported_media_formats: tuple[str, ...] | None = None


class SessionResume(Message):
    """A call whose websocket was lost."""

    type: Literal["session.resume"] = "session.resume"
    conversation_id: ConversationId
    supported_media_formats: tuple[str, ...] | None = None


type SessionRequest = SessionInitiate | SessionResume
"""With which every websocket begins."""


class SessionEnd(Message):
    """The last message of a conversation."""

    type: Literal["session.end"] = "session.end"
    conversation_id: OptionalConversationId = None
    reason_code: Text = ""
    reason: Text = ""


class UserStreamStart(Message):
    """Caller audio is about to come."""

    type: Literal["userStream.start"] = "userStream.start"
    conversation_id: OptionalConversationId = None
    participant: Participant = None


class UserStreamChunk(Message):
    """Caller audio, in the accepted format."""

    type: Literal["userStream.chunk"] = "userStream.chunk"
    conversation_id: OptionalConversationId = None
    participant: Participant = None
    audio_chunk: Audio


class UserStreamStop(Message):
    """No more caller audio until the next start. Not the end of the call."""

    type: Literal["userStream.stop"] = "userStream.stop"
    conversation_id: OptionalConversationId = None
    participant: Participant = None


class PlayStreamMarkReached(Message):
    """Unconfirmed: named by one third party only. Read, never relied on."""

    type: Literal["playStream.mark.reached"] = "playStream.mark.reached"
    conversation_id: OptionalConversationId = None


# From the bot


class BotActivity(Message):
    """One event of the bot."""

    type: str
    name: str | None = None
    id: str | None = None
    timestamp: str | None = None
    value: JsonValue = None
    activity_params: dict[str, JsonValue] | None = None
    session_params: dict[str, JsonValue] | None = None


class BotActivities(Message):
    """`activities`: what the bot wants done."""

    type: Literal["activities"] = "activities"
    conversation_id: OptionalConversationId = None
    activities: Annotated[tuple[BotActivity, ...], Field(min_length=1)]


class ConnectionValidated(Message):
    """Answers `connection.validate`."""

    type: Literal["connection.validated"] = "connection.validated"
    success: Literal[True] = True


class _FromBot(Message):
    conversation_id: OptionalConversationId = None
    """Not needed, tolerated."""


class SessionAccepted(_FromBot):
    """The call is taken. `media_format` is that of the caller's audio; repeated on a resume."""

    type: Literal["session.accepted"] = "session.accepted"
    media_format: str | None = None


class SessionError(_FromBot):
    """Fatal at any time: the call is dropped."""

    type: Literal["session.error"] = "session.error"
    reason: str


class _AboutUser(_FromBot):
    participant: Participant = None
    """Echoed where the caller's stream names one."""


class UserStreamStarted(_AboutUser):
    """Answers `userStream.start`."""

    type: Literal["userStream.started"] = "userStream.started"


class UserStreamStopped(_AboutUser):
    """Answers `userStream.stop`."""

    type: Literal["userStream.stopped"] = "userStream.stopped"


class UserStreamSpeechStarted(_AboutUser):
    """The caller began to speak; the trigger of a barge-in."""

    type: Literal["userStream.speech.started"] = "userStream.speech.started"


class UserStreamSpeechStopped(_AboutUser):
    """The caller stopped speaking."""

    type: Literal["userStream.speech.stopped"] = "userStream.speech.stopped"


class UserStreamSpeechCommitted(_AboutUser):
    """The caller's turn went to the bot's logic."""

    type: Literal["userStream.speech.committed"] = "userStream.speech.committed"


class Hypothesis(Message):
    """What the caller may be saying."""

    text: str


class Recognition(Message):
    """What the caller said; `confidence` is 0 to 1."""

    text: str
    confidence: float | None = None


class UserStreamSpeechHypothesis(_AboutUser):
    """A transcript that may still change."""

    type: Literal["userStream.speech.hypothesis"] = "userStream.speech.hypothesis"
    alternatives: Annotated[tuple[Hypothesis, ...], Field(min_length=1)]


class UserStreamSpeechRecognition(_AboutUser):
    """The final transcript; with barge-in off it ends the caller's stream."""

    type: Literal["userStream.speech.recognition"] = "userStream.speech.recognition"
    alternatives: Annotated[tuple[Recognition, ...], Field(min_length=1)]


class PlayStreamStart(_FromBot):
    """Bot audio is about to come, under an id that is never used again."""

    type: Literal["playStream.start"] = "playStream.start"
    stream_id: Id
    media_format: str
    alt_text: str | None = None
    activity_params: dict[str, JsonValue] | None = None
    participant: Participant = None
    target_player: str | None = None


class PlayStreamChunk(_FromBot):
    """Bot audio, in the format of its `playStream.start`."""

    type: Literal["playStream.chunk"] = "playStream.chunk"
    stream_id: Id
    audio_chunk: Audio


class PlayStreamStop(_FromBot):
    """No more audio will come; what was sent is still played (measured on a live capture)."""

    type: Literal["playStream.stop"] = "playStream.stop"
    stream_id: Id


class PlayStreamMarkSet(_FromBot):
    """Unconfirmed: named by one third party only. Read, never sent."""

    type: Literal["playStream.mark.set"] = "playStream.mark.set"


type ToBot = (
    ConnectionValidate
    | SessionInitiate
    | SessionResume
    | SessionEnd
    | Activities
    | UserStreamStart
    | UserStreamChunk
    | UserStreamStop
    | PlayStreamMarkReached
)
type FromBot = (
    ConnectionValidated
    | SessionAccepted
    | SessionError
    | BotActivities
    | UserStreamStarted
    | UserStreamStopped
    | UserStreamSpeechStarted
    | UserStreamSpeechStopped
    | UserStreamSpeechCommitted
    | UserStreamSpeechHypothesis
    | UserStreamSpeechRecognition
    | PlayStreamStart
    | PlayStreamChunk
    | PlayStreamStop
    | PlayStreamMarkSet
)
