from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from opusagent.clock import FakeClock
from opusagent.errors import SessionUnreadable, StorageUnavailable
from opusagent.session_storage import Hold
from opusagent.session_storage.codec import Codec
from opusagent.session_storage.file_storage import FileSessionStorage

CLAIMER = """
import asyncio, sys
from opusagent.session_storage.file_storage import FileSessionStorage
async def main():
    storage = FileSessionStorage(sys.argv[1])
    print("ready", flush=True); sys.stdin.readline()
    for _ in range(40):
        claimed = await storage.claim_session("c", "me")
        print(claimed["owner_epoch"], flush=True)
asyncio.run(main())
"""
WRITER = """
import asyncio, sys
from opusagent.session_storage.file_storage import FileSessionStorage
async def main():
    storage = FileSessionStorage(sys.argv[1])
    n = 0
    while True:
        n += 1
        await storage.store_session("c", {"n": n, "filler": "x" * 200_000})
        print(n, flush=True)
asyncio.run(main())
"""


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_a_session_is_one_readable_json_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    storage = FileSessionStorage(folder)
    asyncio.run(storage.store_session("call-1", {"text": "hi", "owner_epoch": 3}))
    assert files(folder) == ["call-1.json"]
    content = json.loads((folder / "call-1.json").read_text())
    assert content["document"] == {"text": "hi", "owner_epoch": 3}
    assert content["conversation_id"] == "call-1"
    assert content["owner_epoch"] == 3
    assert (folder / "call-1.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_a_directory_it_is_one_in_the_temporary_directory() -> None:
    assert FileSessionStorage().get_stats()["directory"] == str(
        Path(tempfile.gettempdir()) / "opusagent-sessions"
    )


def test_a_sealed_session_shows_nothing_in_its_file(tmp_path: Path) -> None:
    storage = FileSessionStorage(tmp_path, codec=Codec(keys=[bytes(32)]))
    asyncio.run(storage.store_session("c", {"text": "secret"}))
    assert "secret" not in (tmp_path / "c.json").read_text()


def test_a_file_that_cannot_be_read_is_set_aside_and_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        storage = FileSessionStorage(tmp_path)
        await storage.store_session("good", {})
        await storage.store_session("bad", {"a": 1})
        (tmp_path / "bad.json").write_text('{"kept_at": "20')
        with pytest.raises(SessionUnreadable) as caught:
            await storage.retrieve_session("bad")
        assert caught.value.damaged
        assert (tmp_path / "bad.json.corrupt").read_text() == '{"kept_at": "20'
        assert storage.get_stats()["corrupt"] == 1
        assert await storage.retrieve_session("bad") is None
        assert await storage.list_active_sessions() == ["good"]
        assert await storage.store_session("bad", {"a": 2})
        assert await storage.retrieve_session("bad") == {"a": 2}

    asyncio.run(scenario())


def test_a_sealed_session_that_was_damaged_is_set_aside_like_any_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        storage = FileSessionStorage(tmp_path, codec=Codec(keys=[bytes(32)]))
        await storage.store_session("c", {"owner_epoch": 4})
        content = json.loads((tmp_path / "c.json").read_text())
        content["sealed"] = content["sealed"][:-8] + "AAAAAAA="
        (tmp_path / "c.json").write_text(json.dumps(content))
        with pytest.raises(SessionUnreadable) as caught:
            await storage.retrieve_session("c")
        assert (caught.value.damaged, caught.value.owner_epoch) == (True, 4)
        assert files(tmp_path) == ["c.json.corrupt"]
        assert storage.get_stats()["corrupt"] == 1
        await storage.store_session("d", {})
        other = FileSessionStorage(tmp_path, codec=Codec(keys=[b"x" * 32]))
        with pytest.raises(SessionUnreadable, match="SESSION_ENCRYPTION_KEYS"):
            await other.retrieve_session("d")
        assert files(tmp_path) == ["c.json.corrupt", "d.json"]  # it is sound, for who has the key

    asyncio.run(scenario())


def test_sessions_beyond_the_bound_make_way_ended_ones_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        storage = FileSessionStorage(tmp_path, max_sessions=20)
        for number in range(20):
            status = "ended" if number in (7, 8) else "active"
            at = f"2026-01-01T00:00:{number:02}Z"
            await storage.store_session(f"c{number:02}", {"last_activity": at, "status": status})
        assert len(await storage.list_active_sessions()) == 20
        for number in range(20, 22):
            at = f"2026-01-01T00:00:{number:02}Z"
            await storage.store_session(f"c{number:02}", {"last_activity": at})
        names = await storage.list_active_sessions()
        assert len(names) <= 20
        assert not {"c07", "c08"} & set(names)
        assert "c21" in names
        assert storage.get_stats()["evicted"] == 22 - len(names)

    asyncio.run(scenario())


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 100_000])
def test_junk_stops_neither_listing_nor_cleaning(tmp_path: Path, junk: bytes) -> None:
    async def scenario() -> None:
        storage = FileSessionStorage(tmp_path)
        await storage.store_session("good", {})
        (tmp_path / "bad.json").write_bytes(junk)
        assert await storage.list_active_sessions() == ["good"]
        (tmp_path / "worse.json").write_bytes(junk)
        assert await storage.cleanup_expired_sessions(3600) == 0
        assert storage.get_stats()["corrupt"] == 2
        assert files(tmp_path) == ["bad.json.corrupt", "good.json", "worse.json.corrupt"]

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", ".hidden", "..", "a\0b", "é" * 300])
def test_no_id_leaves_the_directory(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sessions"
    storage = FileSessionStorage(folder)
    asyncio.run(storage.store_session(name, {"a": 1}))
    assert len(list(folder.glob("*.json"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sessions"]


def test_a_sign_of_life_writes_only_the_times(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = FileSessionStorage(tmp_path, clock=clock)
        at = clock.utcnow().isoformat()
        await storage.store_session("c", {"last_activity": at})
        before = (tmp_path / "c.json").read_bytes()
        inode = (tmp_path / "c.json").stat().st_ino
        clock.advance(61.5)
        assert await storage.touch_session("c", 0, at) is Hold.KEPT
        after = (tmp_path / "c.json").read_bytes()
        assert (tmp_path / "c.json").stat().st_ino == inode
        assert len(after) == len(before)
        times = ("kept_at", "active_at")
        old, new = json.loads(before), json.loads(after)
        assert all(new[name] > old[name] for name in times)
        assert all(new[name] == old[name] for name in old if name not in times)

    asyncio.run(scenario())


def test_a_session_lives_for_its_time_by_what_its_file_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = FileSessionStorage(tmp_path, default_ttl=100, clock=clock)
        at = clock.utcnow().isoformat()
        await storage.store_session("c", {"last_activity": at})
        renewals: list[Callable[[], Awaitable[Any]]] = [
            lambda: storage.store_session("c", {"last_activity": at}),
            lambda: storage.touch_session("c", 0, at),
            lambda: storage.claim_session("c", "me"),
        ]
        for renew in renewals:
            clock.advance(99)
            os.utime(tmp_path / "c.json", (0, 0))
            assert await storage.retrieve_session("c") is not None
            await renew()
        clock.advance(100)
        assert await storage.retrieve_session("c") is None
        assert await storage.list_active_sessions() == []
        assert await storage.claim_session("c", "me") is None
        assert await storage.touch_session("c", 1, at) is Hold.STALE
        assert not await storage.delete_session("c")

    asyncio.run(scenario())


def test_what_has_run_out_is_removed_while_storing(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = FileSessionStorage(tmp_path, default_ttl=100, cleanup_interval=300, clock=clock)
        await storage.store_session("old", {})
        clock.advance(299)
        await storage.store_session("new", {})
        assert files(tmp_path) == ["new.json", "old.json"]
        clock.advance(1)
        await storage.store_session("newer", {})
        assert files(tmp_path) == ["new.json", "newer.json"]

    asyncio.run(scenario())


def test_what_was_set_aside_is_kept_as_long_as_a_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = FileSessionStorage(tmp_path, default_ttl=100, cleanup_interval=300, clock=clock)
        await storage.store_session("bad", {})
        (tmp_path / "bad.json").write_text("junk")
        clock.advance(290)
        with pytest.raises(SessionUnreadable):
            await storage.retrieve_session("bad")
        clock.advance(10)
        await storage.store_session("new", {})
        assert files(tmp_path) == ["bad.json.corrupt", "new.json"]
        clock.advance(300)
        await storage.store_session("newer", {})
        assert files(tmp_path) == ["newer.json"]

    asyncio.run(scenario())


def test_a_lock_that_another_process_does_not_give_back_is_trouble_within_a_second(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        storage = FileSessionStorage(tmp_path)
        await storage.store_session("c", {})
        held = [os.open(path, os.O_RDWR) for path in (tmp_path / ".locks").iterdir()]
        for lock in held:
            fcntl.flock(lock, fcntl.LOCK_EX)
        async with asyncio.timeout(5):
            with pytest.raises(StorageUnavailable, match="lock"):
                await storage.claim_session("c", "me")
        for lock in held:
            os.close(lock)
        assert await storage.claim_session("c", "me") is not None

    asyncio.run(scenario())


def test_a_directory_that_cannot_be_written_is_trouble_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = FileSessionStorage(tmp_path / "file" / "below")
    with pytest.raises(StorageUnavailable, match="NotADirectoryError"):
        asyncio.run(storage.store_session("c", {}))


def test_a_reader_without_the_lock_never_sees_half_a_file(tmp_path: Path) -> None:
    storage = FileSessionStorage(tmp_path)
    asyncio.run(storage.store_session("c", {}))
    filler = "x" * 3_000_000

    def write() -> None:
        for _ in range(20):
            asyncio.run(storage.store_session("c", {"filler": filler}))

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while writer.is_alive():
        assert json.loads((tmp_path / "c.json").read_bytes())["conversation_id"] == "c"
        seen += 1
    writer.join()
    assert seen


@pytest.mark.integration
def test_claims_of_several_processes_never_share_an_epoch(tmp_path: Path) -> None:
    asyncio.run(FileSessionStorage(tmp_path).store_session("c", {}))
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for claimer in claimers:
        assert claimer.stdout is not None
        assert claimer.stdout.readline() == "ready\n"
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    epochs = [
        int(word) for claimer in claimers for word in claimer.communicate(timeout=30)[0].split()
    ]
    assert sorted(epochs) == list(range(1, 121))


@pytest.mark.integration
def test_a_process_that_is_killed_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        written = [int(writer.stdout.readline()) for _ in range(3)]
        writer.kill()
        written += [int(word) for word in writer.communicate(timeout=30)[0].split()]
        storage = FileSessionStorage(tmp_path)
        found = asyncio.run(storage.retrieve_session("c"))
        assert found is not None
        assert found["n"] >= written[-1]
        assert storage.get_stats()["corrupt"] == 0


def test_what_was_set_aside_is_removed_with_its_session_and_in_a_clean_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        storage = FileSessionStorage(tmp_path, clock=clock)
        (tmp_path / "one.json").write_text("junk")
        assert await storage.delete_session("one")
        assert files(tmp_path) == []
        for name in ("two", "three"):
            (tmp_path / f"{name}.json").write_text("junk")
            with pytest.raises(SessionUnreadable):
                await storage.retrieve_session(name)
        assert await storage.delete_session("two")
        assert not await storage.delete_session("two")
        assert files(tmp_path) == ["three.json.corrupt"]
        clock.advance(60)
        await storage.cleanup_expired_sessions(61)
        assert files(tmp_path) == ["three.json.corrupt"]
        await storage.cleanup_expired_sessions(59)
        assert files(tmp_path) == []

    asyncio.run(scenario())


def test_what_a_killed_process_has_half_written_goes_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        storage = FileSessionStorage(tmp_path)
        await storage.store_session("c", {})
        await storage.store_session("d", {})
        for name in ("c", "d"):
            (tmp_path / f"{name}.json.new").write_text('{"kept_at": "20')
            os.utime(tmp_path / f"{name}.json.new", (0, 0))
        assert await storage.delete_session("d")
        assert files(tmp_path) == ["c.json", "c.json.new"]
        assert await storage.list_active_sessions() == ["c"]
        await storage.cleanup_expired_sessions(60)
        assert files(tmp_path) == ["c.json"]

    asyncio.run(scenario())
