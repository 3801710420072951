"""An event loop whose clock jumps to the next timer as soon as nothing else can happen.

Eight minutes of a call pass in a moment, in the order in which they would pass in reality. What happens
outside of the loop takes its own time: while a thread of the loop's executor runs the loop waits for it, and
within `heeding` for sockets and other threads as well. Anywhere else it would jump ahead while bytes are
under way.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, override

__all__ = ["VirtualTimeLoop", "run"]

PATIENCE_S: Final = 0.5
"""For so long the clock stands still while something outside is waited for; then it runs in real time."""


class _JumpingSelector(selectors.DefaultSelector):
    """Tells the loop how long it would have waited instead of waiting."""

    def __init__(self, jump: Callable[[float], None], is_outside: Callable[[], bool]) -> None:
        super().__init__()
        self._jump = jump
        self._is_outside = is_outside
        self._patience_s = PATIENCE_S

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._is_outside():
            return self._wait(timeout)
        self._patience_s = PATIENCE_S
        if timeout is None:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        self._jump(timeout)
        return []

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        ready = super().select(max(self._patience_s, 0.0) or timeout)
        waited_s = time.monotonic() - began
        if self._patience_s > 0:
            self._patience_s -= waited_s
        else:
            self._jump(waited_s if timeout is None else min(waited_s, timeout))
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and moves only when nothing is ready to run."""

    def __init__(self) -> None:
        self._now = 0.0
        self._in_threads = 0
        self._heeds = 0
        self._selecting = _JumpingSelector(self._advance, self._is_outside)
        super().__init__(self._selecting)

    @override
    def time(self) -> float:
        return self._now

    @contextmanager
    def heeding(self, *, thread: bool = False) -> Iterator[None]:
        """Wait for sockets meanwhile, where any are open; with `thread` for a thread of one's own."""
        self._heeds += 1
        self._in_threads += thread
        try:
            yield
        finally:
            self._heeds -= 1
            self._in_threads -= thread

    @override
    def run_in_executor(  # type: ignore[override]  # typeshed ties `args` to `func`
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._out_of_thread)
        return future

    def _out_of_thread(self, _: object) -> None:
        self._in_threads -= 1

    def _advance(self, seconds: float) -> None:
        self._now += seconds

    def _is_outside(self) -> bool:
        # The loop's own waker is among the files that it watches.
        return self._in_threads > 0 or (self._heeds > 0 and len(self._selecting.get_map()) > 1)


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
