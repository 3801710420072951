"""The local service over the wire, driven by our own transport and the client core."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from opusagent.audio.tones import tone
from opusagent.clock import SystemClock
from opusagent.errors import TransportError
from opusagent.models.session_state import Role, Turn
from opusagent.simulators.faults import parse_fault
from opusagent.simulators.sonic_service import NovaService, ServicePlan
from opusagent.simulators.wire import WireServer
from opusagent.sonic.reader import BotAudio, SonicEvent, TextHeard
from opusagent.sonic.stream import SonicConfig, SonicStream
from opusagent.transports.bedrock import BedrockConnector, BedrockTransport, Limits
from opusagent.transports.credentials import Credentials
from tests.end_to_end.rig import KEYS, QUICK, ToldEars, ToneBrain, eventually
from tests.transports.rig import run_clean

pytestmark = pytest.mark.integration

CONFIG = SonicConfig(system_prompt="You are a test.", input_rate_hz=16_000, output_rate_hz=24_000)
PLAN = ServicePlan(timing=QUICK)


@dataclass
class Wired:
    service: NovaService
    wire: WireServer
    connector: BedrockConnector
    told: list[tuple[str, int]]


def connector_to(url: str, ca_file: Path) -> BedrockConnector:
    clock = SystemClock()
    return BedrockConnector(
        region="us-east-1",
        model_id="amazon.nova-2-sonic-v1:0",
        credentials=Credentials(utcnow=clock.utcnow, environ=KEYS),
        utcnow=clock.utcnow,
        endpoint=url,
        ca_file=ca_file,
        limits=Limits(head_s=3.0),
    )


@asynccontextmanager
async def wired(tmp_path: Path, plan: ServicePlan = PLAN) -> AsyncIterator[Wired]:
    told: list[tuple[str, int]] = []
    service = NovaService(
        ToneBrain, ToldEars("Hello."), plan, told=lambda event, stream: told.append((event, stream))
    )
    ca_file = tmp_path / "ca.pem"
    async with WireServer(service, ca_file=ca_file) as wire:
        yield Wired(service, wire, connector_to(wire.url, ca_file), told)
        assert await eventually(lambda: not wire.connections)


class Client:
    """One stream, from its opening to its end."""

    def __init__(self, transport: BedrockTransport) -> None:
        numbers = itertools.count(1)
        self.transport = transport
        self.wire = SonicStream(CONFIG, new_id=lambda: f"id-{next(numbers)}")

    async def begin(self, history: Sequence[Turn] = ()) -> None:
        await self.transport.open()
        self.wire.open()
        self.wire.start_audio(history)
        await self.flush()
        await self.transport.head()

    async def flush(self) -> None:
        for payload in self.wire.payloads_to_send():
            await self.transport.send(payload)

    async def speak(self) -> None:
        """A word and the silence after it."""
        pcm = tone(300, 0.2, 16_000) + bytes(2 * 16_000)
        await self.transport.send(self.wire.encode_audio(pcm))

    async def events(self) -> AsyncIterator[SonicEvent]:
        while (payload := await self.transport.receive()) is not None:
            for event in self.wire.receive(payload):
                yield event

    async def end(self) -> None:
        self.wire.close()
        await self.flush()
        await self.transport.close_input()
        async for _ in self.events():
            pass


@asynccontextmanager
async def opened(rig: Wired, history: Sequence[Turn] = ()) -> AsyncIterator[Client]:
    client = Client(rig.connector.connect())
    try:
        await client.begin(history)
        yield client
    finally:
        await client.transport.close()


async def failure(client: Client) -> TransportError:
    with pytest.raises(TransportError) as raised:
        async for _ in client.events():
            pass
    return raised.value


def test_it_hears_answers_and_records_everything_it_was_sent(tmp_path: Path) -> None:
    history = [Turn(role=Role.USER, text="My name is Ada."), Turn(role=Role.ASSISTANT, text="Ah.")]

    async def main() -> None:
        async with wired(tmp_path) as rig:
            async with opened(rig, history) as client:
                assert rig.service.open_streams == 1
                await client.speak()
                texts, n_bytes = [], 0
                async for event in client.events():
                    match event:
                        case TextHeard(text=text):
                            texts.append(text)
                        case BotAudio(pcm=pcm):
                            n_bytes += len(pcm)
                    if n_bytes >= 0.2 * 48_000 and len(texts) >= 2:
                        break
                assert texts[:2] == ["Hello.", "Yes."]
                await client.end()
            assert await eventually(lambda: rig.service.open_streams == 0)
            (log,) = rig.service.streams
            assert log.record is not None
            log.record.assert_valid_session()
            log.record.assert_history(history)
            assert log.record.system_prompt == "You are a test."
            assert [heard.value for heard in log.record.heard] == ["Hello."]
            assert log.credential_id == KEYS["AWS_ACCESS_KEY_ID"]
            assert log.closed_at is not None
            assert rig.told == [("opened", 1), ("closed", 1)]

            rig.service.save(tmp_path / "record")
        facts = json.loads((tmp_path / "record" / "stream-1.json").read_text())
        assert facts["history"][0] == {"role": "USER", "text": "My name is Ada."}
        assert (tmp_path / "record" / "stream-1.pcm").read_bytes() == bytes(log.record.audio)

    run_clean(main)


def test_a_stream_that_breaks_the_rules_is_refused_in_the_services_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with wired(tmp_path) as rig, opened(rig) as client:
            await client.transport.send(b'{"event":{"promptEnd":{"promptName":"another"}}}')
            error = await failure(client)
        assert error.code == "validationException"
        assert error.message.startswith("RequestId=")

    run_clean(main)


def test_a_stream_above_the_quota_is_throttled_until_one_has_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with wired(tmp_path, replace(PLAN, quota=1)) as rig:
            async with opened(rig):
                with pytest.raises(TransportError, match="Throttling"):
                    async with opened(rig):
                        pass
            assert await eventually(lambda: rig.service.open_streams == 0)
            async with opened(rig) as client:
                await client.end()
        assert [log.refused for log in rig.service.streams] == ["", "ThrottlingException", ""]
        assert ("refused ThrottlingException", 2) in rig.told

    run_clean(main)


def test_a_stream_lives_as_long_as_its_limit_on_a_clock_that_runs_faster(tmp_path: Path) -> None:
    async def main() -> None:
        plan = replace(PLAN, timing=replace(QUICK, limit_s=30.0), scale=100.0)
        async with wired(tmp_path, plan) as rig, opened(rig) as client:
            error = await failure(client)
        (report,) = rig.service.reports
        assert error.code == report.cut == "modelTimeoutException"
        assert report.head_at is not None
        assert report.closed_at is not None
        lived_s = (report.closed_at - report.head_at).total_seconds()
        assert 0.29 < lived_s < 0.6

    run_clean(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("reset", "ConnectionLost"),
        ("end", "Ended"),
        ("weird", "WeirdException"),
        ("half-frame", "Undecodable"),
        ("exception-left-open", "ModelStreamErrorException"),
        ("531:event=audioInput", "ValidationException"),
        ("internal:after=0.1", "InternalServerException"),
        ("end:event=contentStart:nth=2", "Ended"),
    ],
)
def test_a_fault_strikes_when_it_was_told_to(tmp_path: Path, fault: str, code: str) -> None:
    async def main() -> None:
        plan = replace(PLAN, faults=[parse_fault(f"{fault}:stream=2")])
        async with wired(tmp_path, plan) as rig:
            async with opened(rig) as client:
                await client.speak()
                await client.end()
            second = Client(rig.connector.connect())
            try:
                await second.begin()
                await second.speak()
                error = await failure(second)
            except TransportError as broken:  # it may strike before the beginning is over
                error = broken
            finally:
                await second.transport.close()
        assert error.code.lower() in (code.lower(), "connectionlost")

    run_clean(main)


def test_a_fault_can_be_made_to_strike_now(tmp_path: Path) -> None:
    async def main() -> None:
        async with wired(tmp_path) as rig, opened(rig) as one, opened(rig) as other:
            rig.service.strike(parse_fault("internal:stream=2"))
            assert (await failure(other)).code == "internalServerException"
            assert rig.service.open_streams >= 1
            await one.end()
        first, second = rig.service.streams
        assert first.record is not None
        assert first.record.failure is None
        assert second.record is not None
        assert second.record.failure is not None

    run_clean(main)
