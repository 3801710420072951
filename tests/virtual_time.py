"""An event loop whose clock jumps to the next timer as soon as nothing else can happen.

Eight minutes of a call pass in milliseconds, in the order in which they would pass in reality. Only
for in-memory transports: with a real socket the loop would jump ahead while bytes are under way.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Tells the loop how long it would have waited instead of waiting."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        self._jump(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and moves only when nothing is ready to run."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self._advance))

    def time(self) -> float:
        return self._now

    def _advance(self, seconds: float) -> None:
        self._now += seconds


def run[T](main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a virtual-time loop of its own; tasks it left behind are an error."""
    left: set[str] = set()

    async def watched() -> T:
        result = await main
        left.update(
            task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()
        )
        return result

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        result = runner.run(watched())
    assert not left, f"tasks left behind: {sorted(left)}"
    return result
