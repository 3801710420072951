import asyncio
import time

import pytest

from tests.virtual_time import VirtualTimeLoop, run


async def _tick(seconds: float, times: int) -> float:
    loop = asyncio.get_running_loop()
    for _ in range(times):
        woken = loop.create_future()
        loop.call_later(seconds, woken.set_result, None)
        await woken
    return loop.time()


def test_eight_minutes_of_frames_pass_in_a_moment() -> None:
    before = time.perf_counter()
    assert run(_tick(0.02, 24_000)) == pytest.approx(480)
    assert time.perf_counter() - before < 10


def test_tasks_wake_in_the_order_of_their_deadlines() -> None:
    woken: list[str] = []

    async def wait(name: str, seconds: float) -> None:
        await _tick(seconds, 1)
        woken.append(name)

    async def both() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait("late", 2))
            tasks.create_task(wait("early", 1))

    run(both())
    assert woken == ["early", "late"]


def test_a_timeout_fires_at_its_virtual_moment() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(30)


def test_waiting_for_nothing_is_reported_as_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with (
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
        pytest.raises(RuntimeError, match="deadlock"),
    ):
        runner.run(main())


def test_a_task_left_behind_is_named() -> None:
    forgotten: list[asyncio.Task[float]] = []

    async def main() -> None:
        forgotten.append(asyncio.get_running_loop().create_task(_tick(1, 1), name="forgotten"))

    with pytest.raises(AssertionError, match="forgotten"):
        run(main())
