"""Before we hang up or transfer, what the bot is saying or has played is heard to its end."""

from __future__ import annotations

from collections.abc import Callable

from opusagent.call import functions
from opusagent.call.phone_side import PhoneSide
from opusagent.errors import ToolError
from opusagent.models.session_state import SessionState, ToolStatus
from opusagent.models.telephone import TelephoneFunction

__all__ = ["Farewell", "said_goodbye"]

MAX_GOODBYE_S = 15.0
"""The longest that a hang-up waits for the bot to finish speaking."""

MARGIN_S = 0.4
"""VoiceAI Connect began to play up to 230 ms after the first chunk on a live capture."""

LOOK_AGAIN_S = 0.1


def said_goodbye(state: SessionState) -> str | None:
    """Why the bot was about to hang up when its process ended, in words; None if it was not.

    It was if `hang_up` is the last thing that it did, it has said goodbye and the caller has not spoken since.
    """
    call = state.function_calls[-1] if state.function_calls else None
    if call is None or call.name != TelephoneFunction.HANG_UP or call.status is ToolStatus.FAILED:
        return None
    items = state.conversation_history
    since = [item for item in items if item.at and item.at > call.started_at]
    if any(item.type == "input" or item.interrupted for item in since):
        return None  # the caller has more to say
    if call.result == functions.GOODBYE_TO_COME and not since:
        return None
    try:
        return functions.read(functions.HangUpCall, call.arguments).reason
    except ToolError:
        return ""


class Farewell:
    """Waits for one goodbye.

    Args:
        phone: What plays it.
        busy: Whether the model is in the middle of an answer.
        now: The present, in monotonic seconds.
    """

    def __init__(self, phone: PhoneSide, busy: Callable[[float], bool], now: float) -> None:
        self._phone = phone
        self._busy = busy
        self._by = now + MAX_GOODBYE_S

    def wait_until(self, now: float, *, margin_s: float = MARGIN_S) -> float | None:
        """When to look again; None once the goodbye has been heard, or waited for long enough.

        Args:
            now: The present, in monotonic seconds.
            margin_s: How much later than reckoned the phone may play; none when it says that it is done.
        """
        if self._phone.sound.is_waited_for(now):
            self._by = now + MAX_GOODBYE_S  # the sound has a limit of its own
            return now + LOOK_AGAIN_S
        audible = self._phone.audible(now - margin_s)
        if now >= self._by or not (audible or self._busy(now)):
            return None
        left_s = self._phone.remaining_s(now) + margin_s if audible else 0.0
        return min(now + max(left_s, LOOK_AGAIN_S), self._by)
