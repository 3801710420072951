"""A caller who says nothing is asked for, and in the end let go.

Either VoiceAI Connect says that she is silent (`noUserInput`, where the tenant has it sent), or our own timer.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from opusagent.call.events import Effect, Report
from opusagent.call.phone_side import PhoneSide
from opusagent.call.telephone import Telephone
from opusagent.call.timers import Timers
from opusagent.models.telephone import Silence as Section

__all__ = ["Silence"]

LOOK_AGAIN_S = 0.5
"""While something else is under way, the silence has not begun."""

APART_S = 3.0
"""Our timer and VoiceAI Connect's may mean the same silence."""


class _Timer(enum.Enum):
    SILENT = "silent"


class Silence:
    """Counts how often the caller was asked for in vain.

    Args:
        section: What the agent's file says; None: nothing is done.
        phone: Tells who speaks.
        telephone: Transfers her.
        busy: Whether something is under way, so that it is not for the caller to speak.
        prompt: Types a text to the model.
        hang_up: Ends the call, for a reason.
        out: Where effects are appended.
    """

    def __init__(
        self,
        section: Section | None,
        phone: PhoneSide,
        telephone: Telephone,
        *,
        busy: Callable[[float], bool],
        prompt: Callable[[str, float], None],
        hang_up: Callable[[str, float], None],
        out: list[Effect],
    ) -> None:
        self._section = section
        self._phone = phone
        self._busy = busy
        self._prompt = prompt
        self._hang_up = hang_up
        self._telephone = telephone
        self._out = out
        self._timers: Timers[_Timer] = Timers()
        self._since = 0.0  # something else was under way until then
        self._asked = 0

    def begin(self, now: float) -> None:
        """The call is up, or the caller has shown that she is there."""
        self._asked = 0
        if self._section is not None and self._section.after_s:
            self._since = now
            self._timers.set(_Timer.SILENT, now + self._section.after_s)

    def told(self, now: float) -> None:
        """VoiceAI Connect says that the caller is silent."""
        if self._section is not None and not self._busy(now) and now >= self._since + APART_S:
            self._act(self._section, now)

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Ask for the caller if she has been silent for long enough."""
        if self._timers.pop_due(now) is None or self._section is None:
            return
        quiet_from = self._phone.quiet_from
        if quiet_from is None or self._busy(now):
            self._since = now
            self._timers.set(_Timer.SILENT, now + LOOK_AGAIN_S)
            return
        quiet_from = max(quiet_from, self._phone.sound.ends_at)
        due_at = max(quiet_from, self._since) + self._section.after_s
        if due_at > now:
            self._timers.set(_Timer.SILENT, due_at)
        else:
            self._act(self._section, now)

    def _act(self, section: Section, now: float) -> None:
        self._since = now
        self._asked += 1
        given_up = self._asked > section.prompts
        self._out.append(Report("silence", {"count": self._asked, "given_up": given_up}))
        if given_up:
            self._timers.clear_all()
            self._give_up(section, now)
            return
        if section.after_s:
            self._timers.set(_Timer.SILENT, now + section.after_s)
        self._prompt(section.prompt, now)

    def _give_up(self, section: Section, now: float) -> None:
        match section.then:
            case "hang_up":
                self._hang_up(section.reason, now)
            case "transfer":
                self._telephone.transfer(
                    section.target,
                    section.reason,
                    now,
                    done=lambda _, at: self._transfer_failed(section, at),
                )
            case "nothing":
                pass

    def _transfer_failed(self, section: Section, now: float) -> None:
        if self._asked:  # else she has shown meanwhile that she is there
            self._hang_up(section.reason, now)
