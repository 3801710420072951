"""What was said and done in a call, in order: as it is stored, and as the next stream is told it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from opusagent.call.context import Past, as_past
from opusagent.call.secrets import Secrets
from opusagent.function_handler import FunctionHandler
from opusagent.models.session_state import (
    ConversationItem,
    FunctionCall,
    SessionState,
    StreamSwitch,
)
from opusagent.transcript_manager import TranscriptManager

__all__ = ["Chronicle"]

_TICK = timedelta(microseconds=1)

SETTLED = timedelta(seconds=10)
"""The model tells what the bot has said 2.6 to 9 s after its audio (field measurement). What was heard before
is settled: it may only change yet in that digits of it turn out to be secret."""


class Chronicle:
    """The transcript, the ledger and the changes of stream, dated by one clock.

    Args:
        utcnow: The time of day, aware of its zone.
    """

    def __init__(self, utcnow: Callable[[], datetime]) -> None:
        self._utcnow = utcnow
        self._newest_at = utcnow()
        self._switches: list[StreamSwitch] = []
        self.transcript = TranscriptManager()
        self.ledger = FunctionHandler()
        self.secrets = Secrets()

    def at(self) -> datetime:
        """The time of day, later each time: the order of the conversation hangs on it."""
        self._newest_at = max(self._newest_at + _TICK, self._utcnow())
        return self._newest_at

    def switched(self, reason: str) -> None:
        """Another stream takes over."""
        self._switches.append(StreamSwitch(at=self.at(), reason=reason))

    def context(self, owed: Sequence[str]) -> Past:
        """The conversation as the next stream is told it, without the texts that are typed to it."""
        settled_at = max(self._newest_at, self._utcnow()) - SETTLED
        return as_past(
            self._turns(given_only=False),
            self._calls(),
            owed=[*map(self.secrets.hide, owed)],
            settled_at=min(settled_at, self.transcript.waits_from or settled_at),
            hide=self.secrets.hide,
        )

    def snapshot(self, state: SessionState) -> SessionState:
        """The state with all that was said and done so far, as it is to be saved.

        What the bot is about to say is no part of it: whoever reads it would never say it.
        """
        state.last_activity = self._utcnow()
        state.stream_switches = list(self._switches)
        state.conversation_history = self._turns(given_only=True)
        state.current_turn = sum(item.type == "input" for item in state.conversation_history)
        state.function_calls = self._calls()
        return state.model_copy()

    def restore(self, state: SessionState) -> None:
        """Go on from what another process has stored, whose clock may be ahead of ours."""
        self._switches = list(state.stream_switches)
        said = [item.at for item in state.conversation_history if item.at]
        called = [call.ended_at or call.started_at for call in state.function_calls]
        self._newest_at = max([self._newest_at, *said, *called])
        self.transcript.restore_conversation_context(state.conversation_history, at=self.at())
        self.ledger.restore_function_calls(state.function_calls)

    def _turns(self, *, given_only: bool) -> list[ConversationItem]:
        items = self.transcript.get_conversation_context(given_only=given_only)
        return self.secrets.hide_in_turns(items)

    def _calls(self) -> list[FunctionCall]:
        return self.secrets.hide_in_calls(self.ledger.get_function_call_history())
