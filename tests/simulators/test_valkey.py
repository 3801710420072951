"""The embedded Valkey, for demos and measurements."""

from __future__ import annotations

import asyncio
import os

import pytest

from opusagent.session_storage.redis_storage import RedisSessionStorage
from opusagent.simulators.valkey import LocalValkey

pytestmark = pytest.mark.integration


def test_it_keeps_sessions_and_is_gone_with_its_block() -> None:
    async def main() -> None:
        async with LocalValkey() as valkey:
            storage = RedisSessionStorage(valkey.url)
            assert await storage.store_session("c", {"a": 1})
            assert await storage.retrieve_session("c") == {"a": 1}
            await storage.close()
            pid = valkey.pid
            os.kill(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(main())


def test_two_at_once_do_not_know_each_other() -> None:
    async def main() -> None:
        async with LocalValkey() as one, LocalValkey() as two:
            first, second = RedisSessionStorage(one.url), RedisSessionStorage(two.url)
            await first.store_session("c", {"a": 1})
            assert await second.retrieve_session("c") is None
            for storage in (first, second):
                await storage.close()

    asyncio.run(main())
