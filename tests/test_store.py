from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from opusagent.config import Settings
from opusagent.errors import SessionUnreadable
from opusagent.session_storage import Hold, SessionStorage
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


def _user_of_the_readme() -> list[str]:
    """What makes the Redis user that the README tells of, with the password `hush`."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (rule,) = (line for line in readme.splitlines() if line.startswith("ACL SETUSER opusagent "))
    return rule.replace("PASSWORD", "hush").split()


async def _use_all_of(storage: SessionStorage) -> None:
    heard = asyncio.Event()
    storage.watch_session("c0", lambda _epoch: heard.set())
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
        listening = tasks.create_task(storage.listen())
        for number in range(25):  # more than there is room for
            assert await storage.store_session(f"c{number}", {"last_activity": "x"})
        assert await storage.store_session("c0", {"last_activity": "x"})
        while not heard.is_set():  # the subscription takes its time
            assert await storage.claim_session("c0", "p") is not None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await heard.wait()
        assert await storage.touch_session("c0", 999, "x") is Hold.KEPT
        assert "c0" in await storage.list_active_sessions()
        assert await storage.cleanup_expired_sessions(3600) == 0
        assert await storage.delete_session("c0")
        with pytest.raises(SessionUnreadable):
            await storage.retrieve_session("damaged")
        listening.cancel()
    await storage.close()


@pytest.mark.integration
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_the_redis_user_of_the_readme_may_do_what_the_store_needs_and_no_more(
    tmp_path: Path, scheme: str
) -> None:
    with contextlib.ExitStack() as stack:
        servers = (
            [stack.enter_context(valkey.running(tmp_path))]
            if scheme == "redis"
            else stack.enter_context(valkey.cluster(tmp_path))
        )
        admins = [stack.enter_context(server.client()) for server in servers]
        for admin in admins:
            admin.execute_command(*_user_of_the_readme())
            with contextlib.suppress(redis.ResponseError):  # it lives on another node
                admin.hset("opusagent:session:damaged", "doc", "junk")
        url = SecretStr(f"{scheme}://opusagent:hush@127.0.0.1:{servers[0].port}")
        asyncio.run(
            _use_all_of(open_storage(storage_settings(Settings(redis_url=url, max_sessions=20))))
        )
        assert [admin.acl_log() for admin in admins] == [[] for _ in admins]  # nothing was refused
        assert any(admin.keys("corrupt:opusagent:session:damaged") for admin in admins)
        user = stack.enter_context(servers[0].client())
        user.execute_command("AUTH", "opusagent", "hush")
        for command in (
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("HGET", "other", "f"),
            ("CONFIG", "GET", "*"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                user.execute_command(*command)
