"""A store that somebody else wrote: only what the port demands, over a dict."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from opusagent.session_storage import Hold, SessionStorage


class Smallest(SessionStorage):
    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}

    async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
        there = self.sessions.get(conversation_id, {})
        if there.get("owner_epoch", 0) > session_data.get("owner_epoch", 0):
            return False
        self.sessions[conversation_id] = copy.deepcopy(session_data)
        return True

    async def retrieve_session(self, conversation_id: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.sessions.get(conversation_id))

    async def delete_session(self, conversation_id: str) -> bool:
        return self.sessions.pop(conversation_id, None) is not None

    async def list_active_sessions(self) -> list[str]:
        return sorted(self.sessions)

    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        return 0

    async def claim_session(self, conversation_id: str, owner: str) -> dict[str, Any] | None:
        if (there := self.sessions.get(conversation_id)) is None:
            return None
        there |= {"owner": owner, "owner_epoch": there.get("owner_epoch", 0) + 1}
        return copy.deepcopy(there)


def test_the_rest_of_the_port_works_over_the_six_methods() -> None:
    async def scenario() -> None:
        storage = Smallest()
        at = "2026-01-01T00:00:00Z"
        assert await storage.touch_session("c", 1, at) is Hold.STALE
        await storage.store_session("c", {"last_activity": at, "owner_epoch": 1})
        assert await storage.touch_session("c", 1, at) is Hold.KEPT
        assert await storage.touch_session("c", 1, "later") is Hold.STALE
        await storage.claim_session("c", "other")
        assert await storage.touch_session("c", 1, at) is Hold.FENCED
        storage.watch_session("c", print)()
        await storage.listen()
        assert storage.get_stats() == {"storage_type": "Smallest"}
        await storage.close()

    asyncio.run(scenario())
