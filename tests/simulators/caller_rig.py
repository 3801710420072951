"""A bot with simple habits, and calls to it on the virtual clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from opusagent.audio.formats import PREFERRED_CALLER, PREFERRED_PLAY, choose
from opusagent.audio.speech import SpeechChange, SpeechDetector
from opusagent.audio.tones import tone
from opusagent.audiocodes.events import (
    CallerAudio,
    CallerEvent,
    CallerHungUp,
    CallStarted,
    ResumeRequested,
    SessionRequested,
)
from opusagent.audiocodes.protocol import AudioCodesProtocol
from opusagent.errors import TransportError
from opusagent.simulators.caller import SimulatedCaller, until
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import CallerPlan, Recorded, Step
from opusagent.simulators.numbered import NumberedAudio
from opusagent.transports import CallerTransport
from opusagent.transports.memory import MemoryCaller, caller_pair
from tests import virtual_time

PIECE_S = 0.1


@dataclass
class Habits:
    """What the bot does. Seconds."""

    accept_after_s: float = 0.2
    refuses: str | None = None
    never_accepts: bool = False
    barge_in: bool = True  # what it configures at `start`
    greeting_s: float = 2.0  # 0: none
    answers_after_s: float = 0.5
    answer_s: float = 3.0
    lead_s: float = 0.2
    pause_in_answer_s: float = 0.0  # a hole after the first half
    stops_plays: bool = True
    interrupts: bool = True
    echoes: bool = False
    hangs_up_after_s: float | None = None
    closes_after_s: float | None = None
    resumes: bool = True
    says_recognition: bool = False


@dataclass
class Bot:
    """All sockets of one conversation, from the bot's end.

    Attributes:
        events: What came, with the time of its coming.
        heard: The caller's audio.
        closed: Sockets that were seen to close.
    """

    habits: Habits
    events: list[tuple[float, CallerEvent]] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    rate_hz: int = 0
    closed: int = 0
    sockets: int = 0

    def times_of(self, kind: type[CallerEvent]) -> list[float]:
        return [at for at, event in self.events if isinstance(event, kind)]

    def all(self, kind: type[CallerEvent]) -> list[CallerEvent]:
        return [event for _, event in self.events if isinstance(event, kind)]

    async def serve(self, socket: CallerTransport) -> None:
        self.sockets += 1
        async with asyncio.TaskGroup() as tasks:
            session = _Session(self, socket, tasks, first_play=10 * self.sockets)
            await session.read()
            self.closed += 1
            session.end()


class _Session:
    def __init__(
        self, bot: Bot, socket: CallerTransport, tasks: asyncio.TaskGroup, *, first_play: int
    ) -> None:
        ids = itertools.count()
        self._bot = bot
        self._habits = bot.habits
        self._socket = socket
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._wire = AudioCodesProtocol(
            new_id=lambda: f"id-{next(ids)}",
            utcnow=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            first_play=first_play,
        )
        self._detector: SpeechDetector | None = None
        self._play_rate = 24_000
        self._player: asyncio.Task[None] | None = None
        self._mine: list[asyncio.Task[None]] = []

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._mine.append(self._tasks.create_task(work))

    def _start_to_play(self, work: Coroutine[None, None, None]) -> None:
        self._player = self._tasks.create_task(work)
        self._mine.append(self._player)

    def end(self) -> None:
        for task in self._mine:
            task.cancel()

    async def read(self) -> None:
        while (text := await self._socket.recv()) is not None:
            for event in self._wire.receive(text):
                self._bot.events.append((self._loop.time(), event))
                await self._handle(event)
            await self._flush()

    async def _flush(self) -> None:
        try:
            for text in self._wire.texts_to_send():
                await self._socket.send(text)
        except TransportError:
            return

    async def _handle(self, event: CallerEvent) -> None:
        habits = self._habits
        match event:
            case SessionRequested(offered=offered):
                if habits.refuses is not None:
                    self._wire.reject(habits.refuses)
                elif not habits.never_accepts:
                    await until(self._loop.time() + habits.accept_after_s)
                    self._accept(offered)
            case ResumeRequested(offered=offered):
                if habits.resumes:
                    self._accept(offered)
                else:
                    self._wire.reject("unknown conversation")
            case CallStarted():
                self._started()
            case CallerAudio(pcm=pcm):
                await self._hear(pcm)
            case CallerHungUp():
                self.end()
            case _:
                pass

    def _accept(self, offered: Sequence[str]) -> None:
        caller, play = choose(offered, PREFERRED_CALLER), choose(offered, PREFERRED_PLAY)
        self._wire.accept(caller, play)
        self._play_rate = play.sample_rate_hz
        self._bot.rate_hz = caller.sample_rate_hz
        self._detector = SpeechDetector(caller.sample_rate_hz)
        if self._habits.closes_after_s is not None and self._bot.sockets == 1:
            self._spawn(self._close_after(self._habits.closes_after_s))

    def _started(self) -> None:
        self._wire.configure({"bargeIn": self._habits.barge_in})
        if self._habits.greeting_s:
            self._start_to_play(self._play(self._habits.greeting_s))
        if self._habits.hangs_up_after_s is not None:
            self._spawn(self._hang_up_after(self._habits.hangs_up_after_s))

    async def _hear(self, pcm: bytes) -> None:
        self._bot.heard += pcm
        if self._habits.echoes:
            if not self._wire.playing:
                self._wire.start_play()
            self._wire.play(pcm)
            return
        assert self._detector is not None
        change = self._detector.feed(pcm)
        playing = self._player is not None and not self._player.done()
        if change is SpeechChange.STARTED and playing and self._habits.interrupts:
            assert self._player is not None
            self._player.cancel()
            self._wire.speech_started()
            self._wire.stop_play()
            self._wire.abort_prompts()
        elif change is SpeechChange.STOPPED:
            if self._habits.says_recognition:
                self._wire.speech_recognised("words")
            if self._habits.answer_s:
                self._start_to_play(self._answer())

    async def _answer(self) -> None:
        await until(self._loop.time() + self._habits.answers_after_s)
        await self._play(self._habits.answer_s)

    async def _play(self, seconds: float) -> None:
        sound = tone(300, seconds, self._play_rate)
        piece = 2 * int(PIECE_S * self._play_rate)
        began = self._loop.time()
        self._wire.start_play()
        for at in range(0, len(sound), piece):
            due = began + at / (2 * self._play_rate) - self._habits.lead_s
            if at >= len(sound) / 2:
                due += self._habits.pause_in_answer_s
            await until(due)
            self._wire.play(sound[at : at + piece])
            await self._flush()
        if self._habits.stops_plays:
            self._wire.stop_play()
            await self._flush()

    async def _hang_up_after(self, seconds: float) -> None:
        await until(self._loop.time() + seconds)
        self._wire.hang_up("goodbye")
        await self._flush()

    async def _close_after(self, seconds: float) -> None:
        await until(self._loop.time() + seconds)
        await self._socket.close(1012)


def call(
    steps: Sequence[Step],
    habits: Habits | None = None,
    plan: CallerPlan | None = None,
    *,
    refused_connections: int = 0,
) -> tuple[CallRecord, Bot]:
    """Make a call on the virtual clock."""
    bot = Bot(habits or Habits())
    attempts = itertools.count()

    async def main() -> CallRecord:
        async with asyncio.TaskGroup() as tasks:

            async def connect() -> MemoryCaller:
                if next(attempts) < refused_connections:
                    raise TransportError("ConnectionLost", "nobody there")
                here, there = caller_pair()
                tasks.create_task(bot.serve(there))
                return here

            return await SimulatedCaller(plan or CallerPlan(limit_s=300), connect).run(steps)

    return virtual_time.run(main()), bot


def speech(seconds: float) -> Recorded:
    """Something that any detector takes for speech."""
    return lambda rate_hz: tone(440, seconds, rate_hz, volume=0.4)


def numbers_in(bot: Bot, frame_ms: int = 20) -> list[int]:
    return NumberedAudio(frame_ms, bot.rate_hz).decode(bytes(bot.heard))
