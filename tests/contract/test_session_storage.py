"""What every store of sessions promises. One suite, every adapter, the networked ones for real."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opusagent.session_storage import Hold, SessionStorage
from opusagent.session_storage.codec import Codec
from opusagent.session_storage.file_storage import FileSessionStorage
from opusagent.session_storage.memory_storage import MemorySessionStorage
from opusagent.session_storage.redis_storage import RedisSessionStorage
from tests.session_storage import valkey

NOW = datetime.now(UTC)  # noqa: TID251  the servers have a clock of their own
LONG_AGO = NOW - timedelta(days=31)
ODD_IDS = ["../up", "a/b", "a:b", "*", "?[x]", "", ".", "ünï", "%2E", "A", "a", "x" * 300, "\ud800"]


def document(*, epoch: int = 0, at: datetime = NOW, **fields: Any) -> dict[str, Any]:
    return {"last_activity": at.isoformat(), "owner": "", "owner_epoch": epoch, **fields}


class Store:
    """One store, which several processes would share."""

    def __init__(self, name: str, opened: Callable[[], SessionStorage]) -> None:
        self.name = name
        self.open = opened

    def run(self, scenario: Callable[[SessionStorage], Awaitable[None]]) -> None:
        async def whole() -> None:
            storage = self.open()
            try:
                await scenario(storage)
            finally:
                await storage.close()

        asyncio.run(whole())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("valkey")


@pytest.fixture(scope="module")
def single(folder: Path) -> Iterator[str]:
    with valkey.running(folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[str]:
    with valkey.cluster(folder) as servers:
        yield f"redis+cluster://127.0.0.1:{servers[0].port}"


@pytest.fixture(scope="module")
def sentinel(folder: Path) -> Iterator[str]:
    with valkey.sentinel(folder) as (_, _, watcher):
        yield f"redis+sentinel://127.0.0.1:{watcher.port}/calls/3"


@pytest.fixture(
    params=["memory", "file", "file sealed", "single", "single sealed", "cluster", "sentinel"]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    name: str = request.param
    sealed = Codec(compress=True, keys=[os.urandom(32)]) if "sealed" in name else Codec()
    prefix = f"{uuid.uuid4().hex}[*]:"
    match name.split(maxsplit=1)[0]:
        case "memory":
            memory = MemorySessionStorage()
            return Store(name, lambda: memory)
        case "file":
            return Store(name, lambda: FileSessionStorage(tmp_path, codec=sealed))
        case kind:
            url = request.getfixturevalue(kind)
            return Store(
                name, lambda: RedisSessionStorage(url, prefix, codec=sealed, timeout_s=10.0)
            )


def test_what_is_stored_is_retrieved_as_it_was(store: Store) -> None:
    data = document(words=["Grüße", "\ud83d half a pair", "\x00"], n={"a": [1, None, 2.5, True]})

    async def scenario(storage: SessionStorage) -> None:
        assert await storage.store_session("c", data)
        assert await storage.retrieve_session("c") == data
        assert await storage.store_session("bare", {"test": "data"})
        assert await storage.retrieve_session("bare") == {"test": "data"}

    store.run(scenario)


def test_nobody_shares_the_object_that_was_stored(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        data = document(items=[1])
        await storage.store_session("c", data)
        data["items"].append(2)
        first = await storage.retrieve_session("c")
        assert first is not None
        first["items"].append(3)
        again = await storage.retrieve_session("c")
        assert again is not None
        assert again["items"] == [1]

    store.run(scenario)


def test_another_process_sees_what_was_stored(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        await storage.store_session("c", document(a=1))
        other = store.open()
        assert await other.retrieve_session("c") == document(a=1)
        await other.close()

    store.run(scenario)


def test_a_session_that_is_not_there_is_nothing_not_an_error(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        assert await storage.retrieve_session("c") is None
        assert await storage.claim_session("c", "me") is None
        assert not await storage.delete_session("c")
        assert await storage.list_active_sessions() == []
        assert await storage.cleanup_expired_sessions() == 0

    store.run(scenario)


def test_a_deleted_session_is_gone(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        await storage.store_session("c", document())
        assert await storage.delete_session("c")
        assert not await storage.delete_session("c")
        assert await storage.retrieve_session("c") is None
        assert await storage.list_active_sessions() == []

    store.run(scenario)


def test_any_id_names_one_session_of_its_own(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        for number, name in enumerate(ODD_IDS):
            await storage.store_session(name, document(number=number))
        for number, name in enumerate(ODD_IDS):
            data = await storage.retrieve_session(name)
            assert data is not None
            assert data["number"] == number
        listed = await storage.list_active_sessions()
        assert len(listed) == len(ODD_IDS)
        assert set(ODD_IDS) - {"\ud800"} <= set(listed)
        for name in ODD_IDS:
            assert await storage.delete_session(name)

    store.run(scenario)


def test_all_sessions_are_listed_in_order(store: Store) -> None:
    names = sorted(f"c{number:03}" for number in range(120))

    async def scenario(storage: SessionStorage) -> None:
        for name in reversed(names):
            await storage.store_session(name, document(status="ended" if "7" in name else "active"))
        assert await storage.list_active_sessions() == names

    store.run(scenario)


def test_a_write_with_an_older_epoch_is_refused_and_changes_nothing(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        assert await storage.store_session("c", document(epoch=2, by="b"))
        assert not await storage.store_session("c", document(epoch=1, by="a"))
        assert await storage.retrieve_session("c") == document(epoch=2, by="b")
        assert await storage.store_session("c", document(epoch=2, by="b again"))
        assert await storage.store_session("c", document(epoch=5, by="e"))
        assert await storage.retrieve_session("c") == document(epoch=5, by="e")

    store.run(scenario)


def test_a_claim_raises_the_epoch_by_one_and_names_the_owner(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        await storage.store_session("c", document(epoch=3, owner="old", text="hello"))
        claimed = await storage.claim_session("c", "new")
        assert claimed == document(epoch=4, text="hello") | {"owner": "new"}
        assert await storage.retrieve_session("c") == claimed

    store.run(scenario)


def test_whoever_was_replaced_cannot_write_and_its_successor_can(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        await storage.store_session("c", document(by="old"))
        claimed = await storage.claim_session("c", "new")
        assert claimed is not None
        assert not await storage.store_session("c", document(by="old again"))
        assert await storage.store_session("c", claimed | {"by": "new"})
        stored = await storage.retrieve_session("c")
        assert stored is not None
        assert stored["by"] == "new"

    store.run(scenario)


def test_of_many_claims_at_once_each_has_an_epoch_of_its_own(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        await storage.store_session("c", document())
        async with asyncio.TaskGroup() as tasks:
            claims = [
                tasks.create_task(storage.claim_session("c", f"o{number}")) for number in range(20)
            ]
        epochs = [claimed["owner_epoch"] for claim in claims if (claimed := claim.result())]
        assert sorted(epochs) == list(range(1, 21))
        last = await storage.retrieve_session("c")
        assert last is not None
        assert last["owner"] == f"o{epochs.index(20)}"

    store.run(scenario)


def test_an_owner_keeps_its_session_by_a_sign_of_life(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        data = document(epoch=1, at=LONG_AGO)
        await storage.store_session("c", data)
        assert await storage.touch_session("c", 1, data["last_activity"]) is Hold.KEPT
        assert await storage.touch_session("c", 2, data["last_activity"]) is Hold.KEPT
        stored = await storage.retrieve_session("c")
        assert stored is not None
        assert datetime.fromisoformat(stored["last_activity"]) >= NOW
        assert {**stored, "last_activity": data["last_activity"]} == data
        assert await storage.cleanup_expired_sessions(3600) == 0

    store.run(scenario)


def test_an_owner_learns_that_the_store_lost_what_it_wrote(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        last = document()["last_activity"]
        assert await storage.touch_session("c", 1, last) is Hold.STALE
        await storage.store_session("c", document(epoch=1, at=LONG_AGO))
        assert await storage.touch_session("c", 1, last) is Hold.STALE

    store.run(scenario)


def test_an_owner_learns_that_it_was_replaced(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        data = document(epoch=1)
        await storage.store_session("c", data)
        await storage.claim_session("c", "new")
        assert await storage.touch_session("c", 1, data["last_activity"]) is Hold.FENCED
        assert await storage.touch_session("c", 2, data["last_activity"]) is Hold.KEPT

    store.run(scenario)


def test_clean_up_removes_what_has_been_quiet_for_too_long(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        await storage.store_session("old", document(at=LONG_AGO))
        await storage.store_session("new", document())
        await storage.store_session("undated", {"test": "data"})
        assert await storage.cleanup_expired_sessions(40 * 86_400) == 0
        assert await storage.cleanup_expired_sessions(30 * 86_400) == 1
        assert await storage.list_active_sessions() == ["new", "undated"]

    store.run(scenario)


def test_many_tasks_at_once_lose_nothing(store: Store) -> None:
    rounds = 1000 if store.name == "memory" else 10

    async def scenario(storage: SessionStorage) -> None:
        async def work(number: int) -> None:
            for turn in range(rounds):
                assert await storage.store_session(f"c{number}", document(turn=turn))
                if turn % 10 == 0:
                    data = await storage.retrieve_session(f"c{number}")
                    assert data is not None
                    assert data["turn"] == turn

        async with asyncio.TaskGroup() as tasks:
            for number in range(50):
                tasks.create_task(work(number))
        assert len(await storage.list_active_sessions()) == 50
        for number in range(50):
            data = await storage.retrieve_session(f"c{number}")
            assert data is not None
            assert data["turn"] == rounds - 1

    store.run(scenario)


def test_the_statistics_name_the_kind_of_store(store: Store) -> None:
    async def scenario(storage: SessionStorage) -> None:
        kind = store.name.split()[0]
        assert storage.get_stats()["storage_type"] == (
            kind if kind in ("memory", "file") else "redis"
        )

    store.run(scenario)


def test_the_previous_owner_hears_of_a_claim_where_the_store_can_tell(store: Store) -> None:
    if store.name.startswith("file"):
        pytest.skip("a directory tells nobody; the owner asks once a second")

    async def scenario(storage: SessionStorage) -> None:
        heard: asyncio.Queue[int] = asyncio.Queue()
        stop = storage.watch_session("c:*", heard.put_nowait)
        claimer = store.open()
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(storage.listen())
            await claimer.store_session("c:*", document())
            await claimer.store_session("other", document())
            async with asyncio.timeout(5):
                while heard.empty():  # until the subscription stands, a claim is not heard
                    await claimer.claim_session("c:*", "new")
                    await asyncio.to_thread(lambda: None)
                first = heard.get_nowait()
                await claimer.claim_session("other", "new")
                await claimer.claim_session("c:*", "newer")
                assert await heard.get() > first > 0
            stop()
            stop()
            await claimer.claim_session("c:*", "newest")
            listening.cancel()
        await claimer.close()
        assert heard.qsize() < 50

    store.run(scenario)
