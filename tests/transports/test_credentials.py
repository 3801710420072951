"""Credentials: where they come from, when they are fetched anew, and that nothing waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from opusagent.clock import FakeClock, SystemClock
from opusagent.errors import ConfigError, TransportError
from opusagent.transports.credentials import Credentials, Pinned, botocore_chain
from tests.transports.rig import KEYS, run_clean


class Chain:
    """A chain whose credentials live for `life`; counts how often it was asked."""

    def __init__(self, clock: FakeClock, life: timedelta) -> None:
        self.asked = 0
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self._clock = clock
        self._life = life

    def __call__(self) -> Pinned:
        self.gate.wait(5)
        self.asked += 1
        if self.broken:
            raise ValueError("the metadata service does not answer")
        return Pinned(f"AKID{self.asked}", "s", "t", self._clock.utcnow() + self._life)


def test_keys_of_the_environment_need_no_botocore() -> None:
    code = (
        "import asyncio, sys\n"
        "from opusagent.clock import SystemClock\n"
        "from opusagent.transports.credentials import Credentials\n"
        f"credentials = Credentials(utcnow=SystemClock().utcnow, environ={KEYS!r})\n"
        "assert asyncio.run(credentials.get()).access_key_id == 'AKIDEXAMPLE'\n"
        "assert not any(name.startswith('botocore') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path.cwd())


def test_a_session_token_of_the_environment_is_taken_along() -> None:
    environ = {**KEYS, "AWS_SESSION_TOKEN": "token"}

    async def main() -> None:
        pinned = await Credentials(utcnow=FakeClock().utcnow, environ=environ).get()
        assert pinned == Pinned("AKIDEXAMPLE", "secret", "token")

    run_clean(main)


def test_the_newline_of_a_mounted_secret_is_no_part_of_a_key() -> None:
    environ = {name: f"{value}\n" for name, value in KEYS.items()} | {"AWS_SESSION_TOKEN": "t\r\n"}

    async def main() -> None:
        pinned = await Credentials(utcnow=FakeClock().utcnow, environ=environ).get()
        assert pinned == Pinned("AKIDEXAMPLE", "secret", "t")

    run_clean(main)


def test_nothing_secret_is_shown() -> None:
    assert "secret" not in repr(Pinned("AKID", "secret", "secret-token"))


def test_credentials_are_fetched_once_for_many_streams() -> None:
    clock = FakeClock()
    chain = Chain(clock, timedelta(hours=1))

    async def main() -> None:
        credentials = Credentials(utcnow=clock.utcnow, environ={}, chain=chain)
        got = await asyncio.gather(*(credentials.get() for _ in range(20)))
        assert {pinned.access_key_id for pinned in got} == {"AKID1"}
        assert chain.asked == 1

    run_clean(main)


def test_new_ones_are_fetched_ahead_while_the_old_ones_serve() -> None:
    clock = FakeClock()
    chain = Chain(clock, timedelta(hours=1))

    async def main() -> None:
        credentials = Credentials(utcnow=clock.utcnow, environ={}, chain=chain)
        await credentials.get()
        clock.advance(46 * 60)
        chain.gate.clear()
        assert (
            await credentials.get()
        ).access_key_id == "AKID1"  # at once, although the chain hangs
        chain.gate.set()
        while (await credentials.get()).access_key_id == "AKID1":
            await asyncio.wait((asyncio.get_running_loop().run_in_executor(None, int),))
        assert (await credentials.get()).access_key_id == "AKID2"
        assert chain.asked == 2

    run_clean(main)


def test_a_stream_does_not_begin_with_credentials_that_could_expire_in_it() -> None:
    clock = FakeClock()
    chain = Chain(clock, timedelta(hours=1))

    async def main() -> None:
        credentials = Credentials(utcnow=clock.utcnow, environ={}, chain=chain)
        await credentials.get()
        clock.advance(51 * 60)
        assert (await credentials.get()).access_key_id == "AKID2"

    run_clean(main)


def test_old_credentials_serve_as_long_as_they_are_valid_when_there_are_no_new_ones() -> None:
    clock = FakeClock()
    chain = Chain(clock, timedelta(hours=1))

    async def main() -> None:
        credentials = Credentials(utcnow=clock.utcnow, environ={}, chain=chain)
        await credentials.get()
        chain.broken = True
        clock.advance(55 * 60)
        assert (await credentials.get()).access_key_id == "AKID1"
        clock.advance(6 * 60)
        with pytest.raises(TransportError, match="NoCredentials: the metadata service"):
            await credentials.get()
        chain.broken = False
        assert (await credentials.get()).access_key_id == "AKID4"

    run_clean(main)


def test_an_old_stream_that_is_refused_does_not_cost_the_others_their_new_keys() -> None:
    clock = FakeClock()
    chain = Chain(clock, timedelta(hours=1))

    async def main() -> None:
        credentials = Credentials(utcnow=clock.utcnow, environ={}, chain=chain)
        old = await credentials.get()
        credentials.forget(old)
        new = await credentials.get()
        assert new.access_key_id == "AKID2"
        chain.broken = True
        credentials.forget(old)  # of a second stream, a moment later
        assert await credentials.get() == new
        assert chain.asked == 2

    run_clean(main)


def test_a_chain_that_hangs_is_given_up_in_time() -> None:
    clock = FakeClock()
    chain = Chain(clock, timedelta(hours=1))
    chain.gate.clear()

    async def main() -> None:
        credentials = Credentials(utcnow=clock.utcnow, environ={}, chain=chain, fetch_s=0.05)
        with pytest.raises(TransportError, match="no answer within"):
            await credentials.get()
        chain.gate.set()

    run_clean(main)


def test_a_caller_who_hangs_up_does_not_stop_the_fetch() -> None:
    clock = FakeClock()
    chain = Chain(clock, timedelta(hours=1))
    chain.gate.clear()

    async def main() -> None:
        credentials = Credentials(utcnow=clock.utcnow, environ={}, chain=chain)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await credentials.get()
        chain.gate.set()
        assert (await credentials.get()).access_key_id == "AKID1"
        assert chain.asked == 1

    run_clean(main)


def test_the_start_up_check_says_in_words_what_is_missing() -> None:
    def nothing() -> Pinned:
        raise ValueError("none found in the standard chain")

    async def main() -> None:
        credentials = Credentials(utcnow=FakeClock().utcnow, environ={}, chain=nothing)
        with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            await credentials.check()
        good = await Credentials(utcnow=FakeClock().utcnow, environ=KEYS).check()
        assert good == "access key AKID…LE"

    run_clean(main)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """An environment without credentials; gives a function that writes the shared file."""
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def write(text: str) -> None:
        file.write_text(text)

    return write


def test_the_standard_chain_finds_a_profile(no_aws: Callable[[str], None]) -> None:
    no_aws("[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = s\n")
    assert botocore_chain()() == Pinned("AKIDFILE", "s")


def test_the_standard_chain_tells_when_its_credentials_expire(
    no_aws: Callable[[str], None], tmp_path: Path
) -> None:
    expires = SystemClock().utcnow() + timedelta(hours=1)
    answer = (
        '{"Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "s",'
        f' "SessionToken": "t", "Expiration": "{expires.isoformat()}"}}'
    )
    script = tmp_path / "answer.json"
    script.write_text(answer)
    no_aws(f"[default]\ncredential_process = cat {script}\n")
    found = botocore_chain()()
    assert found.access_key_id == "AKIDPROCESS"
    assert found.expires_at == expires


def test_an_empty_chain_is_an_error_in_words(no_aws: Callable[[str], None]) -> None:
    async def main() -> None:
        with pytest.raises(TransportError, match="none found in the standard chain"):
            await Credentials(utcnow=SystemClock().utcnow, environ={}).get()

    run_clean(main)
