"""Events, and receivers that note what they get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from opusagent.hooks.events import Event, TurnSpoken
from opusagent.hooks.lanes import Outcome
from tests.call.driver import EPOCH
from tests.waiting import pass_time


def turn(number: int, conversation_id: str = "c", text: str = "x") -> TurnSpoken:
    return TurnSpoken(
        id=f"{conversation_id}-{number}",
        at=EPOCH,
        conversation_id=conversation_id,
        agent="bank",
        role="caller",
        text=text,
        interrupted=False,
    )


class Receiver:
    """Takes each event in its time.

    Attributes:
        got: The ids of those that were delivered, in order.
        most_at_once: Deliveries that were under way together.
    """

    kind = "function"

    def __init__(self, seconds: Callable[[Event], float] = lambda _: 0.0) -> None:
        self._seconds = seconds
        self.got: list[str] = []
        self.most_at_once = self._now = 0

    async def deliver(self, event: Event, hurry: asyncio.Event) -> Outcome:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await pass_time(self._seconds(event))
        finally:
            self._now -= 1
        self.got.append(event.id)
        return "delivered"


def ids(events: Sequence[Event]) -> list[str]:
    return [event.id for event in events]
