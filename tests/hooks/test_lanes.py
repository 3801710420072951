"""The queue of a receiver, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from opusagent.hooks.events import Event
from opusagent.hooks.lanes import AT_ONCE, Lanes, Outcome
from opusagent.observability import Metrics
from tests.hooks.rig import Receiver, ids, turn
from tests.virtual_time import run
from tests.waiting import pass_time


class Queue:
    """The way to a receiver, running."""

    def __init__(self, receiver: Receiver, max_waiting: int = 100) -> None:
        self.receiver = receiver
        self.metrics = Metrics()
        self.lanes = Lanes(receiver, self.metrics, max_waiting=max_waiting)

    def count(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "opusagent_event_deliveries_total", {"to": "function", "outcome": outcome}
        )

    @property
    def waiting(self) -> float | None:
        return self.metrics.registry.get_sample_value("opusagent_events_waiting")


def with_a_queue(queue: Queue, main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await queue.lanes.start()
        await main()
        await queue.lanes.stop(60.0)

    run(whole())


def test_the_events_of_a_conversation_come_in_order_however_long_each_takes() -> None:
    queue = Queue(Receiver(lambda event: 1.0 if event.id.endswith("0") else 0.1))
    events = [turn(n) for n in range(20)]

    async def main() -> None:
        for event in events:
            queue.lanes.put(event)
        assert queue.waiting == 20
        await pass_time(10)
        assert queue.receiver.got == ids(events)
        assert queue.waiting == 0
        assert queue.count("delivered") == 20

    with_a_queue(queue, main)


def test_one_conversation_does_not_hold_up_the_others() -> None:
    queue = Queue(Receiver(lambda event: 60.0 if event.conversation_id == "slow" else 0.0))

    async def main() -> None:
        queue.lanes.put(turn(1, "slow"))
        queue.lanes.put(turn(2, "slow"))
        queue.lanes.put(turn(1, "quick"))
        await pass_time(1)
        assert queue.receiver.got == ["quick-1"]

    with_a_queue(queue, main)


def test_no_more_deliveries_than_that_are_under_way_at_once() -> None:
    queue = Queue(Receiver(lambda _: 1.0))

    async def main() -> None:
        for n in range(3 * AT_ONCE):
            queue.lanes.put(turn(n, f"c{n}"))
        await pass_time(10)
        assert len(queue.receiver.got) == 3 * AT_ONCE
        assert queue.receiver.most_at_once == AT_ONCE

    with_a_queue(queue, main)


def test_where_too_many_wait_the_newest_is_dropped_and_counted() -> None:
    queue = Queue(Receiver(lambda _: 1.0), max_waiting=3)

    async def main() -> None:
        for n in range(5):
            queue.lanes.put(turn(n))
        await pass_time(10)
        assert queue.receiver.got == ["c-0", "c-1", "c-2"]
        assert queue.count("dropped") == 2
        queue.lanes.put(turn(9))
        await pass_time(2)
        assert queue.receiver.got[-1] == "c-9"

    with_a_queue(queue, main)


@pytest.mark.parametrize(("within_s", "delivered"), [(10.0, 3), (1.5, 1), (0.0, 0)])
def test_at_the_end_what_waits_is_delivered_while_there_is_time(
    within_s: float, delivered: int
) -> None:
    async def main() -> None:
        queue = Queue(Receiver(lambda _: 1.0))
        await queue.lanes.start()
        for n in range(3):
            queue.lanes.put(turn(n))
        began = asyncio.get_running_loop().time()
        dropped = await queue.lanes.stop(within_s)
        assert asyncio.get_running_loop().time() - began <= within_s
        assert len(queue.receiver.got) == delivered
        assert dropped == queue.count("dropped") == 3 - delivered
        queue.lanes.put(turn(9))
        assert queue.count("dropped") == 4 - delivered

    run(main())


@pytest.mark.parametrize("error", [RuntimeError("no thread"), asyncio.CancelledError()])
def test_a_receiver_that_breaks_costs_its_event_and_nothing_else(error: BaseException) -> None:
    class Breaks(Receiver):
        async def deliver(self, event: Event, hurry: asyncio.Event) -> Outcome:
            if event.id == "c-0":
                raise error
            return await super().deliver(event, hurry)

    queue = Queue(Breaks())

    async def main() -> None:
        queue.lanes.put(turn(0))
        queue.lanes.put(turn(1))
        await pass_time(1)  # the task that begins to deliver is the whole bridge's: it goes on
        queue.lanes.put(turn(2))
        await pass_time(1)
        assert queue.receiver.got == ["c-1", "c-2"]
        assert (queue.count("failed"), queue.waiting) == (1, 0)

    with_a_queue(queue, main)
