"""The streams of a call: each a protocol, a role, and what it was given."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field

from opusagent.call.briefing import Told
from opusagent.call.events import (
    AudioToSonic,
    CloseReason,
    CloseStream,
    ControlToSonic,
    Effect,
    OpenStream,
    StreamId,
)
from opusagent.sonic.history import History
from opusagent.sonic.reader import UsageReported
from opusagent.sonic.stream import SonicConfig, SonicStream

__all__ = ["ALL", "Leg", "LegRole", "Legs"]

ALL = math.inf
"""Every text that is still to come of a stream."""

KEPT_CLOSED = 3
"""Closed streams that are known still: their late texts count."""


class LegRole(enum.Enum):
    """What a stream is to the call."""

    OPENING = "opening"  # its head is awaited; it may become live or the standby
    STANDBY = "standby"  # open; it does not hear the caller yet
    LIVE = "live"  # it hears the caller
    DRAINING = "draining"  # replaced; the rest of its answer is still to come
    CLOSING = "closing"


@dataclass(slots=True)
class Leg:
    """One stream of the call.

    Attributes:
        opened_at: When its response head came; its age counts from there.
        live_at: When it had been told the conversation and began to hear the caller.
        expires_at: When the credentials that sign it expire; None if they do not.
        told: What it was told of the conversation before that; None if it was nothing.
        untold: Whether it has answered something of the caller that it has not told as text yet.
        late_turns: How many texts of hers it may still tell once it is replaced: what its successor was
            given as audio, that one tells.
        typed: Texts that it was given and may say once more.
    """

    id: StreamId
    wire: SonicStream
    asked_at: float
    role: LegRole = LegRole.OPENING
    opened_at: float | None = None
    live_at: float | None = None
    expires_at: float | None = None
    had_history: bool = False
    told: Told | None = None
    untold: bool = False
    late_turns: float = 0
    usage: UsageReported | None = None
    typed: list[str] = field(default_factory=list)

    @property
    def ahead(self) -> History:
        """The history that it was sent before the rest."""
        return History() if self.told is None else self.told.ahead

    @property
    def was_told_ahead(self) -> bool:
        """Whether there was such a history."""
        return bool(self.ahead.turns)

    def suits(self, share: float) -> bool:
        """Whether it was told no more than so much of a history, and can be told what it lacks."""
        return share > 0.0 if self.told is None else share >= self.told.share

    def age_s(self, now: float) -> float | None:
        """Seconds since its head; None if there was none."""
        return None if self.opened_at is None else now - self.opened_at

    def lived_s(self, now: float) -> float:
        """Seconds for which it has heard the caller."""
        return 0.0 if self.live_at is None else now - self.live_at

    def is_echo(self, text: str) -> bool:
        """Whether this repeats what was typed to the stream; some services say it once more."""
        if text.strip() not in self.typed:
            return False
        self.typed.remove(text.strip())
        return True

    def used_since(self, usage: UsageReported) -> UsageReported:
        """What it used since it last said so: the service reports totals."""
        before, self.usage = self.usage, usage
        if before is None:
            return usage
        pairs = zip(astuple(usage), astuple(before), strict=True)
        return UsageReported(*(new - old for new, old in pairs))


class Legs:
    """Opens, feeds and closes streams; which of them does what is decided elsewhere.

    Args:
        new_id: A fresh unique id.
        out: Where effects are appended, in order.
    """

    def __init__(self, *, new_id: Callable[[], str], out: list[Effect]) -> None:
        self._new_id = new_id
        self._out = out
        self._legs: dict[StreamId, Leg] = {}
        self._n_opened = 0

    def __iter__(self) -> Iterator[Leg]:
        return iter(tuple(self._legs.values()))

    def get(self, stream: StreamId) -> Leg | None:
        """A stream by its number, also one that was closed not long ago."""
        return self._legs.get(stream)

    def open(self, config: SonicConfig, now: float, *, can_wait: bool) -> Leg:
        """Ask for another stream; what opens a session is sent without waiting for its head.

        `can_wait` is that of `OpenStream`.
        """
        self._n_opened += 1
        stream = StreamId(self._n_opened)
        leg = Leg(stream, SonicStream(config, new_id=self._new_id), asked_at=now)
        self._legs[stream] = leg
        self._out.append(OpenStream(stream, can_wait))
        leg.wire.open()
        self.flush(leg)
        return leg

    def audio(self, leg: Leg, pcm: bytes) -> None:
        """Send audio, as it is."""
        self._out.append(AudioToSonic(leg.id, pcm))

    def type(self, leg: Leg, text: str) -> None:
        """Send a text that is to be answered."""
        leg.wire.type_text(text)
        leg.typed.append(text.strip())
        self.flush(leg)

    def flush(self, leg: Leg) -> None:
        """Send what the stream's protocol has written."""
        self._out.extend(ControlToSonic(leg.id, p) for p in leg.wire.payloads_to_send())

    def retire(self, leg: Leg, reason: CloseReason) -> None:
        """Close a stream, properly unless it is broken. Closing it again changes nothing."""
        if leg.role is LegRole.CLOSING:
            return
        leg.role = LegRole.CLOSING
        if leg.opened_at is not None and reason is not CloseReason.LOST:
            leg.wire.close()
            self.flush(leg)
        self._out.append(CloseStream(leg.id, reason))
        closed = [one.id for one in self._legs.values() if one.role is LegRole.CLOSING]
        for stream in closed[:-KEPT_CLOSED]:
            del self._legs[stream]
