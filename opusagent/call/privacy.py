"""While the caller enters something secret, no recording hears her: neither ours nor AudioCodes'.

AudioCodes' recording is the model's as well: what the model has paused or stopped is not gone on with here,
and the model does not make it go on in the middle of an entry.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from opusagent.call.phone_side import PhoneSide
from opusagent.call.timers import Timers
from opusagent.errors import ToolError
from opusagent.models.session_state import FunctionCall, ToolStatus
from opusagent.models.telephone import TelephoneFunction

__all__ = ["RECENT_S", "TAIL_S", "Privacy"]

TAIL_S = 0.5
"""The tone of a key comes after its event: audio travels in chunks of 160 ms (live captures)."""

RECENT_S = 10.0
"""What was sent so shortly before the line was lost may not have come: a dead websocket takes all it is given."""

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
        self._owed: tuple[str, ...] = ()  # what AudioCodes is told once it may hear her again
        self._resumed_at: float | None = None  # unless it was paused or stopped since
        self._timers: Timers[_Timer] = Timers()

    def begin(self, now: float) -> None:
        """The caller is about to enter something secret, or goes on with it."""
        self._entering = self._phone.secret = True
        self._timers.clear(_Timer.OVER)
        self._look(now)

    def end(self, now: float) -> None:
        """She has entered it, if it was secret; the tone of the last key is still to come."""
        if self._entering:
            self._entering = False
            self._timers.set(_Timer.OVER, now + TAIL_S)

    def caller_lost(self, now: float) -> None:
        """The line is gone: that the recording goes on may have been said to nobody."""
        if self._resumed_at is not None and now - self._resumed_at <= RECENT_S and not self._owed:
            self._owed = (_RESUME,)  # twice does no harm

    def caller_found(self, now: float) -> None:
        """There is a line again; a pause that was sent into the one before may not have come."""
        if self._phone.secret and self._pauses:
            self._send(_PAUSE, now)  # twice does no harm
            if not self._ended and not self._owed:
                self._owed = (_RESUME,)
        else:
            self._look(now)

    def order(self, function: TelephoneFunction, now: float) -> dict[str, JsonValue]:
        """Do what the model asks of AudioCodes' recording; returns the result. The line is there.

        Raises:
            ToolError: If it is to record what the caller enters in secret.
        """
        name, status = _ORDERS[function]
        if function in _ENDS:
            self._ended, self._owed = True, ()
        elif self._entering:
            raise ToolError("not now: the caller is entering something secret. Ask again after it")
        else:
            self._ended = False
        if function in _ENDS or not self._phone.secret:
            self._send(name, now)
        elif name not in self._owed:
            self._owed += (name,)  # in a moment
        return {"status": status}

    def let_go(self, now: float) -> None:
        """The call goes on elsewhere: an entry that is over is over at once."""
        if not self._entering:
            self._over(now)

    def restore(
        self,
        calls: Sequence[FunctionCall],
        now: float,
        *,
        noted_at: datetime,
        is_secret: Callable[[FunctionCall], bool],
    ) -> None:
        """Go on after another process, which may have paused the recording and not come to let it go on.

        Args:
            calls: As they stand in the ledger.
            now: The present, in monotonic seconds.
            noted_at: When it noted the newest thing of the conversation.
            is_secret: Whether a call came of a secret entry.
        """
        orders = [c.name for c in calls if c.name in _ORDERS and c.status is ToolStatus.DONE]
        self._ended = bool(orders) and orders[-1] in _ENDS
        since = noted_at - timedelta(seconds=RECENT_S)
        recent = any(_entered_by(call, noted_at) >= since for call in calls if is_secret(call))
        if recent and self._pauses and not self._ended:
            self._owed = (_RESUME,)
            self._timers.set(_Timer.OVER, now)

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Let the recordings go on once the last tone is over."""
        if self._timers.pop_due(now) is not None:
            self._over(now)

    def _over(self, now: float) -> None:
        self._timers.clear(_Timer.OVER)
        self._phone.secret = False
        self._look(now)

    def _look(self, now: float) -> None:
        """Tell AudioCodes what it was not told yet, where there is a line to it."""
        if not self._phone.connected:
            return
        if not self._phone.secret:
            owed, self._owed = self._owed, ()
            for name in owed:
                self._send(name, now)
        elif self._pauses and not self._ended and not self._owed:
            self._send(_PAUSE, now)
            self._owed = (_RESUME,)

    def _send(self, name: str, now: float) -> None:
        self._phone.wire.send_activity(name)
        self._resumed_at = now if name == _RESUME else None


def _entered_by(call: FunctionCall, noted_at: datetime) -> datetime:
    """When the entry that a call came of was complete; `noted_at` if it was not."""
    if call.name == TelephoneFunction.COLLECT_DIGITS:
        return call.ended_at or noted_at
    return call.started_at
