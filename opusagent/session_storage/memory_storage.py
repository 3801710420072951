"""Sessions in this process: for development, for tests, and where no store is configured."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue

from opusagent.clock import Clock, SystemClock
from opusagent.observability import named_logger
from opusagent.session_storage import Hold, SessionStorage
from opusagent.session_storage.envelope import Envelope, Watchers, json_of

__all__ = ["MemorySessionStorage"]

_log = named_logger("memory_session_storage")


@dataclass(slots=True)
class _Kept:
    envelope: Envelope
    document: bytes
    until: datetime


class MemorySessionStorage(SessionStorage):
    """Sessions in a dict; safe to use from several threads.

    What has run out is removed at the first use after every `cleanup_interval`. When there are
    `max_sessions`, a new one takes the place of the one that has been quiet longest, of an ended one
    if there is any.

    Args:
        max_sessions: How many are kept at most.
        cleanup_interval: Seconds.
        default_ttl: How long a session is kept after its owner's last sign of life, in seconds.
        clock: Tells the time.
    """

    def __init__(
        self,
        max_sessions: int = 1000,
        cleanup_interval: int = 300,
        *,
        default_ttl: int = 3600,
        clock: Clock | None = None,
    ) -> None:
        self._max_sessions = max_sessions
        self._cleanup_interval = timedelta(seconds=cleanup_interval)
        self._ttl = timedelta(seconds=default_ttl)
        self._clock = clock or SystemClock()
        self._sessions: dict[str, _Kept] = {}
        self._lock = threading.RLock()
        self._watchers = Watchers()
        self._next_cleanup = self._clock.utcnow() + self._cleanup_interval
        self._evicted = 0

    async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
        """Write a session, unless a newer owner holds it."""
        document = json_of(session_data)
        with self._lock:
            now = self._tidy()
            envelope = Envelope.of(session_data, now)
            kept = self._sessions.get(conversation_id)
            if kept is not None and kept.envelope.owner_epoch > envelope.owner_epoch:
                return False
            if kept is None and len(self._sessions) >= self._max_sessions:
                self._make_room()
            self._sessions[conversation_id] = _Kept(envelope, document, now + self._ttl)
        _log.debug("session written", conversation_id=conversation_id, size=len(document))
        return True

    async def retrieve_session(self, conversation_id: str) -> dict[str, Any] | None:
        """The document, under its present owner."""
        with self._lock:
            kept = self._find(conversation_id)
            return None if kept is None else kept.envelope.around(json.loads(kept.document))

    async def delete_session(self, conversation_id: str) -> bool:
        """Remove a session."""
        with self._lock:
            found = self._find(conversation_id) is not None
            self._sessions.pop(conversation_id, None)
            return found

    async def list_active_sessions(self) -> list[str]:
        """All ids whose time has not run out."""
        with self._lock:
            now = self._tidy()
            return sorted(name for name, kept in self._sessions.items() if kept.until > now)

    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        """Remove what has been quiet for longer."""
        with self._lock:
            before = len(self._sessions)
            limit = self._clock.utcnow() - timedelta(seconds=max_age_seconds)
            self._keep(lambda kept: kept.envelope.active_at >= limit)
            return before - len(self._sessions)

    async def claim_session(self, conversation_id: str, owner: str) -> dict[str, Any] | None:
        """Make `owner` the owner."""
        with self._lock:
            if (kept := self._find(conversation_id)) is None:
                return None
            kept.envelope = kept.envelope.claimed_by(owner)
            kept.until = self._clock.utcnow() + self._ttl
            document = kept.envelope.around(json.loads(kept.document))
        self._watchers.tell(conversation_id, kept.envelope.owner_epoch)
        return document

    async def touch_session(
        self, conversation_id: str, owner_epoch: int, last_activity: str
    ) -> Hold:
        """Keep a session alive for its owner."""
        with self._lock:
            if (kept := self._find(conversation_id)) is None:
                return Hold.STALE
            hold = kept.envelope.judge(owner_epoch, last_activity)
            if hold is Hold.KEPT:
                now = self._clock.utcnow()
                kept.envelope = kept.envelope.touched(now)
                kept.until = now + self._ttl
            return hold

    def watch_session(
        self, conversation_id: str, claimed: Callable[[int], None]
    ) -> Callable[[], None]:
        """Call `claimed` at each claim."""
        return self._watchers.add(conversation_id, claimed)

    def get_stats(self) -> dict[str, JsonValue]:
        """How many sessions there are, and how many had to make way."""
        return {
            "storage_type": "memory",
            "sessions": len(self._sessions),
            "max_sessions": self._max_sessions,
            "evicted": self._evicted,
        }

    def _find(self, conversation_id: str) -> _Kept | None:
        now = self._tidy()
        kept = self._sessions.get(conversation_id)
        return kept if kept is not None and kept.until > now else None

    def _tidy(self) -> datetime:
        now = self._clock.utcnow()
        if now >= self._next_cleanup:
            self._next_cleanup = now + self._cleanup_interval
            self._keep(lambda kept: kept.until > now)
        return now

    def _keep(self, wanted: Callable[[_Kept], bool]) -> None:
        self._sessions = {name: kept for name, kept in self._sessions.items() if wanted(kept)}

    def _make_room(self) -> None:
        def worth(name: str) -> tuple[bool, datetime]:
            envelope = self._sessions[name].envelope
            return not envelope.is_over, envelope.active_at

        del self._sessions[min(self._sessions, key=worth)]
        self._evicted += 1
        _log.warning("session evicted", max_sessions=self._max_sessions)
