"""What resumes are held to, and whether a measurement keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from opusagent.bench.resume.measure import Kills, Moves, Outage, Returns, Writes, percentile
from opusagent.bench.resume.stall import Stall
from opusagent.bench.resume.stored import Stored

__all__ = ["ResumeFigures", "Row", "rows"]

HERE_MS: Final = 20.0
THERE_MS: Final = 50.0
HEARD_MS: Final = 100.0
LOAD_MS: Final = 20.0
OUTAGE_S: Final = 3.0
STALL_MS: Final = 20.0
STORED_BYTES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeFigures:
    """All that `bench --resume` measures."""

    kills: Kills
    returns: Returns
    moves: Moves
    stored: Stored
    outage: Outage
    writes: Writes
    stall: Stall

    def as_json(self) -> dict[str, Any]:
        """The figures and the verdicts, ready for JSON; lists of times are told by their percentiles."""
        figures = {name: _brief(part) for name, part in asdict(self).items()}
        return {"figures": figures, "rows": [asdict(row) | {"met": row.met} for row in rows(self)]}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: `found` must be below `limit`, or at most that if `inclusive`."""

    words: str
    found: float
    limit: float
    unit: str = ""
    inclusive: bool = False
    of: str = ""

    @property
    def met(self) -> bool:
        """Whether it is; what could not be measured is not."""
        return self.found <= self.limit if self.inclusive else self.found < self.limit


def rows(found: ResumeFigures) -> list[Row]:
    """The table, in the order in which it is printed."""
    kills, back, moves = found.kills, found.returns, found.moves
    stored, outage, writes = found.stored, found.outage, found.writes
    refused = len(kills.refused) + len(moves.refused) + len(outage.refused)
    stall = found.stall
    delay_ms = round(percentile(stall.stalled_ms, 99) - percentile(stall.well_ms, 99), 2)
    per_item = round(writes.writes / writes.items, 2) if writes.items else float("nan")
    return [
        Row(
            "turns and function calls lost",
            kills.lost if kills.items else float("nan"),
            0,
            inclusive=True,
            of=f"{kills.items} in {kills.kills} kills",
        ),
        Row("told twice to the next stream", kills.twice, 0, inclusive=True),
        Row("callers refused or given up", refused, 0, inclusive=True),
        Row("hung up by the process that was left", moves.hang_ups, 0, inclusive=True),
        Row(
            "caller frames lost, same process",
            back.frames_lost if back.frames_sent else float("nan"),
            0,
            inclusive=True,
            of=f"{back.frames_sent} in {back.returns} returns",
        ),
        Row("caller frames doubled, same process", back.frames_doubled, 0, inclusive=True),
        Row("accepted, same process, p99", percentile(back.accepted_ms, 99), HERE_MS, "ms"),
        Row("accepted, other process, p99", percentile(moves.accepted_ms, 99), THERE_MS, "ms"),
        Row(
            "resume to first frame beyond opening, p99",
            percentile(moves.heard_ms, 99),
            HEARD_MS,
            "ms",
            of=f"{moves.moves} resumes",
        ),
        Row(
            "load of a long history, p99",
            percentile(stored.load_ms, 99),
            LOAD_MS,
            "ms",
            of=f"{stored.history_bytes} bytes of text, {stored.loads} loads",
        ),
        Row(
            f"{outage.calls} calls, one process killed, all heard",
            outage.seconds,
            OUTAGE_S,
            "s",
        ),
        Row(
            "compressed session",
            stored.compressed_bytes,
            STORED_BYTES,
            "bytes",
            of=f"{stored.plain_bytes} bytes as JSON",
        ),
        Row(
            "writes per committed item",
            per_item,
            1,
            inclusive=True,
            of=f"{writes.writes} for {writes.items}",
        ),
        Row(
            "writes without an item",
            writes.idle_writes,
            0,
            inclusive=True,
            of=f"{writes.idle_s:g} s of silence",
        ),
        Row(
            "audio delayed by a store that stands still, p99",
            delay_ms,
            STALL_MS,
            "ms",
            of=f"{len(stall.stalled_ms)} frames, {stall.calls} calls",
        ),
        Row("caller frames lost meanwhile", stall.missing, 0, inclusive=True),
    ]


def _brief(part: dict[str, Any]) -> dict[str, Any]:
    brief: dict[str, Any] = {}
    for name, value in part.items():
        if name.endswith("_ms") and isinstance(value, list):
            for percent in (50, 99, 100):
                brief[f"{name}_p{percent}"] = percentile(value, percent)
        else:
            brief[name] = value
    return brief
