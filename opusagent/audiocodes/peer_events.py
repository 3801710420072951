"""What the bot tells VoiceAI Connect: facts, as `AudioCodesPeer` reads them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from opusagent.audio.formats import MediaFormat

__all__ = [
    "Accepted",
    "Activity",
    "Configured",
    "HangupRequested",
    "PeerEvent",
    "PlayChunk",
    "PlayStarted",
    "PlayStopped",
    "PromptsAborted",
    "Refused",
    "Speech",
    "SpeechKind",
    "UserStreamStarted",
    "UserStreamStopped",
    "Validated",
]


class SpeechKind(enum.StrEnum):
    """The last word of a `userStream.speech.*` message."""

    STARTED = "started"
    STOPPED = "stopped"
    COMMITTED = "committed"
    HYPOTHESIS = "hypothesis"
    RECOGNITION = "recognition"


@dataclass(frozen=True, slots=True)
class Validated:
    """The bot answered the test."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The bot took the call and listens in `media_format`."""

    media_format: MediaFormat


@dataclass(frozen=True, slots=True)
class Refused:
    """The bot ended the call with an error."""

    reason: str


@dataclass(frozen=True, slots=True)
class UserStreamStarted:
    """The bot is ready for the caller's audio."""

    participant: str | None = None


@dataclass(frozen=True, slots=True)
class UserStreamStopped:
    """The bot knows that no more audio comes."""

    participant: str | None = None


@dataclass(frozen=True, slots=True)
class PlayStarted:
    """The bot begins to play."""

    stream_id: str
    media_format: MediaFormat


@dataclass(frozen=True, slots=True)
class PlayChunk:
    """Bot audio, as on the wire."""

    stream_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class PlayStopped:
    """The bot has sent all it has to play."""

    stream_id: str


@dataclass(frozen=True, slots=True)
class Speech:
    """What the bot says about the caller's speech; `text` only where there is one."""

    kind: SpeechKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Configured:
    """The bot changed settings of the call."""

    session_params: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class PromptsAborted:
    """The bot wants silence."""


@dataclass(frozen=True, slots=True)
class HangupRequested:
    """The bot wants the call to end."""

    reason: str


@dataclass(frozen=True, slots=True)
class Activity:
    """Any other event of the bot."""

    name: str
    params: Mapping[str, JsonValue]
    value: JsonValue = None


type PeerEvent = (
    Validated
    | Accepted
    | Refused
    | UserStreamStarted
    | UserStreamStopped
    | PlayStarted
    | PlayChunk
    | PlayStopped
    | Speech
    | Configured
    | PromptsAborted
    | HangupRequested
    | Activity
)
