"""What an operator sees of calls and sessions: facts, and the words only where they are asked for."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import JsonValue

from opusagent.call.events import Report
from opusagent.clock import Clock
from opusagent.models.session_state import SessionState

__all__ = ["CallFacts", "history", "session_facts"]


class CallFacts:
    """One call of this process, as far as its reports tell. Nothing private is in it.

    Args:
        conversation_id: Which.
        agent: Who answers.
        tenant: Whose it is; empty for the only one.
        clock: Tells the time.
        then: Takes each report after that.
    """

    def __init__(
        self,
        conversation_id: str,
        *,
        agent: str,
        tenant: str,
        clock: Clock,
        then: Callable[[Report], None],
    ) -> None:
        self._fixed: dict[str, JsonValue] = {
            "id": conversation_id,
            "agent": agent,
            "tenant": tenant,
            "since": clock.utcnow().isoformat(),
        }
        self._now = clock.monotonic
        self._then = then
        self._heads: dict[JsonValue, float] = {}
        self._live: JsonValue = None
        self._switches = 0

    def answered_by(self, agent: str) -> None:
        """Another agent answers than the one that was to."""
        self._fixed["agent"] = agent

    def report(self, report: Report) -> None:
        """Learn from what the call reports, and pass it on."""
        stream = report.fields.get("stream")
        match report.event:
            case "standby opened":
                self._heads[stream] = self._now()
            case "stream opened":
                self._heads[stream] = self._now()
                self._live = stream
            case "stream switched":
                self._live = stream
                self._switches += 1
            case "closed first":
                self._live = None
                self._switches += 1
            case "stream lost":
                self._live = None
            case "stream closed":
                self._heads.pop(stream, None)
        self._then(report)

    def as_json(self, state: str) -> dict[str, JsonValue]:
        """The call now; `state` is how far it has come.

        `stream_age_s` is null while no stream hears the caller; `switches` counts those of this process.
        """
        head_at = self._heads.get(self._live)
        return self._fixed | {
            "state": state,
            "stream_age_s": None if head_at is None else round(self._now() - head_at, 1),
            "switches": self._switches,
        }


def session_facts(state: SessionState) -> dict[str, JsonValue]:
    """A stored session without a word of what was said, or by whom."""
    return {
        "id": state.conversation_id,
        "status": state.status.value,
        "tenant": state.tenant,
        "agent": str(state.metadata.get("agent", state.bot_name)),
        "created_at": state.created_at.isoformat(),
        "last_activity": state.last_activity.isoformat(),
        "owner": state.owner,
        "owner_epoch": state.owner_epoch,
        "resumed_count": state.resumed_count,
        "turns": len(state.conversation_history),
        "function_calls": len(state.function_calls),
        "stream_switches": len(state.stream_switches),
        "unanswered_audio_bytes": sum(map(len, state.audio_buffer)),
    }


_ROLES = {"input": "user", "output": "assistant"}


def history(state: SessionState) -> list[JsonValue]:
    """What was said, oldest first, in the words of the recovery guide: role, text, timestamp.

    Source: Session Recovery Guide for EKS Deployments, conversation history.
    """
    return [
        {
            "role": _ROLES[item.type],
            "text": item.text,
            "timestamp": None if item.at is None else item.at.isoformat(),
        }
        for item in state.conversation_history
    ]
