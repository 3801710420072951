"""What the agent's texts say in this call: with what is known of it where their variables stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from opusagent.call.events import Effect, Report
from opusagent.call.plan import CallPlan
from opusagent.models.session_state import SessionState
from opusagent.models.texts import fill, is_zone, time_of_day

__all__ = ["Script", "kept_parameters"]

MAX_PARAMETERS: Final = 64
MAX_PARAMETER_CHARS: Final = 2_000


class Script:
    """The texts of one call. Each is filled when it is asked for: state and time go on.

    Args:
        plan: With the agent.
        state: What is known of the conversation; None before there is one.
        utcnow: The time of day, aware of its zone.
        out: Where effects are appended.
    """

    def __init__(
        self,
        plan: CallPlan,
        *,
        state: Callable[[], SessionState | None],
        utcnow: Callable[[], datetime],
        out: list[Effect],
    ) -> None:
        self._plan = plan
        self._state = state
        self._utcnow = utcnow
        self._out = out
        self._refused = ""  # what was given for a time zone, and is none

    @property
    def prompt(self) -> str:
        """What a stream that is opened now is told before the call."""
        return self.filled(self._plan.prompt)

    @property
    def greeting(self) -> str:
        """What makes the model greet, or what its recorded greeting says."""
        return self.filled(self._plan.agent.greeting.text)

    @property
    def resume(self) -> str:
        """What makes the model say something to a caller who comes back."""
        return self.filled(self._plan.agent.resume.text)

    def filled(self, text: str) -> str:
        """The text with the call's values in it."""
        return fill(text, self._values()) if "{" in text else text

    def _values(self) -> dict[str, JsonValue]:
        values = self._facts()
        return values | time_of_day(self._utcnow(), self._zone(values))

    def _zone(self, values: Mapping[str, JsonValue]) -> str:
        """The time zone that the agent's file and the call name; else the one that the file names without a call."""
        text = self._plan.agent.time_zone
        zone, default = fill(text, values), fill(text, {}) or "UTC"
        if not zone or is_zone(zone):
            return zone or default
        if zone != self._refused:
            self._refused = zone
            self._out.append(Report("no time zone", {"instead": default}, {"time_zone": zone}))
        return default

    def _facts(self) -> dict[str, JsonValue]:
        values: dict[str, JsonValue] = {"agent": self._plan.agent_name}
        if (state := self._state()) is None:
            return values
        start = state.metadata.get("start")
        parameters = start if isinstance(start, dict) else {}
        return values | {
            "caller": None if state.caller == "unknown" else state.caller,
            "bot_name": state.bot_name,
            "conversation_id": state.conversation_id,
            "called": parameters.get("callee"),
            "caller_name": parameters.get("callerDisplayName"),
            "query": state.metadata.get("query"),
            "start": parameters,
            "state": dict(state.variables),
        }


def kept_parameters(parameters: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The parameters of the `start` activity, SIP headers among them, as far as they are stored: bounded."""
    small = {
        name: value
        for name, value in parameters.items()
        if len(json.dumps(value)) <= MAX_PARAMETER_CHARS
    }
    return dict(list(small.items())[:MAX_PARAMETERS])
