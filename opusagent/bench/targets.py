"""What the bridge is held to at the two standard loads, and whether a measurement keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from opusagent.bench.run import Figures

__all__ = ["Target", "targets"]

P99_MS: Final = 20.0
CORE_PERCENT: Final = {(25, 20): 3.0, (50, 160): 1.0}
"""Of one core, for each call; by calls and frame length of the standard loads."""

IDLE_MB: Final = 60.0
CALL_MB: Final = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is promised of a load."""

    words: str
    limit: float
    found: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the limit is kept. A limit of a latency is kept below it, any other at it too."""
        return self.found < self.limit if self.unit == "ms" else self.found <= self.limit


def targets(figures: Figures) -> list[Target]:
    """The targets of a standard load; none for any other."""
    core = CORE_PERCENT.get((figures.calls, figures.frame_ms))
    if core is None:
        return []
    lost = figures.caller_frames_lost + figures.bot_frames_lost
    again = figures.caller_frames_doubled + figures.bot_frames_doubled
    return [
        Target("frames lost", 0, lost),
        Target("frames doubled", 0, again),
        Target("to the model, p99", P99_MS, figures.to_model_p99_ms, "ms"),
        Target("to the caller, p99", P99_MS, figures.to_caller_p99_ms, "ms"),
        Target("of a core per call", core, figures.core_percent_per_call, "%"),
        Target("resident memory", IDLE_MB + CALL_MB * figures.calls, figures.memory_mb, "MB"),
    ]
