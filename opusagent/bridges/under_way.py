"""The calls of a process that are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opusagent.bridges.audiocodes_bridge import AudioCodesBridge
from opusagent.call.events import BegunAnew, Drain
from opusagent.facts import CallFacts
from opusagent.observability import Metrics

__all__ = ["REST_S", "CallsUnderWay", "Live"]

REST_S = 1.0
"""How long after the last call memory is given back, unless another call has begun."""


@dataclass(frozen=True, slots=True)
class Live:
    """A call under way."""

    bridge: AudioCodesBridge
    tenant: str
    facts: CallFacts


class CallsUnderWay:
    """By conversation; and those that end while their conversation goes on in another call.

    Args:
        metrics: The process's counts.
        at_rest: Called `REST_S` after the last call, at a time when it disturbs nobody.
    """

    def __init__(self, metrics: Metrics, at_rest: Callable[[], None]) -> None:
        self._metrics = metrics
        self._at_rest = at_rest
        self._rest: asyncio.TimerHandle | None = None
        self._rests = True
        self._calls: dict[str, Live] = {}
        self._replaced: set[Live] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._taking_up: dict[str, asyncio.Event] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Live]:
        """Oldest first."""
        return iter(tuple(self._calls.values()))

    def get(self, conversation_id: str) -> Live | None:
        """The call of a conversation."""
        return self._calls.get(conversation_id)

    @property
    def expected(self) -> int:
        """How many there will be once all have begun whose conversations are being taken up."""
        return len(self._calls.keys() | self._taking_up.keys())

    @contextmanager
    def taking_up(self, conversation_id: str) -> Iterator[None]:
        """Somebody finds out, inside the block, whether a conversation can go on here."""
        done = self._taking_up[conversation_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._taking_up[conversation_id]
            done.set()

    async def settled(self, conversation_id: str) -> Live | None:
        """The call that has this conversation, if one has.

        Asked for twice at once, the second one gets what the first one got; and a call that has just
        ended has stored its end.
        """
        waited_for: Live | None = None
        while True:
            if (others := self._taking_up.get(conversation_id)) is not None:
                await others.wait()
                continue
            live = self._calls.get(conversation_id)
            if live is None or not live.bridge.is_over:
                return live
            if live is waited_for:
                return None
            waited_for = live
            await live.bridge.saved()

    async def is_free(self, conversation_id: str, tenant: str) -> bool:
        """Whether a call of this conversation can begin: no other call has it.

        One that was left without a websocket is over by that, and has stored its end.
        """
        while (live := await self.settled(conversation_id)) is not None:
            if live.tenant != tenant:
                return False
            live.bridge.step(BegunAnew())
            if not live.bridge.is_over:
                return False
        return True

    def begin(self, conversation_id: str, live: Live) -> None:
        """A call begins; one of the same conversation is ending."""
        if (ending := self._calls.get(conversation_id)) is not None:
            self._replaced.add(ending)
        self._calls[conversation_id] = live
        self._none_left.clear()
        self._metrics.calls_active.set(len(self._calls))
        if self._rest is not None:
            self._rest.cancel()

    def end(self, conversation_id: str, live: Live) -> None:
        """A call is over."""
        if self._calls.get(conversation_id) is live:
            del self._calls[conversation_id]
        self._replaced.discard(live)
        self._metrics.calls_active.set(len(self._calls))
        if self._calls or self._replaced:
            return
        self._none_left.set()
        if self._rests:
            self._rest = asyncio.get_running_loop().call_later(REST_S, self._at_rest)

    def rest_no_more(self) -> None:
        """The process is about to end: what is left behind does not matter."""
        self._rests = False
        if self._rest is not None:
            self._rest.cancel()

    async def let_go(self, seconds: float, *, after_s: float = 0.0) -> None:
        """Have every call end, within `after_s` where the bot speaks, and wait for it at most so long."""
        for live in (*self._calls.values(), *self._replaced):
            live.bridge.step(Drain(after_s))
        await self.wait(seconds)

    async def wait(self, seconds: float) -> None:
        """Wait until none is left, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._none_left.wait()
        except TimeoutError:
            pass
