from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from opusagent.clock import FakeClock
from opusagent.session_storage import Hold
from opusagent.session_storage.memory_storage import MemorySessionStorage


def of(clock: FakeClock, **fields: Any) -> dict[str, Any]:
    return {"last_activity": clock.utcnow().isoformat(), **fields}


def test_the_defaults_are_a_thousand_sessions_and_five_minutes() -> None:
    assert MemorySessionStorage().get_stats()["max_sessions"] == 1000
    assert MemorySessionStorage(max_sessions=2, cleanup_interval=300).get_stats() == {
        "storage_type": "memory",
        "sessions": 0,
        "max_sessions": 2,
        "evicted": 0,
    }


def test_one_session_too_many_takes_the_place_of_the_quietest() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = MemorySessionStorage(1000, clock=clock)
        for number in range(1000):
            await storage.store_session(f"c{number}", of(clock, owner_epoch=1))
            clock.advance(0.001)
        first = await storage.retrieve_session("c0")
        assert first is not None
        await storage.touch_session("c0", 1, first["last_activity"])
        await storage.store_session("one more", of(clock))
        names = await storage.list_active_sessions()
        assert len(names) == 1000
        assert "c0" in names
        assert "c1" not in names
        assert storage.get_stats()["evicted"] == 1

    asyncio.run(scenario())


def test_an_ended_session_makes_way_before_a_quiet_one() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = MemorySessionStorage(2, clock=clock)
        await storage.store_session("quiet", of(clock))
        clock.advance(9)
        await storage.store_session("ended", of(clock, status="ended"))
        await storage.store_session("new", of(clock))
        assert await storage.list_active_sessions() == ["new", "quiet"]

    asyncio.run(scenario())


def test_writing_again_evicts_nobody() -> None:
    async def scenario() -> None:
        storage = MemorySessionStorage(1)
        for _ in range(3):
            assert await storage.store_session("c", {})
        assert storage.get_stats()["evicted"] == 0

    asyncio.run(scenario())


def test_a_session_lives_for_its_time_after_each_write_claim_and_sign_of_life() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = MemorySessionStorage(default_ttl=100, clock=clock)
        data = of(clock)
        await storage.store_session("c", data)
        for renew in (
            lambda: storage.store_session("c", data),
            lambda: storage.touch_session("c", 0, data["last_activity"]),
            lambda: storage.claim_session("c", "me"),
        ):
            clock.advance(99)
            assert await storage.retrieve_session("c") is not None
            await renew()
        clock.advance(99)
        assert await storage.list_active_sessions() == ["c"]
        clock.advance(1)
        assert await storage.list_active_sessions() == []
        assert await storage.retrieve_session("c") is None
        assert await storage.claim_session("c", "me") is None
        assert await storage.touch_session("c", 1, data["last_activity"]) is Hold.STALE
        assert not await storage.delete_session("c")

    asyncio.run(scenario())


def test_what_has_run_out_is_removed_after_the_interval() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = MemorySessionStorage(default_ttl=100, cleanup_interval=300, clock=clock)
        await storage.store_session("c", {})
        clock.advance(299)
        await storage.retrieve_session("other")
        assert storage.get_stats()["sessions"] == 1
        clock.advance(1)
        await storage.retrieve_session("other")
        assert storage.get_stats()["sessions"] == 0

    asyncio.run(scenario())


def test_threads_may_share_it() -> None:
    storage = MemorySessionStorage(max_sessions=10_000)

    def work(number: int) -> None:
        async def scenario() -> None:
            for turn in range(300):
                await storage.store_session(f"{number}-{turn}", {})
                await storage.claim_session("shared", "me")

        asyncio.run(scenario())

    asyncio.run(storage.store_session("shared", {}))
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(0.005)
    assert storage.get_stats()["sessions"] == 8 * 300 + 1
    shared = asyncio.run(storage.retrieve_session("shared"))
    assert shared is not None
    assert shared["owner_epoch"] == 8 * 300
