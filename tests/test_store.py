from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from opusagent.config import Settings
from opusagent.session_storage import Hold
from opusagent.session_storage.opening import open_storage
from opusagent.store import storage_place, storage_settings
from tests.session_storage import valkey


def test_every_setting_of_the_store_reaches_it() -> None:
    kept_in = storage_settings(
        Settings(
            redis_url=SecretStr("redis://a"),
            redis_password=SecretStr("p"),
            redis_db=2,
            session_store_dir=Path("d"),
            session_ttl=60,
            session_prefix="x:",
            max_sessions=5,
            session_compression=True,
            session_encryption_keys=SecretStr("k"),
        )
    )
    assert (kept_in.redis_url, kept_in.redis_password, kept_in.redis_db) == ("redis://a", "p", 2)
    assert (kept_in.session_ttl, kept_in.session_prefix, kept_in.max_sessions) == (60, "x:", 5)
    assert kept_in.session_store_dir == Path("d")
    assert kept_in.session_compression
    assert kept_in.session_encryption_keys == "k"


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        (Settings(), "memory"),
        (Settings(session_store_dir=Path("some/where")), "some/where"),
        (Settings(redis_url=SecretStr("redis://u:secret@a:1/2")), "redis://a:1/2"),
    ],
)
def test_a_store_says_where_it_is_without_secrets(settings: Settings, place: str) -> None:
    assert storage_place(open_storage(storage_settings(settings))) == place


@pytest.mark.integration
def test_the_redis_user_of_the_readme_may_do_what_the_store_needs_and_no_more(
    tmp_path: Path,
) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (rule,) = (line for line in readme.splitlines() if line.startswith("ACL SETUSER opusagent "))

    async def main(url: str) -> None:
        store = open_storage(storage_settings(Settings(redis_url=SecretStr(url), max_sessions=20)))
        heard: list[int] = []
        told = asyncio.Event()

        def claimed(epoch: int) -> None:
            heard.append(epoch)
            told.set()

        store.watch_session("c0", claimed)
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
            listening = tasks.create_task(store.listen())
            for number in range(25):  # more than there is room for
                assert await store.store_session(f"c{number}", {"last_activity": "x"})
            await store.store_session("c0", {"last_activity": "x"})
            while not heard:  # the subscription takes its time
                assert await store.claim_session("c0", "p") is not None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await told.wait()
            assert await store.touch_session("c0", 99, "x") is Hold.KEPT
            assert await store.retrieve_session("c0") is not None
            assert "c0" in await store.list_active_sessions()
            assert await store.cleanup_expired_sessions(3600) == 0
            assert await store.delete_session("c0")
            listening.cancel()
        await store.close()

    with valkey.running(tmp_path) as server:
        with server.client() as admin:
            admin.execute_command(*rule.replace("PASSWORD", "hush").split())
        asyncio.run(main(f"redis://opusagent:hush@127.0.0.1:{server.port}"))
        with server.client() as user:
            user.execute_command("AUTH", "opusagent", "hush")
            for command in (("FLUSHALL",), ("KEYS", "*"), ("GET", "other"), ("CONFIG", "GET", "*")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    user.execute_command(*command)
