"""What a call is, apart from its sockets: enough to go on with it in another process."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
)

from opusagent.models.remembered import Remembered

SCHEMA_VERSION = 1


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _from_hex(value: object) -> object:
    return bytes.fromhex(value) if isinstance(value, str) else value


type Moment = Annotated[datetime, AfterValidator(_with_zone)]
"""A time with its zone; one that came without is taken for UTC."""
type HexBytes = Annotated[
    bytes, BeforeValidator(_from_hex), PlainSerializer(bytes.hex, when_used="json")
]
"""Bytes, written as hexadecimal digits in JSON."""


class SessionStatus(enum.StrEnum):
    """Where the conversation stands. `ENDED` and `ERROR` cannot be resumed."""

    INITIATED = "initiated"
    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    ERROR = "error"


class Role(enum.StrEnum):
    """Who said a turn, in Nova Sonic's words."""

    USER = "USER"
    ASSISTANT = "ASSISTANT"


class Turn(BaseModel):
    """One line of a conversation as a model is told it."""

    model_config = ConfigDict(frozen=True)

    role: Role
    text: str


class ToolSpec(BaseModel):
    """A tool as the model is told of it."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str
    input_schema: dict[str, JsonValue]
    repeatable: bool = False
    """Whether it may be run again where nobody knows whether it has run."""


class ToolStatus(enum.StrEnum):
    """How far a function call has come."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class FunctionCall(BaseModel):
    """One line of the ledger of tool calls, as it was at some time."""

    model_config = ConfigDict(extra="allow", frozen=True)

    tool_use_id: str
    name: str
    arguments: str
    status: ToolStatus = ToolStatus.RUNNING
    result: dict[str, JsonValue] | None = None
    started_at: Moment
    ended_at: Moment | None = None
    secret: bool = False
    """Whether it was run with something else than `arguments`, which was not to be kept."""


class ConversationItem(BaseModel):
    """One turn of the transcript, as it was at some time: `input` is the caller, `output` the bot."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["input", "output"]
    text: str
    at: Moment | None = None
    interrupted: bool = False
    unfinished: bool = False
    """Whether the bot had more to say when this was stored, and the caller had not stopped it."""


class StreamSwitch(BaseModel):
    """One replacement of the model's stream."""

    model_config = ConfigDict(extra="allow")

    at: Moment
    reason: str


class SessionState(BaseModel):
    """The whole state of one conversation. Round-trips through JSON; unknown fields are kept.

    Stored data of another schema version is refused on reading: it cannot be resumed.
    """

    model_config = ConfigDict(extra="allow", validate_assignment=True)

    conversation_id: str
    session_id: str | None = None
    bridge_type: str = "audiocodes"
    tenant: str = ""
    """Name of the token that began it; only that tenant may resume it."""

    bot_name: str = "voice-bot"
    caller: str = "unknown"
    media_format: str = "raw/lpcm16"
    play_format: str = "raw/lpcm16_24"
    agent: dict[str, JsonValue] = Field(default_factory=dict)
    """What the model was told at the start: prompt, voice, tools. As the agent's own JSON."""

    status: SessionStatus = SessionStatus.INITIATED
    created_at: Moment
    last_activity: Moment
    resumed_count: Annotated[int, Field(ge=0)] = 0
    owner: str = ""
    owner_epoch: Annotated[int, Field(ge=0)] = 0
    """The fencing token: only the owner with the highest one may write."""

    conversation_history: list[ConversationItem] = Field(default_factory=list)
    current_turn: Annotated[int, Field(ge=0)] = 0
    function_calls: list[FunctionCall] = Field(default_factory=list)
    stream_switches: list[StreamSwitch] = Field(default_factory=list)
    variables: dict[str, JsonValue] = Field(default_factory=dict)
    """Key-value state that tools may set."""

    audio_buffer: list[HexBytes] = Field(default_factory=list)
    """Caller speech that was not answered before a planned hand-over: 16 kHz mono 16-bit PCM."""
    audio_metadata: dict[str, JsonValue] = Field(default_factory=dict)

    error_count: Annotated[int, Field(ge=0)] = 0
    last_error: str | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    schema_version: Literal[1] = 1

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON-ready values."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The state that `to_dict` wrote.

        Raises:
            pydantic.ValidationError: If the data is no session of this schema version.
        """
        return cls.model_validate(data)

    def update_activity(self, now: datetime) -> None:
        """Note that something happened in the conversation."""
        self.last_activity = now

    def increment_resume_count(self) -> None:
        """Note that the caller's line came back."""
        self.resumed_count += 1

    def is_expired(self, now: datetime, max_age_seconds: float = 3600) -> bool:
        """Whether nothing has happened for `max_age_seconds`."""
        return (now.astimezone(UTC) - self.last_activity).total_seconds() > max_age_seconds

    def can_resume(self, now: datetime, max_age_seconds: float = 3600) -> bool:
        """Whether a caller may take this conversation up again."""
        alive = self.status not in (SessionStatus.ENDED, SessionStatus.ERROR)
        return alive and not self.is_expired(now, max_age_seconds)


def _as_json(item: BaseModel) -> dict[str, Any]:
    return item.model_dump(mode="json")


class StateDump:
    """The states of one session, one after the other, as JSON-ready values.

    What stands in two of them, as most of the conversation does, is made once; nobody may change it.
    """

    def __init__(self) -> None:
        self._items: Remembered[BaseModel, dict[str, Any]] = Remembered(_as_json)

    def of(self, state: SessionState) -> dict[str, Any]:
        """As `SessionState.to_dict`."""
        rest: dict[str, Any] = {"conversation_history": [], "function_calls": [], "agent": {}}
        n_turns = len(state.conversation_history)
        items = self._items.of([*state.conversation_history, *state.function_calls])
        return state.model_copy(update=rest).to_dict() | {
            "conversation_history": items[:n_turns],
            "function_calls": items[n_turns:],
            "agent": state.agent,  # it is JSON
        }
