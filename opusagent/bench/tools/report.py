"""The figures of `bench --tools` as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from opusagent.bench.report import BUSY_PERCENT
from opusagent.bench.tools.run import ToolFigures

__all__ = ["show_tools"]


def show_tools(figures: Sequence[ToolFigures]) -> bool:
    """Print one row for each kind of tool, and what was missed; returns whether everything was met."""
    console = Console(highlight=False)
    table = Table(title="What tools change; milliseconds, p50/p99, both simulators' work included")
    for heading in (
        "tools that",
        "to model",
        "to caller",
        "lost",
        "asked",
        "failed",
        "to the tool's\nstart",
        "result to\nthe wire",
    ):
        table.add_column(heading, justify="right")
    for row in figures:
        load = row.load
        table.add_row(
            row.case,
            f"{load.to_model_p50_ms:.1f} / {load.to_model_p99_ms:.1f}",
            f"{load.to_caller_p50_ms:.1f} / {load.to_caller_p99_ms:.1f}",
            str(load.caller_frames_lost + load.bot_frames_lost),
            str(row.asked),
            str(row.failed),
            f"{row.start_p50_ms:.1f} / {row.start_p99_ms:.1f}",
            f"{row.result_p50_ms:.1f} / {row.result_p99_ms:.1f}",
        )
    console.print(table)
    missed = [(row, target) for row in figures for target in row.targets if not target.met]
    for row, target in missed:
        found = f"{target.found:g} {target.unit} (limit {target.limit:g})"
        console.print(f"[red]missed[/]  tools that {row.case}: {target.words}: {found}")
    for row in figures:
        if row.load.others_core_percent > BUSY_PERCENT:
            console.print(
                f"[yellow]note[/]    tools that {row.case}: other programs, the tools' process among them,"
                f" took {row.load.others_core_percent:.0f} % of a core meanwhile"
            )
    if not missed:
        console.print(
            "[green]met[/]     audio below 20 ms at p99, tools begun and answered within 5 ms"
        )
    return not missed
