"""A store in trouble on cue, and a clock that goes with the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import JsonValue

from opusagent.errors import StorageUnavailable
from opusagent.services.saver import SaveOutcome
from opusagent.session_storage import Hold, SessionStorage

START = datetime(2026, 1, 1, tzinfo=UTC)


class LoopClock:
    """The loop's time, virtual where the loop's is."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def utcnow(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())


class FaultyStorage(SessionStorage):
    """Passes everything on to `inner`, unless told otherwise; writes down what was asked, and when.

    Attributes:
        error: Raised by every operation while it is set.
        delay_s: What every operation takes.
        log: `(time, operation, conversation id)`.
        most_at_once: The most writes of one conversation that were under way together.
    """

    def __init__(self, inner: SessionStorage) -> None:
        self.inner = inner
        self.error: Exception | None = None
        self.delay_s = 0.0
        self.log: list[tuple[float, str, str]] = []
        self.most_at_once = 0
        self.listen_errors: list[Exception] = []
        self.watched = 0
        self._writing: dict[str, int] = {}

    def down(self) -> None:
        self.error = StorageUnavailable("down")

    def up(self) -> None:
        self.error = None

    def count(self, operation: str) -> int:
        return sum(what == operation for _, what, _ in self.log)

    async def _ask(self, operation: str, conversation_id: str) -> None:
        loop = asyncio.get_running_loop()
        self.log.append((loop.time(), operation, conversation_id))
        if self.delay_s:
            done = asyncio.Event()
            loop.call_later(self.delay_s, done.set)
            await done.wait()
        if self.error is not None:
            raise self.error

    async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
        writing = self._writing.get(conversation_id, 0) + 1
        self._writing[conversation_id] = writing
        self.most_at_once = max(self.most_at_once, writing)
        try:
            await self._ask("store", conversation_id)
            return await self.inner.store_session(conversation_id, session_data)
        finally:
            self._writing[conversation_id] -= 1

    async def retrieve_session(self, conversation_id: str) -> dict[str, Any] | None:
        await self._ask("retrieve", conversation_id)
        return await self.inner.retrieve_session(conversation_id)

    async def delete_session(self, conversation_id: str) -> bool:
        await self._ask("delete", conversation_id)
        return await self.inner.delete_session(conversation_id)

    async def list_active_sessions(self) -> list[str]:
        await self._ask("list", "")
        return await self.inner.list_active_sessions()

    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        await self._ask("cleanup", "")
        return await self.inner.cleanup_expired_sessions(max_age_seconds)

    async def claim_session(self, conversation_id: str, owner: str) -> dict[str, Any] | None:
        await self._ask("claim", conversation_id)
        return await self.inner.claim_session(conversation_id, owner)

    async def touch_session(
        self, conversation_id: str, owner_epoch: int, last_activity: str
    ) -> Hold:
        await self._ask("touch", conversation_id)
        return await self.inner.touch_session(conversation_id, owner_epoch, last_activity)

    def watch_session(
        self, conversation_id: str, claimed: Callable[[int], None]
    ) -> Callable[[], None]:
        unwatch = self.inner.watch_session(conversation_id, claimed)
        self.watched += 1

        def stop() -> None:
            self.watched -= 1
            unwatch()

        return stop

    async def listen(self) -> None:
        if self.listen_errors:
            raise self.listen_errors.pop()
        await self.inner.listen()

    def get_stats(self) -> dict[str, JsonValue]:
        return self.inner.get_stats()


class Tally:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.saves: list[tuple[SaveOutcome, float]] = []
        self.loads: list[float] = []
        self.recoveries: list[str] = []

    def saved(self, outcome: SaveOutcome, seconds: float) -> None:
        self.saves.append((outcome, seconds))

    def loaded(self, seconds: float) -> None:
        self.loads.append(seconds)

    def recovery(self, outcome: str) -> None:
        self.recoveries.append(outcome)

    def saves_that_were(self, outcome: SaveOutcome) -> int:
        return sum(how == outcome for how, _ in self.saves)


async def later(seconds: float) -> None:
    """Let so much of the loop's time pass."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, done.set)
    await done.wait()
