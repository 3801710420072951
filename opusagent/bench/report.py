"""The figures as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from opusagent.bench.run import Figures

__all__ = ["show"]


def show(figures: Sequence[Figures]) -> None:
    """Print one row for each number of calls."""
    table = Table(title="Bridge process alone; latencies one way, both simulators' work included")
    for heading in (
        "calls",
        "frame",
        "core/call",
        "to model p50/p99",
        "to caller p50/p99",
        "lost",
        "doubled",
        "memory",
        "per call",
    ):
        table.add_column(heading, justify="right")
    for row in figures:
        table.add_row(
            str(row.calls),
            f"{row.frame_ms} ms",
            f"{row.core_percent_per_call:.2f} %",
            f"{row.to_model_p50_ms:.1f} / {row.to_model_p99_ms:.1f} ms",
            f"{row.to_caller_p50_ms:.1f} / {row.to_caller_p99_ms:.1f} ms",
            str(row.caller_frames_lost + row.bot_frames_lost),
            str(row.caller_frames_doubled),
            f"{row.memory_mb:.0f} MB",
            f"{row.memory_mb_per_call:.2f} MB",
        )
    Console(highlight=False).print(table)
