"""What came of a play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue
from pydantic_core import from_json

from opusagent.models.session_state import FunctionCall, SessionState
from opusagent.simulators.caller_record import CallRecord
from opusagent.sonic.peer_record import StreamRecord

__all__ = ["Line", "Outcome", "ToolUse"]


@dataclass(frozen=True, slots=True)
class Line:
    """One turn of the transcript.

    Attributes:
        by: Who said it.
        interrupted: Whether the caller cut it off; the text is what was heard of it.
    """

    by: Literal["caller", "bot"]
    text: str
    interrupted: bool = False

    def __str__(self) -> str:
        return f"{self.by}: {self.text}{' -' if self.interrupted else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """One use of a tool, as it stands in the call's ledger.

    Attributes:
        arguments: What it was called with; as text where they were no JSON object.
        result: What the model was told; None if it had not ended when the call did.
        failed: Whether that is an error.
        seconds: How long it took.
    """

    name: str
    arguments: dict[str, JsonValue] | str
    result: dict[str, JsonValue] | None
    failed: bool
    seconds: float | None

    @classmethod
    def of(cls, call: FunctionCall) -> ToolUse:
        """A line of the ledger."""
        took = None if call.ended_at is None else (call.ended_at - call.started_at).total_seconds()
        return cls(
            name=call.name,
            arguments=_arguments(call.arguments),
            result=call.result,
            failed=call.result is not None and "error" in call.result,
            seconds=took,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A call that was played.

    Attributes:
        transcript: What was said, as the bridge has it in the end.
        tool_calls: What the model had done, in order.
        hung_up_by: Who ended the call; `nobody` where it broke off.
        hangup_reason: The bot's, if it was the bot.
        activities: What the bot told VoiceAI Connect besides sound, e.g. a transfer, as on the wire.
        told: What the model was told whenever it had to answer: words, typed text, results of tools.
        streams: What each stream to the model got and did: its prompt, history, audio.
        phone: What was measured at the phone.
        state: The session as it was stored last.
        seconds: How long the call was.
    """

    transcript: Sequence[Line]
    tool_calls: Sequence[ToolUse]
    hung_up_by: Literal["caller", "bot", "nobody"]
    hangup_reason: str
    activities: Sequence[dict[str, JsonValue]]
    told: Sequence[str]
    streams: Sequence[StreamRecord]
    phone: CallRecord
    state: SessionState
    seconds: float

    @property
    def text(self) -> str:
        """The transcript as text, one turn a line."""
        return "\n".join(map(str, self.transcript))

    @property
    def said_by_bot(self) -> list[str]:
        """The bot's turns."""
        return [line.text for line in self.transcript if line.by == "bot"]

    @property
    def said_by_caller(self) -> list[str]:
        """The caller's turns."""
        return [line.text for line in self.transcript if line.by == "caller"]

    def events(self, name: str) -> list[dict[str, JsonValue]]:
        """The bot's activities of that name, e.g. `transfer` or `hangup`."""
        return [activity for activity in self.activities if activity.get("name") == name]


def _arguments(text: str) -> dict[str, JsonValue] | str:
    try:
        value = from_json(text)
    except ValueError:
        return text
    return value if isinstance(value, dict) else text
