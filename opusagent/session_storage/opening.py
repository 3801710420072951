"""Which store the settings ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from opusagent.clock import Clock
from opusagent.errors import ConfigError
from opusagent.session_storage import SessionStorage
from opusagent.session_storage.codec import Codec, parse_keys
from opusagent.session_storage.memory_storage import MemorySessionStorage

__all__ = ["StorageSettings", "open_storage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Settings of the store, under the names of the environment in lower case. Its text shows no secret.

    With `redis_url` sessions live in Redis, else with `session_store_dir` in files, else in memory.
    """

    redis_url: str = field(default="", repr=False)
    redis_password: str = field(default="", repr=False)
    redis_db: int = 0
    redis_max_connections: int = 20
    session_ttl: int = 3600
    session_prefix: str = "opusagent:session:"
    max_sessions: int = 10_000
    session_store_dir: Path | None = None
    session_compression: bool = False
    session_encryption_keys: str = field(default="", repr=False)

    @property
    def outlives_us(self) -> bool:
        """Whether another process can take up what this one stored."""
        return bool(self.redis_url) or self.session_store_dir is not None


def open_storage(settings: StorageSettings, *, clock: Clock | None = None) -> SessionStorage:
    """The store that is asked for. Nothing is sent or written before its first use.

    Raises:
        ConfigError: A URL, a file or a key that is none, or no library to seal with.
    """
    codec = Codec(
        compress=settings.session_compression, keys=parse_keys(settings.session_encryption_keys)
    )
    if settings.redis_url:
        # redis-py takes memory, which a process without Redis does not spend.
        from opusagent.session_storage.redis_storage import RedisSessionStorage  # noqa: PLC0415
        from opusagent.session_storage.redis_url import parse_redis_url  # noqa: PLC0415

        target = parse_redis_url(
            settings.redis_url, password=settings.redis_password, db=settings.redis_db
        )
        for name, value in target.tls_options:
            if name != "ssl_cert_reqs":
                try:
                    Path(value).open().close()
                except OSError as error:
                    raise ConfigError(f"REDIS_URL: {name}: {value}: {error.strerror}") from None
        return RedisSessionStorage(
            target,
            settings.session_prefix,
            settings.session_ttl,
            settings.redis_max_connections,
            max_sessions=settings.max_sessions,
            codec=codec,
            clock=clock,
        )
    if settings.session_store_dir is not None:
        from opusagent.session_storage.file_storage import FileSessionStorage  # noqa: PLC0415 - needed here only

        return FileSessionStorage(
            settings.session_store_dir,
            default_ttl=settings.session_ttl,
            max_sessions=settings.max_sessions,
            codec=codec,
            clock=clock,
        )
    return MemorySessionStorage(
        settings.max_sessions, default_ttl=settings.session_ttl, clock=clock
    )
