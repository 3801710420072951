"""What is promised of switches, and whether the figures keep it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from opusagent.bench.switches.cases import CASES
from opusagent.bench.switches.figures import CaseFigures

__all__ = ["Promise", "percentile", "promises"]

GAP_MS: Final = 40.0
WORD_MS: Final = 500
"""How much of an answer may be cut where its stream has to be closed before the next one can be had."""
FIRST_FRAME_P50_MS: Final = 20.0
FIRST_FRAME_P99_MS: Final = 50.0
AFTER_CUT_MS: Final = 300.0
GOES_ON_MS: Final = 1500.0
"""After a stream was cut in the middle of an answer, and with what the model takes to begin to speak."""
SHARE_PERCENT: Final = 0.05
STREAM_S: Final = 360.0
"""The least time between two switches at the default settings."""

_CLOSED_FIRST: Final = frozenset(case.name for case in CASES if case.service.spare is not None)
_SILENT: Final = frozenset(case.name for case in CASES if case.caller.silent)


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: what was found, and what it must be, in words; None where nothing was measured."""

    words: str
    target: str
    found: str
    met: bool | None


def promises(cases: Sequence[CaseFigures]) -> list[Promise]:
    """Every promise, held against all cases together."""
    doubled = _all(cases, lambda c: c.doubled_ms)
    return [
        _none("caller audio on no stream", "ms", sum(c.lost_ms for c in cases)),
        _none(
            "caller audio that the answering stream missed", "ms", sum(c.unheard_ms for c in cases)
        ),
        _none(
            "caller audio given twice though understood or answered",
            "ms",
            sum(c.doubled_wrongly_ms for c in cases),
            f"; the rest, unanswered: median {percentile(doubled, 50):g} ms a switch",
        ),
        _none("caller audio out of order", "frames", sum(c.disordered for c in cases)),
        _gap(cases),
        _none("bot audio doubled", "frames", sum(c.bot_doubled for c in cases)),
        _cut(cases),
        _none("caller turns answered twice", "", sum(c.twice for c in cases)),
        _none("caller turns never answered", "", sum(c.never for c in cases)),
        _none("history items lost", "", sum(c.history_lost for c in cases)),
        _none(
            "tool results lost",
            "",
            sum(c.results_lost for c in cases),
            f" of {sum(c.results for c in cases)}",
        ),
        _silence([case for case in cases if case.name in _SILENT]),
        *_first_frame(_all(cases, lambda c: c.first_frame_ms)),
        _after_cut(_all(cases, lambda c: c.after_cut_ms)),
        _goes_on(cases),
        _none("streams and connections left open", "", sum(c.left_open for c in cases)),
        _none("calls that broke off", "", sum(len(c.failures) for c in cases)),
    ]


def percentile(values: Sequence[float], percent: float) -> float:
    """By rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0


def _all(
    cases: Sequence[CaseFigures], values: Callable[[CaseFigures], Sequence[float]]
) -> list[float]:
    return list(chain.from_iterable(values(case) for case in cases))


def _none(words: str, unit: str, found: int, more: str = "") -> Promise:
    return Promise(words, "0", f"{found} {unit}".rstrip() + more, found == 0)


def _gap(cases: Sequence[CaseFigures]) -> Promise:
    holes = _all(cases, lambda c: c.hole_ms)
    without = _all(cases, lambda c: c.hole_without_ms)
    usual = statistics.median(without) if without else 0.0
    p99 = percentile([max(hole - usual, 0.0) for hole in holes], 99)
    found = f"p99 {p99:g} ms of {len(holes)} answers"
    words = "gap in an answer across a switch, beyond one without"
    return Promise(words, f"p99 at most {GAP_MS:g} ms", found, p99 <= GAP_MS if holes else None)


def _cut(cases: Sequence[CaseFigures]) -> Promise:
    kept = _all([c for c in cases if c.name not in _CLOSED_FIRST], lambda c: c.bot_cut_ms)
    first = _all([c for c in cases if c.name in _CLOSED_FIRST], lambda c: c.bot_cut_ms)
    worst = max(first, default=0)
    found = f"{len(kept)} answers; {len(first)} where closed first, at most {worst:g} ms"
    return Promise(
        "bot audio cut",
        f"0; at most a word ({WORD_MS} ms) where a stream must be closed first",
        found,
        not kept and worst <= WORD_MS,
    )


def _silence(cases: Sequence[CaseFigures]) -> Promise:
    wanted, done = sum(c.thresholds for c in cases), sum(c.switched for c in cases)
    met = done == wanted if wanted else None
    return Promise("switches in silence that succeed", "all", f"{done} of {wanted}", met)


def _first_frame(times: Sequence[float]) -> list[Promise]:
    p50, p99 = percentile(times, 50), percentile(times, 99)
    words = "decision to first live frame, standby ready"
    share = 100 * p99 / 1000 / STREAM_S
    measured = bool(times)
    return [
        Promise(
            f"{words}, p50",
            f"below {FIRST_FRAME_P50_MS:g} ms",
            f"{p50:.1f} ms of {len(times)}",
            p50 < FIRST_FRAME_P50_MS if measured else None,
        ),
        Promise(
            f"{words}, p99",
            f"below {FIRST_FRAME_P99_MS:g} ms",
            f"{p99:.1f} ms",
            p99 < FIRST_FRAME_P99_MS if measured else None,
        ),
        Promise(
            f"share of a call in transition (p99 of it, every {STREAM_S:g} s)",
            f"below {SHARE_PERCENT:g} %",
            f"{share:.4f} %",
            share < SHARE_PERCENT if measured else None,
        ),
    ]


def _after_cut(times: Sequence[float]) -> Promise:
    p99 = percentile(times, 99)
    return Promise(
        "hard cut until the new stream hears the caller, p99",
        f"below {AFTER_CUT_MS:g} ms, the service's delay aside",
        f"{p99:.0f} ms of {len(times)}, longest {max(times, default=0):.0f} ms",
        p99 < AFTER_CUT_MS if times else None,
    )


def _goes_on(cases: Sequence[CaseFigures]) -> Promise:
    times = _all(cases, lambda c: c.goes_on_ms)
    again = percentile(_all(cases, lambda c: c.repeated_ms), 50)
    p99 = percentile(times, 99)
    return Promise(
        "an answer that broke off goes on, p99",
        f"below {GOES_ON_MS:g} ms",
        f"{p99:.0f} ms of {len(times)}; said again: median {again:g} ms",
        p99 < GOES_ON_MS if times else None,
    )
