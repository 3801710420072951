"""Writes the `CallRecord` of a call while it goes on, and tells whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opusagent.simulators.caller_record import CallRecord, Message, StreamAck, Violation
from opusagent.simulators.caller_script import CallerPlan
from opusagent.simulators.numbered import NumberedAudio, NumberedReader

__all__ = ["Journal", "Note"]

type Note = Callable[[str, str], None]
"""Takes what happens, as it happens: a name and words."""

_MAX_KEPT_CHARS: Final = 120
_ON_THE_WAY_S: Final = 1.0
"""An answer that has not come within this before the socket is lost was not on its way."""


class Journal:
    """Entries that need more than an assignment."""

    def __init__(self, plan: CallerPlan, record: CallRecord, note: Note) -> None:
        self.record = record
        self.note = note
        self._each_chunk = plan.keep_audio
        self._numbered_ms = plan.numbered_ms
        self._reader: tuple[int, NumberedReader] | None = None

    def sent(self, now: float, name: str, detail: str = "") -> None:
        """A message to the bot."""
        self.record.messages.append(Message(now, by_bot=False, name=name, detail=detail))
        self.note(f"-> {name}", detail)

    def heard(self, now: float, name: str, detail: str = "", *, often: bool = False) -> None:
        """A message of the bot; those that come `often` are kept on request and not told."""
        if not often or self._each_chunk:
            kept = detail[:_MAX_KEPT_CHARS]
            self.record.messages.append(Message(now, by_bot=True, name=name, detail=kept))
        if not often:
            self.note(f"<- {name}", detail)

    def violation(self, now: float, what: str) -> None:
        """A message that the bot may not send, or not now."""
        self.record.violations.append(Violation(now, what))
        self.note("violation", what)

    def bot_audio(self, pcm: bytes, rate_hz: int) -> None:
        """Bot audio as it came: looked through for numbers, if that is wanted."""
        if not self._numbered_ms:
            return
        if self._reader is None or self._reader[0] != rate_hz:
            audio = NumberedAudio(self._numbered_ms, rate_hz)
            self._reader = rate_hz, NumberedReader(audio)
        self.record.numbers_heard += self._reader[1].feed(pcm)

    def asked(self, name: str, now: float) -> None:
        """A `userStream.start` or `.stop`, which wants an answer."""
        self.record.acks.append(StreamAck(name, now))
        self.sent(now, name)

    def answered(self, name: str, now: float) -> None:
        """The answer to the oldest of that name that has none."""
        for ack in self.record.acks:
            if ack.name == name and ack.answered_at is None:
                ack.answered_at = now
                return

    def socket_lost(self, now: float) -> None:
        """Answers that were on the way are not missing."""
        acks = self.record.acks
        acks[:] = [a for a in acks if a.answered_at is not None or now - a.asked_at > _ON_THE_WAY_S]

    def over(self, reason: str, now: float) -> None:
        """The call has ended."""
        self.record.ended_at = now
        self.record.end_reason = reason
        if self._reader is not None:
            self.record.numbers_heard += self._reader[1].finish()
            self._reader = None
