"""Where users' functions run: plain ones in threads, async ones on an event loop of their own.

The loop that carries audio only waits for what comes of it, so whatever a function does, it cannot hold
audio up by more than the interpreter's lock takes to change hands.
"""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from opusagent.errors import ToolError

__all__ = ["STUCK_S", "Workshop", "log_blocked"]

_log = structlog.get_logger("opusagent.tools")

MAX_THREADS: Final = 32
"""Plain functions that run at once; one more waits."""
MAX_ABANDONED: Final = 16
"""Threads that nobody waits for any more; at this many no function is begun before one of them ends."""
STUCK_S: Final = 1.0
"""How long an async function may keep the others' loop busy without awaiting anything; at most twice that."""
SWITCH_INTERVAL_S: Final = 0.0005
"""After this time a thread gives the interpreter's lock up to one that waits. With Python's 5 ms each function
that computes would hold audio up by as much, at every turn (measured)."""


class Workshop:
    """Runs users' functions for all calls of a process.

    Args:
        on_abandoned: Told how many threads are abandoned, whenever that changes; from any thread.
        on_blocked: Told which async functions there are on a loop that one of them blocks.
        max_threads: How many plain functions run at once.
        max_abandoned: How many threads may be abandoned.
    """

    def __init__(
        self,
        on_abandoned: Callable[[int], None] = lambda _: None,
        on_blocked: Callable[[Sequence[str]], None] | None = None,
        *,
        max_threads: int = MAX_THREADS,
        max_abandoned: int = MAX_ABANDONED,
    ) -> None:
        self._on_abandoned = on_abandoned
        self._on_blocked = on_blocked or log_blocked
        self._max_abandoned = max_abandoned
        self._slots = asyncio.Semaphore(max_threads)
        self._lock = threading.Lock()
        self._abandoned: set[object] = set()
        self._bench: _Bench | None = None

    async def plain[T](self, name: str, work: Callable[[], T]) -> T:
        """Run `work` in a thread. One that is not waited for any more is abandoned: it cannot be stopped.

        Raises:
            ToolError: If too many threads are abandoned already.
        """
        self._refuse_if_crowded(name)
        async with self._slots:
            self._refuse_if_crowded(name)
            job = _Job(work, asyncio.get_running_loop(), self._take_back)
            self._start(job.run)
            try:
                return await job.result
            except asyncio.CancelledError:
                self._abandon(job)
                raise

    async def coroutine[T](self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` on the loop of async functions. One that is not waited for any more is cancelled.

        A function that blocks this loop holds the others up: it is given up, and a new one made.

        Raises:
            ToolError: If too many threads are abandoned already.
        """
        self._refuse_if_crowded(name)
        bench = self._bench
        if bench is None:
            bench = self._bench = _Bench(self._take_back)
            self._start(bench.run)
        bench.names[name] += 1
        if not bench.is_watched:
            bench.is_watched = True
            asyncio.get_running_loop().call_later(STUCK_S, self._ask, bench)
        future = asyncio.run_coroutine_threadsafe(_tamed(work), bench.loop)
        try:
            return await asyncio.wrap_future(future)
        finally:
            bench.names -= Counter((name,))

    def stop(self) -> None:
        """End the loop of async functions, and what runs on it."""
        if self._bench is not None:
            self._bench.end(at_once=True)
            self._bench = None

    @property
    def abandoned(self) -> int:
        """How many threads nobody waits for any more."""
        return len(self._abandoned)

    def _refuse_if_crowded(self, name: str) -> None:
        if len(self._abandoned) >= self._max_abandoned:
            raise ToolError(f"{name} cannot be run now: too many others do not end")

    def _start(self, target: Callable[[], None]) -> None:
        if sys.getswitchinterval() > SWITCH_INTERVAL_S:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        # Not by `threading`: it waits until the thread runs, for tens of milliseconds where others compute,
        # and one that never ends would be waited for at the process's end.
        _thread.start_new_thread(contextvars.copy_context().run, (target,))

    def _abandon(self, what: _Job[Any] | _Bench) -> None:
        with self._lock:
            if not what.is_over:
                self._abandoned.add(what)
            count = len(self._abandoned)
        self._on_abandoned(count)

    def _take_back(self, what: object) -> None:
        with self._lock:
            if what not in self._abandoned:
                return
            self._abandoned.discard(what)
            count = len(self._abandoned)
        self._on_abandoned(count)

    def _ask(self, bench: _Bench) -> None:
        """See whether the loop of async functions still turns."""
        seen = threading.Event()
        bench.call(seen.set)
        asyncio.get_running_loop().call_later(STUCK_S, self._judge, bench, seen)

    def _judge(self, bench: _Bench, seen: threading.Event) -> None:
        if self._bench is not bench:
            return
        if not seen.is_set():
            self._on_blocked(sorted(bench.names))
            self._bench = None
            self._abandon(bench)
            bench.end()
        elif bench.names:
            self._ask(bench)
        else:
            bench.is_watched = False


def log_blocked(names: Sequence[str]) -> None:
    """Say in the log that one of these async functions blocks the others' loop."""
    _log.warning("async tools block their loop", running=[*names])


async def _tamed[T](work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """SystemExit too is a failure of this function alone: it must not end a loop."""
    try:
        return await work()
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise RuntimeError(type(error).__name__) from error


class _Job[T]:
    """One plain function in its thread."""

    def __init__(
        self,
        work: Callable[[], T],
        loop: asyncio.AbstractEventLoop,
        on_over: Callable[[object], None],
    ) -> None:
        self._work = work
        self._loop = loop
        self._on_over = on_over
        self.is_over = False
        self.result: asyncio.Future[T] = loop.create_future()

    def run(self) -> None:
        """In the thread."""
        try:
            value = self._work()
        except BaseException as error:  # noqa: BLE001 - as in `_tamed`
            self._tell(self._fail, error)
        else:
            self._tell(self._finish, value)
        self.is_over = True
        self._on_over(self)

    def _tell[A](self, callback: Callable[[A], None], what: A) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(callback, what)

    def _finish(self, value: T) -> None:
        if not self.result.done():
            self.result.set_result(value)

    def _fail(self, error: BaseException) -> None:
        if not self.result.done():
            if isinstance(error, StopIteration) or not isinstance(error, Exception):
                wrapped = RuntimeError(type(error).__name__)
                wrapped.__cause__ = error
                error = wrapped
            self.result.set_exception(error)


class _Bench:
    """The loop of async functions, in its thread."""

    def __init__(self, on_over: Callable[[object], None]) -> None:
        self.loop = asyncio.SelectorEventLoop()
        self.names = Counter[str]()
        self.is_over = False
        self.is_watched = False
        self._on_over = on_over

    def call(self, callback: Callable[[], object]) -> None:
        """Have its loop call something."""
        with suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(callback)

    def run(self) -> None:
        """In the thread."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()
            self.is_over = True
            self._on_over(self)

    def end(self, *, at_once: bool = False) -> None:
        """Stop when everything on it is over, or has been cancelled."""
        with suppress(RuntimeError):  # it is closed
            asyncio.run_coroutine_threadsafe(self._end(at_once=at_once), self.loop)

    async def _end(self, *, at_once: bool) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if at_once:
            for task in others:
                task.cancel()
        if others:
            await asyncio.wait(others, timeout=STUCK_S if at_once else None)
        self.loop.stop()
