"""The life of a session: begun, saved, taken up again by another process, ended."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from opusagent.clock import Clock, SystemClock
from opusagent.errors import SessionFenced, SessionUnreadable, StorageUnavailable
from opusagent.models.session_state import SessionState, SessionStatus
from opusagent.observability import named_logger
from opusagent.services.saver import (
    FIRST_RETRY_S,
    HEARTBEAT_S,
    Held,
    NoMeter,
    Saver,
    StorageMeter,
    StoredListener,
    pause,
)
from opusagent.session_storage import SessionStorage

__all__ = ["Refusal", "Refused", "Resumed", "SessionManagerService", "Verdict"]

_log = named_logger("session_manager_service")

HEALTH_CHECK_ID: Final = "health-check"
_HEALTH_TRIES: Final = 3


class Refusal(enum.StrEnum):
    """Why a conversation cannot be taken up again."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    ENDED = "ended"
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"
    TAKEN = "taken"
    UNAVAILABLE = "unavailable"


_WORDS: Final = {
    Refusal.UNKNOWN: "conversation not found",
    Refusal.EXPIRED: "conversation has expired",
    Refusal.ENDED: "conversation has ended",
    Refusal.FOREIGN: "conversation not found",  # that it exists is none of the asker's business
    Refusal.UNREADABLE: "conversation cannot be resumed",
    Refusal.TAKEN: "conversation was resumed elsewhere",
    Refusal.UNAVAILABLE: "session store unavailable",
}


@dataclass(frozen=True, slots=True)
class Resumed:
    """The conversation is ours now; `state` carries the epoch to write with."""

    state: SessionState


@dataclass(frozen=True, slots=True)
class Refused:
    """The conversation is not ours, and nothing about it was changed."""

    reason: Refusal

    @property
    def words(self) -> str:
        """The reason as the peer may hear it."""
        return _WORDS[self.reason]


type Verdict = Resumed | Refused


class SessionManagerService:
    """Sessions of this process's calls.

    Storage trouble raises `StorageUnavailable` unless said otherwise, and `SessionUnreadable` where a
    session is read. Between `start` and `stop`, `hold` saves what calls put.

    Args:
        storage: Where they are kept. Not closed here.
        owner: Names this process in what it writes; made up if it is not given.
        session_ttl: After how many seconds without activity a conversation cannot be resumed.
        keep_ended: Whether the record of an ended conversation stays until its time is over.
        heartbeat_s: Between an owner's signs of life.
        clock: Tells the time.
        meter: Counts.
        listener: Told of each state of a call that was stored.
    """

    def __init__(
        self,
        storage: SessionStorage,
        *,
        owner: str = "",
        session_ttl: float = 3600,
        keep_ended: bool = True,
        heartbeat_s: float = HEARTBEAT_S,
        clock: Clock | None = None,
        meter: StorageMeter | None = None,
        listener: StoredListener | None = None,
    ) -> None:
        self._storage = storage
        self.owner = owner or uuid.uuid4().hex
        self._session_ttl = session_ttl
        self._keep_ended = keep_ended
        self._clock = clock or SystemClock()
        self._meter = meter or NoMeter()
        self._saver = Saver(
            storage,
            owner=self.owner,
            begin=self._begin,
            clock=self._clock,
            meter=self._meter,
            heartbeat_s=heartbeat_s,
            session_ttl=session_ttl,
            keep_ended=keep_ended,
            listener=listener,
        )

    async def start(self) -> None:
        """Begin to save and to hear of hand-overs. `stop` it in the same task."""
        await self._saver.__aenter__()

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Store what waits, at most so long, and stop."""
        if unsaved := await self.flush(timeout_s):
            _log.error("sessions lost unsaved", sessions=unsaved)
        await self._saver.__aexit__()

    # While a call is up

    def hold(
        self,
        conversation_id: str,
        *,
        tenant: str = "",
        stored: SessionState | None = None,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> Held:
        """What a call puts its states into; see `Saver.hold`."""
        return self._saver.hold(conversation_id, tenant=tenant, stored=stored, on_fenced=on_fenced)

    async def flush(self, timeout_s: float) -> int:
        """Wait until everything is stored, but no longer; returns how many sessions are not."""
        return await self._saver.flush(timeout_s)

    @property
    def is_failing(self) -> bool:
        """Whether states are waiting because the store is in trouble."""
        return self._saver.is_failing

    # One session

    async def create_session(
        self, conversation_id: str, *, tenant: str = "", **fields: Any
    ) -> SessionState:
        """Begin and store a session. If this tenant had one by that id, it is taken over and replaced.

        Args:
            conversation_id: Its id.
            tenant: Whose it is.
            fields: Of `SessionState`.

        Raises:
            SessionFenced: If the id belongs to another tenant, or was taken at this moment.
            pydantic.ValidationError: If a field is wrong.
        """
        now = self._clock.utcnow()
        state = SessionState.model_validate(
            {"created_at": now, "last_activity": now}
            | fields
            | {"conversation_id": conversation_id, "tenant": tenant, "owner": self.owner}
        )
        state.owner_epoch = await self._begin(state.to_dict())
        _log.info("session created", conversation_id=conversation_id)
        return state

    async def get_session(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> SessionState | None:
        """The stored session, whatever its status; None if there is none, or it is not this tenant's.

        Args:
            conversation_id: Which one.
            tenant: Whose; None for whosesoever, which is for operators only.
        """
        data = await self._storage.retrieve_session(conversation_id)
        if data is None or (tenant is not None and data.get("tenant", "") != tenant):
            return None
        return _state(data)

    async def resume_session(
        self, conversation_id: str, *, tenant: str = ""
    ) -> SessionState | None:
        """Take a conversation over; None if that cannot be. `take_up` says why. Never raises."""
        match await self.take_up(conversation_id, tenant=tenant):
            case Resumed(state):
                return state
            case Refused():
                return None

    async def take_up(
        self, conversation_id: str, *, tenant: str = "", patience_s: float = 0.0
    ) -> Verdict:
        """Take a conversation over from whoever owns it, and store that its caller came back.

        Never raises: trouble is a refusal. A store in trouble is asked again for `patience_s`.
        """
        began = self._clock.monotonic()
        verdict = await self._try_to_take_up(conversation_id, tenant)
        while verdict == Refused(Refusal.UNAVAILABLE):
            if self._clock.monotonic() - began >= patience_s:
                break
            await pause(FIRST_RETRY_S)
            verdict = await self._try_to_take_up(conversation_id, tenant)
        seconds = self._clock.monotonic() - began
        match verdict:
            case Resumed(state):
                self._meter.loaded(seconds)
                self._meter.recovery("resumed")
                _log.info(
                    "session_resumed",
                    conversation_id=conversation_id,
                    history_items=len(state.conversation_history),
                    resumed_count=state.resumed_count,
                    ms=round(seconds * 1000, 1),
                )
            case Refused(reason):
                self._meter.recovery(reason)
                _log.info("session refused", conversation_id=conversation_id, reason=reason)
        return verdict

    async def validate_session(self, conversation_id: str, *, tenant: str = "") -> bool:
        """Whether it could be resumed now."""
        data = await self._storage.retrieve_session(conversation_id)
        return isinstance(self._judge(data, tenant), Resumed)

    async def update_session(self, conversation_id: str, **changes: Any) -> bool:
        """Change fields of a stored session that no call of this process holds.

        False if there is none, or a newer owner has it.

        Raises:
            pydantic.ValidationError: If a value is wrong.
        """
        if (state := await self.get_session(conversation_id)) is None:
            return False
        changed = SessionState.from_dict(
            {**state.to_dict(), "last_activity": self._clock.utcnow(), **changes}
        )
        return await self._storage.store_session(conversation_id, changed.to_dict())

    async def end_session(self, conversation_id: str, reason: str = "") -> bool:
        """Close a session's record: it cannot be resumed. It is kept or removed as the setting says.

        False if there is none, or a newer owner has it.
        """
        if (state := await self.get_session(conversation_id)) is None:
            return False
        state.metadata = {**state.metadata, "end_reason": reason}
        ended = await self.update_session(
            conversation_id, status=SessionStatus.ENDED, metadata=state.metadata
        )
        if ended and not self._keep_ended:
            await self._storage.delete_session(conversation_id)
        return ended

    async def delete_session(self, conversation_id: str) -> bool:
        """Remove a session. A call that holds it stores it again within a second."""
        return await self._storage.delete_session(conversation_id)

    # All of them

    async def list_active_sessions(self) -> list[str]:
        """The ids of all stored sessions, ended ones included."""
        return [
            name for name in await self._storage.list_active_sessions() if name != HEALTH_CHECK_ID
        ]

    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        """Remove the sessions in which nothing has happened for longer; returns how many."""
        return await self._storage.cleanup_expired_sessions(max_age_seconds)

    def facts(self) -> dict[str, JsonValue]:
        """What the store and the saver know of themselves, without asking anybody."""
        return {"sessions_unsaved": self._saver.unsaved, **self._storage.get_stats()}

    async def get_session_stats(self) -> dict[str, JsonValue]:
        """How many sessions are stored, and what the store and the saver know of themselves."""
        return {
            "active_sessions_count": len(await self.list_active_sessions()),
            "unsaved": self._saver.unsaved,
            **self._storage.get_stats(),
        }

    async def health_check(self) -> dict[str, JsonValue]:
        """Write, read and delete `health-check`. Never raises."""
        try:
            for _ in range(_HEALTH_TRIES):  # another process may have deleted it in between
                await self._storage.store_session(HEALTH_CHECK_ID, {"test": "data"})
                found = await self._storage.retrieve_session(HEALTH_CHECK_ID)
                await self._storage.delete_session(HEALTH_CHECK_ID)
                if found is not None:
                    return {"status": "healthy", "storage": "operational"}
        except (StorageUnavailable, SessionUnreadable) as error:
            return {"status": "unhealthy", "error": str(error)}
        return {"status": "unhealthy", "error": "what was written could not be read"}

    # Inside

    async def _begin(self, data: dict[str, Any]) -> int:
        """Store a new session and claim it, so that its epoch is its own, whoever does the same."""
        conversation_id, tenant = data["conversation_id"], data["tenant"]
        try:
            found = await self._storage.retrieve_session(conversation_id)
            if found is None:
                await self._storage.store_session(conversation_id, {**data, "owner_epoch": 0})
            elif found.get("tenant", "") != tenant:
                raise SessionFenced("the id belongs to another tenant")
            claimed = await self._storage.claim_session(conversation_id, self.owner)
            if claimed is None:
                raise StorageUnavailable("a session vanished while it was begun")
            epoch = int(claimed["owner_epoch"])
            if claimed == {**data, "owner": self.owner, "owner_epoch": epoch}:
                return epoch
        except SessionUnreadable as error:
            epoch = error.owner_epoch + 1  # nobody can read what it replaces
        if not await self._storage.store_session(conversation_id, {**data, "owner_epoch": epoch}):
            raise SessionFenced("taken by another process at this moment")
        return epoch

    async def _try_to_take_up(self, conversation_id: str, tenant: str) -> Verdict:
        try:
            return await self._take_up(conversation_id, tenant)
        except SessionUnreadable as error:
            _log.error("session unreadable", conversation_id=conversation_id, why=str(error))
            return Refused(Refusal.UNREADABLE)
        except StorageUnavailable as error:
            _log.warning("session not read", conversation_id=conversation_id, problem=str(error))
            return Refused(Refusal.UNAVAILABLE)

    async def _take_up(self, conversation_id: str, tenant: str) -> Verdict:
        seen = self._judge(await self._storage.retrieve_session(conversation_id), tenant)
        if isinstance(seen, Refused):
            return seen  # without a claim: its owner keeps it
        claimed = await self._storage.claim_session(conversation_id, self.owner)
        verdict = self._judge(claimed, tenant)
        if isinstance(verdict, Refused):
            return verdict
        state = verdict.state
        state.increment_resume_count()
        state.update_activity(self._clock.utcnow())
        state.status = SessionStatus.ACTIVE
        if not await self._storage.store_session(conversation_id, state.to_dict()):
            return Refused(Refusal.TAKEN)
        return verdict

    def _judge(self, data: dict[str, Any] | None, tenant: str) -> Verdict:
        if data is None:
            return Refused(Refusal.UNKNOWN)
        if data.get("tenant", "") != tenant:
            return Refused(Refusal.FOREIGN)
        state = _state(data)
        if state.status in (SessionStatus.ENDED, SessionStatus.ERROR):
            return Refused(Refusal.ENDED)
        if state.is_expired(self._clock.utcnow(), self._session_ttl):
            return Refused(Refusal.EXPIRED)
        return Resumed(state)


def _state(data: dict[str, Any]) -> SessionState:
    try:
        return SessionState.from_dict(data)
    except ValidationError as error:
        # The places of the errors, not the values: those are what people said.
        places = {".".join(map(str, detail["loc"])) for detail in error.errors()}
        raise SessionUnreadable(
            f"not a session: {', '.join(sorted(places))}", damaged=False
        ) from None
