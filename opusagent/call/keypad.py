"""The keys of the caller's telephone: gathered to an entry, and given to the model or past it to a tool.

What is sensitive stays out of every place where it would be kept: the log, the transcript, the ledger,
and with them the stored session, the history of the next stream, and the recording.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from opusagent.call.events import Effect, Report, StreamId, ToolCall
from opusagent.call.functions import CollectDigits, read
from opusagent.call.phone_side import PhoneSide
from opusagent.call.plan import CallPlan
from opusagent.call.privacy import Privacy
from opusagent.call.secrets import Secrets, masked
from opusagent.call.timers import Timers
from opusagent.errors import ToolError
from opusagent.models.session_state import FunctionCall
from opusagent.models.telephone import Dtmf, Entry, TelephoneFunction

__all__ = ["Keypad", "KeypadListener"]

COLLECT_PAUSE_S = 4.0
"""The pause that ends an entry which was asked for, unless the agent or the model says otherwise."""


class KeypadListener(Protocol):
    """What takes the entries."""

    def keys_pressed(self, typed: str, shown: str, now: float) -> None:
        """The caller entered something unasked: `typed` is for the model, `shown` for the transcript."""
        ...

    def tool_finished(
        self,
        call: ToolCall,
        result: dict[str, JsonValue],
        now: float,
        *,
        shown: dict[str, JsonValue] | None = None,
    ) -> None:
        """The result of a function; `shown` stands in for it in the ledger."""
        ...

    def begin_tool(self, call: ToolCall, shown: str, now: float) -> None:
        """A tool is run that the model has not asked for; `shown` are its arguments for the ledger."""
        ...

    def run_tool(self, call: ToolCall, now: float) -> None:
        """A tool is run for a function that the model has asked for."""
        ...

    def bot_is_busy(self, now: float) -> bool:
        """Whether the model is in the middle of an answer."""
        ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An entry that the model has asked for."""

    call: ToolCall
    entry: Entry


class _Timer(enum.Enum):
    ENTRY = "entry"


class Keypad:
    """Gathers what the caller presses.

    Args:
        new_id: A fresh unique id.
        listener: Takes the entries.
        secrets: Takes those that are sensitive.
        privacy: Keeps those out of recordings.
        out: Where effects are appended, in order.
    """

    def __init__(
        self,
        plan: CallPlan,
        phone: PhoneSide,
        listener: KeypadListener,
        *,
        secrets: Secrets,
        privacy: Privacy,
        new_id: Callable[[], str],
        out: list[Effect],
    ) -> None:
        self._dtmf: Dtmf = plan.agent.dtmf
        self._pause_s = plan.dtmf_pause_s
        barge_in = self._dtmf.barge_in
        self.silences_bot = plan.barge_in_on_dtmf if barge_in is None else barge_in
        """Whether a key cuts the bot off."""
        self._phone = phone
        self._listener = listener
        self.secrets = secrets
        self._privacy = privacy
        self._new_id = new_id
        self._out = out
        self._digits = ""
        self._wanted: _Wanted | None = None
        self._timers: Timers[_Timer] = Timers()

    @property
    def pending(self) -> bool:
        """Whether keys were pressed that nobody has been told of."""
        return bool(self._digits)

    @property
    def collecting(self) -> bool:
        """Whether the model waits for an entry."""
        return self._wanted is not None

    # What is pressed

    def press(self, digits: str, now: float) -> None:
        """The caller presses keys."""
        private: dict[str, JsonValue] = {} if self._entry.sensitive else {"digits": digits}
        self._out.append(Report("dtmf", {"count": len(digits)}, private))
        for key in digits:
            self._press_one(key, now)

    def _press_one(self, key: str, now: float) -> None:
        entry = self._entry
        if entry.sensitive:
            self._privacy.begin(now)
        self._timers.set(_Timer.ENTRY, now + self._pause_of(entry))
        if key != entry.terminator:
            self._digits += key
        if key == entry.terminator or len(self._digits) == entry.count:
            self._pause_is_over(now)

    def collect(self, call: ToolCall, wanted: CollectDigits, now: float) -> None:
        """The model asks for an entry; keys that were just pressed are its beginning.

        Raises:
            ToolError: If it has asked for one already, or there is none of that name.
        """
        if self._wanted is not None:
            raise ToolError("digits are being collected already")
        entry = self._entry_of(wanted)
        self._wanted = _Wanted(call, entry)
        early, self._digits = self._digits, ""
        if entry.sensitive:
            self._privacy.begin(now)
        self._timers.set(_Timer.ENTRY, now + self._phone.remaining_s(now) + entry.wait_s)
        for key in early:
            self._press_one(key, now)

    def is_secret(self, call: FunctionCall) -> bool:
        """Whether a call of the ledger came of an entry that was not to be kept."""
        if call.name != TelephoneFunction.COLLECT_DIGITS:
            return call.secret
        try:
            return self._entry_of(read(CollectDigits, call.arguments)).sensitive
        except ToolError:
            return False  # nothing was asked for

    def _entry_of(self, wanted: CollectDigits) -> Entry:
        entry = self._dtmf.inputs.get(wanted.input)
        if entry is None and wanted.input:
            raise ToolError(f"input: one of {', '.join(self._dtmf.inputs)}")
        entry = entry or Entry(count=wanted.count, terminator=wanted.terminator)
        return entry.model_copy(
            update={
                "timeout_s": wanted.timeout_s or entry.timeout_s,
                "sensitive": wanted.sensitive or entry.sensitive,
            }
        )

    @property
    def _entry(self) -> Entry:
        return self._dtmf if self._wanted is None else self._wanted.entry

    def _pause_of(self, entry: Entry) -> float:
        if entry.timeout_s is not None:
            return entry.timeout_s
        return self._pause_s if self._wanted is None else COLLECT_PAUSE_S

    # What is entered

    def _complete(self, now: float) -> None:
        self._timers.clear(_Timer.ENTRY)
        digits, self._digits = self._digits, ""
        wanted, self._wanted = self._wanted, None
        entry = self._dtmf if wanted is None else wanted.entry
        if entry.sensitive:
            self.secrets.learn(digits)
        if wanted is not None:
            self._answer(wanted, digits, now)
        elif digits and entry.tool:
            given = _Given(entry, digits)
            call = ToolCall(StreamId(0), self._new_id(), entry.tool, given.arguments)
            self._listener.begin_tool(call, given.shown_arguments, now)
        elif digits:
            typed = f"The caller pressed these keys on the telephone: {' '.join(digits)}"
            shown = typed
            if entry.sensitive:
                shown = (
                    f"The caller pressed {len(digits)} keys on the telephone; "
                    "they are secret and were not kept"
                )
            self._listener.keys_pressed(typed, shown, now)
        self._privacy.end(now)

    def _answer(self, wanted: _Wanted, digits: str, now: float) -> None:
        entry, call = wanted.entry, wanted.call
        tell = self._listener.tool_finished
        if len(digits) < max(entry.count, 1):
            n = f"only {len(digits)} of {entry.count}" if digits else "no"
            tell(call, {"error": f"the caller pressed {n} keys"}, now)
        elif entry.tool:
            arguments = _Given(entry, digits).arguments
            self._listener.run_tool(
                ToolCall(call.stream, call.tool_use_id, entry.tool, arguments), now
            )
        else:
            shown = masked(digits) if entry.sensitive else digits
            tell(call, {"digits": digits}, now, shown={"digits": shown})

    def let_go(self, now: float) -> None:
        """The call goes on elsewhere: nothing that was pressed is kept back."""
        if self._wanted is None and self._digits:
            self._complete(now)
        self._privacy.let_go(now)

    # Time

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """End an entry that is not gone on with."""
        while self._timers.pop_due(now) is not None:
            self._pause_is_over(now)

    def _pause_is_over(self, now: float) -> None:
        if self._wanted is not None:
            speaks = self._phone.audible(now) or self._listener.bot_is_busy(now)
            speaks = speaks or self._phone.sound.plays(now)
            if not self._digits and speaks:  # she is still being told what to enter
                again_s = self._phone.remaining_s(now) + self._wanted.entry.wait_s
                self._timers.set(_Timer.ENTRY, now + again_s)
                return
        elif not self.silences_bot and self._phone.audible(now) and not self._dtmf.tool:
            # Typed text makes the model stop speaking, which the setting forbids.
            self._timers.set(_Timer.ENTRY, now + min(self._phone.remaining_s(now), 1.0) + 0.05)
            return
        self._complete(now)


class _Given:
    """Digits as the arguments of a tool."""

    def __init__(self, entry: Entry, digits: str) -> None:
        self.arguments = json.dumps({entry.argument: digits})
        self.shown_arguments = self.arguments
        if entry.sensitive:
            self.shown_arguments = json.dumps({entry.argument: masked(digits)})
