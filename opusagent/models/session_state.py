"""What a call is, apart from its sockets: enough to go on with it in another process."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

SCHEMA_VERSION = 1


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


class ToolStatus(enum.StrEnum):
    """How far a function call has come."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class FunctionCall(BaseModel):
    """One line of the ledger of tool calls."""

    model_config = ConfigDict(extra="allow")

    tool_use_id: str
    name: str
    arguments: str
    status: ToolStatus = ToolStatus.RUNNING
    result: dict[str, JsonValue] | None = None
    started_at: datetime
    ended_at: datetime | None = None


class ConversationItem(BaseModel):
    """One turn of the transcript: `input` is the caller, `output` the bot."""

    model_config = ConfigDict(extra="allow")

    type: Literal["input", "output"]
    text: str
    at: datetime | None = None
    interrupted: bool = False


class SessionState(BaseModel):
    """The whole state of one conversation. Round-trips through JSON; unknown fields are kept."""

    model_config = ConfigDict(extra="allow", validate_assignment=True)

    conversation_id: str
    session_id: str | None = None
    bridge_type: str = "audiocodes"
    bot_name: str = "voice-bot"
    caller: str = "unknown"
    media_format: str = "raw/lpcm16"
    play_format: str = "raw/lpcm16_24"
    status: SessionStatus = SessionStatus.INITIATED
    created_at: datetime
    last_activity: datetime
    resumed_count: int = 0
    owner: str = ""
    owner_epoch: int = 0
    conversation_history: list[ConversationItem] = Field(default_factory=list)
    function_calls: list[FunctionCall] = Field(default_factory=list)
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

    def is_expired(self, now: datetime, max_age_seconds: float = 3600) -> bool:
        """Whether nothing has happened for `max_age_seconds`."""
        return (now.astimezone(UTC) - self.last_activity).total_seconds() > max_age_seconds

    def can_resume(self, now: datetime, max_age_seconds: float = 3600) -> bool:
        """Whether a caller may take this conversation up again."""
        alive = self.status not in (SessionStatus.ENDED, SessionStatus.ERROR)
        return alive and not self.is_expired(now, max_age_seconds)
