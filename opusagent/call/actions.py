"""What is done in a call besides talking: tools, the telephone's functions, keys, and values that are kept."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pydantic import JsonValue

from opusagent.audiocodes import events as phone_events
from opusagent.call.chronicle import Chronicle
from opusagent.call.comfort import Comfort
from opusagent.call.events import Effect, Report, ToolCall
from opusagent.call.filler import Filler
from opusagent.call.keypad import Keypad
from opusagent.call.legs import Leg
from opusagent.call.model_side import ModelSide
from opusagent.call.phone_side import PhoneSide
from opusagent.call.plan import CallPlan
from opusagent.call.privacy import Privacy
from opusagent.call.telephone import Telephone
from opusagent.call.timers import Timers, earliest
from opusagent.call.tool_calls import ToolCalls
from opusagent.call.variables import Variables
from opusagent.models.session_state import FunctionCall, SessionState
from opusagent.sonic import reader as sonic

__all__ = ["Actions", "Talk"]

TOOL_RELEASE_S = 1.0
"""A tool request whose block is never ended is taken as complete after this long."""


class Talk(Protocol):
    """The conversation in which it is done.

    Attributes:
        changed: Whether something is to be saved.
    """

    changed: bool

    def bot_is_busy(self, now: float) -> bool:
        """Whether the model is in the middle of an answer."""
        ...

    def prompt(self, text: str, now: float) -> None:
        """Have the model say something of its own, as a text of the agent's file asks it to."""
        ...

    def keys_pressed(self, typed: str, shown: str, now: float) -> None:
        """The caller entered something: `typed` is for the model, `shown` for the transcript."""
        ...

    def caller_acted(self, now: float) -> None:
        """The caller did something that she will be answered."""
        ...


class _Timer(enum.Enum):
    RELEASE = "release"


class Actions:
    """Joins the model, the tools, and the telephone.

    Args:
        new_id: A fresh unique id.
        hang_up: Ends the call once the bot has been heard, for a reason.
        variables: What tools have kept so far.
        out: Where effects are appended, in order.
    """

    def __init__(
        self,
        plan: CallPlan,
        talk: Talk,
        *,
        phone: PhoneSide,
        model: ModelSide,
        chronicle: Chronicle,
        comfort: Comfort,
        new_id: Callable[[], str],
        hang_up: Callable[[str, float], None],
        variables: Mapping[str, JsonValue],
        out: list[Effect],
    ) -> None:
        self._talk = talk
        self._model = model
        self._chronicle = chronicle
        self._out = out
        self._variables = Variables(variables)
        self._timers: Timers[_Timer] = Timers()
        self.privacy = Privacy(phone, pauses=plan.agent.dtmf.pause_recording)
        self.keypad = Keypad(
            plan,
            phone,
            self,
            secrets=chronicle.secrets,
            privacy=self.privacy,
            new_id=new_id,
            out=out,
        )
        self.telephone = Telephone(
            plan.agent,
            phone,
            keypad=self.keypad,
            privacy=self.privacy,
            variables=self._variables,
            out=out,
            finished=self.tool_finished,
            hang_up=hang_up,
            busy=talk.bot_is_busy,
        )
        self._filler = Filler(plan, phone, comfort, prompt=talk.prompt, busy=talk.bot_is_busy)
        self._tools = ToolCalls(plan, model, self.telephone, self._filler, chronicle, out=out)
        self._parts = (self.keypad, self.privacy, self._filler, self.telephone)

    @property
    def tools_running(self) -> bool:
        """Whether a tool has still to give its result."""
        return self._tools.running

    @property
    def pending(self) -> bool:
        """Whether something is under way that is to be done first."""
        return self._tools.running or self.telephone.pending or self.keypad.pending

    # What the model asks for

    def model_event(self, leg: Leg, event: sonic.SonicEvent, now: float) -> None:
        """Take what a stream says about tools."""
        match event:
            case sonic.ToolAnnounced():
                self._timers.set(_Timer.RELEASE, now + TOOL_RELEASE_S)
            case sonic.ToolRequested():
                self._requested(leg, event, now)

    def release(self, now: float) -> None:
        """Do what the live stream has asked for and not ended."""
        if (live := self._model.live) is not None:
            for request in live.wire.release_tools():
                self._requested(live, request, now)

    def stream_lost(self) -> None:
        """Nothing more comes of what the live stream was about to ask for."""
        self._timers.clear(_Timer.RELEASE)

    def _requested(self, leg: Leg, event: sonic.ToolRequested, now: float) -> None:
        if self._tools.requested(leg, event, now):
            # What it says next, it says after the call.
            self._chronicle.transcript.bot_finished(stream=leg.id)
            self._talk.changed = True

    # What comes of it

    def tool_finished(
        self,
        call: ToolCall,
        result: dict[str, JsonValue],
        now: float,
        *,
        shown: dict[str, JsonValue] | None = None,
    ) -> None:
        """A tool gave its result: the model gets it, once. `shown` stands in for it in the ledger."""
        if self._tools.finished(call, result, now, shown=shown):
            self._talk.changed = True

    def state_changed(self, key: str, value: JsonValue) -> None:
        """A tool has set a value of the call's state."""
        if not self._variables.set(key, value):
            self._out.append(Report("state not kept"))
        self._talk.changed = True

    # What the caller and her telephone do

    def phone_event(
        self, event: phone_events.TransferStatus | phone_events.ActivityReceived, now: float
    ) -> None:
        """VoiceAI Connect says what became of something that it was asked for."""
        match event:
            case phone_events.TransferStatus():
                self.telephone.transfer_status(event, now)
            case phone_events.ActivityReceived():
                if text := self.telephone.failed_sound(event, now):
                    self._model.type_text(text, now)

    def keys_pressed(self, typed: str, shown: str, now: float) -> None:
        """The caller entered something that the model is to know."""
        self._talk.keys_pressed(typed, shown, now)

    def begin_tool(self, call: ToolCall, shown: str, now: float) -> None:
        """Run a tool that the model has not asked for. `shown` are its arguments in the ledger."""
        self._talk.caller_acted(now)
        self._tools.begin(call, shown, now)
        self._talk.changed = True

    def run_tool(self, call: ToolCall, now: float) -> None:
        """Run a tool for a function that the model has asked for."""
        self._tools.run(call, now)

    def bot_is_busy(self, now: float) -> bool:
        """Whether the model is in the middle of an answer."""
        return self._talk.bot_is_busy(now)

    def caller_lost(self, now: float) -> None:
        """Her line is gone."""
        self.privacy.caller_lost(now)
        self.telephone.caller_lost(now)

    def caller_found(self, now: float) -> None:
        """She is back."""
        self.privacy.caller_found(now)
        self.telephone.caller_found(now)

    # Storing

    def note(self, state: SessionState) -> None:
        """Put into the state what is to be saved."""
        state.variables = self._variables.values

    def restore(
        self,
        calls: Sequence[FunctionCall],
        now: float,
        *,
        since: datetime | None,
        noted_at: datetime,
    ) -> bool:
        """Go on with what another process began. True if the model has something to answer.

        For the arguments see `ToolCalls.restore` and `Privacy.restore`.
        """
        self.privacy.restore(calls, now, noted_at=noted_at, is_secret=self.keypad.is_secret)
        return self._tools.restore(calls, now, since=since)

    # Time

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return earliest(self._timers.next(), *[part.next_timer() for part in self._parts])

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        while self._timers.pop_due(now) is not None:
            self.release(now)
        for part in self._parts:
            part.handle_timer(now)
