"""Many short calls, one after the other and at once: what a call takes it gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from opusagent.bench import process_facts
from opusagent.bench.load_callers import CallFailed, LoadCaller
from opusagent.bench.rig import Rig, rig
from opusagent.bench.stamps import Arrivals
from opusagent.errors import TransportError

__all__ = ["Moment", "SoakResult", "run_soak"]

FRAME_MS: Final = 20
CALL_S: Final = 2.0
IN_A_ROW: Final = 200
AT_ONCE: Final = 50

GROWTH_MB: Final = 2.0
"""Anonymous memory that ends this much higher is looked into: an allocator does not give back every page."""

LEVEL_MB: Final = 0.5
"""A leak adds more than this with every 50 calls (10 kB a call); what an allocator keeps levels off.

Measured over sixteen times 30 calls at once: anonymous memory rose by 2.9 MB, most of it in one step at a new
peak of work, while what malloc had handed out stayed at 18.7 MB.
"""

AGAIN: Final = 3
"""How often the calls at once are repeated while memory or threads rise."""

WARM_UPS: Final = 2
"""Measured: anonymous memory is 1 to 3 MB higher after the second 50 calls at once than after the first,
and within half a megabyte of that after the third; it does not grow with the number of calls."""

RETURN_S: Final = 15.0
"""How long the last sockets may take to close, and memory to be given back after them."""

QUIET_S: Final = 2.0
"""From the end of the last call to the first look: a second later the bridge gives memory back."""

LOOK_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Moment:
    """What the bridge process holds while no call is under way; memory in MB of 10^6 bytes."""

    when: str
    memory_mb: float
    anonymous_mb: float
    threads: int
    files: int
    tasks: int

    def more_than(self, before: Moment) -> list[str]:
        """What is held that was not held then, in words; memory and threads level off at a height of their own."""
        found = []
        for what in ("files", "tasks"):
            was, now = getattr(before, what), getattr(self, what)
            if now > was:
                found.append(f"{self.when}: {what} {was} -> {now}")
        return found


@dataclass(slots=True)
class SoakResult:
    """What was measured; the first moment is what the others are compared with."""

    moments: list[Moment] = field(default_factory=list)
    calls: int = 0
    failures: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What is not as it was, in words; empty if all is well."""
        found = [f"a call failed: {words}" for words in self.failures]
        before, *later = self.moments
        for moment in later:
            found += moment.more_than(before)
        if self.has_more_threads:
            counts = " -> ".join(str(moment.threads) for moment in self.moments)
            found.append(f"threads do not level off: {counts}")
        if self.grows:
            grew = " -> ".join(f"{moment.anonymous_mb:.1f}" for moment in self.moments)
            found.append(f"anonymous memory does not level off: {grew} MB")
        return found

    @property
    def grows(self) -> bool:
        """Whether anonymous memory has grown beyond `GROWTH_MB`, and was still doing so at the end."""
        mb = [moment.anonymous_mb for moment in self.moments]
        return mb[-1] - mb[0] > GROWTH_MB and mb[-1] - mb[-2] > LEVEL_MB

    @property
    def has_more_threads(self) -> bool:
        """Whether there are more threads than ever before: a pool keeps as many as once worked together."""
        counts = [moment.threads for moment in self.moments]
        return counts[-1] > max(counts[:-1], default=counts[-1])

    def as_json(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        return {"soak": asdict(self) | {"problems": self.problems()}}


async def run_soak(
    *,
    progress: Callable[[str], None],
    in_a_row: int = IN_A_ROW,
    at_once: int = AT_ONCE,
    call_s: float = CALL_S,
) -> SoakResult:
    """Make the calls and look at the bridge before, between and after.

    Before the first look as many calls as will be at once warm it up, `WARM_UPS` times: code that runs for
    the first time, threads and the allocator's arenas stay, and are no leak.

    Raises:
        ProcessFailed: If the bridge or the service does not start.
    """
    result = SoakResult()
    # Records of ended calls are kept on purpose, some 3 kB each: not the memory that is asked about.
    async with rig(at_once, FRAME_MS, environ={"KEEP_ENDED_SESSIONS": "false"}) as running:
        progress(f"warming up with {at_once} calls at once, {WARM_UPS} times ...")
        for _ in range(WARM_UPS):
            await _make_calls(running, result, at_once, call_s, together=True)
            result.moments = [await _settled(running, "before", None)]
        (before,) = result.moments
        progress(f"{in_a_row} calls of {call_s:g} s in a row ...")
        await _make_calls(running, result, in_a_row, call_s, together=False, progress=progress)
        after = f"after {in_a_row} in a row"
        result.moments.append(await _settled(running, after, before))
        progress(f"{at_once} calls of {call_s:g} s at once ...")
        await _make_calls(running, result, at_once, call_s, together=True)
        after = f"after {at_once} at once"
        result.moments.append(await _settled(running, after, before))
        for number in range(AGAIN):
            if not (result.grows or result.has_more_threads):
                break
            progress(f"there is more than before: {at_once} calls at once again ...")
            await _make_calls(running, result, at_once, call_s, together=True)
            result.moments.append(await _settled(running, f"{after}, again {number + 1}", before))
    return result


async def _make_calls(
    running: Rig,
    result: SoakResult,
    n_calls: int,
    call_s: float,
    *,
    together: bool,
    progress: Callable[[str], None] | None = None,
) -> None:
    if together:
        async with asyncio.TaskGroup() as tasks:
            for number in range(n_calls):
                tasks.create_task(_call(running, result, number, call_s))
        return
    for number in range(n_calls):
        await _call(running, result, number, call_s)
        if progress is not None and (number + 1) % 25 == 0:
            progress(f"  {number + 1} calls")


async def _call(running: Rig, result: SoakResult, number: int, call_s: float) -> None:
    arrivals = Arrivals()
    caller = LoadCaller(number, FRAME_MS, arrivals)
    try:
        await caller.begin(running.url)
        await caller.talk(call_s, settle_s=0.0)
        await caller.end()
    except (CallFailed, TransportError, TimeoutError) as error:
        result.failures.append(str(error) or type(error).__name__)
        return
    result.calls += 1
    if not arrivals.frames:
        result.failures.append("no bot audio came")


async def _settled(running: Rig, when: str, before: Moment | None) -> Moment:
    """What the bridge holds once its last call is gone; looks until all has returned or time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + RETURN_S
    while (await running.stats())["calls_active"] and loop.time() < deadline:
        await _wait(LOOK_EVERY_S)
    await _wait(QUIET_S)
    moment = await _look(running, when)
    while before is not None and _is_more(moment, before) and loop.time() < deadline:
        moment = await _look(running, when)
    return moment


def _is_more(moment: Moment, before: Moment) -> bool:
    return bool(moment.more_than(before)) or moment.anonymous_mb > before.anonymous_mb + GROWTH_MB


async def _look(running: Rig, when: str) -> Moment:
    tasks: int = (await running.stats())["tasks"]
    pid = running.bridge.pid
    await _wait(LOOK_EVERY_S)  # the connection of the question closes
    memory = process_facts.memory(pid)
    return Moment(
        when,
        memory.resident,
        memory.anonymous,
        process_facts.threads(pid),
        process_facts.files(pid),
        tasks,
    )


async def _wait(seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        pass
