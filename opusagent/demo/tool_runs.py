"""The tools that were run in a call, as the bridges reported them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import JsonValue

__all__ = ["ToolRun", "tools_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """One of them.

    Attributes:
        at_s: When the model asked for it, in seconds of the call.
        seconds: Until its result was there; None if it never was.
        failed: Whether that was an error.
    """

    name: str
    at_s: float
    seconds: float | None = None
    failed: bool = False

    def as_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return asdict(self)


def tools_in(log: Sequence[dict[str, Any]]) -> list[ToolRun]:
    """Every tool in the logs of all bridges, in order; each line needs `at_s`."""
    runs: list[ToolRun] = []
    for line in log:
        match line:
            case {"event": "tool requested", "name": str(name)}:
                runs.append(ToolRun(name=name, at_s=line["at_s"]))
            case {"event": "tool finished", "name": str(name)}:
                open_runs = [run for run in runs if run.seconds is None]
                # What is keyed in may be given to another tool, whose result is the model's then.
                for run in sorted(open_runs, key=lambda run: run.name != name)[:1]:
                    runs[runs.index(run)] = ToolRun(
                        name=name if run.name == name else f"{run.name}, {name}",
                        at_s=run.at_s,
                        seconds=round(line["at_s"] - run.at_s, 3),
                        failed=line["failed"],
                    )
    return runs
