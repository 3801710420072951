"""Writes the states of calls behind the calls' backs.

    call --put()--> newest --one write in flight--> store
                      ^ a newer one takes its place while a write is under way

An owner that has nothing to write shows a sign of life once a second. That keeps its session alive
and tells it when another process has taken the session over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Protocol, Self

from opusagent.clock import Clock
from opusagent.errors import SessionFenced, StorageUnavailable
from opusagent.models.session_state import SessionState, SessionStatus, StateDump
from opusagent.observability import named_logger
from opusagent.session_storage import Hold, SessionStorage

__all__ = [
    "Held",
    "NoMeter",
    "SaveOutcome",
    "Saver",
    "StorageMeter",
    "StoredListener",
    "pause",
]

_log = named_logger("session_manager_service")

HEARTBEAT_S: Final = 1.0
FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 1.0
"""While the store is away, each session is tried again this often."""

type SaveOutcome = Literal["ok", "failed", "fenced"]


class StorageMeter(Protocol):
    """Who counts what happens to sessions. Nothing here may block."""

    def saved(self, outcome: SaveOutcome, seconds: float) -> None:
        """One write, from the moment that its state was handed over; `failed` will be tried again."""

    def loaded(self, seconds: float) -> None:
        """One session read for a caller who came back."""

    def recovery(self, outcome: str) -> None:
        """One caller who came back: `resumed`, or why not."""


class StoredListener(Protocol):
    """Who wants to know what is stored."""

    def stored(self, before: SessionState | None, after: SessionState, tenant: str) -> None:
        """`after` is stored now, and `before` was the last time; must neither block nor raise."""


class NoMeter:
    """Counts nothing."""

    def saved(self, outcome: SaveOutcome, seconds: float) -> None:
        """Nothing."""

    def loaded(self, seconds: float) -> None:
        """Nothing."""

    def recovery(self, outcome: str) -> None:
        """Nothing."""


class Held:
    """One call's hand on its session. Made by `Saver.hold`; `put` and `release` are the call's.

    Attributes:
        owner_epoch: Of this owner; 0 until the session has been stored for the first time.
        is_fenced: Whether somebody else has it now; what is put after that goes nowhere.
    """

    def __init__(
        self,
        conversation_id: str,
        *,
        tenant: str,
        stored: SessionState | None,
        on_fenced: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self.conversation_id = conversation_id
        self.tenant = tenant
        self.owner_epoch = stored.owner_epoch if stored else 0
        self.on_fenced = on_fenced
        self.is_fenced = False
        self.is_released = False
        self.newest: SessionState | None = None
        self.put_at = 0.0
        self.written = stored
        self.saved = _activity(stored.to_dict()) if stored else ""
        self.is_in_doubt = False
        self.dump = StateDump()
        self.woken = asyncio.Event()
        self.is_clean = asyncio.Event()
        self.is_clean.set()
        self._now = now

    def put(self, state: SessionState) -> None:
        """Have this state stored soon; it takes the place of one that waits. The state is not changed later.

        Never blocks and never fails. What a call that was taken over still has to say is dropped.
        """
        if self.is_fenced:
            return  # nobody would write it, and whoever waits until all is stored would wait in vain
        self.newest, self.put_at = state, self._now()
        self.is_clean.clear()
        self.woken.set()

    def release(self) -> None:
        """Let go: the call is over, or goes on elsewhere. What waits is still written."""
        self.is_released = True
        self.woken.set()

    def claimed(self, owner_epoch: int) -> None:
        """Take a hint that the session has a new owner; the store is asked whether it is so."""
        if owner_epoch > self.owner_epoch > 0:
            self.is_in_doubt = True
            self.woken.set()

    @property
    def has_work(self) -> bool:
        """Whether there is something to do at once."""
        return self.newest is not None or self.is_in_doubt or self.is_released

    @property
    def is_over(self) -> bool:
        """Whether what was written last says that the conversation has ended."""
        return self.written is not None and self.written.status in (
            SessionStatus.ENDED,
            SessionStatus.ERROR,
        )


class Saver:
    """All sessions that calls of this process hold. Use as `async with`.

    Args:
        storage: Where they go.
        owner: This process, as it stands in the sessions.
        begin: Stores a session that is new and returns the epoch to write it with; raises
            `SessionFenced` if its id belongs to somebody else.
        clock: Tells the time.
        meter: Counts.
        heartbeat_s: Between signs of life.
        session_ttl: After this many seconds what a released call could not save is given up.
        keep_ended: Whether the record of an ended conversation stays until its time is over.
        listener: Told of each state that was stored.
    """

    def __init__(
        self,
        storage: SessionStorage,
        *,
        owner: str,
        begin: Callable[[dict[str, Any]], Awaitable[int]],
        clock: Clock,
        meter: StorageMeter,
        heartbeat_s: float = HEARTBEAT_S,
        session_ttl: float = 3600.0,
        keep_ended: bool = True,
        listener: StoredListener | None = None,
    ) -> None:
        self._storage = storage
        self._listener = listener
        self._owner = owner
        self._begin = begin
        self._clock = clock
        self._meter = meter
        self._heartbeat_s = heartbeat_s
        self._session_ttl = session_ttl
        self._keep_ended = keep_ended
        self._tasks: asyncio.TaskGroup
        self._keepers: dict[asyncio.Task[None], Held | None] = {}
        self._failing: set[Held] = set()

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._keepers[self._tasks.create_task(self._listen())] = None
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop at once; `flush` first what must not be lost."""
        for keeper in tuple(self._keepers):
            keeper.cancel()
        await self._tasks.__aexit__(None, None, None)

    def hold(
        self,
        conversation_id: str,
        *,
        tenant: str = "",
        stored: SessionState | None = None,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> Held:
        """Begin to look after a session for a call.

        Args:
            conversation_id: Which one.
            tenant: Whose it is.
            stored: What was resumed or created already; None for a new one: its first state begins it.
            on_fenced: Called once, by the event loop, when another owner has taken the session.
        """
        held = Held(
            conversation_id,
            tenant=tenant,
            stored=stored,
            on_fenced=on_fenced,
            now=self._clock.monotonic,
        )
        if stored is not None and stored.resumed_count:  # it was stored when it was taken up
            before = stored.model_copy(update={"resumed_count": stored.resumed_count - 1})
            self._tell(before, stored, tenant)
        keeper = self._tasks.create_task(self._keep(held), name=f"saves {conversation_id}")
        self._keepers[keeper] = held
        keeper.add_done_callback(self._keepers.pop)
        return held

    @property
    def unsaved(self) -> int:
        """How many sessions have something that is not stored yet."""
        return sum(h is not None and not h.is_clean.is_set() for h in self._keepers.values())

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt to store some session failed."""
        return bool(self._failing)

    async def flush(self, timeout_s: float) -> int:
        """Wait until everything is stored, but no longer; returns how many sessions are not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for held in tuple(self._keepers.values()):
                    if held is not None:
                        await held.is_clean.wait()
        return self.unsaved

    async def _listen(self) -> None:
        while True:
            try:
                return await self._storage.listen()
            except Exception:  # noqa: BLE001  deaf for a second is no reason to end calls
                _log.exception("hand-overs are not heard")
            await pause(LAST_RETRY_S)

    async def _keep(self, held: Held) -> None:
        unwatch = self._storage.watch_session(held.conversation_id, held.claimed)
        retry_s = 0.0
        try:
            while not held.is_fenced:
                if retry_s:
                    await pause(retry_s)
                elif not held.has_work:
                    await _wait(held.woken, None if held.is_over else self._heartbeat_s)
                held.woken.clear()
                if held.newest is None and held.is_released:
                    return
                try:
                    await self._step(held)
                except Exception as error:  # noqa: BLE001  a bug in a library must not end saving
                    self._failed(held, error)
                    retry_s = min(max(FIRST_RETRY_S, retry_s * 2), LAST_RETRY_S)
                    if self._is_given_up(held):
                        return
                else:
                    self._went_well(held)
                    retry_s = 0.0
        finally:
            unwatch()
            self._failing.discard(held)
            held.is_clean.set()
        # Not from here: what goes wrong in a call is no business of the saver's.
        asyncio.get_running_loop().call_soon(held.on_fenced)

    async def _step(self, held: Held) -> None:
        held.is_in_doubt = False
        if held.newest is not None:
            await self._save(held, held.newest)
            return
        if held.written is None:
            return
        hold = await self._storage.touch_session(held.conversation_id, held.owner_epoch, held.saved)
        if hold is Hold.FENCED:
            held.is_fenced = True
        elif hold is Hold.STALE and held.newest is None:
            # The store lost it, or came back with an older one after a failover.
            held.put(held.written)

    async def _save(self, held: Held, state: SessionState) -> None:
        """Store this state; it stays the newest one until that has worked."""
        began = held.put_at
        data = held.dump.of(state)
        data |= {"tenant": held.tenant, "owner": self._owner, "owner_epoch": held.owner_epoch}
        if await self._store(held, data):
            before = held.written
            held.written, held.saved = state, _activity(data)
            self._tell(before, state, held.tenant)
            if not self._keep_ended and held.is_over:
                await self._storage.delete_session(held.conversation_id)
        else:
            held.is_fenced = True
        if held.newest is state:
            held.newest = None
            held.is_clean.set()
        outcome: SaveOutcome = "fenced" if held.is_fenced else "ok"
        _log.debug("session saved", conversation_id=held.conversation_id, outcome=outcome)
        self._meter.saved(outcome, self._clock.monotonic() - began)

    def _tell(self, before: SessionState | None, after: SessionState, tenant: str) -> None:
        if self._listener is not None:
            self._listener.stored(before, after, tenant)

    async def _store(self, held: Held, data: dict[str, Any]) -> bool:
        if held.owner_epoch:
            return await self._storage.store_session(held.conversation_id, data)
        try:
            held.owner_epoch = await self._begin(data)
        except SessionFenced:
            return False
        return True

    def _failed(self, held: Held, error: Exception) -> None:
        if held.newest is not None:
            self._meter.saved("failed", self._clock.monotonic() - held.put_at)
        if not isinstance(error, StorageUnavailable):
            _log.error("session not saved", exc_info=error)
        elif not self._failing:
            _log.warning("sessions are not saved", problem=str(error))
        self._failing.add(held)

    def _went_well(self, held: Held) -> None:
        if self._failing == {held}:
            _log.info("sessions are saved again")
        self._failing.discard(held)

    def _is_given_up(self, held: Held) -> bool:
        waited = self._clock.monotonic() - held.put_at
        if not held.is_released or waited < self._session_ttl:
            return False
        _log.error("session given up unsaved", conversation_id=held.conversation_id)
        return True


def _activity(data: dict[str, Any]) -> str:
    return str(data["last_activity"])


async def pause(seconds: float) -> None:
    """Wait, before something is tried again."""
    await _wait(asyncio.Event(), seconds)


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for the event, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
