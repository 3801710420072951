"""Sessions as files: one machine, no Redis. Several processes may share the directory.

A session is one JSON file. It is written beside its place and moved there, so a reader sees the old
one or the new one whole. What reads and then writes does so under a lock of the operating system.
Nothing is synced to the disk: a killed process loses nothing, a machine without power may lose what
the kernel had not written yet (some 30 s). A file that cannot be read is renamed to `NAME.corrupt`
and left for people to look at, as long as sessions are kept.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import threading
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from opusagent.clock import Clock, SystemClock
from opusagent.errors import SessionUnreadable, StorageUnavailable
from opusagent.observability import named_logger
from opusagent.session_storage import Hold, SessionStorage
from opusagent.session_storage.codec import Codec
from opusagent.session_storage.envelope import Envelope

__all__ = ["FileSessionStorage"]

_log = named_logger("file_session_storage")

LOCK_WITHIN_S: Final = 1.0
"""How long to wait for another process that holds the lock."""
_LOCK_TRY_S: Final = 0.005
_LOCKS: Final = 64
_SLACK: Final = 20
"""Sessions are counted after each `max_sessions / _SLACK` new ones."""
_LONGEST_NAME: Final = 200
_SUFFIX: Final = ".json"
_ASIDE: Final = ".corrupt"
_NEW: Final = ".new"


@dataclass(frozen=True, slots=True)
class _Record:
    """The content of one file."""

    conversation_id: str
    kept_at: datetime
    envelope: Envelope
    document: dict[str, Any] | bytes

    def to_bytes(self) -> bytes:
        """The times come first and always take the same room, so that a sign of life replaces only them."""
        head = {
            "conversation_id": self.conversation_id,
            "owner": self.envelope.owner,
            "owner_epoch": self.envelope.owner_epoch,
            "saved": self.envelope.saved,
            "is_over": self.envelope.is_over,
        }
        if isinstance(self.document, bytes):
            head["sealed"] = base64.b64encode(self.document).decode()
        else:
            head["document"] = self.document
        times = _times(self.kept_at, self.envelope.active_at)
        return times + json.dumps(head).encode().removeprefix(b"{")

    @classmethod
    def from_bytes(cls, raw: bytes) -> _Record:
        """Read what `to_bytes` wrote; ValueError or its like if it is something else."""
        data = json.loads(raw)
        sealed = data.get("sealed")
        return cls(
            conversation_id=str(data["conversation_id"]),
            kept_at=datetime.fromisoformat(data["kept_at"]).astimezone(UTC),
            envelope=Envelope(
                owner=str(data["owner"]),
                owner_epoch=int(data["owner_epoch"]),
                saved=str(data["saved"]),
                active_at=datetime.fromisoformat(data["active_at"]).astimezone(UTC),
                is_over=bool(data["is_over"]),
            ),
            document=dict(data["document"]) if sealed is None else base64.b64decode(sealed),
        )


def _times(kept_at: datetime, active_at: datetime) -> bytes:
    kept, active = (
        moment.astimezone(UTC).isoformat(timespec="microseconds") for moment in (kept_at, active_at)
    )
    return f'{{"kept_at": "{kept}", "active_at": "{active}", '.encode()


class FileSessionStorage(SessionStorage):
    """Sessions in a directory.

    When there are more than `max_sessions`, those that have been quiet longest are removed, ended ones
    first. They are counted now and then, so for a while there may be a twentieth more per process.

    Args:
        storage_dir: Made if it is not there; readable by its owner only. By default `opusagent-sessions`
            in the system's temporary directory.
        default_ttl: How long a session is kept after its owner's last sign of life, in seconds.
        cleanup_interval: Seconds between removals of what has run out; done while storing.
        max_sessions: How many are kept at most; 0 for no bound.
        codec: Compresses and seals.
        clock: Tells the time.
    """

    def __init__(
        self,
        storage_dir: Path | str | None = None,
        *,
        default_ttl: int = 3600,
        cleanup_interval: int = 300,
        max_sessions: int = 0,
        codec: Codec | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._dir = Path(storage_dir or Path(tempfile.gettempdir()) / "opusagent-sessions")
        self._ttl = timedelta(seconds=default_ttl)
        self._cleanup_interval = timedelta(seconds=cleanup_interval)
        self._codec = codec or Codec()
        self._clock = clock or SystemClock()
        self._next_cleanup = self._clock.utcnow() + self._cleanup_interval
        self._corrupt = 0
        self._evicted = 0
        self._max_sessions = max_sessions
        self._uncounted = max_sessions  # count at the first new session

    async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
        """Write a session, unless a newer owner holds it."""
        raw = self._codec.encode(conversation_id, session_data)
        document = session_data if raw.startswith(b"{") else raw
        now = self._clock.utcnow()
        if now >= self._next_cleanup:
            self._next_cleanup = now + self._cleanup_interval
            await asyncio.to_thread(self._remove_quiet, now - self._ttl, by_content=False)
            await asyncio.to_thread(self._forget_set_aside, now - self._ttl)
        envelope = Envelope.of(session_data, now)
        record = _Record(conversation_id, now, envelope, document)
        return await asyncio.to_thread(self._store, record)

    async def retrieve_session(self, conversation_id: str) -> dict[str, Any] | None:
        """The document, under its present owner."""
        return await self._open(await asyncio.to_thread(self._read, conversation_id))

    async def delete_session(self, conversation_id: str) -> bool:
        """Remove a session, and what was set aside of it."""
        return await asyncio.to_thread(self._delete, conversation_id)

    async def list_active_sessions(self) -> list[str]:
        """All ids whose time has not run out."""
        return await asyncio.to_thread(self._list)

    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        """Remove what has been quiet for longer."""
        limit = self._clock.utcnow() - timedelta(seconds=max_age_seconds)
        await asyncio.to_thread(self._forget_set_aside, limit)
        return await asyncio.to_thread(self._remove_quiet, limit, by_content=True)

    async def claim_session(self, conversation_id: str, owner: str) -> dict[str, Any] | None:
        """Make `owner` the owner. The previous one learns it at its next sign of life."""
        return await self._open(await asyncio.to_thread(self._claim, conversation_id, owner))

    async def touch_session(
        self, conversation_id: str, owner_epoch: int, last_activity: str
    ) -> Hold:
        """Keep a session alive for its owner: only the times in its file are written."""
        return await asyncio.to_thread(self._touch, conversation_id, owner_epoch, last_activity)

    def get_stats(self) -> dict[str, JsonValue]:
        """Where the files are, how many could not be read, how many had to make way."""
        return {
            "storage_type": "file",
            "directory": str(self._dir),
            "corrupt": self._corrupt,
            "evicted": self._evicted,
        }

    async def _open(self, record: _Record | None) -> dict[str, Any] | None:
        if record is None:
            return None
        document = record.document
        if isinstance(document, bytes):
            try:
                document = self._codec.decode(record.conversation_id, document)
            except SessionUnreadable as error:
                error.owner_epoch = record.envelope.owner_epoch
                if error.damaged:
                    await asyncio.to_thread(self._put_away, record.conversation_id)
                raise
        return record.envelope.around(document)

    # In a thread

    def _store(self, record: _Record) -> bool:
        with self._locked(self._path(record.conversation_id)) as path:
            there = self._load(path)
            if there is not None and there.envelope.owner_epoch > record.envelope.owner_epoch:
                return False
            self._replace(path, record)
        if there is None and self._max_sessions:
            self._uncounted += 1
            if self._uncounted > self._max_sessions // _SLACK:
                self._uncounted = 0
                with contextlib.suppress(StorageUnavailable):  # this session is stored
                    self._make_room()
        return True

    def _make_room(self) -> None:
        """Remove what is too much, and a twentieth more, so that the next time is far off."""
        if len(paths := self._paths()) <= self._max_sessions:
            return
        ages = []
        for path in paths:
            with self._locked(path), contextlib.suppress(SessionUnreadable):
                if (record := self._load(path)) is not None:
                    ages.append((not record.envelope.is_over, record.envelope.active_at, path))
        surplus = len(ages) - self._max_sessions + self._max_sessions // _SLACK
        for _, _, path in sorted(ages)[: max(surplus, 0)]:
            with self._locked(path):
                path.unlink(missing_ok=True)
            self._evicted += 1
        _log.warning("sessions evicted", max_sessions=self._max_sessions, evicted=surplus)

    def _claim(self, conversation_id: str, owner: str) -> _Record | None:
        with self._locked(self._path(conversation_id)) as path:
            if (there := self._living(path)) is None:
                return None
            claimed = there.envelope.claimed_by(owner)
            record = _Record(conversation_id, self._clock.utcnow(), claimed, there.document)
            self._replace(path, record)
            return record

    def _touch(self, conversation_id: str, owner_epoch: int, last_activity: str) -> Hold:
        with self._locked(self._path(conversation_id)) as path:
            if (there := self._living(path)) is None:
                return Hold.STALE
            hold = there.envelope.judge(owner_epoch, last_activity)
            if hold is Hold.KEPT:
                now = self._clock.utcnow()
                with path.open("r+b") as file:
                    file.write(_times(now, there.envelope.touched(now).active_at))
            return hold

    def _read(self, conversation_id: str) -> _Record | None:
        with self._locked(self._path(conversation_id)) as path:
            return self._living(path)

    def _delete(self, conversation_id: str) -> bool:
        with self._locked(self._path(conversation_id)) as path:
            found = False
            with contextlib.suppress(SessionUnreadable):  # it has been set aside then
                found = self._living(path) is not None
            found |= _beside(path, _ASIDE).exists()
            for file in (path, _beside(path, _ASIDE), _beside(path, _NEW)):
                file.unlink(missing_ok=True)
            return found

    def _list(self) -> list[str]:
        found = []
        for path in self._paths():
            with self._locked(path), contextlib.suppress(SessionUnreadable):
                if (record := self._living(path)) is not None:
                    found.append(record.conversation_id)
        return sorted(found)

    def _remove_quiet(self, limit: datetime, *, by_content: bool) -> int:
        removed = 0
        for path in self._paths():
            with self._locked(path), contextlib.suppress(SessionUnreadable):
                if (record := self._load(path)) is None:
                    continue
                if (record.envelope.active_at if by_content else record.kept_at) < limit:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _forget_set_aside(self, limit: datetime) -> None:
        """Remove what nobody looked at, and what a killed process began to write: it is personal data, too."""
        with _mapped():
            for mark in (_ASIDE, _NEW):
                for path in self._dir.glob(f"*{_SUFFIX}{mark}"):
                    with contextlib.suppress(FileNotFoundError):
                        if path.stat().st_mtime < limit.timestamp():
                            path.unlink()

    def _living(self, path: Path) -> _Record | None:
        record = self._load(path)
        if record is None or record.kept_at + self._ttl <= self._clock.utcnow():
            return None
        return record

    def _load(self, path: Path) -> _Record | None:
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _Record.from_bytes(raw)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._set_aside(path, type(error).__name__)
            raise SessionUnreadable(f"{path.name}: {type(error).__name__}", damaged=True) from None

    def _put_away(self, conversation_id: str) -> None:
        """Set aside what can be read as a file, but holds no session."""
        with self._locked(self._path(conversation_id)) as path:
            if path.exists():
                self._set_aside(path, "it holds no session")

    def _set_aside(self, path: Path, why: str) -> None:
        self._corrupt += 1
        aside = _beside(path, _ASIDE)
        path.replace(aside)
        at = self._clock.utcnow().timestamp()
        os.utime(aside, (at, at))
        _log.error("session file set aside", file=path.name, why=why)

    def _replace(self, path: Path, record: _Record) -> None:
        new = _beside(path, _NEW)  # nobody else uses it: we hold the lock
        with open(new, "wb", opener=_private) as file:
            file.write(record.to_bytes())
        new.replace(path)

    def _paths(self) -> list[Path]:
        with _mapped():
            return list(self._dir.glob(f"*{_SUFFIX}"))

    def _path(self, conversation_id: str) -> Path:
        """The file of a session, whatever its id: no separators, no leading dot, not too long."""
        name = urllib.parse.quote(conversation_id, safe="", errors="surrogatepass")
        name = name.replace(".", "%2E")
        if len(name) > _LONGEST_NAME:
            digest = hashlib.sha256(conversation_id.encode(errors="surrogatepass")).hexdigest()
            name = f"{name[:100]}~{digest}"
        return self._dir / f"{name}{_SUFFIX}"

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[Path]:
        """Exclude everybody else from this session's file, in this process and in others."""
        with _mapped():
            locks = self._dir / ".locks"
            for directory in (self._dir, locks):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _private(
                locks / str(zlib.crc32(path.name.encode()) % _LOCKS), os.O_CREAT | os.O_RDWR
            )
            try:
                _wait_for(lock)
                yield path
            finally:
                os.close(lock)  # the lock goes with it


def _beside(path: Path, mark: str) -> Path:
    return path.with_name(path.name + mark)


def _private(path: str | Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _wait_for(lock: int) -> None:
    never = threading.Event()
    for _ in range(round(LOCK_WITHIN_S / _LOCK_TRY_S)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            never.wait(_LOCK_TRY_S)
        else:
            return
    raise StorageUnavailable("another process holds the lock")


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"{type(error).__name__}: {error.strerror}") from error
