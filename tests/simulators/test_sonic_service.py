"""The local service over the wire, driven by our own transport and the client core."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from opusagent.audio.tones import tone
from opusagent.clock import Clock, FakeClock, SystemClock
from opusagent.errors import TransportError
from opusagent.models.session_state import Role, Turn
from opusagent.simulators.brain import ScenarioBrain
from opusagent.simulators.caller import until
from opusagent.simulators.faults import parse_fault
from opusagent.simulators.scenario import find_scenario
from opusagent.simulators.sonic_service import NovaService, ServicePlan
from opusagent.simulators.stream_report import AT_ONCE_S, StreamReport, load_reports
from opusagent.simulators.voice import BOT, ToneVoice
from opusagent.simulators.wire import WireServer
from opusagent.sonic.peer_brain import Brain
from opusagent.sonic.reader import BotAudio, SonicEvent, TextHeard
from opusagent.sonic.stream import SonicConfig, SonicStream
from opusagent.transports.bedrock import BedrockConnector, BedrockTransport, Limits
from opusagent.transports.credentials import Credentials
from tests.end_to_end.rig import KEYS, QUICK, ToldEars, ToneBrain
from tests.transports.rig import run_clean
from tests.waiting import eventually

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
async def wired(
    tmp_path: Path,
    plan: ServicePlan = PLAN,
    *,
    brain: Callable[[], Brain] = ToneBrain,
    ears: ToldEars | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Wired]:
    told: list[tuple[str, int]] = []
    service = NovaService(
        brain,
        ears or ToldEars("Hello."),
        plan,
        told=lambda event, stream: told.append((event, stream)),
        clock=clock,
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
        assert report.ended_at is not None
        lived_s = (report.ended_at - report.head_at).total_seconds()
        assert 0.29 < lived_s < 5

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


async def cut_off(rig: Wired, client: Client, pcm: bytes, chunk_s: float = 0.02) -> StreamReport:
    """Speak in real time until the stream is gone; returns the report of the newest stream."""
    loop = asyncio.get_running_loop()
    n_bytes = round(chunk_s * 32_000)
    began = loop.time()
    gone = loop.create_task(failure(client))
    for n, start in enumerate(range(0, len(pcm), n_bytes), start=1):
        await asyncio.wait((gone,), timeout=max(0.0, began + n * chunk_s - loop.time()))
        if gone.done():
            break
        with suppress(TransportError):
            await client.transport.send(client.wire.encode_audio(pcm[start : start + n_bytes]))
    await gone
    return rig.service.reports[-1]


@pytest.mark.parametrize("fault", ["reset", "end", "model-timeout"])
def test_a_given_stream_is_cut_so_many_seconds_after_its_head(tmp_path: Path, fault: str) -> None:
    async def main() -> None:
        faults = [
            parse_fault(f"{fault}:stream=2:after=0.4"),
            parse_fault("slow-head:stream=2:seconds=0.3"),
        ]
        async with wired(tmp_path, replace(PLAN, faults=faults)) as rig:
            async with opened(rig) as client:
                await client.end()
            async with opened(rig) as client:
                report = await cut_off(rig, client, bytes(3 * 32_000))
        first, _ = rig.service.reports
        assert first.cut == ""
        assert report.cut in (fault, "modelTimeoutException")
        assert report.head_at is not None
        assert report.ended_at is not None
        assert (report.head_at - report.asked_at).total_seconds() == pytest.approx(0.3)
        assert 0.39 < (report.ended_at - report.head_at).total_seconds() < 5

    run_clean(main)


@pytest.mark.parametrize("fault", ["reset", "internal"])
def test_a_stream_is_cut_when_the_caller_is_so_far_into_a_word(tmp_path: Path, fault: str) -> None:
    async def main() -> None:
        plan = replace(PLAN, faults=[parse_fault(f"{fault}:into=300")])
        async with wired(tmp_path, plan) as rig, opened(rig) as client:
            pcm = bytes(round(0.4 * 16_000) * 2) + tone(300, 2.0, 16_000)
            report = await cut_off(rig, client, pcm)
        assert 0.7 <= report.audio_s < 0.8
        assert report.cut in (fault, "internalServerException")

    run_clean(main)


def test_a_cut_in_speech_can_wait_until_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        plan = replace(PLAN, faults=[parse_fault("reset:after=0.5:into=100")])
        async with wired(tmp_path, plan) as rig, opened(rig) as client:
            word, pause = tone(300, 0.3, 16_000), bytes(round(0.6 * 16_000) * 2)
            report = await cut_off(rig, client, word + pause + word + pause)
        assert 1.0 <= report.audio_s < 1.1

    run_clean(main)


def test_a_standby_is_told_from_a_live_stream_and_its_replay_is_measured(tmp_path: Path) -> None:
    history = [Turn(role=Role.USER, text="My name is Ada."), Turn(role=Role.ASSISTANT, text="Ah.")]
    replayed, live = tone(300, 1.5, 16_000), bytes(round(0.16 * 16_000) * 2)

    async def main() -> None:
        clock = FakeClock()
        async with wired(tmp_path, PLAN, clock=clock) as rig:
            standby = Client(rig.connector.connect())
            try:
                await standby.transport.open()
                standby.wire.open()
                await standby.flush()
                await standby.transport.head()
                opened_at = asyncio.get_running_loop().time()
                await until(opened_at + 0.3)
                standby.wire.start_audio(history)
                await standby.flush()
                await standby.transport.send(standby.wire.encode_audio(replayed))
                await standby.transport.send(standby.wire.encode_audio(live))
                # Later than what counts as sent at once, however late that has arrived.
                await until(asyncio.get_running_loop().time() + AT_ONCE_S + 0.1)
                await standby.transport.send(standby.wire.encode_audio(live))
                await standby.end()
            finally:
                await standby.transport.close()
            assert await eventually(lambda: rig.service.open_streams == 0)
            rig.service.save(tmp_path / "record")
        (report,) = load_reports(tmp_path / "record")
        assert report == rig.service.reports[0]
        assert report.head_at is not None
        assert report.live_at is not None
        assert report.ended_at is not None
        assert timedelta(seconds=0.25) < report.live_at - report.head_at < timedelta(seconds=5)
        assert report.asked_at - clock.utcnow() < timedelta(seconds=5)
        assert report.history == tuple(history)
        assert report.history_bytes == len("My name is Ada.Ah.")
        assert 1.1 < report.replayed_s < 1.67
        assert report.audio_s == pytest.approx(1.5 + 2 * 0.16)
        assert report.cut == ""
        bar = report.bar(clock.utcnow(), report.ended_at)
        assert bar.live_s is not None
        assert bar.opened_s < bar.live_s < bar.closed_s
        assert (bar.name, bar.replayed_s, bar.cut) == ("1", report.replayed_s, "")

    run_clean(main)


def test_a_refused_stream_leaves_a_report_too(tmp_path: Path) -> None:
    async def main() -> None:
        plan = replace(PLAN, faults=[parse_fault("refuse:code=503")])
        async with wired(tmp_path, plan) as rig:
            with pytest.raises(TransportError, match="ServiceUnavailable"):
                async with opened(rig):
                    pass
            rig.service.save(tmp_path / "record")
        (report,) = load_reports(tmp_path / "record")
        assert report.refused == "ServiceUnavailableException"
        assert (report.head_at, report.live_at) == (None, None)
        bar = report.bar(report.asked_at, report.asked_at)
        assert (bar.opened_s, bar.live_s, bar.closed_s) == (0.0, None, 0.0)
        assert bar.cut == "ServiceUnavailableException"

    run_clean(main)


async def answer_to(rig: Wired, history: Sequence[Turn] = ()) -> str:
    """What the bot says on a new stream to the next thing that the caller says."""
    async with opened(rig, history) as client:
        await client.speak()
        said = ""
        async for event in client.events():
            match event:
                case TextHeard(role=Role.ASSISTANT, text=text):
                    said = text
                    break
        await client.end()
    return said


def test_a_stream_knows_only_what_it_was_told_on_it_or_given_as_history(tmp_path: Path) -> None:
    scenario = find_scenario("basic")
    tells, asks = scenario.phrases["name"], scenario.phrases["ask_name"]
    history = [
        Turn(role=Role.USER, text=tells),
        Turn(role=Role.ASSISTANT, text="Thank you, Alice Miller."),
    ]

    def brain() -> ScenarioBrain:
        return ScenarioBrain(scenario, ToneVoice(BOT))

    async def main() -> None:
        ears = ToldEars(tells, asks)
        async with wired(tmp_path, brain=brain, ears=ears) as rig:
            assert await answer_to(rig) == "Thank you, Alice Miller."
            assert await answer_to(rig) == "I am sorry, I do not know your name."
            assert await answer_to(rig, history) == "Your name is Alice Miller."

    run_clean(main)
