"""Which store of sessions the settings of this program mean."""

from __future__ import annotations

from pydantic import SecretStr

from opusagent.config import Settings
from opusagent.session_storage import SessionStorage
from opusagent.session_storage.opening import StorageSettings

__all__ = ["storage_place", "storage_settings"]


def storage_settings(settings: Settings) -> StorageSettings:
    """What the store of sessions is opened with."""

    def clear(secret: SecretStr | None) -> str:
        return "" if secret is None else secret.get_secret_value()

    return StorageSettings(
        redis_url=clear(settings.redis_url),
        redis_password=clear(settings.redis_password),
        redis_db=settings.redis_db,
        session_ttl=settings.session_ttl,
        session_prefix=settings.session_prefix,
        max_sessions=settings.max_sessions,
        session_store_dir=settings.session_store_dir,
        session_compression=settings.session_compression,
        session_encryption_keys=clear(settings.session_encryption_keys),
    )


def storage_place(storage: SessionStorage) -> str:
    """Where a store keeps its sessions, in words without secrets."""
    stats = storage.get_stats()
    return str(stats.get("url") or stats.get("directory") or stats["storage_type"])
