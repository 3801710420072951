"""Sessions in Redis or Valkey, where any process can take them up.

A session is one hash under one key, so that a cluster can hold it and one script can change it:

    doc    the document, as `Codec` writes it
    epoch  how often it was claimed      owner  who may write
    saved  the document's last_activity  at     Unix time of the last sign of life     over  1 if ended

A claim is published on `handover:ID`, with the new epoch as the message.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import JsonValue
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from opusagent.clock import Clock, SystemClock
from opusagent.errors import SessionUnreadable, StorageUnavailable
from opusagent.observability import named_logger
from opusagent.session_storage import Hold, SessionStorage
from opusagent.session_storage.codec import Codec
from opusagent.session_storage.envelope import Envelope, Watchers
from opusagent.session_storage.redis_client import UNDER_REPAIR, ConnectOptions, connect
from opusagent.session_storage.redis_url import RedisTarget, parse_redis_url

__all__ = ["RedisSessionStorage"]

_log = named_logger("redis_session_storage")

_TROUBLE: Final = (RedisError, RedisClusterException, OSError, *UNDER_REPAIR)
"""`TimeoutError` is an `OSError`."""
_ASIDE: Final = b"corrupt:"
PING_EVERY_S: Final = 1.0
"""A quiet subscription is asked for a sign of life this often."""
_SILENT_PINGS: Final = 3
_BULK_S: Final = 60.0
"""Bound for what reads every session: listing, cleaning up, making room."""
_SLACK: Final = 20
"""Sessions are counted after each `max_sessions / _SLACK` new ones."""

_STORE: Final = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
if epoch > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'doc', ARGV[1], 'epoch', ARGV[2], 'owner', ARGV[3],
           'saved', ARGV[4], 'at', ARGV[5], 'over', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
if kind == 'hash' then return 1 end
return 2
"""
_CLAIM: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], epoch)
return redis.call('HMGET', KEYS[1], 'doc', 'epoch', 'owner', 'saved', 'at', 'over')
"""
_TOUCH: Final = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return 'stale' end
if tonumber(epoch) > tonumber(ARGV[1]) then return 'fenced' end
if redis.call('HGET', KEYS[1], 'saved') ~= ARGV[2] then return 'stale' end
redis.call('HSET', KEYS[1], 'at', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 'kept'
"""
_REFUSALS: Final = {
    "read only replica": "it is a replica, which cannot be written",
    "when used memory >": "its memory is full (maxmemory)",
    "no permissions to": "its ACL forbids this user what is needed",
    "DB index is out of range": "it has no database of this number",
    "unknown command": "it lacks a command that is needed, as a Sentinel does",
    "HELLO must be called": "it asks for a password (REDIS_PASSWORD)",
}
"""What servers say, by a part of it, and what it means. Source: Valkey 9.1, measured."""
_FIELDS: Final = ("doc", "epoch", "owner", "saved", "at", "over")


class RedisSessionStorage(SessionStorage):
    """Sessions in Redis or Valkey.

    Every operation on one session is bounded by `timeout_s`; on trouble it raises `StorageUnavailable`.
    When there are more than `max_sessions`, those that have been quiet longest are removed, ended ones
    first. They are counted now and then, so for a while there may be a twentieth more per process.

    Args:
        redis_url: See `redis_url.py`; or a target that was parsed already.
        session_prefix: Of every key.
        default_ttl: How long a session is kept after its owner's last sign of life, in seconds.
        max_connections: At the same time, to one server; what is beyond waits.
        retry_on_timeout: Whether a command is tried again after a timeout, within `timeout_s`.
        socket_keepalive: Whether TCP looks after idle connections.
        max_sessions: How many are kept at most; 0 for no bound of ours.
        timeout_s: For one operation on one session.
        codec: Compresses and seals.
        clock: Tells the time.

    Raises:
        ConfigError: If the URL is none.
    """

    def __init__(
        self,
        redis_url: str | RedisTarget = "redis://localhost:6379",
        session_prefix: str = "opusagent:session:",
        default_ttl: int = 3600,
        max_connections: int = 10,
        *,
        retry_on_timeout: bool = True,
        socket_keepalive: bool = True,
        max_sessions: int = 0,
        timeout_s: float = 1.0,
        codec: Codec | None = None,
        clock: Clock | None = None,
    ) -> None:
        target = parse_redis_url(redis_url) if isinstance(redis_url, str) else redis_url
        self._target = target
        self._prefix = session_prefix
        self._ttl_ms = default_ttl * 1000
        self._max_sessions = max_sessions
        self._timeout_s = timeout_s
        self._codec = codec or Codec()
        self._clock = clock or SystemClock()
        self._slots = asyncio.Semaphore(max_connections)
        self._client = connect(
            target,
            ConnectOptions(
                # One more for the subscription, and one for a connection that is being replaced.
                max_connections=max_connections + 2,
                # Half, so that a connection that hangs leaves time for another one.
                timeout_s=timeout_s / 2,
                retry_on_timeout=retry_on_timeout,
                socket_keepalive=socket_keepalive,
            ),
        )
        self._watchers = Watchers()
        self._uncounted = max_sessions  # count at the first new session
        self._corrupt = 0
        self._evicted = 0

    async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
        """Write a session, unless a newer owner holds it."""
        envelope = Envelope.of(session_data, self._clock.utcnow())
        document = self._codec.encode(conversation_id, session_data)
        async with self._within(self._timeout_s):
            answer = await self._client.run(
                _STORE,
                self._key(conversation_id),
                document,
                envelope.owner_epoch,
                envelope.owner.encode(errors="surrogatepass"),
                envelope.saved.encode(errors="surrogatepass"),
                envelope.active_at.timestamp(),
                int(envelope.is_over),
                self._ttl_ms,
            )
        size, is_written = len(document), bool(answer)
        _log.debug("session written", conversation_id=conversation_id, size=size, ok=is_written)
        if answer == 2 and self._max_sessions:
            self._uncounted += 1
            if self._uncounted > self._max_sessions // _SLACK:
                self._uncounted = 0
                with contextlib.suppress(StorageUnavailable):  # this session is stored
                    await self._make_room()
        return is_written

    async def retrieve_session(self, conversation_id: str) -> dict[str, Any] | None:
        """The document, under its present owner."""
        async with self._within(self._timeout_s):
            answer = await self._client.read(self._key(conversation_id), *_FIELDS)
        if not any(answer):
            return None
        return await self._read(conversation_id, answer)

    async def delete_session(self, conversation_id: str) -> bool:
        """Remove a session, and what was set aside of it."""
        key = self._key(conversation_id)
        async with self._within(self._timeout_s):
            was_there = await self._client.remove(key)
            return await self._client.remove(_ASIDE + key) or was_there

    async def list_active_sessions(self) -> list[str]:
        """The ids of all sessions, by SCAN on every primary server."""
        async with self._within(_BULK_S):
            keys = {key async for key in self._client.keys(self._prefix)}
        cut = len(self._key(""))
        return sorted(key[cut:].decode(errors="replace") for key in keys)

    async def cleanup_expired_sessions(self, max_age_seconds: int = 3600) -> int:
        """Remove what has been quiet for longer. Without it each still goes with its time to live."""
        limit = (self._clock.utcnow() - timedelta(seconds=max_age_seconds)).timestamp()
        removed = 0
        async with self._within(_BULK_S):
            for key, at, _ in await self._ages():
                if at < limit:
                    removed += await self._client.remove(key)
        return removed

    async def claim_session(self, conversation_id: str, owner: str) -> dict[str, Any] | None:
        """Make `owner` the owner, and publish it."""
        channel = b"handover:" + conversation_id.encode(errors="surrogatepass")
        async with self._within(self._timeout_s):
            answer = await self._client.run(
                _CLAIM, self._key(conversation_id), owner, self._ttl_ms, channel
            )
        return None if answer is None else await self._read(conversation_id, answer)

    async def touch_session(
        self, conversation_id: str, owner_epoch: int, last_activity: str
    ) -> Hold:
        """Keep a session alive for its owner."""
        now = self._clock.utcnow().timestamp()
        key = self._key(conversation_id)
        async with self._within(self._timeout_s):
            answer = await self._client.run(
                _TOUCH, key, owner_epoch, last_activity, now, self._ttl_ms
            )
        return Hold(answer.decode())

    def watch_session(
        self, conversation_id: str, claimed: Callable[[int], None]
    ) -> Callable[[], None]:
        """Call `claimed` at each claim that is published while `listen` runs."""
        return self._watchers.add(conversation_id, claimed)

    async def listen(self) -> None:
        """Receive every hand-over on one connection, for all calls; connects again by itself."""
        never = asyncio.Event()
        is_down = False
        while True:
            try:
                async with await self._client.pubsub() as subscriber:
                    await subscriber.psubscribe("handover:*")
                    if is_down:
                        _log.info("hand-overs are heard again")
                    is_down = False
                    await self._receive(subscriber)
            except _TROUBLE as error:
                if not is_down:
                    _log.warning("hand-overs are not heard", problem=_words(error))
                is_down = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY_S):
                    await never.wait()

    def get_stats(self) -> dict[str, JsonValue]:
        """Where the sessions are, how many could not be read, how many had to make way."""
        return {
            "storage_type": "redis",
            "url": str(self._target),
            "corrupt": self._corrupt,
            "evicted": self._evicted,
        }

    async def close(self) -> None:
        """Close every connection."""
        with contextlib.suppress(*_TROUBLE):
            await self._client.close()

    # Inside

    def _key(self, conversation_id: str) -> bytes:
        return f"{self._prefix}{conversation_id}".encode(errors="surrogatepass")

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float) -> AsyncIterator[None]:
        """Wait for a free connection and the answer, and for no longer."""
        try:
            async with asyncio.timeout(seconds), self._slots:
                yield
        except _TROUBLE as error:
            if isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE"):
                raise SessionUnreadable("the key holds no session", damaged=True) from None
            raise StorageUnavailable(_words(error)) from error

    async def _read(self, conversation_id: str, fields: list[bytes | None]) -> dict[str, Any]:
        doc, epoch, owner, saved, at, over = (field or b"" for field in fields)
        try:
            envelope = Envelope(
                owner=owner.decode(errors="surrogatepass"),
                owner_epoch=int(epoch),
                saved=saved.decode(errors="surrogatepass"),
                active_at=datetime.fromtimestamp(float(at), UTC),
                is_over=over == b"1",
            )
        except (ValueError, OverflowError) as error:
            await self._set_aside(conversation_id, doc)
            raise SessionUnreadable(type(error).__name__, damaged=True) from None
        try:
            return envelope.around(self._codec.decode(conversation_id, doc))
        except SessionUnreadable as error:
            error.owner_epoch = envelope.owner_epoch
            if error.damaged:
                await self._set_aside(conversation_id, doc)
            raise

    async def _set_aside(self, conversation_id: str, doc: bytes) -> None:
        """Copy a damaged document to where nobody overwrites it, for people to look at."""
        self._corrupt += 1
        key = _ASIDE + self._key(conversation_id)
        _log.error("session record damaged", key=key.decode(errors="replace"))
        with contextlib.suppress(StorageUnavailable):
            async with self._within(self._timeout_s):
                await self._client.write(key, doc, ttl_ms=self._ttl_ms)

    async def _receive(self, subscriber: Any) -> None:
        silent = 0
        while silent < _SILENT_PINGS:
            message = await subscriber.get_message(timeout=PING_EVERY_S)
            if message is None:
                silent += 1
                await subscriber.ping()
                continue
            silent = 0
            if message["type"] == "pmessage":
                self._watchers.tell_message(message["channel"], message["data"])
        raise TimeoutError("no sign of life on the subscription")

    async def _ages(self) -> list[tuple[bytes, float, bool]]:
        """Key, Unix time of the last sign of life, and whether it has ended, of every session."""
        ages = []
        async for key in self._client.keys(self._prefix):
            at, over = await self._client.read(key, "at", "over")
            with contextlib.suppress(ValueError):
                ages.append((key, float(at or b""), over == b"1"))
        return ages

    async def _make_room(self) -> None:
        """Remove what is too much, and a twentieth more, so that the next time is far off."""
        async with self._within(_BULK_S):
            if await self._client.size() <= self._max_sessions:
                return
            ages = await self._ages()
            if len(ages) <= self._max_sessions:
                return
            ages.sort(key=lambda age: (not age[2], age[1]))
            surplus = len(ages) - self._max_sessions + self._max_sessions // _SLACK
            for key, _, _ in ages[:surplus]:
                self._evicted += await self._client.remove(key)
        _log.warning("sessions evicted", max_sessions=self._max_sessions, evicted=surplus)


def _words(error: Exception) -> str:
    """What went wrong. A server's refusal is told in our words or cut to its first: it may quote a document.

    Where Sentinels know no primary, redis-py quotes every setting of its connections.
    """
    text = str(error).partition(" : <")[0]
    for words, meant in _REFUSALS.items():
        if words in text:
            return f"{type(error).__name__}: {meant}"
    if isinstance(error, ResponseError):
        text = text.partition(" ")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
