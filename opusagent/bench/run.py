"""Calls per core, added latency both ways, memory per call: the bridge in a process of its own.

load_callers (this process)  <-websocket->  bridge (measured)  <-h2->  load_service (a process)
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from opusagent.bench.load_callers import LoadCaller
from opusagent.bench.stamps import Arrivals

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one number of calls measured; latencies are one way, both simulators' work included."""

    calls: int
    frame_ms: int
    seconds: float
    caller_frames_sent: int
    caller_frames_lost: int
    caller_frames_doubled: int
    caller_frames_disordered: int
    to_model_p50_ms: float
    to_model_p99_ms: float
    bot_frames_sent: int
    bot_frames_lost: int
    to_caller_p50_ms: float
    to_caller_p99_ms: float
    core_percent_per_call: float
    bridge_core_percent: float
    memory_mb: float
    idle_memory_mb: float
    memory_mb_per_call: float
    accept_p99_ms: float


async def run_bench(
    calls: Sequence[int],
    *,
    seconds: float,
    frame_ms: int,
    progress: Callable[[str], None],
) -> list[Figures]:
    """Measure each number of calls in turn, in a fresh bridge each."""
    found = []
    for n_calls in calls:
        progress(f"{n_calls} calls, {frame_ms} ms frames, {seconds:g} s ...")
        found.append(await _measure(n_calls, seconds, frame_ms))
    return found


async def _measure(n_calls: int, seconds: float, frame_ms: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        service = await _start("opusagent.bench.load_service", str(ca_file), str(frame_ms))
        try:
            endpoint = (await _ready(service)).split()[1]
            bridge = await _start(
                "opusagent",
                "serve",
                AWS_ENDPOINT_URL_BEDROCK_RUNTIME=endpoint,
                AWS_CA_BUNDLE=str(ca_file),
                AWS_ACCESS_KEY_ID="local",
                AWS_SECRET_ACCESS_KEY="local",
                AWS_REGION="us-east-1",
                BRIDGE_HOST="127.0.0.1",
                BRIDGE_PORT="0",
                ADMIN_PORT="0",
                SESSION_MAX_CONCURRENT=str(n_calls),
                DRAIN_SECONDS="3",
                LOG_LEVEL="WARNING",
            )
            try:
                return await _load(bridge, service, n_calls, seconds, frame_ms)
            finally:
                await _end(bridge)
        finally:
            await _end(service)


async def _load(
    bridge: asyncio.subprocess.Process,
    service: asyncio.subprocess.Process,
    n_calls: int,
    seconds: float,
    frame_ms: int,
) -> Figures:
    url = (await _ready(bridge)).split()[1]
    idle_mb = _memory_mb(bridge.pid)
    arrivals = Arrivals()
    callers = [LoadCaller(number, frame_ms, arrivals) for number in range(n_calls)]
    for caller in callers:  # one after the other: opening is measured apart from carrying
        await caller.begin(url)
    await _ask(service, "reset", answer=False)
    cpu_before, began = _cpu_s(bridge.pid), asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as tasks:
        for number, caller in enumerate(callers):
            tasks.create_task(caller.talk(seconds, number * frame_ms / 1000 / n_calls))
    wall_s = asyncio.get_running_loop().time() - began
    cpu_s = _cpu_s(bridge.pid) - cpu_before
    memory_mb = _memory_mb(bridge.pid)
    heard: dict[str, Any] = json.loads(await _ask(service, "figures"))
    for caller in callers:
        await caller.end()
    sent = sum(caller.sent for caller in callers)
    to_model, to_caller = sorted(heard["ages_ms"]), sorted(arrivals.ages_ms)
    core = 100 * cpu_s / wall_s
    # Frames still on their way when the count was taken are not lost.
    on_their_way = n_calls * 2
    return Figures(
        calls=n_calls,
        frame_ms=frame_ms,
        seconds=seconds,
        caller_frames_sent=sent,
        caller_frames_lost=sent - heard["frames"],
        caller_frames_doubled=heard["doubled"],
        caller_frames_disordered=heard["disordered"],
        to_model_p50_ms=_percentile(to_model, 50),
        to_model_p99_ms=_percentile(to_model, 99),
        bot_frames_sent=heard["sent"],
        bot_frames_lost=max(heard["sent"] - arrivals.frames - on_their_way, 0),
        to_caller_p50_ms=_percentile(to_caller, 50),
        to_caller_p99_ms=_percentile(to_caller, 99),
        core_percent_per_call=round(core / n_calls, 2),
        bridge_core_percent=round(core, 1),
        memory_mb=memory_mb,
        idle_memory_mb=idle_mb,
        memory_mb_per_call=round((memory_mb - idle_mb) / n_calls, 2),
        accept_p99_ms=_percentile(sorted(c.accepted_s * 1000 for c in callers), 99),
    )


async def _start(module: str, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        env=os.environ | environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )


async def _ready(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while line := (await process.stdout.readline()).decode():
            if line.startswith("READY"):
                return line
    raise RuntimeError("the process ended before it was ready")


async def _ask(process: asyncio.subprocess.Process, words: str, *, answer: bool = True) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{words}\n".encode())
    await process.stdin.drain()
    if not answer:
        return ""
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(8):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory_mb(pid: int) -> float:
    return round(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6, 1)


def _percentile(ordered: Sequence[float], percent: float) -> float:
    if not ordered:
        return float("nan")
    return round(ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)], 2)


def as_rows(figures: Sequence[Figures]) -> list[dict[str, Any]]:
    """The figures as JSON-ready rows."""
    return [asdict(row) for row in figures]
