"""All measurements of `bench --resume`, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from opusagent.bench.resume.measure import (
    measure_kills,
    measure_moves,
    measure_outage,
    measure_returns,
    measure_writes,
)
from opusagent.bench.resume.promises import ResumeFigures
from opusagent.bench.resume.stall import measure_stall
from opusagent.bench.resume.stored import measure_stored

__all__ = ["run_resume"]


async def run_resume(*, n_kills: int, progress: Callable[[str], None]) -> ResumeFigures:
    """Measure everything; some minutes, most of them for the kills.

    Raises:
        ConfigError: If the extra `simulate` is not installed.
        ProcessFailed: If a process does not start.
    """
    progress("a long conversation, taken up from the store ...")
    stored = await measure_stored()
    progress("callers who come back to the same process ...")
    returns = await measure_returns()
    progress("callers who come back to another process ...")
    moves = await measure_moves()
    progress("writes ...")
    writes = await measure_writes()
    progress("a store that stands still ...")
    stall = await measure_stall()
    progress("50 calls, and one of two processes killed ...")
    outage = await measure_outage()
    progress(f"{n_kills} kills at random moments ...")
    kills = await measure_kills(n_kills, progress=progress)
    return ResumeFigures(
        kills=kills,
        returns=returns,
        moves=moves,
        stored=stored,
        outage=outage,
        writes=writes,
        stall=stall,
    )
