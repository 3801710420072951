"""A sign of life for a caller who waits for a tool."""

from __future__ import annotations

import enum
from collections.abc import Callable

from opusagent.call.comfort import Comfort
from opusagent.call.phone_side import PhoneSide
from opusagent.call.plan import CallPlan
from opusagent.call.timers import Timers

__all__ = ["Filler"]

LOOK_AGAIN_S = 0.3
"""While somebody speaks, or nobody is on the line, nothing is to be filled."""


class _Timer(enum.Enum):
    FILL = "fill"


class Filler:
    """Says something once if a tool takes long: a recording, or a text that the model is prompted by.

    A text typed during a tool's run is one of the uses that Nova's guide names (Nova 2 user guide,
    cross-modal input); whether the model then speaks is up to it.

    Args:
        comfort: Plays the recording, and silences it as soon as the bot speaks.
        prompt: Types a text to the model.
        busy: Whether the model is in the middle of an answer.
    """

    def __init__(
        self,
        plan: CallPlan,
        phone: PhoneSide,
        comfort: Comfort,
        *,
        prompt: Callable[[str, float], None],
        busy: Callable[[float], bool],
    ) -> None:
        self._section = plan.agent.filler
        self._recording = plan.filler_audio
        self._phone = phone
        self._comfort = comfort
        self._prompt = prompt
        self._busy = busy
        self._waiting = False
        self._timers: Timers[_Timer] = Timers()

    def tool_began(self, now: float) -> None:
        """The caller waits for a tool."""
        if not self._waiting and (self._recording.by_rate or self._section.text):
            self._timers.set(_Timer.FILL, now + self._section.after_s)
        self._waiting = True

    def tools_ended(self) -> None:
        """The caller waits for no tool any more."""
        self._waiting = False
        self._timers.clear_all()

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Say something, if nobody else does."""
        if self._timers.pop_due(now) is None:
            return
        speaks = self._phone.audible(now) or self._phone.caller_speaks or self._busy(now)
        speaks = speaks or self._phone.sound.plays(now)
        if speaks or not self._phone.connected:
            self._timers.set(_Timer.FILL, now + LOOK_AGAIN_S)
        elif sound := self._recording.at(self._phone.play_format.sample_rate_hz):
            self._comfort.say(sound, now)
        else:
            self._prompt(self._section.text, now)
