"""The only vocabulary between the core of a call and its shell.

Inputs are facts in the past tense, effects are orders. A shell that runs these effects and reports
these inputs can carry a telephone call; it need not know what a call is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from pydantic import JsonValue

from opusagent.models.session_state import SessionState
from opusagent.sonic.failures import Failure

StreamId = NewType("StreamId", int)
"""One Nova Sonic stream of a call: 1 is the first that the call opened."""


class CloseReason(enum.StrEnum):
    """Why a stream is closed."""

    CALL_ENDED = "call_ended"
    LOST = "lost"
    NO_HEAD = "no_head"
    REPLACED = "replaced"


class EndedBy(enum.StrEnum):
    """Who or what ended a call."""

    CALLER = "caller"
    BOT = "bot"
    REFUSED = "refused"
    SOCKET = "socket"
    FAILURE = "failure"
    FENCED = "fenced"
    SHUTDOWN = "shutdown"
    TRANSFERRED = "transferred"


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a call ended.

    `words` are VoiceAI Connect's own: it may give back what we hung up with, and that is private.
    """

    by: EndedBy
    reason: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asked for; it carries the stream that asked."""

    stream: StreamId
    tool_use_id: str
    name: str
    arguments: str


# Effects


@dataclass(frozen=True, slots=True)
class ToCaller:
    """Send this text on the caller's websocket, in order."""

    text: str


@dataclass(frozen=True, slots=True)
class HangUpSocket:
    """Close the caller's websocket once everything before has been written."""

    code: int = 1000
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ControlToSonic:
    """Send this event on a stream: never dropped, keeps its place among audio."""

    stream: StreamId
    payload: bytes


@dataclass(frozen=True, slots=True)
class AudioToSonic:
    """Send caller audio on a stream: PCM at the stream's input rate. What waits is joined."""

    stream: StreamId
    pcm: bytes


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Connect a stream; answered by `StreamOpened` or `StreamLost`.

    `can_wait`: the caller has another one, so that whoever has none comes first.
    """

    stream: StreamId
    can_wait: bool = False


@dataclass(frozen=True, slots=True)
class NoteSent:
    """Say when all that was ordered for a stream so far has been sent; answered by `StreamSent` if it is."""

    stream: StreamId


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Write what is queued for a stream, end its input, and see it to its end, all bounded."""

    stream: StreamId
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool; answered by `ToolFinished`."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class KeepState:
    """The model has set a value of the call's state: tools are to see it."""

    key: str
    value: JsonValue


@dataclass(frozen=True, slots=True)
class Save:
    """Store the state: newest wins."""

    state: SessionState


@dataclass(frozen=True, slots=True)
class Report:
    """Something worth a log line and a count. `private` is shown only where private logs are on."""

    event: str
    fields: Mapping[str, JsonValue] = field(default_factory=dict)
    private: Mapping[str, JsonValue] = field(default_factory=dict)


class Voice(enum.Enum):
    """Whose sound is recorded."""

    CALLER = "caller"
    BOT = "bot"


@dataclass(frozen=True, slots=True)
class Record:
    """Sound for the recording, where one is asked for: 16-bit mono PCM at that side's rate.

    The caller's is what came, now; the bot's goes on where what it was given before ends, now at the earliest.
    """

    voice: Voice
    pcm: bytes


@dataclass(frozen=True, slots=True)
class RecordSilence:
    """The bot fell silent now: what it was given and has not yet played is not heard."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over."""

    outcome: CallOutcome


type Effect = (
    ToCaller
    | HangUpSocket
    | ControlToSonic
    | AudioToSonic
    | OpenStream
    | NoteSent
    | CloseStream
    | RunTool
    | KeepState
    | Save
    | Report
    | Record
    | RecordSilence
    | Finish
)


# Inputs


@dataclass(frozen=True, slots=True)
class FromCaller:
    """A websocket message arrived; `bytes` when it was a binary frame."""

    text: str | bytes


@dataclass(frozen=True, slots=True)
class CallerLost:
    """The caller's websocket is gone. `unsent`: messages with bot audio that did not leave any more."""

    unsent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallerAttached:
    """The caller is back on a new websocket, whose first valid message this is.

    `unsent`: messages with bot audio that did not leave on the old one any more, if that was still open.
    """

    text: str | bytes
    unsent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BegunAnew:
    """The caller asks for a new call of this conversation: if she was lost, she does not come back."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another process has the conversation now: go without a word to anybody."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The response head of a stream arrived; its life of eight minutes counts from here.

    `expires_at` is when the credentials that sign it expire, in monotonic seconds; None if they do not.
    """

    stream: StreamId
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class StreamSent:
    """What was ordered for a stream before `NoteSent` has been sent."""

    stream: StreamId


@dataclass(frozen=True, slots=True)
class FromSonic:
    """An event arrived on a stream."""

    stream: StreamId
    payload: bytes


@dataclass(frozen=True, slots=True)
class StreamLost:
    """A stream could not be opened, broke, or ended although nobody closed it."""

    stream: StreamId
    failure: Failure


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool gave its result."""

    call: ToolCall
    result: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A tool has set a value of the call's state."""

    key: str
    value: JsonValue


@dataclass(frozen=True, slots=True)
class HangUp:
    """This side wants to end the call; what the bot is saying is played to its end first."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """The process goes: let go of the caller without hanging up, so that another takes the call up.

    What the bot is saying is heard to its end first, if that takes no longer than `within_s`.
    """

    within_s: float = 0.0


type CallInput = (
    FromCaller
    | CallerLost
    | CallerAttached
    | BegunAnew
    | Fenced
    | StreamOpened
    | StreamSent
    | FromSonic
    | StreamLost
    | ToolFinished
    | StateChanged
    | HangUp
    | Drain
)
