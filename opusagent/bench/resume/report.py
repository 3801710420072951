"""The figures of `bench --resume` as a table."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from opusagent.bench.resume.promises import ResumeFigures, rows

__all__ = ["show_resume"]


def show_resume(found: ResumeFigures) -> bool:
    """Print the table; returns whether every row is met."""
    table = Table(title="Callers who come back: real processes, real sockets, a real Valkey")
    table.add_column("measure")
    table.add_column("found", justify="right")
    table.add_column("must be", justify="right")
    table.add_column("")
    table.add_column("of")
    for row in rows(found):
        bound = "at most" if row.inclusive else "under"
        value = "not measured" if math.isnan(row.found) else f"{row.found:g} {row.unit}".rstrip()
        table.add_row(
            row.words,
            value,
            f"{bound} {row.limit:g} {row.unit}".rstrip(),
            "[green]met[/]" if row.met else "[red]missed[/]",
            row.of,
        )
    Console(highlight=False).print(table)
    return all(row.met for row in rows(found))
