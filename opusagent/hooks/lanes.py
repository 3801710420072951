"""Delivers events one after the other in each conversation, and several conversations at once; bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Literal, Protocol

import structlog

from opusagent.hooks.events import Event
from opusagent.observability import Metrics

__all__ = ["Lanes", "Outcome", "Sink"]

_log = structlog.get_logger("opusagent.hooks")

AT_ONCE: Final = 8
"""Deliveries under way at once to one receiver."""

type Outcome = Literal["delivered", "refused", "failed"]


class Sink(Protocol):
    """A receiver of events."""

    @property
    def kind(self) -> str:
        """`function` or `webhook`; a label of metrics."""
        ...

    async def deliver(self, event: Event, hurry: asyncio.Event) -> Outcome:
        """Deliver an event, with as many attempts as it takes; never raises.

        Args:
            event: Which.
            hurry: Set when the process is about to end: no attempt is waited for any more.
        """
        ...


class Lanes:
    """The way to one receiver. Use between `start` and `stop`, in one task.

    Args:
        sink: The receiver.
        metrics: Counts.
        max_waiting: Events that may wait; one more is dropped and counted.
    """

    def __init__(self, sink: Sink, metrics: Metrics, *, max_waiting: int) -> None:
        self._sink = sink
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._waiting = 0
        self._lanes: dict[str, deque[Event]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._hurry = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to deliver."""
        self._tasks = await asyncio.TaskGroup().__aenter__()

    def hurry(self) -> None:
        """The process is about to end: no attempt is waited for any more."""
        self._hurry.set()

    async def stop(self, within_s: float) -> int:
        """Deliver what waits, at most so long, each with one last attempt; returns how many were dropped."""
        self.hurry()
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            pass
        left, self._max_waiting = self._waiting, 0
        for task in tuple(self._running):
            task.cancel()
        if self._tasks is not None:
            await self._tasks.__aexit__(None, None, None)
        self._count("dropped", left)
        return left

    def put(self, event: Event) -> None:
        """Have an event delivered; never blocks."""
        if self._waiting >= self._max_waiting or self._tasks is None:
            self._count("dropped")
            return
        self._changed(+1)
        lane = self._lanes.get(event.conversation_id)
        if lane is not None:
            lane.append(event)
            return
        self._lanes[event.conversation_id] = lane = deque((event,))
        task = self._tasks.create_task(self._serve(event.conversation_id, lane))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    @property
    def waiting(self) -> int:
        """Events that are not delivered yet."""
        return self._waiting

    async def _serve(self, conversation_id: str, lane: deque[Event]) -> None:
        while lane:
            async with self._slots:
                self._count(await self._deliver(lane[0]))
            lane.popleft()
            self._changed(-1)
        del self._lanes[conversation_id]

    async def _deliver(self, event: Event) -> Outcome:
        """Whatever is wrong with a receiver is no trouble for calls, and none for the next event."""
        try:
            return await self._sink.deliver(event, self._hurry)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            kind = type(error).__name__  # its words may have a caller's in them
            _log.error("event not delivered", to=self._sink.kind, type=event.type, error=kind)
            return "failed"

    def _changed(self, by: int) -> None:
        self._waiting += by
        self._metrics.events_waiting.inc(by)
        if self._waiting:
            self._empty.clear()
        else:
            self._empty.set()

    def _count(self, outcome: str, count: int = 1) -> None:
        self._metrics.event_deliveries.labels(self._sink.kind, outcome).inc(count)
