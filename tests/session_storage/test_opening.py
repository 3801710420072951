from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from pathlib import Path

import pytest

from opusagent.errors import ConfigError
from opusagent.session_storage.opening import StorageSettings, open_storage


def test_without_settings_sessions_stay_in_this_process() -> None:
    assert not StorageSettings().outlives_us
    assert open_storage(StorageSettings()).get_stats() == {
        "storage_type": "memory",
        "sessions": 0,
        "max_sessions": 10_000,
        "evicted": 0,
    }


def test_a_directory_means_files_and_a_url_means_redis(tmp_path: Path) -> None:
    files = StorageSettings(session_store_dir=tmp_path)
    assert files.outlives_us
    assert open_storage(files).get_stats()["storage_type"] == "file"
    assert _kept(StorageSettings(session_store_dir=tmp_path / "few", max_sessions=2)) == 2
    both = StorageSettings(session_store_dir=tmp_path, redis_url="redis://:pw@h:1", redis_db=2)
    assert both.outlives_us
    stats = open_storage(both).get_stats()
    assert stats["storage_type"] == "redis"
    assert stats["url"] == "redis://h:1/2"


def _kept(settings: StorageSettings) -> int:
    """Of five sessions."""

    async def scenario() -> int:
        storage = open_storage(settings)
        for number in range(5):
            await storage.store_session(f"c{number}", {})
        return len(await storage.list_active_sessions())

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (StorageSettings(redis_url="mysql://h"), "REDIS_URL"),
        (StorageSettings(redis_url="redis+cluster://h", redis_db=1), "REDIS_URL"),
        (StorageSettings(session_encryption_keys="short"), "SESSION_ENCRYPTION_KEYS"),
        (
            StorageSettings(redis_url="rediss://h?ssl_cert_reqs=required&ssl_ca_certs=/no/ca.pem"),
            "REDIS_URL: ssl_ca_certs: /no/ca.pem: No such file or directory",
        ),
        (
            StorageSettings(redis_url=f"rediss://h?ssl_ca_certs=/{'x' * 300}"),
            "REDIS_URL: ssl_ca_certs: .*: File name too long",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings: StorageSettings, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        open_storage(settings)


def test_settings_show_no_secret() -> None:
    key = base64.b64encode(bytes(32)).decode()
    settings = StorageSettings(
        redis_url="redis://:hunter2@h", redis_password="hunter3", session_encryption_keys=key
    )
    assert "hunter" not in repr(settings)
    assert key not in repr(settings)


def test_redis_py_is_not_loaded_where_there_is_no_redis() -> None:
    program = (
        "import sys\n"
        "from opusagent.session_storage.opening import StorageSettings, open_storage\n"
        "open_storage(StorageSettings())\n"
        "print('redis' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"
