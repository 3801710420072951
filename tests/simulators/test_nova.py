"""`nova` as a program: ready, a certificate, streams, and a report at the end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from opusagent.errors import ConfigError, TransportError
from opusagent.processes import Child
from opusagent.simulators.nova import NovaOptions, run_nova
from opusagent.transports.reachability import why_unreachable
from tests.simulators.test_sonic_service import Client, connector_to, failure

pytestmark = pytest.mark.integration


def test_it_serves_until_it_is_told_to_end_and_leaves_its_records(tmp_path: Path) -> None:
    ca_file, record = tmp_path / "ca.pem", tmp_path / "record"
    arguments = ("--numbers", "10", "--ca-file", str(ca_file), "--record", str(record))

    async def main() -> None:
        async with Child("opusagent", "nova", *arguments) as nova:
            url = (await nova.ready()).split()[1]
            assert await why_unreachable(url, ca_file=ca_file) is None
            client = Client(connector_to(url, ca_file).connect())
            try:
                await client.begin()
                assert (await nova.line()).strip() == "stream 1 opened"
                await client.speak()
                await client.end()
            finally:
                await client.transport.close()
            assert (await nova.line()).strip() == "stream 1 closed"
        assert nova.returncode == 0

    asyncio.run(main())
    facts = json.loads((record / "stream-1.json").read_text())
    assert facts["system_prompt"] == "You are a test."
    assert len((record / "stream-1.pcm").read_bytes()) == round(1.2 * 2 * 16_000)


def test_limit_quota_and_refusals_are_as_ordered(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    life = ("--limit-seconds", "40", "--scale", "20", "--quota", "1")
    fault = ("--fault", "refuse:stream=2,code=503")

    async def main() -> None:
        arguments = ("nova", "--numbers", "1", "--ca-file", str(ca_file), *life, *fault)
        async with Child("opusagent", *arguments) as nova:
            connector = connector_to((await nova.ready()).split()[1], ca_file)
            first = Client(connector.connect())
            await first.begin()
            for expected in ("ServiceUnavailableException", "ThrottlingException"):
                refused = Client(connector.connect())
                with pytest.raises(TransportError) as raised:
                    await refused.begin()
                assert raised.value.code == expected
                await refused.transport.close()
            async with asyncio.timeout(20):  # 2 s; without the scale 40
                assert (await failure(first)).code == "modelTimeoutException"
            await first.transport.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (NovaOptions(profile="nova-9"), "--profile"),
        (NovaOptions(faults=["explode"]), "--fault"),
        (NovaOptions(scenario="none"), "none"),
        (NovaOptions(numbers=1, host="host.invalid"), "--host host.invalid"),
        (NovaOptions(numbers=1, ca_file=Path("/none/ca.pem")), "--ca-file /none/ca.pem"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: NovaOptions, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        asyncio.run(run_nova(options))
