from __future__ import annotations

import asyncio
import math

import pytest

from opusagent.clock import FakeClock
from opusagent.simulators.caller_live import LiveLine, until
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import CallerPlan
from opusagent.transports.memory import MemoryCaller, caller_pair
from tests import virtual_time


def live_line(tasks: asyncio.TaskGroup) -> LiveLine:
    async def connect() -> MemoryCaller:
        return caller_pair()[0]

    loop = asyncio.get_running_loop()
    return LiveLine(
        CallerPlan(),
        connect,
        CallRecord(began_at=loop.time()),
        tasks,
        conversation_id="c-1",
        clock=FakeClock(),
        progress=None,
    )


def test_waiting_until_a_moment_takes_until_then() -> None:
    async def main() -> float:
        await until(12.5)
        await until(3.0)  # over already
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == 12.5


def test_what_is_never_found_is_waited_for_in_vain() -> None:
    async def main() -> None:
        await until(0.1)
        async with asyncio.TaskGroup() as tasks:
            live = live_line(tasks)
            assert not await live.wait(lambda _: math.inf, 2.7)
            assert live.now() == pytest.approx(2.7)

    virtual_time.run(main())


def test_what_depends_on_time_is_found_in_time() -> None:
    async def main() -> None:
        await until(0.1)  # so that the two clocks differ by roundings
        async with asyncio.TaskGroup() as tasks:
            live = live_line(tasks)
            assert await live.wait(lambda now: None if now >= 1.3 else 1.3, 5.0)
            assert live.now() == pytest.approx(1.3)

    virtual_time.run(main())


def test_what_happens_meanwhile_is_noticed_at_once() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            live = live_line(tasks)

            async def happen() -> None:
                await until(2.0)
                live.line.vanish(2.0)
                live.after()

            tasks.create_task(happen())
            assert await live.wait(lambda _: None if live.over.is_set() else math.inf, 5.0)
            assert live.now() == 2.0

    virtual_time.run(main())


def test_the_time_of_a_call_never_goes_back_behind_a_timer() -> None:
    async def main() -> None:
        await until(0.1)
        async with asyncio.TaskGroup() as tasks:
            live = live_line(tasks)
            latest = 0.0
            for at in (0.1, 0.2, 0.3, 0.7, 1.1):
                await live.wait(lambda now, at=at: None if now >= at else at, math.inf)  # type: ignore[misc]
                assert live.now() >= max(at, latest)
                latest = live.now()

    virtual_time.run(main())
