"""Redis in trouble, and what is special about it. Against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from opusagent.errors import SessionUnreadable, StorageUnavailable
from opusagent.session_storage import Hold
from opusagent.session_storage.codec import Codec
from opusagent.session_storage.redis_storage import RedisSessionStorage
from tests.session_storage import valkey
from tests.session_storage.tls_front import tls_front
from tests.waiting import eventually, pass_time

pytestmark = pytest.mark.integration

BOUND_S = 2.5
"""What an operation of at most 1 s may take on a busy machine."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[valkey.Valkey]:
    with valkey.running(tmp_path) as running:
        yield running


def running[**P](test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


@contextlib.asynccontextmanager
async def opened(url: str, *args: Any, **options: Any) -> AsyncIterator[RedisSessionStorage]:
    storage = RedisSessionStorage(url, *args, **options)
    try:
        yield storage
    finally:
        await storage.close()


async def fails_soon(operation: Awaitable[object]) -> str:
    """The words of the error, which must come within its bound."""
    began = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught:
        await operation
    assert time.monotonic() - began < BOUND_S
    return str(caught.value)


async def works_again(attempt: Callable[[], Awaitable[object]]) -> None:
    """Try until it works, as the saver does: nothing tells when servers have found each other."""
    while True:
        try:
            await attempt()
        except StorageUnavailable:
            await pass_time(0.1)
        else:
            return


@running
async def test_a_session_is_one_hash_under_the_prefix_with_a_time_to_live(
    server: valkey.Valkey,
) -> None:
    async with opened(server.url) as storage:
        with server.client() as client:
            key = "opusagent:session:c"

            def ttl() -> int:
                left: int = client.pttl(key)
                client.pexpire(key, 5_000)
                return left

            await storage.store_session(
                "c", {"text": "hi", "last_activity": "2026-01-01T00:00:00Z"}
            )
            assert client.keys() == [key.encode()]
            assert client.hkeys(key) == [b"doc", b"epoch", b"owner", b"saved", b"at", b"over"]
            assert 3_590_000 < ttl() <= 3_600_000
            await storage.touch_session("c", 0, "2026-01-01T00:00:00Z")
            assert 3_590_000 < ttl() <= 3_600_000
            await storage.claim_session("c", "me")
            assert 3_590_000 < ttl() <= 3_600_000
    async with opened(server.url, "mine:", 7) as storage:
        await storage.store_session("c", {})
        with server.client() as client:
            assert 6_000 < client.pttl("mine:c") <= 7_000


@running
async def test_no_more_connections_are_open_than_are_allowed(server: valkey.Valkey) -> None:
    async with opened(server.url, max_connections=4, retry_on_timeout=False) as storage:
        async with asyncio.TaskGroup() as tasks:
            for number in range(100):
                tasks.create_task(storage.store_session(f"c{number}", {"filler": "x" * 10_000}))
        with server.client() as client:
            ours = [one for one in client.client_list() if one["lib-name"].startswith("redis-py")]
        assert 2 <= len(ours) - 1 <= 4
        assert len(await storage.list_active_sessions()) == 100


@running
async def test_connections_that_are_killed_under_load_lose_no_write(server: valkey.Valkey) -> None:
    async with opened(server.url) as storage:
        written = killed = 0
        killer: Any = server.client()

        async def write(number: int) -> None:
            nonlocal written, killed
            for turn in range(100):
                assert await storage.store_session(f"c{number}", {"turn": turn})
                written += 1
                if written % 50 == 0:  # seven others are in the middle of theirs
                    killed += killer.execute_command("CLIENT", "KILL", "TYPE", "normal")

        async with asyncio.TaskGroup() as tasks:
            for number in range(8):
                tasks.create_task(write(number))
        killer.close()
        assert killed >= 16  # in each round that of the last writer at least
        for number in range(8):
            assert await storage.retrieve_session(f"c{number}") == {"turn": 99}


@running
async def test_a_server_that_is_stopped_is_said_soon_and_its_return_is_noticed(
    server: valkey.Valkey,
) -> None:
    async with opened(server.url) as storage:
        await storage.store_session("c", {"n": 1})
        server.stop()
        words = await fails_soon(storage.store_session("c", {"n": 2}))
        assert "ConnectionError" in words
        for operation in (
            storage.retrieve_session("c"),
            storage.claim_session("c", "me"),
            storage.touch_session("c", 0, ""),
            storage.delete_session("c"),
            storage.list_active_sessions(),
            storage.cleanup_expired_sessions(),
        ):
            await fails_soon(operation)
        server.start()
        await works_again(lambda: storage.store_session("c", {"n": 3}))
        assert await storage.retrieve_session("c") == {"n": 3}


@running
async def test_a_server_that_hangs_is_said_soon_and_no_answer_goes_to_the_wrong_question(
    server: valkey.Valkey,
) -> None:
    async with opened(server.url, max_connections=3) as storage:
        for number in range(6):
            await storage.store_session(f"c{number}", {"n": number})
        server.pause()
        questions = [fails_soon(storage.retrieve_session(f"c{number}")) for number in range(6)]
        await asyncio.gather(*questions)
        server.go_on()
        answers = await asyncio.gather(*(storage.retrieve_session(f"c{n}") for n in range(6)))
        assert answers == [{"n": number} for number in range(6)]


@running
async def test_a_server_that_nobody_has_started_yet_is_no_reason_not_to_begin(
    tmp_path: Path,
) -> None:
    server = valkey.Valkey(tmp_path)
    async with opened(server.url) as storage:
        await fails_soon(storage.retrieve_session("c"))
        server.start()
        try:
            await works_again(lambda: storage.store_session("c", {}))
        finally:
            server.stop()


@running
async def test_a_full_server_is_trouble_and_the_error_quotes_nothing(tmp_path: Path) -> None:
    with valkey.running(tmp_path, "maxmemory 1", "maxmemory-policy noeviction") as server:
        async with opened(server.url) as storage:
            words = await fails_soon(storage.store_session("c", {"text": "secret" * 1000}))
            assert "secret" not in words
            assert words == "OutOfMemoryError: its memory is full (maxmemory)"
            assert await storage.retrieve_session("c") is None


@running
async def test_a_server_that_quotes_what_it_refuses_is_not_repeated(tmp_path: Path) -> None:
    with valkey.running(tmp_path, 'rename-command EVAL ""') as server:
        async with opened(server.url) as storage:
            words = await fails_soon(storage.store_session("c", {"text": "secret"}))
            assert words.startswith("ResponseError: it lacks a command that is needed")


@running
@pytest.mark.parametrize(
    ("setting", "path", "words"),
    [
        ("replicaof 127.0.0.1 1", "", "ReadOnlyError: it is a replica, which cannot be written"),
        ("databases 1", "/1", "ResponseError: it has no database of this number"),
        ("requirepass hunter2", "", "AuthenticationError: it asks for a password (REDIS_PASSWORD)"),
        (
            "user default on nopass ~* &* +@all -eval",
            "",
            "NoPermissionError: its ACL forbids this user what is needed",
        ),
    ],
)
async def test_a_server_that_refuses_is_told_of_in_words_that_help(
    setting: str, path: str, words: str, tmp_path: Path
) -> None:
    with valkey.running(tmp_path, setting) as server:
        async with opened(f"{server.url}{path}") as storage:
            assert await fails_soon(storage.store_session("c", {"text": "secret"})) == words


@running
async def test_a_connection_that_hangs_is_given_up_in_time_for_another_one(
    server: valkey.Valkey,
) -> None:
    async with opened(server.url, timeout_s=3.0) as storage:
        await storage.store_session("c", {"n": 1})
        (first,) = ports_towards(server.port)
        server.pause()
        answer = asyncio.ensure_future(storage.retrieve_session("c"))
        assert await eventually(lambda: ports_towards(server.port) - {first})
        server.go_on()
        assert await answer == {"n": 1}


@running
async def test_a_connection_that_hangs_is_the_only_one_where_none_is_to_be_tried_again(
    server: valkey.Valkey,
) -> None:
    async with opened(server.url, timeout_s=3.0, retry_on_timeout=False) as storage:
        await storage.store_session("c", {"n": 1})
        server.pause()
        assert "Timeout" in await fails_soon(storage.retrieve_session("c"))


@running
@pytest.mark.parametrize("keepalive", [True, False])
async def test_tcp_looks_after_idle_connections_where_it_is_asked_to(
    server: valkey.Valkey,
    keepalive: bool,  # noqa: FBT001
) -> None:
    async with opened(server.url, socket_keepalive=keepalive) as storage:
        await storage.store_session("c", {})
        options = [
            one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            for one in sockets_towards(server.port)
        ]
        assert options == [keepalive]


def ports_towards(port: int) -> set[int]:
    """Our ends of the connections that lead there."""
    return {one.getsockname()[1] for one in sockets_towards(port)}


def sockets_towards(port: int) -> Iterator[socket.socket]:
    """Every socket of this process that leads there."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as one:
                if one.getpeername()[1:2] == (port,):
                    yield one


@running
async def test_a_wrong_password_is_trouble_and_is_not_shown(tmp_path: Path) -> None:
    with valkey.running(
        tmp_path, "user bridge on >right ~* &* +@all", "user default off"
    ) as server:
        good = f"redis://bridge:right@127.0.0.1:{server.port}"
        async with opened(good) as storage:
            assert await storage.store_session("c", {})
        async with opened(good.replace("right", "wrong1")) as storage:
            assert "wrong1" not in await fails_soon(storage.retrieve_session("c"))


@running
async def test_a_damaged_record_is_set_aside_counted_and_replaced_by_the_next_write(
    server: valkey.Valkey,
) -> None:
    async with opened(server.url, codec=Codec(compress=True)) as storage:
        await storage.store_session("c", {"n": 1, "owner_epoch": 4})
        with server.client() as client:
            client.hset("opusagent:session:c", "doc", b"OAz1junk")
            with pytest.raises(SessionUnreadable) as caught:
                await storage.retrieve_session("c")
            assert (caught.value.damaged, caught.value.owner_epoch) == (True, 4)
            with pytest.raises(SessionUnreadable) as caught:
                await storage.claim_session("c", "me")
            assert caught.value.owner_epoch == 5
            assert client.get("corrupt:opusagent:session:c") == b"OAz1junk"
            assert client.pttl("corrupt:opusagent:session:c") > 0
            assert storage.get_stats()["corrupt"] == 2
            assert await storage.store_session("c", {"n": 2, "owner_epoch": 5})
            assert await storage.retrieve_session("c") == {"n": 2, "owner_epoch": 5}
            assert await storage.delete_session("c")
            assert not client.exists("corrupt:opusagent:session:c")
            assert not await storage.delete_session("c")


@running
async def test_fields_that_make_no_sense_are_damage_too(server: valkey.Valkey) -> None:
    async with opened(server.url) as storage:
        with server.client() as client:
            client.hset("opusagent:session:c", mapping={"doc": "{}", "epoch": "x", "at": "y"})
            with pytest.raises(SessionUnreadable):
                await storage.retrieve_session("c")
            assert await storage.cleanup_expired_sessions(0) == 0


@running
async def test_a_key_of_another_kind_is_unreadable_and_gives_way(server: valkey.Valkey) -> None:
    async with opened(server.url) as storage:
        with server.client() as client:
            client.set("opusagent:session:c", json.dumps({"conversation_id": "c"}))
            with pytest.raises(SessionUnreadable):
                await storage.retrieve_session("c")
            with pytest.raises(SessionUnreadable):
                await storage.claim_session("c", "me")
            assert await storage.list_active_sessions() == []
            assert await storage.store_session("c", {"n": 1})
            assert await storage.retrieve_session("c") == {"n": 1}


@running
async def test_a_sealed_session_is_not_read_with_another_key_and_not_set_aside(
    server: valkey.Valkey,
) -> None:
    async with opened(server.url, codec=Codec(keys=[bytes(32)])) as storage:
        await storage.store_session("c", {"text": "secret"})
        with server.client() as client:
            assert b"secret" not in (client.hget("opusagent:session:c", "doc") or b"")
    async with opened(server.url, codec=Codec(keys=[b"x" * 32])) as storage:
        with pytest.raises(SessionUnreadable, match="SESSION_ENCRYPTION_KEYS"):
            await storage.retrieve_session("c")
        assert storage.get_stats()["corrupt"] == 0


@running
async def test_sessions_beyond_the_bound_make_way_ended_ones_first(server: valkey.Valkey) -> None:
    async with opened(server.url, max_sessions=20) as storage:
        for number in range(20):
            status = "ended" if number in (7, 8) else "active"
            at = f"2026-01-01T00:00:{number:02}Z"
            data = {"last_activity": at, "status": status}
            await storage.store_session(f"c{number:02}", data)
        assert len(await storage.list_active_sessions()) == 20
        for number in range(20, 22):
            at = f"2026-01-01T00:00:{number:02}Z"
            await storage.store_session(f"c{number:02}", {"last_activity": at})
        names = await storage.list_active_sessions()
        assert len(names) <= 20
        assert "c07" not in names
        assert "c08" not in names
        assert "c21" in names
        assert storage.get_stats()["evicted"] == 22 - len(names)


@running
async def test_hand_overs_are_heard_again_after_the_subscription_was_cut(
    server: valkey.Valkey,
) -> None:
    async with opened(server.url) as storage:
        heard: asyncio.Queue[int] = asyncio.Queue()
        storage.watch_session("c", heard.put_nowait)
        await storage.store_session("c", {})
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(storage.listen())
            for cut in (
                lambda client: client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"),
                lambda _: server.restart(),
                lambda _: None,
            ):
                await claim_until_heard(storage, "c", heard)
                began = time.monotonic()
                claimed = await storage.claim_session("c", "me")
                assert claimed is not None
                while await heard.get() != claimed["owner_epoch"]:
                    pass  # one of those before
                assert time.monotonic() - began < 1
                with server.client() as client:
                    await asyncio.to_thread(cut, client)
            listening.cancel()


async def claim_until_heard(
    storage: RedisSessionStorage, name: str, heard: asyncio.Queue[int]
) -> None:
    """Claim again and again: while links come up, nobody may hear what is published."""
    while True:
        with contextlib.suppress(StorageUnavailable, TimeoutError):
            await storage.store_session(name, {"owner_epoch": 10_000})
            await storage.claim_session(name, "me")
            async with asyncio.timeout(0.2):
                await heard.get()
                return


@running
async def test_a_failover_of_sentinel_is_survived_and_what_was_lost_is_noticed(
    tmp_path: Path,
) -> None:
    with valkey.sentinel(tmp_path) as (primary, replica, watcher):
        url = f"redis+sentinel://127.0.0.1:{watcher.port}/calls"
        async with opened(url) as storage:
            data: dict[str, Any] = {"last_activity": "2026-01-01T00:00:00Z", "owner_epoch": 1}
            await storage.store_session("c", data)
            with replica.client() as client:
                valkey.wait_until(lambda: client.exists("opusagent:session:c"), "a copy")
            primary.pause()  # hangs; the harder case: every connection stays open
            lost = data | {"last_activity": "2026-01-01T00:00:01Z"}
            await fails_soon(storage.store_session("c", lost))
            await works_again(lambda: storage.retrieve_session("c"))
            assert await storage.retrieve_session("c") == data
            await works_again(lambda: storage.touch_session("c", 1, lost["last_activity"]))
            hold = await storage.touch_session("c", 1, lost["last_activity"])
            assert hold is Hold.STALE
            assert await storage.store_session("c", lost)
            assert await storage.retrieve_session("c") == lost


class Door:
    """An address that leads to one server and then to another, as a managed store's name does.

    Connections that are open stay where they are.
    """

    def __init__(self, leads_to: int) -> None:
        self.leads_to = leads_to

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        door = await asyncio.start_server(self._through, "127.0.0.1", 0)
        async with door:
            yield f"redis://127.0.0.1:{door.sockets[0].getsockname()[1]}"

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_connection("127.0.0.1", self.leads_to)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(reader, to_behind))
            tasks.create_task(self._pump(behind, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@running
async def test_a_primary_that_was_made_a_replica_is_left_for_the_one_in_its_place(
    tmp_path: Path,
) -> None:
    with (
        valkey.running(tmp_path, "repl-diskless-sync-delay 0") as primary,
        valkey.running(tmp_path, f"replicaof 127.0.0.1 {primary.port}") as replica,
        replica.client() as of_replica,
        primary.client() as of_primary,
    ):
        valkey.wait_until(
            lambda: of_replica.info("replication")["master_link_status"] == "up", "a replica"
        )
        door = Door(primary.port)
        async with door.opened() as url, opened(url) as storage:
            names = [f"c{n}" for n in range(20)]
            async with asyncio.TaskGroup() as tasks:  # so that many connections are open
                for name in names:
                    tasks.create_task(storage.store_session(name, {"n": 1}))
            of_replica.replicaof("NO", "ONE")
            of_primary.replicaof("127.0.0.1", replica.port)
            assert "ReadOnlyError" in await fails_soon(storage.store_session("c0", {"n": 2}))
            door.leads_to = replica.port
            async with asyncio.TaskGroup() as tasks:
                for name in names:
                    tasks.create_task(storage.store_session(name, {"n": 2}))
            assert await storage.claim_session("c0", "me") is not None
            assert of_replica.hget("opusagent:session:c19", "doc") == b'{"n":2}'


@pytest.mark.filterwarnings("ignore:Unclosed ClusterNode:ResourceWarning")
@running
async def test_a_cluster_spreads_sessions_and_every_node_tells_of_a_claim(tmp_path: Path) -> None:
    with valkey.cluster(tmp_path, 3) as servers:
        url = f"redis+cluster://127.0.0.1:{servers[2].port}"
        async with opened(url, max_sessions=100) as storage:
            names = sorted(f"c{number}" for number in range(60))
            for name in names:
                await works_again(functools.partial(storage.store_session, name, {}))
            assert await storage.list_active_sessions() == names
            for server in servers:
                with server.client() as client:
                    assert 5 < client.dbsize() < 40
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(storage.listen())
                for name in names:
                    heard: asyncio.Queue[int] = asyncio.Queue()
                    storage.watch_session(name, heard.put_nowait)
                    await claim_until_heard(storage, name, heard)
                listening.cancel()
            servers[0].pause()
            results = await asyncio.gather(
                *(storage.retrieve_session(name) for name in names), return_exceptions=True
            )
            lost = [result for result in results if isinstance(result, BaseException)]
            assert all(isinstance(error, StorageUnavailable) for error in lost)
            assert len(lost) > 5
            servers[0].go_on()
            for name in names:
                await works_again(functools.partial(storage.retrieve_session, name))
    gc.collect()  # redis-py drops the nodes of a look-up that was cancelled without closing them


@running
async def test_a_cluster_that_is_looked_at_again_under_load_answers_everybody(
    tmp_path: Path,
) -> None:
    with valkey.cluster(tmp_path) as servers, contextlib.ExitStack() as stack:
        killers: list[Any] = [stack.enter_context(server.client()) for server in servers]
        async with opened(f"redis+cluster://127.0.0.1:{servers[0].port}") as storage:
            written = 0

            async def write(number: int) -> None:
                nonlocal written
                for turn in range(60):
                    data = {"turn": turn}
                    await works_again(functools.partial(storage.store_session, f"c{number}", data))
                    written += 1
                    if written % 100 == 0:
                        for killer in killers:
                            killer.execute_command("CLIENT", "KILL", "TYPE", "normal")

            async with asyncio.TaskGroup() as tasks:
                for number in range(30):
                    tasks.create_task(write(number))
            for number in range(30):
                assert await storage.retrieve_session(f"c{number}") == {"turn": 59}


@pytest.mark.filterwarnings("ignore:Unclosed ClusterNode:ResourceWarning")
@running
async def test_a_failover_in_a_cluster_is_survived(tmp_path: Path) -> None:
    silent_ms = 1_000
    with (
        valkey.cluster(tmp_path, 3, timeout_ms=silent_ms) as servers,
        valkey.replica_of(tmp_path, servers[0], timeout_ms=silent_ms) as replica,
    ):
        url = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        async with opened(f"redis+cluster://{url}") as storage:
            data: dict[str, Any] = {"last_activity": "2026-01-01T00:00:00Z", "owner_epoch": 0}
            names = [f"c{number}" for number in range(30)]
            for name in names:
                assert await storage.store_session(name, data)
                assert await storage.claim_session(name, "me")
            with servers[0].client() as client, replica.client() as copy:
                theirs = client.dbsize()
                assert theirs > 3
                valkey.wait_until(lambda: copy.dbsize() == theirs, "a copy")
            servers[0].pause()  # hangs: every connection stays open
            for name in names:
                await works_again(functools.partial(storage.retrieve_session, name))
                found = await storage.retrieve_session(name)
                assert found is not None
                assert (found["owner"], found["owner_epoch"]) == ("me", 1)
                assert not await storage.store_session(name, data)  # the fence stands
                assert await storage.store_session(name, data | {"owner_epoch": 1})
            with replica.client() as client:
                assert client.info("replication")["role"] == "master"
            assert len(await storage.list_active_sessions()) == len(names)
    gc.collect()  # redis-py drops the nodes of a look-up that was cancelled without closing them


@running
async def test_a_bound_counts_the_sessions_of_every_node(tmp_path: Path) -> None:
    with valkey.cluster(tmp_path) as servers:
        url = f"redis+cluster://127.0.0.1:{servers[0].port}"
        async with opened(url, max_sessions=20) as storage:
            for number in range(30):
                await storage.store_session(f"c{number}", {})
            assert len(await storage.list_active_sessions()) <= 21


@running
async def test_tls_urls_verify_the_certificate(server: valkey.Valkey, tmp_path: Path) -> None:
    async with tls_front(server.port, tmp_path) as (port, ca_file):
        async with opened(f"rediss://127.0.0.1:{port}?ssl_ca_certs={ca_file}") as storage:
            assert await storage.store_session("c", {"n": 1})
            assert await storage.retrieve_session("c") == {"n": 1}
        async with opened(f"rediss://127.0.0.1:{port}") as storage:
            assert "CERTIFICATE" in await fails_soon(storage.retrieve_session("c"))
        async with opened(f"rediss://localhost:{port}?ssl_ca_certs={ca_file}") as storage:
            assert "CERTIFICATE" in await fails_soon(storage.retrieve_session("c"))
        async with opened(f"rediss://localhost:{port}?ssl_cert_reqs=none") as storage:
            assert await storage.retrieve_session("c") == {"n": 1}


@running
async def test_tls_reaches_the_nodes_of_a_cluster(tmp_path: Path) -> None:
    with valkey.cluster(tmp_path, 1) as (node,):
        async with tls_front(node.port, tmp_path) as (port, ca_file):
            with node.client() as client:
                client.config_set("cluster-announce-port", port)
            url = f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={ca_file}"
            async with opened(url) as storage:
                assert await storage.store_session("c", {"n": 1})
                assert await storage.retrieve_session("c") == {"n": 1}


@running
async def test_tls_is_spoken_to_sentinels_too(tmp_path: Path) -> None:
    with valkey.sentinel(tmp_path) as (_, _, watcher):
        async with tls_front(watcher.port, tmp_path) as (port, ca_file):
            url = f"rediss+sentinel://127.0.0.1:{port}/calls?ssl_ca_certs={ca_file}"
            async with opened(url) as storage:
                # It learns of the primary, and fails there: that one speaks no TLS.
                assert "No master" not in await fails_soon(storage.retrieve_session("c"))


@running
async def test_tls_leads_by_way_of_a_sentinel_to_its_primary(
    server: valkey.Valkey, tmp_path: Path
) -> None:
    authority = trustme.CA()
    async with contextlib.AsyncExitStack() as stack:
        # The wheel's Sentinel speaks no TLS to the port that it names; we do.
        primary = tls_front(server.port, tmp_path, authority=authority, also_plain=True)
        primary_port, _ = await stack.enter_async_context(primary)
        watcher = stack.enter_context(valkey.sentinel_of(tmp_path, primary_port))
        front = tls_front(watcher.port, tmp_path, authority=authority)
        port, ca_file = await stack.enter_async_context(front)
        url = f"rediss+sentinel://127.0.0.1:{port}/calls"
        async with opened(f"{url}?ssl_ca_certs={ca_file}") as storage:
            await works_again(lambda: storage.store_session("c", {"n": 1}))
            assert await storage.retrieve_session("c") == {"n": 1}
        async with opened(url) as storage:  # whose certificate nobody vouches for
            words = await fails_soon(storage.retrieve_session("c"))
            assert words == "MasterNotFoundError: No master found for 'calls'"
