"""Both ends of a bridge in memory: a phone, and Nova Sonic services that answer by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from opusagent.audiocodes.peer import AudioCodesPeer
from opusagent.audiocodes.peer_events import Accepted, PeerEvent, PlayChunk
from opusagent.bridges.base_bridge import BaseBridge, Tool
from opusagent.call.call import Ambient, Call
from opusagent.call.events import CallOutcome, Report
from opusagent.call.plan import CallPlan
from opusagent.errors import TransportError
from opusagent.models.session_state import SessionState
from opusagent.sonic.peer import SonicPeer
from opusagent.sonic.peer_brain import Heard, PeerContext, Reply, ToolAnswer, ToolAsk
from opusagent.testing.service import serve_stream
from opusagent.transports import CallerTransport
from opusagent.transports.memory import (
    MemoryCaller,
    MemoryConnector,
    MemorySonic,
    caller_pair,
)
from tests.call.driver import FRAME_S, PLAN, bot_pcm, caller_frame, counted
from tests.waiting import pass_time

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class _Once:
    def __await__(self) -> Generator[None]:
        yield


def one_turn_of_the_loop() -> _Once:
    """Let everything that is ready run once."""
    return _Once()


def at_hand[T](coming: Coroutine[Any, Any, T]) -> T | None:
    """What need not be waited for; None if it has not come."""
    try:
        coming.send(None)
    except StopIteration as came:
        found: T = came.value
        return found
    coming.close()
    return None


class Ears:
    """Understands one thing."""

    def hear(self, pcm: bytes, rate_hz: int) -> Heard:
        return Heard("look it up" if len(pcm) > 3 * rate_hz else "hello")


class Brain:
    """Says hello, and looks things up when it is asked to."""

    def reply(self, heard: str, context: PeerContext) -> Reply:
        if "look it up" in heard:
            return Reply(("One moment.",), (ToolAsk("lookup", {"id": 1}),))
        return Reply(("Hello.", "How can I help?"))

    def after_tools(self, answers: Sequence[ToolAnswer], context: PeerContext) -> Reply:
        return Reply((f"It is {answers[0].result}.",))

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        return bot_pcm(len(sentence), 0.1 * len(sentence.split()))


class Services(MemoryConnector):
    """A connector whose every stream is answered by a `SonicPeer`."""

    def __init__(
        self,
        *,
        head_s: float | None = 0.1,
        brain: Brain | None = None,
        expires_in_s: float | None = None,
        ids: str = "s",
    ) -> None:
        """`ids`: what all ids of the service begin with."""
        super().__init__(accepts=False, expires_in_s=expires_in_s)
        self._head_after_s = head_s
        self._brain = brain or Brain()
        self._ids = ids
        self.can_wait: list[bool] = []
        self.peers: list[SonicPeer] = []
        self.tasks: list[asyncio.Task[None]] = []

    def connect(self, model_id: str = "", *, can_wait: bool = False) -> MemorySonic:
        transport = super().connect(model_id, can_wait=can_wait)
        self.can_wait.append(can_wait)
        loop = asyncio.get_running_loop()
        end = self.streams[-1]
        number = len(self.streams)
        peer = SonicPeer(
            self._brain,
            Ears(),
            now=loop.time(),
            new_id=counted(f"{self._ids}{number}"),
            strict_samples=True,
        )
        self.peers.append(peer)
        if self._head_after_s is not None:
            loop.call_later(self._head_after_s, end.accept)
        self.tasks.append(loop.create_task(serve_stream(end, peer, loop.create_task)))
        return transport

    async def all_over(self) -> None:
        """Wait until every service has seen the end of its stream."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class Line:
    """One call: the bridge, the phone at its end, and what both noted."""

    bridge: BaseBridge
    phone: MemoryCaller
    peer: AudioCodesPeer
    heard: list[tuple[float, PeerEvent]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    saves: list[SessionState] = field(default_factory=list)
    frames: int = 0

    async def flush(self) -> None:
        """Send what the phone has to say; a closed socket takes nothing."""
        with suppress(TransportError):
            for text in self.peer.texts_to_send():
                await self.phone.send(text)

    async def listen(self) -> None:
        """Take what the bot says until the socket closes; after another was opened, nothing counts."""
        phone = self.phone
        while (text := await phone.recv()) is not None:
            if phone is not self.phone:
                continue
            now = asyncio.get_running_loop().time()
            self.heard += [(now, event) for event in self.peer.receive(text)]

    async def dial(self) -> None:
        """Ask for a call, and start it once it is accepted."""
        self.peer.initiate("c-1")
        await self.flush()
        while not any(isinstance(event, Accepted) for _, event in self.heard):
            await pass_time(0.02)
        await pass_time(0.06)
        self.peer.start()
        self.peer.start_user_stream()
        await self.flush()

    async def talk(self, seconds: float, *, loud: bool = True) -> list[int]:
        """Speak in real time."""
        numbers = []
        for _ in range(round(seconds / FRAME_S)):
            await pass_time(FRAME_S)
            self.peer.chunk(caller_frame(self.frames, loud=loud))
            numbers.append(self.frames)
            self.frames += 1
            await self.flush()
        return numbers

    async def quiet(self, seconds: float) -> list[int]:
        """Say nothing in real time."""
        return await self.talk(seconds, loud=False)

    def resume(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Come back on another websocket; gives what ends when that is not needed any more."""
        bridge_end, self.phone = caller_pair()
        self.peer.resume("c-1")
        (text,) = self.peer.texts_to_send()
        attached = tasks.create_task(self.bridge.attach(bridge_end, text))
        tasks.create_task(self.listen())
        return attached

    async def hang_up(self) -> None:
        """End the call."""
        self.peer.end()
        await self.flush()

    def reports_of(self, event: str) -> list[Report]:
        """What the bridge reported of one kind."""
        return [report for report in self.reports if report.event == event]

    @property
    def bot_audio_s(self) -> float:
        """Seconds of bot audio so far."""
        return sum(len(e.data) for _, e in self.heard if isinstance(e, PlayChunk)) / 48_000


def new_line(
    services: MemoryConnector,
    *,
    plan: CallPlan = PLAN,
    tool: Tool | None = None,
    caller: CallerTransport | None = None,
    report: Callable[[Report], None] | None = None,
    saved: Callable[[], Awaitable[None]] | None = None,
) -> Line:
    """A bridge with a phone at its end, not running yet."""
    loop = asyncio.get_running_loop()

    def utcnow() -> datetime:
        return EPOCH + timedelta(seconds=loop.time())

    bridge_end, phone_end = caller_pair()
    reports: list[Report] = []
    saves: list[SessionState] = []
    ambient = Ambient(new_id=counted("bot"), utcnow=utcnow, random=lambda: 0.5)
    bridge = BaseBridge(
        Call(plan, ambient=ambient),
        caller=caller or bridge_end,
        sonic=services,
        report=report or reports.append,
        save=saves.append,
        saved=saved,
        tool=tool,
    )
    peer = AudioCodesPeer(new_id=counted("vaic"), utcnow=utcnow)
    return Line(bridge, phone_end, peer, reports=reports, saves=saves)


async def carried(
    line: Line, services: Services, caller: Callable[[Line], Coroutine[None, None, None]]
) -> CallOutcome:
    """Run a call whose caller does this; afterwards nothing of it is left."""
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(line.bridge.run())
        tasks.create_task(line.listen())
        tasks.create_task(caller(line))
    await services.all_over()
    assert all(end.is_closed for end in services.streams)
    return call.result()
