"""The figures of switches as tables, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from opusagent.bench.switches.figures import CaseFigures
from opusagent.bench.switches.promises import percentile, promises

__all__ = ["all_kept", "as_json", "show_switches"]

BUSY_PERCENT: Final = 15.0
"""From here on what else runs on the machine is worth a line: latencies are not the bridge's alone."""

_MARKS: Final = {True: "[green]met[/]   ", False: "[red]missed[/]", None: "[yellow]no data[/]"}
_LISTS: Final = (
    "doubled_ms",
    "hole_ms",
    "hole_without_ms",
    "first_frame_ms",
    "after_cut_ms",
    "repeated_ms",
    "goes_on_ms",
)


def show_switches(cases: Sequence[CaseFigures]) -> None:
    """Print a row for each case, and every promise beneath."""
    console = Console(highlight=False)
    table = Table(title="Switches, measured on the service's wires and at the phone")
    table.add_column("case")
    for heading in (
        "switches",
        "speaking\nbot/caller/both/none",
        "tool, keys\npending",
        "lost\nms",
        "again\nmedian ms",
        "gap\np99 ms",
        "bot cut\nms",
        "twice/\nnever",
        "first frame\np50/p99 ms",
        "after cut\np99 ms",
    ):
        table.add_column(heading, justify="right")
    for case in cases:
        table.add_row(*_row(case))
    console.print(table)
    for promise in promises(cases):
        console.print(
            f"  {_MARKS[promise.met]} {promise.words}: {promise.found} [dim]({promise.target})[/]",
            soft_wrap=True,
        )
    for case in cases:
        if case.others_percent > BUSY_PERCENT:
            console.print(
                f"[yellow]note[/]  {case.name}: other programs took {case.others_percent:.0f} % of a"
                " core meanwhile; latencies are theirs too"
            )


def as_json(cases: Sequence[CaseFigures]) -> dict[str, Any]:
    """The figures, ready for JSON: of many values their number, median, 99th percentile and maximum."""
    return {
        "cases": [_summary(case) for case in cases],
        "promises": [asdict(promise) for promise in promises(cases)],
        "kept": all_kept(cases),
    }


def all_kept(cases: Sequence[CaseFigures]) -> bool:
    """Whether every promise is kept of which there is a figure."""
    return all(promise.met is not False for promise in promises(cases))


def _row(case: CaseFigures) -> list[str]:
    of = case.situations
    speaking = "/".join(str(of.get(who, 0)) for who in ("bot", "caller", "both", "neither"))
    pending = of.get("tool", 0) + of.get("keys", 0)
    first, cut = case.first_frame_ms, case.after_cut_ms
    return [
        case.name,
        str(case.switches),
        speaking,
        str(pending or ""),
        str(case.lost_ms),
        f"{percentile(case.doubled_ms, 50):g}",
        f"{percentile(case.hole_ms, 99):g}" if case.hole_ms else "",
        str(sum(case.bot_cut_ms)),
        f"{case.twice}/{case.never}",
        f"{percentile(first, 50):.0f} / {percentile(first, 99):.0f}" if first else "",
        f"{percentile(cut, 99):.0f}" if cut else "",
    ]


def _summary(case: CaseFigures) -> dict[str, Any]:
    facts = asdict(case)
    for name in _LISTS:
        values: Sequence[float] = getattr(case, name)
        facts[name] = {
            "n": len(values),
            "p50": percentile(values, 50),
            "p99": percentile(values, 99),
            "max": max(values, default=0),
        }
    facts["wrong"] = case.wrong[:20]
    return facts
