"""What a store that stands still does to the audio of calls: it must do nothing."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field

from opusagent.bench.resume.phone import pause
from opusagent.bench.resume.stage import stage

__all__ = ["Stall", "measure_stall"]

SETTLE_S = 1.0


@dataclass(slots=True)
class Stall:
    """How old the callers' frames were when the model got them, in milliseconds.

    Attributes:
        well_ms: While the store answered.
        stalled_ms: While it did not, though there was something to write all the time.
        missing: Frames that did not come while it did not.
    """

    calls: int = 0
    well_ms: list[float] = field(default_factory=list)
    stalled_ms: list[float] = field(default_factory=list)
    missing: int = 0


async def measure_stall(n_calls: int = 10, seconds: float = 5.0) -> Stall:
    """Let callers and model talk, and stop the store's process (SIGSTOP) for so long."""
    found = Stall(calls=n_calls)
    async with stage(n_calls=n_calls) as played:
        await played.add()
        phones = [await played.call() for _ in range(n_calls)]
        arrivals = played.service.arrivals
        await pause(SETTLE_S)
        arrivals.begin(time.monotonic_ns())
        await pause(seconds)
        found.well_ms = arrivals.ages_ms
        os.kill(played.store.pid, signal.SIGSTOP)
        try:
            arrivals.begin(time.monotonic_ns())
            await pause(seconds)
            found.stalled_ms, found.missing = arrivals.ages_ms, arrivals.missing
        finally:
            os.kill(played.store.pid, signal.SIGCONT)
        await pause(SETTLE_S)
        for phone in phones:
            await phone.hang_up()
    return found
