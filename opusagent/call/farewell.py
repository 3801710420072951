"""Before we hang up, what the bot is saying is heard to its end."""

from __future__ import annotations

from opusagent.call.conversation import Conversation
from opusagent.call.phone_side import PhoneSide

__all__ = ["Farewell"]

MAX_GOODBYE_S = 15.0
"""The longest that a hang-up waits for the bot to finish speaking."""

MARGIN_S = 0.4
"""VoiceAI Connect began to play up to 230 ms after the first chunk on a live capture."""

LOOK_AGAIN_S = 0.1


class Farewell:
    """Waits for one goodbye.

    Args:
        reason: Why this side hangs up; VoiceAI Connect passes it on.
    """

    def __init__(self, reason: str, phone: PhoneSide, talk: Conversation, now: float) -> None:
        self.reason = reason
        self._phone = phone
        self._talk = talk
        self._by = now + MAX_GOODBYE_S

    def wait_until(self, now: float, *, margin_s: float = MARGIN_S) -> float | None:
        """When to look again; None once the goodbye has been heard, or waited for long enough.

        Args:
            now: The present, in monotonic seconds.
            margin_s: How much later than reckoned the phone may play; none when it says that it is done.
        """
        audible = self._phone.audible(now - margin_s)
        if now >= self._by or not (audible or self._talk.bot_is_busy(now)):
            return None
        left_s = self._phone.remaining_s(now) + margin_s if audible else 0.0
        return min(now + max(left_s, LOOK_AGAIN_S), self._by)
