"""The figures of `bench` as tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from opusagent.bench import process_facts
from opusagent.bench.run import Figures
from opusagent.bench.soak import SoakResult
from opusagent.bench.targets import targets

__all__ = ["host_note", "host_watched", "show", "show_soak"]

BUSY_PERCENT = 15.0
"""From here on what else runs on the machine is worth a line: latencies are not the bridge's alone."""

STOLEN_PERCENT = 1.0
"""From here on what a virtual machine's host keeps from it is worth a line. It is kept in pieces of some
ten milliseconds, so it is the 99th percentiles that it spoils."""


@contextmanager
def host_watched(
    console: Console,
    *,
    stolen_s: Callable[[], float] = process_facts.stolen_s,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Say at the end if the host of this machine has kept processor time from it meanwhile."""
    began, before = clock(), stolen_s()
    yield
    note = host_note(stolen_s() - before, clock() - began)
    if note:
        console.print(f"[yellow]note[/]  {note}")


def host_note(stolen_s: float, wall_s: float) -> str:
    """What is to be said of so many seconds that the host kept within so many; empty if too little."""
    percent = 100 * stolen_s / wall_s
    if percent <= STOLEN_PERCENT:
        return ""
    return (
        f"the host of this machine kept {stolen_s:.1f} s of processor time from it, {percent:.1f} % of"
        " a core: high percentiles are the host's too"
    )


def show(figures: Sequence[Figures]) -> None:
    """Print one row for each number of calls, and the targets of the standard loads beneath."""
    console = Console(highlight=False)
    table = Table(title="Bridge process alone; latencies one way, both simulators' work included")
    for heading in (
        "calls",
        "frame",
        "core\na call",
        "to model\np50/p99 ms",
        "to caller\np50/p99 ms",
        "lost",
        "twice",
        "resident\nMB",
        "anonymous\nMB",
    ):
        table.add_column(heading, justify="right")
    for row in figures:
        table.add_row(
            str(row.calls),
            f"{row.frame_ms} ms",
            f"{row.core_percent_per_call:.2f} %",
            f"{row.to_model_p50_ms:.1f} / {row.to_model_p99_ms:.1f}",
            f"{row.to_caller_p50_ms:.1f} / {row.to_caller_p99_ms:.1f}",
            str(row.caller_frames_lost + row.bot_frames_lost),
            str(row.caller_frames_doubled + row.bot_frames_doubled),
            f"{row.memory_mb:.0f}",
            f"{row.anonymous_memory_mb:.0f}",
        )
    console.print(table)
    for row in figures:
        _show_targets(row, console)
        if row.others_core_percent > BUSY_PERCENT:
            console.print(
                f"[yellow]note[/]  {row.calls} calls: other programs took"
                f" {row.others_core_percent:.0f} % of a core meanwhile; latencies are theirs too"
            )


def _show_targets(row: Figures, console: Console) -> None:
    if not (promised := targets(row)):
        return
    console.print(f"\n{row.calls} calls, {row.frame_ms} ms frames")
    for target in promised:
        mark = "[green]met[/]   " if target.met else "[red]missed[/]"
        bound = "below" if target.unit == "ms" else "at most"
        console.print(
            f"  {mark} {target.words}: {target.found:g} {target.unit}".rstrip()
            + f" ({bound} {target.limit:g})"
        )


def show_soak(result: SoakResult) -> None:
    """Print what the bridge held before and after, and what did not return."""
    console = Console(highlight=False)
    table = Table(title="What the bridge process holds, with no call under way")
    for heading in ("", "resident", "anonymous", "threads", "files", "tasks"):
        table.add_column(heading, justify="right")
    for moment in result.moments:
        table.add_row(
            moment.when,
            f"{moment.memory_mb:.1f} MB",
            f"{moment.anonymous_mb:.1f} MB",
            str(moment.threads),
            str(moment.files),
            str(moment.tasks),
        )
    console.print(table)
    for problem in result.problems():
        console.print(f"[red]wrong[/]  {problem}")
    if not result.problems():
        console.print(f"[green]all {result.calls} calls ended, and everything returned[/]")
