"""What the parts of a call share: how far it has come, both its sides, and what it orders."""

from __future__ import annotations

import enum

from pydantic import JsonValue

from opusagent.call.conversation import Conversation
from opusagent.call.events import (
    CallOutcome,
    CloseReason,
    Effect,
    EndedBy,
    Finish,
    HangUpSocket,
    Report,
    RunTool,
    Save,
    ToCaller,
)
from opusagent.call.notes import differs, transcript_of
from opusagent.call.phase import Phase, status_after
from opusagent.call.phone_side import PhoneSide
from opusagent.call.plan import Ambient, CallPlan
from opusagent.call.timers import Timers
from opusagent.models.session_state import SessionState

__all__ = ["Line", "Timer"]


class Timer(enum.Enum):
    """What the call waits for, apart from its sides."""

    ACCEPT = "accept"
    START = "start"
    LEAVE = "leave"
    GRACE = "grace"
    DRAIN = "drain"
    END = "end"


class Line:
    """One telephone call, between its websocket and its streams.

    Args:
        plan: The agent and the settings of the line.
        ambient: Ids, calendar and chance.
        goes_on: Whether another process has played something to this caller.

    Attributes:
        out: What is ordered, in order.
        last: What must come after every text to the caller.
        state: What is known of the conversation; None before `session.initiate`.
        talk: What is said; None before a session was asked for.
        fenced: Whether another process has the conversation now.
    """

    def __init__(self, plan: CallPlan, ambient: Ambient, *, goes_on: bool) -> None:
        self.plan = plan
        self.ambient = ambient
        self.phase = Phase.WAITING
        self.timers: Timers[Timer] = Timers()
        self.out: list[Effect] = []
        self.last: list[Effect] = []
        self.phone = PhoneSide(
            plan,
            new_id=ambient.new_id,
            utcnow=ambient.utcnow,
            out=self.out,
            # Nobody here knows which play streams there were: the clock has passed them all.
            first_play=round(ambient.utcnow().timestamp() * 1000) if goes_on else 1,
        )
        self.talk: Conversation | None = None
        self.state: SessionState | None = None
        self.saved: SessionState | None = None
        self.fenced = False

    def report(self, event: str, **fields: JsonValue) -> None:
        """Note something for the log."""
        self.out.append(Report(event, fields))

    def note(self, **facts: JsonValue) -> None:
        """Put facts into what is stored; what was stored before stays as it was."""
        if self.state is not None:
            self.state.metadata = {**self.state.metadata, **facts}

    def save(self) -> None:
        """Order the state to be stored, before whatever is ordered next."""
        if self.talk is not None and self.state is not None:
            self.saved = self.talk.snapshot(self.state)
            self.out.append(Save(self.saved))

    def refuse(self, reason: str, now: float) -> None:
        """End with `session.error`: the call cannot be taken."""
        self.phone.wire.reject(reason)
        self.last.append(HangUpSocket(1000, "refused"))
        self.end(EndedBy.REFUSED, reason, now)

    def end(self, by: EndedBy, reason: str, now: float, *, words: str = "") -> None:
        """The call is over. What may be private is in `words`: the reason is logged and stored."""
        if self.talk is not None:
            self.talk.end(now)
            self.talk.model.close_all(CloseReason.CALL_ENDED)
        self.timers.clear_all()
        self.phase = Phase.OVER
        if self.state is not None:
            self.state.status = status_after(by)
            self.note(ended_by=by.value, end_reason=reason)
        self.last.append(Finish(CallOutcome(by, reason, words)))

    def effects(self) -> list[Effect]:
        """All that has gathered: what the streams get, the texts to the caller, the state, the end."""
        effects = self.out.copy()
        self.out.clear()
        effects += [ToCaller(text) for text in self.phone.wire.texts_to_send()]
        talk = self.talk
        if talk is not None and self.state is not None and (talk.changed or self.last):
            talk.changed = False
            state = talk.snapshot(self.state)
            if not self.fenced and (self.last or differs(state, self.saved)):
                self.saved = state
                effects.insert(_before_tools(effects), Save(state))
        if self.last and self.phase is Phase.OVER and self.saved is not None:
            effects.append(transcript_of(self.saved))
        effects += self.last
        self.last.clear()
        return effects


def _before_tools(effects: list[Effect]) -> int:
    """Where to save: a tool begins once it is known that it has, and the sooner that is known, the sooner."""
    tools = (i for i, effect in enumerate(effects) if isinstance(effect, RunTool))
    return next(tools, len(effects))
