"""Threads and a second loop: real ones, so these tests take real time."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from opusagent.errors import ToolError
from opusagent.tools import ToolRegistry
from opusagent.tools.workshop import STUCK_S, SWITCH_INTERVAL_S, Workshop
from tests.tools.rig import Counts, asks, of_call
from tests.waiting import eventually, pass_time

registry = ToolRegistry()
SPIN_S = 1.2


@registry.tool(timeout_s=1)
def sleeps() -> None:
    """Sleep."""
    time.sleep(SPIN_S)  # for longer than it may take, and then it is over


@registry.tool(timeout_s=1)
def spins() -> int:
    """Compute."""
    until = time.monotonic() + SPIN_S
    n = 0
    while time.monotonic() < until:
        n += 1
    return n


@registry.tool(timeout_s=1)
def raises() -> None:
    """Fail."""
    raise SystemExit(3)


@registry.tool(timeout_s=1)
def ten_megabytes() -> dict[str, object]:
    """Return ten megabytes."""
    return {"text": "x" * 10_000_000}


@registry.tool(timeout_s=1)
async def never_returns() -> None:
    """Never return."""
    await asyncio.Event().wait()


@registry.tool(timeout_s=1)
async def blocks() -> None:
    """Block the loop that it is on."""
    time.sleep(SPIN_S)  # noqa: ASYNC251 - what must not be done


@registry.tool()
async def waits(seconds: float) -> str:
    """Wait properly."""
    await pass_time(seconds)
    return "waited"


def run(main: Callable[[Workshop], Coroutine[Any, Any, None]], **limits: Any) -> list[int]:
    """Run a test; returns what was told of abandoned threads."""
    counts = Counts()

    async def whole() -> None:
        shop = Workshop(counts.tool_threads_abandoned, **limits)
        try:
            async with asyncio.timeout(20):
                await main(shop)
        finally:
            shop.stop()

    asyncio.run(whole())
    return counts.abandoned


async def alive() -> str:
    return "alive"


async def lateness_s(until: asyncio.Event) -> list[float]:
    """How late the loop fires a timer of 5 ms, each time."""
    loop = asyncio.get_running_loop()
    late = []
    while not until.is_set():
        due = loop.time() + 0.005
        await pass_time(0.005)
        late.append(loop.time() - due)
    return late


def test_whatever_tools_do_the_loop_that_carries_audio_is_on_time() -> None:
    every = ("sleeps", "spins", "raises", "ten_megabytes", "never_returns", "blocks")

    async def main(shop: Workshop) -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        watch = loop.create_task(lateness_s(over))
        tools = of_call(registry.tools, place=shop)
        results = await asyncio.gather(*(tools(asks(name)) for name in every for _ in range(4)))
        over.set()
        late = await watch
        assert [set(result) for result in results if "shortened" not in result] == [{"error"}] * 20
        assert (
            max(late) < SPIN_S / 2
        )  # how much it is in figures depends on what else the machine does

    run(main)


def test_the_lock_of_the_interpreter_changes_hands_quickly_once_there_are_threads() -> None:
    async def main(shop: Workshop) -> None:
        sys.setswitchinterval(0.005)
        await shop.plain("x", int)
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)

    run(main)


def test_plain_functions_run_in_threads_and_async_ones_on_a_loop_of_their_own() -> None:
    number = contextvars.ContextVar[int]("number")

    async def main(shop: Workshop) -> None:
        number.set(7)
        here = threading.current_thread()
        thread, seen = await shop.plain("x", lambda: (threading.current_thread(), number.get()))
        assert thread is not here
        assert seen == 7
        loop = asyncio.get_running_loop()

        async def where() -> tuple[threading.Thread, asyncio.AbstractEventLoop, int]:
            return threading.current_thread(), asyncio.get_running_loop(), number.get()

        other, its_loop, seen = await shop.coroutine("y", where)
        assert other is not here
        assert its_loop is not loop
        assert seen == 7
        assert (await shop.coroutine("y", where))[1] is its_loop

    assert run(main) == []


def test_what_a_function_raises_arrives_and_ends_no_loop() -> None:
    def fails() -> None:
        raise KeyError("x")

    def leaves() -> None:
        raise SystemExit

    async def fails_async() -> None:
        fails()

    async def leaves_async() -> None:
        leaves()

    async def main(shop: Workshop) -> None:
        for plain, coroutine, error in (
            (fails, fails_async, KeyError),
            (leaves, leaves_async, RuntimeError),
        ):
            with pytest.raises(error):
                await shop.plain("x", plain)
            with pytest.raises(error):
                await shop.coroutine("x", coroutine)
        assert await shop.coroutine("x", alive) == "alive"

    run(main)


async def given_up(work: Coroutine[Any, Any, Any], after_s: float = 0.05) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after_s):
            await work


def test_a_thread_that_is_not_waited_for_is_abandoned_counted_and_taken_back_at_its_end() -> None:
    go_on = threading.Event()

    async def main(shop: Workshop) -> None:
        await given_up(shop.plain("x", go_on.wait))
        await given_up(shop.plain("x", go_on.wait))
        assert shop.abandoned == 2
        go_on.set()
        assert await eventually(lambda: shop.abandoned == 0)

    assert run(main) == [1, 2, 1, 0]


def test_an_abandoned_thread_keeps_no_slot_and_too_many_of_them_keep_new_ones_out() -> None:
    go_on = threading.Event()

    async def main(shop: Workshop) -> None:
        for _ in range(2):
            await given_up(shop.plain("x", go_on.wait))
        assert await shop.plain("x", lambda: "still room") == "still room"
        await given_up(shop.plain("x", go_on.wait))
        with pytest.raises(ToolError, match="y cannot be run now"):
            await shop.plain("y", int)
        with pytest.raises(ToolError, match="z cannot be run now"):
            await shop.coroutine("z", alive)
        go_on.set()
        assert await eventually(lambda: shop.abandoned == 0)
        assert await shop.plain("y", int) == 0

    run(main, max_threads=1, max_abandoned=3)


def test_no_more_threads_run_at_once_than_are_allowed() -> None:
    begun: list[threading.Event] = []

    def work() -> None:
        go_on = threading.Event()
        begun.append(go_on)
        go_on.wait()

    async def have_begun(n: int) -> bool:
        return await eventually(lambda: len(begun) == n)

    async def main(shop: Workshop) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(9):
                tasks.create_task(shop.plain("x", work))
            for ended in range(9):
                assert await have_begun(min(ended + 3, 9))
                begun[ended].set()

    run(main, max_threads=3)


def test_an_async_function_that_is_not_waited_for_is_cancelled() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def main(shop: Workshop) -> None:
        await given_up(shop.coroutine("x", work))
        assert await eventually(lambda: seen == ["cancelled"])
        assert shop.abandoned == 0

    run(main)


def test_a_loop_that_is_blocked_is_given_up_and_others_go_on_on_a_new_one() -> None:
    go_on = threading.Event()

    async def block() -> str:
        go_on.wait(10)
        await pass_time(0.01)
        return "after all"

    async def main(shop: Workshop) -> None:
        loop = asyncio.get_running_loop()
        blocked = loop.create_task(shop.coroutine("blocks", block))
        await pass_time(2 * STUCK_S + 0.2)
        assert shop.abandoned == 1
        tools = of_call(registry.tools, place=shop)
        assert await tools(asks("waits", '{"seconds": 0.01}')) == {"result": "waited"}
        go_on.set()
        assert await blocked == "after all"
        assert await eventually(lambda: shop.abandoned == 0)

    assert run(main) == [1, 0]


def test_nothing_is_left_of_async_functions_after_the_stop() -> None:
    seen: list[str] = []
    its_loop: asyncio.AbstractEventLoop

    async def work() -> None:
        nonlocal its_loop
        its_loop = asyncio.get_running_loop()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def main(shop: Workshop) -> None:
        waiting = asyncio.get_running_loop().create_task(shop.coroutine("x", work))
        await pass_time(0.05)
        shop.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert seen == ["cancelled"]
        assert await eventually(its_loop.is_closed)

    run(main)


def test_a_tool_starts_and_ends_within_a_few_milliseconds() -> None:
    async def main(shop: Workshop) -> None:
        took = []
        for n in range(300):
            began = time.perf_counter()
            if n % 2:
                started = await shop.plain("x", time.perf_counter)
            else:

                async def now() -> float:
                    return time.perf_counter()

                started = await shop.coroutine("x", now)
            took += [started - began, time.perf_counter() - started]
        assert sorted(took)[len(took) // 2] < 0.005

    run(main)
