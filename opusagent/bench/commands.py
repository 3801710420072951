"""What `bench` can measure: each way runs, shows what it found, and says whether its limits were kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opusagent.bench.report import show, show_soak
from opusagent.bench.resume.report import show_resume
from opusagent.bench.resume.run import run_resume
from opusagent.bench.run import as_rows, run_bench
from opusagent.bench.soak import run_soak
from opusagent.bench.switches import report as switches_report
from opusagent.bench.switches.cases import CASES
from opusagent.bench.switches.run import run_switches
from opusagent.bench.tools.report import show_tools
from opusagent.bench.tools.run import run_tools

__all__ = ["Done", "load", "resume", "soak", "switches", "tools"]

type Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Done:
    """A measurement that is over.

    Attributes:
        figures: Under its name, ready for JSON.
        kept: Whether every limit that fails it was kept.
    """

    figures: dict[str, Any]
    kept: bool = True


async def load(counts: Sequence[int], seconds: float, frame_ms: int, *, progress: Progress) -> Done:
    """Calls at once; what it costs is judged by whoever reads it."""
    figures = await run_bench(counts, seconds=seconds, frame_ms=frame_ms, progress=progress)
    show(figures)
    return Done({"load": as_rows(figures)})


async def soak(*, progress: Progress) -> Done:
    """Many short calls, and what they leave behind."""
    result = await run_soak(progress=progress)
    show_soak(result)
    return Done(result.as_json(), not result.problems())


async def switches(per_case: int, *, progress: Progress) -> Done:
    """Changes of stream in every situation."""
    cases = await run_switches(CASES, per_case=per_case, progress=progress)
    switches_report.show_switches(cases)
    return Done({"switches": switches_report.as_json(cases)}, switches_report.all_kept(cases))


async def tools(
    counts: Sequence[int], seconds: float, frame_ms: int, *, progress: Progress
) -> Done:
    """The largest number of calls, with tools that behave in every way."""
    figures = await run_tools(
        calls=max(counts), seconds=seconds, frame_ms=frame_ms, progress=progress
    )
    kept = show_tools(figures)
    return Done({"tools": [row.as_json() for row in figures]}, kept)


async def resume(kills: int, *, progress: Progress) -> Done:
    """Lines that are lost, and processes that are killed."""
    found = await run_resume(n_kills=kills, progress=progress)
    kept = show_resume(found)
    return Done({"resume": found.as_json()}, kept)
