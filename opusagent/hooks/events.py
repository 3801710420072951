"""What applications are told of calls. The JSON is stable: fields may be added, none is renamed or removed."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from opusagent.models.session_state import ToolStatus

__all__ = [
    "CallEnded",
    "CallResumed",
    "CallStarted",
    "Event",
    "FunctionCalled",
    "StreamSwitched",
    "TurnSpoken",
    "redacted",
]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str
    """Of the event: the same whenever it is delivered again."""
    version: Literal[1] = 1
    at: datetime
    """When it happened; UTC."""
    conversation_id: str
    agent: str
    tenant: str = ""


class CallStarted(_Event):
    """A call is up. Who called which number is null where it is not known, or not to be told."""

    type: Literal["call.started"] = "call.started"
    bot_name: str
    caller: str | None
    called: str | None


class CallResumed(_Event):
    """A caller came back on a new line, to this process or another one."""

    type: Literal["call.resumed"] = "call.resumed"
    resumed_count: int


class TurnSpoken(_Event):
    """Somebody has had her say: it is told once the next turn begins, or the call ends.

    Of the bot it is what was heard; `interrupted` means that the caller cut it off. The text is null where
    it is not to be told.
    """

    type: Literal["turn"] = "turn"
    role: Literal["caller", "bot"]
    text: str | None
    interrupted: bool


class FunctionCalled(_Event):
    """A tool was begun (`running`), or has ended (`done`, `failed`).

    Arguments, as the model wrote them, and result are null where they are not to be told.
    """

    type: Literal["function_call"] = "function_call"
    tool_use_id: str
    name: str
    status: ToolStatus
    arguments: str | None
    result: dict[str, JsonValue] | None
    started_at: datetime
    ended_at: datetime | None


class StreamSwitched(_Event):
    """Another stream to the model took over; the caller hears nothing of it."""

    type: Literal["stream.switched"] = "stream.switched"
    reason: str


class CallEnded(_Event):
    """A call is over in this process.

    `resumable`: the line was lost, or the process ends; if the caller comes back, `call.resumed` follows.
    The reason, in words, is null where texts are not to be told.
    """

    type: Literal["call.ended"] = "call.ended"
    ended_by: str
    reason: str | None
    resumable: bool
    seconds: float
    """Since the call came in."""
    caller_turns: int
    bot_turns: int
    function_calls: int
    stream_switches: int
    resumed_count: int


type Event = CallStarted | CallResumed | TurnSpoken | FunctionCalled | StreamSwitched | CallEnded


def redacted(event: Event, *, text: bool, numbers: bool) -> Event:
    """The event with nothing in it that is not to be told.

    Args:
        event: Which.
        text: Whether what was said, and arguments and results of tools, may be told.
        numbers: Whether who called which number may be told.
    """
    hidden: dict[str, None] = {}
    match event:
        case CallStarted() if not numbers:
            hidden = {"caller": None, "called": None}
        case TurnSpoken() if not text:
            hidden = {"text": None}
        case FunctionCalled() if not text:
            hidden = {"arguments": None, "result": None}
        case CallEnded() if not text:
            hidden = {"reason": None}
        case _:
            pass
    return event.model_copy(update=hidden)
