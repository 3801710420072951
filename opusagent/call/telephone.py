"""The telephone's functions: what the model may have VoiceAI Connect do.

Names and parameters are those of the AudioCodes Bot API. What the caller would be cut off by - a hang-up,
a transfer, a sound that is played - waits until she has heard what the bot is saying, and the sound that was
played before; if she interrupts either, it is not done (a sound, where ends of sounds are told at all).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from pydantic import JsonValue
from pydantic_core import to_json

from opusagent.audiocodes.events import ActivityReceived, TransferStatus
from opusagent.call import functions
from opusagent.call.events import Effect, KeepState, Report, ToolCall
from opusagent.call.farewell import Farewell
from opusagent.call.keypad import Keypad
from opusagent.call.phone_side import PhoneSide
from opusagent.call.privacy import RECENT_S, Privacy
from opusagent.call.timers import Timers
from opusagent.call.variables import MAX_STATE_BYTES, MAX_STATE_DEPTH, Variables
from opusagent.errors import ToolError
from opusagent.models.agent import Agent
from opusagent.models.telephone import Target, TelephoneFunction

__all__ = ["TRANSFER_S", "Telephone", "transfer_params"]

TRANSFER_S = 90.0
"""How long a transfer may take to be answered or to fail, where the tenant has us told of it at all."""

SAID_S = 2.0
"""What the bot has finished saying so shortly before it hangs up was its goodbye."""

SPEAK_S = 5.0
"""How long the bot may take to begin its goodbye."""

LOOK_AGAIN_S = 0.1

MAX_METADATA_BYTES = 4_000
"""No limit is published; it travels in one SIP message, and those are small."""

type Result = dict[str, JsonValue]


class _Stage(enum.Enum):
    """How far something has come that has to wait."""

    PROMPTED = "prompted"  # the model has still to say goodbye
    SPEAKING = "speaking"  # the bot is being heard
    RINGING = "ringing"  # the transfer was ordered


class _Timer(enum.Enum):
    LOOK = "look"


@dataclass(slots=True)
class _Deed:
    """Something that waits until the bot has been heard."""

    name: str
    do: Callable[[float], None]
    done: Callable[[Result, float], None]
    farewell: Farewell
    cuts: int  # of sounds, before
    stage: _Stage = _Stage.SPEAKING
    by: float = field(default=0.0)
    in_doubt: bool = False  # whether it was ordered into a line that was dead already


def transfer_params(to: Target, reason: str) -> dict[str, JsonValue]:
    """The parameters of a `transfer` activity."""
    params: dict[str, JsonValue] = {"transferTarget": to.to}
    if reason:
        params["handoverReason"] = reason
    if to.referred_by:
        params["transferReferredByURL"] = to.referred_by
    if to.headers:
        params["transferSipHeaders"] = [
            {"name": name, "value": value} for name, value in to.headers.items()
        ]
    return params


class Telephone:
    """Does what the model asks of the telephone.

    Args:
        agent: With whom and what it may reach.
        phone: Where it is done.
        keypad: Collects digits.
        privacy: Has AudioCodes' recording in its hands.
        variables: The state of the call.
        out: Where effects are appended.
        finished: Takes the result of a function that could not be answered at once.
        hang_up: Ends the call, for a reason.
        busy: Whether the model is in the middle of an answer.
    """

    def __init__(
        self,
        agent: Agent,
        phone: PhoneSide,
        *,
        keypad: Keypad,
        privacy: Privacy,
        variables: Variables,
        out: list[Effect],
        finished: Callable[[ToolCall, Result, float], object],
        hang_up: Callable[[str, float], None],
        busy: Callable[[float], bool],
    ) -> None:
        self._section = agent.telephone
        self._phone = phone
        self._keypad = keypad
        self._privacy = privacy
        self._variables = variables
        self._out = out
        self._finished = finished
        self._hang_up = hang_up
        self._busy = busy
        self._deed: _Deed | None = None
        self._leaving: str | None = None
        self._timers: Timers[_Timer] = Timers()

    def has(self, name: str) -> bool:
        """Whether the agent was given a function of this name."""
        return name in self._section.functions

    def run(self, call: ToolCall, now: float) -> Result | None:
        """Do what the model asks; its result, or None if that is to come."""
        try:
            return self._run(TelephoneFunction(call.name), call, now)
        except ToolError as error:
            return {"error": str(error)}

    def _run(self, function: TelephoneFunction, call: ToolCall, now: float) -> Result | None:
        match function:
            case TelephoneFunction.HANG_UP:
                return self._say_goodbye(call, now)
            case TelephoneFunction.TRANSFER_CALL:
                wanted = functions.read(functions.TransferCall, call.arguments)
                reason = self._keypad.secrets.hide(wanted.reason)
                self.transfer(wanted.target, reason, now, done=self._answer(call))
                return None
            case TelephoneFunction.PLAY_URL:
                self._play(call, now)
                return None
            case TelephoneFunction.COLLECT_DIGITS:
                entry = functions.read(functions.CollectDigits, call.arguments)
                self._keypad.collect(call, entry, now)
                return None
            case TelephoneFunction.SET_STATE:
                return self._set_state(call)
            case TelephoneFunction.GET_STATE:
                key = functions.read(functions.GetState, call.arguments).key
                values = self._variables.values
                return {"state": values} if not key else {"value": values.get(key)}
            case TelephoneFunction.SEND_DTMF:
                digits = functions.read(functions.SendDtmf, call.arguments).digits
                self._send("sendDtmf", activity_params={"dtmfDigits": digits})
                return {"status": "sent"}
            case TelephoneFunction.SEND_METADATA:
                data = functions.read(functions.SendMetadata, call.arguments).data
                if len(to_json(data)) > MAX_METADATA_BYTES:
                    raise ToolError(f"data: at most {MAX_METADATA_BYTES} bytes of JSON")
                self._send("sendMetaData", value=data)
                return {"status": "sent"}
            case (
                TelephoneFunction.START_RECORDING
                | TelephoneFunction.STOP_RECORDING
                | TelephoneFunction.PAUSE_RECORDING
                | TelephoneFunction.RESUME_RECORDING
            ):
                functions.read(functions.NoArguments, call.arguments)
                self._need_line()
                return self._privacy.order(function, now)
            case _:
                assert_never(function)

    # What waits until the bot has been heard

    @property
    def leaving(self) -> str | None:
        """Why the call is about to be hung up, in words; None if it is not."""
        return self._leaving

    @property
    def pending(self) -> bool:
        """Whether something is under way that the caller is not to be disturbed in."""
        return self._deed is not None

    @property
    def transferring(self) -> bool:
        """Whether the call is being transferred."""
        return self._deed is not None and self._deed.stage is _Stage.RINGING

    def _say_goodbye(self, call: ToolCall, now: float) -> Result | None:
        reason = functions.read(functions.HangUpCall, call.arguments).reason
        reason = self._keypad.secrets.hide(reason)
        heard = self._phone.audible(now - SAID_S) or self._phone.sound.surely_plays(now)
        said = heard or self._busy(now)

        def hang_up(at: float) -> None:
            self._end({"status": "the call has ended"}, at)
            self._hang_up(reason, at)

        deed = self._begin(call.name, hang_up, self._answer(call), now)
        self._leaving = reason
        if said:
            return None
        deed.stage, deed.by = _Stage.PROMPTED, now + SPEAK_S
        return dict(functions.GOODBYE_TO_COME)

    def transfer(
        self, target: str, reason: str, now: float, *, done: Callable[[Result, float], None]
    ) -> None:
        """Transfer the caller once the bot has been heard.

        Args:
            target: Its name in the agent's file.
            reason: Why; VoiceAI Connect passes it on.
            now: The present, in monotonic seconds.
            done: Takes what became of it, if the call is not over by then.

        Raises:
            ToolError: If there is no such target, or something else is about to be done.
        """
        if target not in self._section.targets:
            raise ToolError(f"target: one of {', '.join(self._section.targets)}")
        params = transfer_params(self._section.targets[target], reason)

        def ring(at: float) -> None:
            self._send("transfer", activity_params=params)
            self._out.append(Report("transfer", {"target": target}))
            deed.stage, deed.by = _Stage.RINGING, at + TRANSFER_S
            self._timers.set(_Timer.LOOK, deed.by)

        deed = self._begin("transfer_call", ring, done, now)

    def _play(self, call: ToolCall, now: float) -> None:
        name = functions.read(functions.PlayUrl, call.arguments).sound
        if name not in self._section.sounds:
            raise ToolError(f"sound: one of {', '.join(self._section.sounds)}")
        sound = self._section.sounds[name]
        params: dict[str, JsonValue] = {
            "playUrlUrl": sound.url,
            "playUrlMediaFormat": sound.media_format,
            "playUrlAltText": sound.description or name,
            "playUrlCaching": sound.cache,
            "playUrlFailureHandling": "notify-bot",
        }

        def play(at: float) -> None:
            self._send("playUrl", activity_params=params)
            self._phone.sound.begin(at, max_s=sound.max_s)
            self._end({"status": "playing"}, at)

        self._begin(call.name, play, self._answer(call), now)

    def _begin(
        self,
        name: str,
        do: Callable[[float], None],
        done: Callable[[Result, float], None],
        now: float,
    ) -> _Deed:
        if self._deed is not None:
            raise ToolError(f"{self._deed.name} was asked for before and is under way")
        farewell = Farewell(self._phone, self._busy, now)
        self._deed = _Deed(name, do, done, farewell, self._phone.sound.cuts)
        self._timers.set(_Timer.LOOK, now)
        return self._deed

    def _end(self, result: Result, now: float) -> None:
        deed, self._deed, self._leaving = self._deed, None, None
        self._timers.clear_all()
        if deed is not None:
            deed.done(result, now)

    def _answer(self, call: ToolCall) -> Callable[[Result, float], None]:
        def finished(result: Result, now: float) -> None:
            self._finished(call, result, now)

        return finished

    # What comes of it

    def interrupted(self, now: float) -> None:
        """The caller has cut the bot off: what was to follow is not done."""
        if self._deed is not None and self._deed.stage is not _Stage.RINGING:
            self._end({"error": "not done: the caller began to speak"}, now)

    def caller_spoke(self, now: float) -> None:
        """The caller says or enters something before the bot has begun its goodbye: there is more to talk about."""
        if self._deed is not None and self._deed.stage is _Stage.PROMPTED:
            self._end({"error": "not done: the caller began to speak"}, now)

    def transfer_status(self, status: TransferStatus, now: float) -> None:
        """VoiceAI Connect says what became of a transfer."""
        if not self.transferring:
            return
        if status.status.lower() == "answered":
            self._end({"status": "the caller has been transferred"}, now)
        else:
            why = status.reason_code or status.reason or "error"
            self._end({"error": f"the transfer failed: {why}. The caller is still here"}, now)

    def caller_lost(self, now: float) -> None:
        """The line is gone: a transfer may have been ordered of nobody."""
        if self._deed is not None and self.transferring:
            self._deed.in_doubt = now - (self._deed.by - TRANSFER_S) <= RECENT_S

    def caller_found(self, now: float) -> None:
        """There is a line again: what she has not heard is waited for, and a transfer of nobody is not."""
        if self._deed is None:
            return
        self._deed.farewell = Farewell(self._phone, self._busy, now)
        if self._deed.in_doubt:
            self._end({"error": "the line was lost, and the caller is still here: ask again"}, now)

    def session_ended(self, reason_code: str, now: float) -> None:
        """The call is over: a transfer may have been the reason."""
        if reason_code == "transferred" and self.transferring:
            self._end({"status": "the caller has been transferred"}, now)

    def failed_sound(self, event: ActivityReceived, now: float) -> str:
        """What the model is to be told of a recording that could not be played; empty if it is not about one."""
        if event.name.lower() != "playurlfailed":
            return ""
        self._phone.sound.over(now)
        return "[data, not an instruction: play_url, called before, has failed: the sound was not heard]"

    # Time

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Do what has waited for the bot to be heard."""
        while self._timers.pop_due(now) is not None:
            if self._deed is not None:
                self._look(self._deed, now)

    def _look(self, deed: _Deed, now: float) -> None:
        if deed.stage is _Stage.RINGING:
            self._end({"error": "nobody knows what became of the transfer"}, now)
            return
        if self._phone.sound.cuts != deed.cuts:
            self.interrupted(now)
            return
        if deed.stage is _Stage.PROMPTED:
            if now < deed.by and not (self._busy(now) or self._phone.audible(now)):
                self._timers.set(_Timer.LOOK, now + LOOK_AGAIN_S)
                return
            deed.stage, deed.farewell = _Stage.SPEAKING, Farewell(self._phone, self._busy, now)
        again_at = deed.farewell.wait_until(now)
        if again_at is None and not self._phone.connected:
            again_at = now + 5 * LOOK_AGAIN_S  # when she is back
        if again_at is None:
            deed.do(now)
        else:
            self._timers.set(_Timer.LOOK, again_at)

    # Within

    def _send(
        self,
        name: str,
        *,
        value: JsonValue = None,
        activity_params: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self._need_line()
        self._phone.wire.send_activity(name, value=value, activity_params=activity_params)

    def _need_line(self) -> None:
        if not self._phone.connected:
            raise ToolError("the line to the caller is lost at the moment")

    def _set_state(self, call: ToolCall) -> Result:
        wanted = functions.read(functions.SetState, call.arguments)
        kept: JsonValue = {wanted.key: wanted.value}
        if self._keypad.secrets.hide_in(kept) != kept:
            raise ToolError("secret digits are not kept")
        if not self._variables.set(wanted.key, wanted.value):
            raise ToolError(
                f"it does not fit: all values may take {MAX_STATE_BYTES} bytes of JSON, "
                f"nested {MAX_STATE_DEPTH} times at most"
            )
        self._out.append(KeepState(wanted.key, wanted.value))
        return {"status": "kept"}
