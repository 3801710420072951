"""Calls per core, added latency both ways, memory per call: the bridge in a process of its own.

load callers (this process)  <-websocket->  bridge (measured)  <-h2->  load service (a process)
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opusagent.bench import process_facts
from opusagent.bench.load_callers import LoadCaller
from opusagent.bench.rig import Rig, rig
from opusagent.bench.stamps import Arrivals

__all__ = ["Figures", "as_rows", "measure", "percentile", "run_bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one number of calls measured.

    Latencies are one way, both simulators' work included. Memory is in MB of 10^6 bytes; "anonymous" is
    what stands in no file (a resident library is shared by all processes that use it).
    """

    calls: int
    frame_ms: int
    seconds: float
    caller_frames_sent: int
    caller_frames_lost: int
    caller_frames_doubled: int
    caller_frames_disordered: int
    to_model_p50_ms: float
    to_model_p99_ms: float
    bot_frames_arrived: int
    bot_frames_lost: int
    bot_frames_doubled: int
    bot_frames_disordered: int
    to_caller_p50_ms: float
    to_caller_p99_ms: float
    core_percent_per_call: float
    bridge_core_percent: float
    service_core_percent: float
    callers_core_percent: float
    others_core_percent: float
    memory_mb: float
    proportional_memory_mb: float
    anonymous_memory_mb: float
    idle_memory_mb: float
    idle_anonymous_memory_mb: float
    memory_mb_per_call: float
    accept_p99_ms: float


async def run_bench(
    calls: Sequence[int],
    *,
    seconds: float,
    frame_ms: int,
    progress: Callable[[str], None],
) -> list[Figures]:
    """Measure each number of calls in turn, in a fresh bridge each.

    Raises:
        ProcessFailed: If the bridge or the service does not start.
        CallFailed: If the bridge does not take a call.
    """
    found = []
    for n_calls in calls:
        progress(f"{n_calls} calls, {frame_ms} ms frames, {seconds:g} s ...")
        async with rig(n_calls, frame_ms) as running:
            figures, _ = await measure(running, n_calls, seconds, frame_ms)
            found.append(figures)
    return found


@dataclass(frozen=True, slots=True)
class _Clocks:
    """Seconds on the wall, and of processor time, so far."""

    wall: float
    bridge: float
    service: float
    callers: float
    machine: float


def _clocks(running: Rig) -> _Clocks:
    return _Clocks(
        time.monotonic(),
        process_facts.cpu_s(running.bridge.pid),
        process_facts.cpu_s(running.service.pid),
        process_facts.cpu_s(os.getpid()),
        process_facts.busy_s(),
    )


async def measure(
    running: Rig, n_calls: int, seconds: float, frame_ms: int
) -> tuple[Figures, dict[str, Any]]:
    """Carry so many calls for so long; returns the figures, and all that the service found.

    Raises:
        CallFailed: If the bridge does not take a call.
    """
    pid = running.bridge.pid
    idle = process_facts.memory(pid)
    arrivals = Arrivals()
    callers = [LoadCaller(number, frame_ms, arrivals) for number in range(n_calls)]
    for caller in callers:  # one after the other: opening is measured apart from carrying
        await caller.begin(running.url)
    await running.reset_service()
    arrivals.begin(time.monotonic_ns())
    before = _clocks(running)
    async with asyncio.TaskGroup() as tasks:
        for number, caller in enumerate(callers):
            tasks.create_task(caller.talk(seconds, number * frame_ms / 1000 / n_calls))
    after = _clocks(running)
    memory = process_facts.memory(pid)
    heard = await running.heard()
    for caller in callers:
        await caller.end()
    sent = sum(caller.sent for caller in callers)
    to_model, to_caller = sorted(heard["ages_ms"]), sorted(arrivals.ages_ms)
    percent = 100 / (after.wall - before.wall)
    bridge = percent * (after.bridge - before.bridge)
    service = percent * (after.service - before.service)
    ours = percent * (after.callers - before.callers)
    machine = percent * (after.machine - before.machine)
    figures = Figures(
        calls=n_calls,
        frame_ms=frame_ms,
        seconds=seconds,
        caller_frames_sent=sent,
        caller_frames_lost=sent - heard["frames"],
        caller_frames_doubled=heard["doubled"],
        caller_frames_disordered=heard["disordered"],
        to_model_p50_ms=percentile(to_model, 50),
        to_model_p99_ms=percentile(to_model, 99),
        bot_frames_arrived=arrivals.frames,
        bot_frames_lost=arrivals.missing,
        bot_frames_doubled=arrivals.doubled,
        bot_frames_disordered=arrivals.disordered,
        to_caller_p50_ms=percentile(to_caller, 50),
        to_caller_p99_ms=percentile(to_caller, 99),
        core_percent_per_call=round(bridge / n_calls, 2),
        bridge_core_percent=round(bridge, 1),
        service_core_percent=round(service, 1),
        callers_core_percent=round(ours, 1),
        others_core_percent=round(max(machine - bridge - service - ours, 0.0), 1),
        memory_mb=memory.resident,
        proportional_memory_mb=memory.proportional,
        anonymous_memory_mb=memory.anonymous,
        idle_memory_mb=idle.resident,
        idle_anonymous_memory_mb=idle.anonymous,
        memory_mb_per_call=round((memory.resident - idle.resident) / n_calls, 2),
        accept_p99_ms=percentile(sorted(c.accepted_s * 1000 for c in callers), 99),
    )
    return figures, heard


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which so many of a hundred are; not a number where there are none."""
    if not ordered:
        return float("nan")
    return round(ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)], 2)


def as_rows(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """The figures as JSON-ready rows."""
    return [asdict(row) for row in figures]
