from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from opusagent.config import Settings
from opusagent.session_storage.opening import open_storage
from opusagent.store import storage_place, storage_settings


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
