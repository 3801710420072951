"""What a caller's websocket tells a call: facts, already read and decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from opusagent.audiocodes.codec import UnknownMessage
from opusagent.audiocodes.messages import BrokenActivity

__all__ = [
    "ActivityReceived",
    "BrokenActivity",
    "CallStarted",
    "CallerAudio",
    "CallerDid",
    "CallerEvent",
    "CallerHungUp",
    "ConnectionValidated",
    "DtmfPressed",
    "HangupHint",
    "NoUserInput",
    "PlayFinished",
    "ResumeRequested",
    "SessionRequested",
    "TransferStatus",
    "UnknownMessage",
    "UserStreamClosed",
    "UserStreamOpened",
]


@dataclass(frozen=True, slots=True)
class ConnectionValidated:
    """The administrator pressed the test button; the answer is queued. Not a call."""


@dataclass(frozen=True, slots=True)
class SessionRequested:
    """A new call wants to be accepted or rejected. `offered` is empty where no format was named."""

    conversation_id: str
    caller: str
    bot_name: str
    offered: tuple[str, ...]
    expects_audio: bool


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """A call whose websocket was lost wants to go on. `offered` is usually empty."""

    conversation_id: str
    offered: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The call is through; `caller` and `callee` are opaque and may be empty."""

    parameters: Mapping[str, JsonValue]
    caller: str
    callee: str


@dataclass(frozen=True, slots=True)
class UserStreamOpened:
    """Caller audio comes from now on."""


@dataclass(frozen=True, slots=True)
class UserStreamClosed:
    """No caller audio until the next opening. Neither the end of the call nor of a turn."""


@dataclass(frozen=True, slots=True)
class CallerAudio:
    """Caller audio: 16-bit PCM at the rate of the accepted format, whole samples, never empty."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class DtmfPressed:
    """Keys: one, or several that were collected. They may be secret."""

    digits: str


@dataclass(frozen=True, slots=True)
class NoUserInput:
    """The caller said nothing for the configured time, for the `count`-th time."""

    count: int


@dataclass(frozen=True, slots=True)
class PlayFinished:
    """Playback of some prompt ended; it need not be one of ours. Empty `status`: none was given."""

    played_ms: int | None
    status: str


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """How a transfer went: `status` is `answered` or `failed`."""

    status: str
    reason: str
    reason_code: str = ""


@dataclass(frozen=True, slots=True)
class CallerHungUp:
    """The conversation is over, for whatever reason. Nothing can be sent any more."""

    reason_code: str
    reason: str


@dataclass(frozen=True, slots=True)
class HangupHint:
    """A `hangup` event: the end of the session should follow."""


@dataclass(frozen=True, slots=True)
class ActivityReceived:
    """Any other activity. A text message has the name `message` and its text as the value."""

    name: str
    value: JsonValue
    parameters: Mapping[str, JsonValue]


type CallerDid = (
    CallerAudio
    | UserStreamOpened
    | UserStreamClosed
    | DtmfPressed
    | NoUserInput
    | TransferStatus
    | ActivityReceived
)
"""What belongs to the conversation itself."""

type CallerEvent = (
    SessionRequested
    | ResumeRequested
    | ConnectionValidated
    | CallStarted
    | PlayFinished
    | CallerHungUp
    | HangupHint
    | CallerDid
    | BrokenActivity
    | UnknownMessage
)
