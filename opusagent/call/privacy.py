"""While the caller enters something secret, no recording hears her: neither ours nor AudioCodes'.

AudioCodes' recording is the model's as well: what the model has paused or stopped is not gone on with here,
and the model does not make it go on in the middle of an entry.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from opusagent.call.phone_side import PhoneSide
from opusagent.call.timers import Timers
from opusagent.errors import ToolError
from opusagent.models.session_state import FunctionCall, ToolStatus
from opusagent.models.telephone import TelephoneFunction

__all__ = ["TAIL_S", "Privacy"]

TAIL_S = 0.5
"""The tone of a key comes after its event: audio travels in chunks of 160 ms (live captures)."""

_PAUSE: Final = "pauseCallRecording"
_RESUME: Final = "resumeCallRecording"

_ORDERS: Final[Mapping[str, tuple[str, str]]] = {
    TelephoneFunction.START_RECORDING: ("startCallRecording", "recording"),
    TelephoneFunction.STOP_RECORDING: ("stopCallRecording", "stopped"),
    TelephoneFunction.PAUSE_RECORDING: (_PAUSE, "paused"),
    TelephoneFunction.RESUME_RECORDING: (_RESUME, "recording"),
}

_ENDS: Final = (TelephoneFunction.STOP_RECORDING, TelephoneFunction.PAUSE_RECORDING)


class _Timer(enum.Enum):
    OVER = "over"


class Privacy:
    """Keeps secret entries out of recordings.

    Args:
        phone: Whose sound is recorded.
        pauses: Whether AudioCodes' recording is to pause.
    """

    def __init__(self, phone: PhoneSide, *, pauses: bool) -> None:
        self._phone = phone
        self._pauses = pauses
        self._entering = False
        self._ended = False  # by the model: AudioCodes' recording is paused or stopped
        self._owed = ""  # what AudioCodes is to be told once it may hear her again
        self._timers: Timers[_Timer] = Timers()

    def begin(self) -> None:
        """The caller is about to enter something secret, or goes on with it."""
        self._entering = self._phone.secret = True
        self._timers.clear(_Timer.OVER)
        self.look()

    def end(self, now: float) -> None:
        """She has entered it; the tone of the last key is still to come."""
        self._entering = False
        self._timers.set(_Timer.OVER, now + TAIL_S)

    def look(self) -> None:
        """Tell AudioCodes what it was not told yet, where there is a line to it."""
        if not self._phone.connected:
            return
        if not self._phone.secret:
            owed, self._owed = self._owed, ""
            if owed:
                self._phone.wire.send_activity(owed)
        elif self._pauses and not self._ended and not self._owed:
            self._phone.wire.send_activity(_PAUSE)
            self._owed = _RESUME

    def order(self, function: TelephoneFunction) -> dict[str, JsonValue]:
        """Do what the model asks of AudioCodes' recording; returns the result. The line is there.

        Raises:
            ToolError: If it is to record what the caller enters in secret.
        """
        name, status = _ORDERS[function]
        if function in _ENDS:
            self._ended, self._owed = True, ""
        elif self._entering:
            raise ToolError("not now: the caller is entering something secret. Ask again after it")
        else:
            self._ended = False
        if function not in _ENDS and self._phone.secret:
            self._owed = name  # in a moment
        else:
            self._phone.wire.send_activity(name)
        return {"status": status}

    def let_go(self) -> None:
        """The call goes on elsewhere: an entry that is over is over at once."""
        if not self._entering:
            self._over()

    def restore(self, calls: Sequence[FunctionCall], now: float) -> None:
        """Go on after another process, which may have paused the recording and not come to let it go on."""
        orders = [c.name for c in calls if c.name in _ORDERS and c.status is ToolStatus.DONE]
        self._ended = bool(orders) and orders[-1] in _ENDS
        newest = [call for call in calls if call.status is ToolStatus.RUNNING] + [*calls[-1:]]
        collects = any(call.name == TelephoneFunction.COLLECT_DIGITS for call in newest)
        if collects and self._pauses and not self._ended:
            self._owed = _RESUME
            self._timers.set(_Timer.OVER, now)

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Let the recordings go on once the last tone is over."""
        if self._timers.pop_due(now) is not None:
            self._over()

    def _over(self) -> None:
        self._timers.clear(_Timer.OVER)
        self._phone.secret = False
        self.look()
