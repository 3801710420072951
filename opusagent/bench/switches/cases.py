"""The situations in which a stream is replaced: what the service does, the limits, and how the caller behaves.

Limits are short so that a switch comes every two or three seconds. A tenth of what is left to the limit is
the spread of the thresholds, and the margin before the limit bounds what an old stream may finish, so the
limit itself stays well above the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

__all__ = ["CASES", "CallerHabits", "Case", "ServiceHabits"]

EXPIRES_IN_S: Final = 60
"""How long the credentials of each stream are good, where they expire, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHabits:
    """How the local Nova Sonic behaves in a case. Sent to its process as JSON.

    Attributes:
        answer_s: How long an answer is.
        tools: Whether it asks for a tool before each answer.
        open_delay_s: How long the response head takes.
        spare: How many streams there may be at once beyond one for each call; None is no limit.
        dead_standby: Whether every second stream ends soon after its head, if nothing is said on it.
        dies_after_history: How many streams of a call end soon after they were given a history.
        cuts: How many live streams of each call are cut, each at any moment.
        cut_kinds: How, in turn.
    """

    answer_s: float = 0.6
    tools: bool = False
    open_delay_s: float = 0.0
    spare: int | None = None
    dead_standby: bool = False
    dies_after_history: int = 0
    cuts: int = 0
    cut_kinds: tuple[str, ...] = ("internal", "end", "reset", "half-frame", "531")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerHabits:
    """What each caller does, over and over. Spans are drawn evenly between two bounds, in seconds.

    Attributes:
        speech_s: How long a turn is; ignored with `keys`.
        rest_s: From the end of the answer to the next turn.
        over_bot_s: From the beginning of an answer to the next turn, which is spoken over it.
        keys: The turns are keyed instead of spoken.
        silent: After the first turn nothing more is said; every second caller is put on hold.
        call_s: How long a call lasts; None is until there were switches enough.
    """

    speech_s: tuple[float, float] = (0.6, 1.0)
    rest_s: tuple[float, float] = (0.1, 0.8)
    over_bot_s: tuple[float, float] | None = None
    keys: bool = False
    silent: bool = False
    call_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One situation.

    Attributes:
        name: For the table.
        threshold_s, timeout_s: The first two parameters of the continuation.
        limit_s: Life of a stream; the service ends it then, too.
        planned: Whether the changes are the bridge's own, rather than forced on it by a lost stream.
        expires: Whether the credentials of each stream expire soon.
        counts: The situation that this case is for, as `Situation` tells it of each switch.
    """

    name: str
    threshold_s: float = 0.8
    timeout_s: float = 0.6
    limit_s: float = 12.0
    planned: bool = True
    expires: bool = False
    counts: str = ""
    service: ServiceHabits = field(default_factory=ServiceHabits)
    caller: CallerHabits = field(default_factory=CallerHabits)

    @property
    def seamless(self) -> bool:
        """Whether a stream should always be there: the next one is opened before the old one ends."""
        return self.planned and self.service.spare is None and not self.service.dead_standby


CASES: Final = (
    Case(
        name="answer complete",
        timeout_s=8.0,
        caller=CallerHabits(rest_s=(0.5, 0.9)),
    ),
    Case(
        name="bot speaking",
        counts="bot",
        limit_s=20.0,
        service=ServiceHabits(answer_s=3.5),
        caller=CallerHabits(speech_s=(0.4, 0.5), rest_s=(0.1, 0.15)),
    ),
    Case(
        name="caller speaking",
        counts="caller",
        service=ServiceHabits(answer_s=0.5),
        caller=CallerHabits(speech_s=(2.5, 3.5), rest_s=(0.05, 0.15)),
    ),
    Case(
        name="both speaking",
        counts="both",
        limit_s=20.0,
        service=ServiceHabits(answer_s=3.0),
        caller=CallerHabits(speech_s=(2.4, 2.6), over_bot_s=(1.0, 1.1)),
    ),
    Case(
        name="neither (silence, hold)",
        timeout_s=0.8,
        counts="neither",
        caller=CallerHabits(silent=True),
    ),
    Case(
        name="tool running",
        timeout_s=0.5,
        counts="tool",
        service=ServiceHabits(tools=True, answer_s=0.5),
        caller=CallerHabits(speech_s=(0.4, 0.5), rest_s=(0.1, 0.2)),
    ),
    Case(
        name="DTMF in the middle",
        timeout_s=0.5,
        counts="keys",
        service=ServiceHabits(answer_s=0.5),
        caller=CallerHabits(keys=True, rest_s=(0.1, 0.2)),
    ),
    # With none to spare, the stream that one call gives up may become the standby of another.
    Case(name="standby refused", timeout_s=1.5, service=ServiceHabits(spare=2)),
    Case(
        name="standby refused, bot speaking",
        threshold_s=2.5,
        timeout_s=6.0,
        limit_s=20.0,
        service=ServiceHabits(spare=6, answer_s=3.0),
        caller=CallerHabits(speech_s=(0.4, 0.5), rest_s=(0.5, 0.8)),
    ),
    Case(name="standby slow (2 s)", timeout_s=6.0, service=ServiceHabits(open_delay_s=2.0)),
    Case(name="standby dead after accept", timeout_s=2.5, service=ServiceHabits(dead_standby=True)),
    Case(
        name="dead after the history",
        threshold_s=2.5,
        timeout_s=0.5,
        limit_s=12.0,
        planned=False,
        service=ServiceHabits(dies_after_history=2),
        caller=CallerHabits(call_s=5.0),
    ),
    Case(
        name="hard cut",
        threshold_s=10.0,
        planned=False,
        service=ServiceHabits(cuts=2),
        caller=CallerHabits(call_s=6.0),
    ),
    Case(
        name="hard cut, bot speaking",
        threshold_s=20.0,
        limit_s=30.0,
        planned=False,
        service=ServiceHabits(cuts=2, answer_s=6.0),
        caller=CallerHabits(speech_s=(0.4, 0.5), rest_s=(2.0, 2.2), call_s=8.0),
    ),
    Case(
        name="forced at the deadline",
        limit_s=20.0,
        timeout_s=0.1,
        service=ServiceHabits(answer_s=1.5),
        caller=CallerHabits(speech_s=(0.5, 2.0), rest_s=(0.0, 0.4)),
    ),
    Case(name="credentials expire", threshold_s=25.0, timeout_s=1.0, limit_s=30.0, expires=True),
)
