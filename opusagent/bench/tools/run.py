"""Each kind of tool under load, in a fresh bridge each, and what it changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from opusagent.bench.rig import rig
from opusagent.bench.run import Figures, measure, percentile
from opusagent.bench.targets import P99_MS, Target

__all__ = ["CASES", "ToolFigures", "run_tools"]

TOOL_MS: Final = 5.0
"""From `toolUse` to the tool's start, and from its result to the wire, at the 99th percentile."""

CASES: Final[Mapping[str, tuple[str, ...]]] = {
    "none": (),
    "quick": ("quick",),
    "sleep": ("sleeps", "awaits"),
    "compute": ("spins",),
    "compute in async": ("blocks",),
    "raise": ("raises",),
    "return 10 MB": ("large",),
    "never return": ("never",),
    "all of them": ("quick", "sleeps", "awaits", "spins", "raises", "large", "never"),
}
"""What the tools do, and their names; each call asks for one every second."""
_QUICK: Final = frozenset({"quick", "sleep"})
"""Cases whose tools compete with nothing but audio, so that their own times are held to the limit."""

_AGENT: Final = """
system_prompt = "You are measured."
[[tools]]
type = "python"
module = "opusagent.bench.tools.functions"
run_in = "{place}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFigures:
    """What one case measured."""

    case: str
    load: Figures
    asked: int
    done: int
    failed: int
    start_p50_ms: float
    start_p99_ms: float
    result_p50_ms: float
    result_p99_ms: float

    @property
    def targets(self) -> list[Target]:
        """What this case is held to."""
        load = self.load
        lost = load.caller_frames_lost + load.bot_frames_lost
        found = [
            Target("frames lost", 0, lost),
            Target("to the model, p99", P99_MS, load.to_model_p99_ms, "ms"),
            Target("to the caller, p99", P99_MS, load.to_caller_p99_ms, "ms"),
        ]
        if self.case in _QUICK:
            found += [
                Target("to the tool's start, p99", TOOL_MS, self.start_p99_ms, "ms"),
                Target("from its result to the wire, p99", TOOL_MS, self.result_p99_ms, "ms"),
            ]
        return found

    def as_json(self) -> dict[str, Any]:
        """The figures as one JSON-ready row; what was not measured is null."""
        row = asdict(self)
        return row | {key: None for key, value in row.items() if value != value}  # noqa: PLR0124 - NaN


async def run_tools(
    *,
    calls: int,
    seconds: float,
    frame_ms: int,
    progress: Callable[[str], None],
    cases: Sequence[str] = tuple(CASES),
    place: str = "process",
) -> list[ToolFigures]:
    """Measure each case in turn.

    Args:
        calls: How many at once.
        seconds: How long each case runs.
        frame_ms: Length of a frame.
        progress: Takes each line of progress.
        cases: Names in `CASES`.
        place: `run_in` of the tools.

    Raises:
        ProcessFailed: If the bridge or the service does not start.
        CallFailed: If the bridge does not take a call.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "default.toml").write_text(_AGENT.format(place=place), encoding="utf-8")
        for case in cases:
            progress(f"{calls} calls, {frame_ms} ms frames, tools that {case}, {seconds:g} s ...")
            names = ",".join(CASES[case])
            async with rig(
                calls,
                frame_ms,
                service=("opusagent.bench.tools.service", names),
                environ={"AGENT_CONFIG_DIR": folder, "LOG_LEVEL": "ERROR"},
            ) as running:
                found.append(_figures(case, *await measure(running, calls, seconds, frame_ms)))
    return found


def _figures(case: str, load: Figures, heard: Mapping[str, Any]) -> ToolFigures:
    start, result = sorted(heard["start_ms"]), sorted(heard["result_ms"])
    return ToolFigures(
        case=case,
        load=load,
        asked=heard["tools"].get("asked", 0),
        done=heard["tools"].get("done", 0),
        failed=heard["tools"].get("failed", 0),
        start_p50_ms=percentile(start, 50),
        start_p99_ms=percentile(start, 99),
        result_p50_ms=percentile(result, 50),
        result_p99_ms=percentile(result, 99),
    )
