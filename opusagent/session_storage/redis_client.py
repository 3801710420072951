"""redis-py's clients for one server, for Sentinel and for a cluster, behind one face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from opusagent.session_storage.redis_url import RedisMode, RedisTarget

__all__ = ["UNDER_REPAIR", "ConnectOptions", "RedisClient", "connect"]

_RETRIES: Final = 5
UNDER_REPAIR: Final = (TypeError, AttributeError, LookupError, RuntimeError)
"""What redis-py's cluster client lets through when one task looks for the nodes again and closes the
connections that others are using (seen with redis-py 8.1 and CPython 3.13.0)."""
_SCAN_COUNT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How connections are used.

    Attributes:
        max_connections: At the same time, to one server.
        timeout_s: For connecting, and for one answer.
        retry_on_timeout: Whether a command is sent again after a timeout, as after a lost connection.
        socket_keepalive: Whether TCP looks after idle connections.
    """

    max_connections: int
    timeout_s: float
    retry_on_timeout: bool
    socket_keepalive: bool


class RedisClient:
    """What the storage needs of a server, however many there are of it.

    Errors are redis-py's own, `OSError`, `TimeoutError` and those `UNDER_REPAIR`.
    """

    def __init__(
        self, client: Redis | RedisCluster, *closing: Callable[[], Awaitable[None]]
    ) -> None:
        self._client: Any = client
        self._closing = closing

    async def run(self, script: str, key: bytes, *args: bytes | str | float) -> Any:
        """Run a Lua script on one key, where the key lives. Sent whole: servers may forget scripts."""
        return await self._ask(lambda: self._client.eval(script, 1, key, *args))

    async def read(self, key: bytes, *fields: str) -> list[bytes | None]:
        """Fields of a hash; None where there is none."""
        answer = await self._ask(lambda: self._client.hmget(key, list(fields)))
        return cast("list[bytes | None]", answer)

    async def write(self, key: bytes, value: bytes, *, ttl_ms: int) -> None:
        """Write a plain string."""
        await self._ask(lambda: self._client.set(key, value, px=ttl_ms))

    async def remove(self, key: bytes) -> bool:
        """Remove a key; False if it was not there."""
        return bool(await self._ask(lambda: self._client.delete(key)))

    async def keys(self, prefix: str) -> AsyncIterator[bytes]:
        """Every key that begins so, on every primary server; SCAN may name one twice."""
        pattern = "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in prefix) + "*"
        scan = self._client.scan_iter(match=pattern, count=_SCAN_COUNT, _type="hash")
        async for key in scan:
            yield key

    async def size(self) -> int:
        """How many keys there are, ours or not, on all primary servers."""
        if isinstance(self._client, RedisCluster):
            nodes = self._client.get_primaries()
            return sum([await self._client.dbsize(target_nodes=node) for node in nodes])
        return int(await self._client.dbsize())

    async def pubsub(self) -> PubSub:
        """A subscriber with a connection of its own; in a cluster to any node, each hears everything."""
        if isinstance(self._client, RedisCluster):
            cluster = await self._client.initialize()
            return cluster.pubsub(node=cluster.get_random_node())
        return cast("PubSub", self._client.pubsub())

    async def _ask(self, question: Callable[[], Awaitable[Any]]) -> Any:
        for _ in range(_RETRIES):
            try:
                return await question()
            except UNDER_REPAIR:
                continue
        return await question()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        for close in self._closing:
            await close()


def connect(target: RedisTarget, options: ConnectOptions) -> RedisClient:
    """A client of the target. Nothing is sent before its first use."""
    # A primary that was made a replica keeps our connections: a new one finds who took its place.
    errors: tuple[type[RedisError], ...] = (RedisConnectionError, ReadOnlyError)
    if options.retry_on_timeout:
        errors += (RedisTimeoutError,)
    retry = Retry(
        ExponentialWithJitterBackoff(base=0.02, cap=0.2), _RETRIES, supported_errors=errors
    )
    common: dict[str, Any] = {
        "username": target.username or None,
        "password": target.password or None,
        "socket_timeout": options.timeout_s,
        "socket_connect_timeout": options.timeout_s,
        "socket_keepalive": options.socket_keepalive,
        "max_connections": options.max_connections,
        "retry": retry,
        "ssl": target.tls,
        **dict(target.tls_options),
    }
    if target.tls and ("ssl_cert_reqs", "none") in target.tls_options:
        common["ssl_check_hostname"] = False
    match target.mode:
        case RedisMode.SINGLE:
            host, port = target.addresses[0]
            return RedisClient(Redis(host=host, port=port, db=target.db, **common))
        case RedisMode.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in target.addresses]
            return RedisClient(RedisCluster(startup_nodes=nodes, **common))
        case RedisMode.SENTINEL:
            own = {"socket_timeout", "socket_connect_timeout", "socket_keepalive", "ssl"}
            sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]  # redis-py annotates it in part
                target.addresses,
                sentinel_kwargs={
                    **{
                        name: value
                        for name, value in common.items()
                        if name in own or name.startswith("ssl_")
                    },
                    "username": target.sentinel_username or None,
                    "password": target.sentinel_password or None,
                    "retry": Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), 0),
                },
            )
            client = sentinel.master_for(target.service, db=target.db, **common)
            return RedisClient(client, sentinel.aclose)
