"""Where sessions are kept: the port. Adapters stand beside it, one a module.

    memory_storage.py   this process only
    file_storage.py     one machine: a JSON file a session
    redis_storage.py    everywhere: Redis or Valkey, plain, behind Sentinel, or as a cluster
    opening.py          which of them the settings ask for

A session has one owner at a time. Its `owner_epoch` goes up by one with each claim, and a write
that carries an older one is refused: whoever has been replaced cannot overwrite its successor.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from pydantic import JsonValue

__all__ = ["Hold", "SessionStorage"]


class Hold(enum.StrEnum):
    """What an owner learns when it looks after its session."""

    KEPT = "kept"  # still its own, its time to live begins anew
    STALE = "stale"  # missing, or older than what was last written: write it again
    FENCED = "fenced"  # a newer owner holds it


class SessionStorage(ABC):
    """A store of sessions, each a JSON object under its conversation's id.

    Of a document only `owner`, `owner_epoch`, `last_activity` (ISO 8601) and `status` mean something
    here, and all may be missing. Every method may raise `StorageUnavailable`; those that return a
    document raise `SessionUnreadable` if the record is damaged or sealed with an unknown key.
    """

    @abstractmethod
    async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
        """Write a session; its time to live begins anew.

        The document is to be read only: later ones share parts of it.
        False means one thing: a newer owner holds it, and nothing was written.
        """

    @abstractmethod
    async def retrieve_session(self, conversation_id: str) -> dict[str, Any] | None:
        """The document as it was written, under its present owner; None if there is none."""

    @abstractmethod
    async def delete_session(self, conversation_id: str) -> bool:
        """Remove a session. False if there was none."""

    @abstractmethod
    async def list_active_sessions(self) -> list[str]:
        """The ids of all sessions whose time has not run out, ended ones included, in order."""

    @abstractmethod
    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        """Remove the sessions in which nothing has happened for longer; returns how many."""

    @abstractmethod
    async def claim_session(self, conversation_id: str, owner: str) -> dict[str, Any] | None:
        """Make `owner` the owner, in one step that no other process can divide.

        Returns the document with `owner` and the raised `owner_epoch`; None if there is none.
        The previous owner is told, where the store can tell (see `watch_session`).
        """

    async def touch_session(
        self, conversation_id: str, owner_epoch: int, last_activity: str
    ) -> Hold:
        """Let an owner keep its session alive and learn whether it is still its own.

        Args:
            conversation_id: Which session.
            owner_epoch: The owner's.
            last_activity: That field of the document which the owner wrote last.
        """
        data = await self.retrieve_session(conversation_id)
        if data is None or data.get("last_activity", "") != last_activity:
            return Hold.STALE
        data["owner_epoch"] = owner_epoch
        return Hold.KEPT if await self.store_session(conversation_id, data) else Hold.FENCED

    def watch_session(
        self, conversation_id: str, claimed: Callable[[int], None]
    ) -> Callable[[], None]:
        """Call `claimed` with the new epoch when somebody claims the session; a hint, no promise.

        Returns a function that ends it. A store that cannot tell never calls.
        """
        return lambda: None

    async def listen(self) -> None:
        """Receive what `watch_session` passes on, until cancelled; returns where nothing has to be received."""
        return

    def get_stats(self) -> dict[str, JsonValue]:
        """What the store knows of itself without asking anybody: `storage_type` and counts."""
        return {"storage_type": type(self).__name__}

    async def close(self) -> None:
        """Let go of connections. The store is not used after that."""
        return
