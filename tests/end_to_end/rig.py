"""The bridge between a simulated VoiceAI Connect and the local Nova Sonic service, on the real wires.

    SimulatedCaller --websocket--> BridgeServer --AWS SDK, TLS, HTTP/2--> NovaService

All in one event loop, the one of production. `run` starts and ends everything, and fails if a task, a
stream, a connection or a socket is left behind, or if an error was logged.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import uvloop

from opusagent.agents import AgentDirectory
from opusagent.audio.tones import tone
from opusagent.clock import SystemClock
from opusagent.config import Settings
from opusagent.models.agent import Agent
from opusagent.observability import Metrics, configure_logging
from opusagent.server import BridgeServer
from opusagent.simulators.caller import Progress, SimulatedCaller
from opusagent.simulators.caller_record import CallRecord, NumberCheck, check_numbers
from opusagent.simulators.caller_script import CallerPlan, Say, Step
from opusagent.simulators.faults import parse_fault
from opusagent.simulators.numbered import NumberedAudio
from opusagent.simulators.sonic_service import NovaService, ServicePlan
from opusagent.simulators.wire import WireServer
from opusagent.sonic.peer_brain import Brain, Ears, Heard, PeerContext, Reply, ToolAnswer, ToolAsk
from opusagent.sonic.peer_record import StreamRecord
from opusagent.sonic.profiles import Timing
from opusagent.transports.bedrock import BedrockConnector, Limits
from opusagent.transports.credentials import Credentials
from opusagent.transports.websocket import WebSocketTransport, connect
from tests.waiting import eventually

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
TEST_S = 40.0
END_S = 6.0
"""How long everything of a call may take to be gone once the caller is; each part bounds itself to less."""

QUIET = Agent(system_prompt="You are a test.")
"""Waits for the caller to speak."""

QUICK = Timing(pause_s=0.2, think_s=0.05, final_delay_s=0.1, linger_s=0.5)
PLAN = CallerPlan(
    chunk_ms=20,
    start_delay_s=0.01,
    listen_delay_s=0.02,
    stream_startup_s=0.02,
    resume_recognition_s=0.3,
    accept_timeout_s=6.0,
    keep_audio=False,
    limit_s=20.0,
)
"""VoiceAI Connect in a hurry; the bot turns barge-in on."""


class ToneBrain:
    """Answers whatever it hears with the same sentence and a tone, and asks for tools first if it has any."""

    def __init__(
        self, answer: str = "Yes.", *, seconds: float = 0.2, tools: Iterable[ToolAsk] = ()
    ) -> None:
        self._answer = answer
        self._seconds = seconds
        self._tools = tuple(tools)

    def reply(self, heard: str, context: PeerContext) -> Reply:
        if self._tools:
            return Reply(tools=self._tools)
        return Reply((self._answer,))

    def after_tools(self, answers: Sequence[ToolAnswer], context: PeerContext) -> Reply:
        return Reply((self._answer,))

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        return tone(440, self._seconds, rate_hz)


class NumberBrain(ToneBrain):
    """Answers with numbered frames: `count` of them from `first` on."""

    def __init__(self, first: int, count: int, frame_ms: int = 20) -> None:
        super().__init__("Numbers.")
        self.expected = range(first, first + count)
        self._frame_ms = frame_ms

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        audio = NumberedAudio(self._frame_ms, rate_hz)
        return audio.frames(self.expected.start, len(self.expected))


class ToldEars:
    """Understand each utterance as the next of the texts, and at last always as the last one."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)

    def hear(self, pcm: bytes, rate_hz: int) -> Heard:
        return Heard(self._texts.pop(0) if len(self._texts) > 1 else self._texts[0])


def say(seconds: float = 0.2, label: str = "speech", *, over_bot: bool = False) -> Say:
    """The caller makes a sound that counts as speech."""
    return Say(sound=lambda rate_hz: tone(300, seconds, rate_hz), label=label, over_bot=over_bot)


@dataclass
class Line:
    """Everything between a caller and the model, running."""

    settings: Settings
    server: BridgeServer
    port: int
    service: NovaService
    wire: WireServer
    metrics: Metrics
    log: io.StringIO
    agent: Agent
    connector: BedrockConnector
    callers: list[SimulatedCaller] = field(default_factory=list)
    struck: bool = False

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/voice"

    def caller(
        self,
        plan: CallerPlan = PLAN,
        *,
        conversation_id: str | None = None,
        token: str = "",
        progress: Progress | None = None,
    ) -> SimulatedCaller:
        """Somebody who can call the bridge once."""

        async def dial() -> WebSocketTransport:
            return await connect(self.url, token=token)

        caller = SimulatedCaller(plan, dial, conversation_id=conversation_id, progress=progress)
        self.callers.append(caller)
        return caller

    async def call(self, *steps: Step, plan: CallerPlan = PLAN) -> CallRecord:
        """One call from beginning to end."""
        return await self.caller(plan).run(steps)

    async def calls(
        self, calls: Sequence[Coroutine[Any, Any, CallRecord]], *, at_once: int = 6
    ) -> list[CallRecord]:
        """Calls that overlap; the first one has stream 1, the second one stream 2, and so on."""
        running: list[asyncio.Task[CallRecord]] = []
        async with asyncio.TaskGroup() as tasks:
            for n, call in enumerate(calls):
                if n >= at_once:
                    await running[n - at_once]
                running.append(tasks.create_task(call))
                assert await eventually(lambda: len(self.service.streams) == len(running))
        return [call.result() for call in running]

    def stream(self, number: int) -> StreamRecord:
        """What the service's stream `number`, from 1, received."""
        record = self.service.streams[number - 1].record
        assert record is not None, f"stream {number} was refused"
        return record

    def numbers(self, stream: int, expected: range | None = None, ms: int = 20) -> NumberCheck:
        """What became of the caller's numbered frames on a stream."""
        record = self.stream(stream)
        audio = NumberedAudio(ms, record.audio_rate_hz)
        return check_numbers(audio.find(bytes(record.audio)), expected)

    def numbers_anywhere(self, ms: int = 20) -> set[int]:
        """The caller's numbered frames that reached any stream whole."""
        reached: set[int] = set()
        for number, log in enumerate(self.service.streams, start=1):
            if log.record is not None and log.record.audio_rate_hz:
                audio = NumberedAudio(ms, self.stream(number).audio_rate_hz)
                reached |= set(audio.decode(bytes(log.record.audio)))
        return reached

    def strike(self, fault: str) -> None:
        """Let a fault of the service happen now."""
        self.struck = True
        self.service.strike(parse_fault(fault))

    async def over(self) -> None:
        """Every call has ended, and nothing of it is left on the wires."""
        assert await eventually(lambda: not self.server.stats()["calls_active"], END_S)
        assert await eventually(lambda: not self.service.open_streams, END_S), "streams are left"
        assert await eventually(lambda: not self.wire.connections, END_S), "connections are left"

    def logged(self, event: str = "") -> list[dict[str, Any]]:
        """The lines of the log, those of `event` alone if it is given."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if not event or line["event"] == event]


def run(
    main: Callable[[Line], Awaitable[None]],
    *faults: str,
    agent: Agent = QUIET,
    brain: Callable[[], Brain] = ToneBrain,
    ears: Ears | None = None,
    timing: Timing = QUICK,
    quota: int | None = None,
    credentials: Credentials | None = None,
    limits: Limits | None = None,
    **settings: Any,
) -> None:
    """Run a test on a line of its own.

    Args:
        main: The test.
        faults: Of the service, as its command line takes them.
        agent: Who answers.
        brain: Makes the mind of each stream.
        ears: What is understood; "Hello." by default.
        timing: Of the service.
        quota: Streams that the service allows at once.
        credentials: Of the bridge.
        limits: Of its transports.
        settings: Of the bridge.
    """
    problems: list[dict[str, Any]] = []
    log = io.StringIO()

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, found: problems.append(found))
        service = NovaService(
            brain,
            ears or ToldEars("Hello."),
            ServicePlan(timing=timing, faults=[parse_fault(text) for text in faults], quota=quota),
        )
        async with asyncio.timeout(TEST_S):
            sockets = _sockets()
            async with _line(service, log, agent, credentials, limits, settings) as line:
                await main(line)
                for caller in line.callers:
                    assert not caller.record.violations, caller.record.violations
                await line.over()
                if not faults and not line.struck:
                    for stream in service.streams:
                        if stream.record is not None:
                            stream.record.assert_valid_session()
            assert await eventually(lambda: not _others()), f"left behind: {_others()}"
            assert await eventually(lambda: _sockets() <= sockets), "sockets are left"
        gc.collect()  # so that what nobody retrieved is reported while the handler is there
        await loop.run_in_executor(None, gc.collect)

    try:
        configure_logging(Settings(log_format="json", log_audio_events=True), log)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(whole())
    finally:
        sys.stdout.write(log.getvalue())  # pytest shows it where a test fails
        structlog.reset_defaults()
        logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    assert not problems, problems
    errors = [line for line in log.getvalue().splitlines() if '"level": "error"' in line]
    assert not errors, errors


@asynccontextmanager
async def _line(
    service: NovaService,
    log: io.StringIO,
    agent: Agent,
    credentials: Credentials | None,
    limits: Limits | None,
    settings: dict[str, Any],
) -> AsyncIterator[Line]:
    clock = SystemClock()
    # A call whose websocket is gone ends soon, so that what it leaves behind is seen.
    told: dict[str, Any] = {"resume_grace_seconds": 0.2, **settings}
    chosen = Settings(bridge_host="127.0.0.1", bridge_port=0, **told)
    with tempfile.TemporaryDirectory() as directory:
        ca_file = Path(directory) / "ca.pem"
        async with WireServer(service, ca_file=ca_file) as wire:
            connector = BedrockConnector(
                region=chosen.aws_region,
                model_id=chosen.bedrock_model_id,
                credentials=credentials or Credentials(utcnow=clock.utcnow, environ=KEYS),
                utcnow=clock.utcnow,
                endpoint=wire.url,
                ca_file=ca_file,
                limits=limits,
            )
            metrics = Metrics()
            agents = AgentDirectory({"default": agent})
            server = BridgeServer(chosen, agents, connector, metrics, clock=clock)
            port = await server.start()
            try:
                yield Line(chosen, server, port, service, wire, metrics, log, agent, connector)
            finally:
                await server.stop()


def _others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def _sockets() -> int:
    """Sockets of this process that are open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  a path for each would cost descriptors
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")  # noqa: PTH115
        except OSError:
            continue  # closed meanwhile; the listing's own among them
    return count
