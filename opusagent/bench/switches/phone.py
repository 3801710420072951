"""The phones: each carries one call, sends a numbered frame every 20 ms, and notes what it hears of the bot."""

from __future__ import annotations

import asyncio
import json
import random
import time
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass, field
from typing import Any, Final

from opusagent.bench.load_callers import BEARER, CallFailed
from opusagent.bench.switches.cases import CallerHabits
from opusagent.bench.switches.frames import (
    BOT_RATE_HZ,
    CALLER_RATE_HZ,
    FRAME_S,
    Frame,
    FrameReader,
    write,
)
from opusagent.bench.switches.mind import as_keys
from opusagent.errors import TransportError
from opusagent.transports.websocket import WebSocketTransport, connect

__all__ = ["CallLog", "Chunk", "Phone", "Turn", "conversation_id"]

FORMATS: Final = ["raw/lpcm16", "raw/lpcm16_24"]
KEY_GAP_S: Final = 0.08
ANSWER_TIMEOUT_S: Final = 12.0
"""Longer than any answer takes that a lost stream has delayed."""
FIRST_TURN_S: Final = 0.5
HOLD_AFTER_S: Final = 0.5
LAST_S: Final = 0.6
"""From the end of the last answer to the hang-up: doubles would come within it."""
MESSAGE_S: Final = 15.0


def conversation_id(call: int) -> str:
    """How the bridge knows a call."""
    return f"switches-{call}"


@dataclass(slots=True)
class Turn:
    """Something the caller said or keyed; times in monotonic seconds."""

    number: int
    keyed: bool
    began_at: float
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bot audio as it came and was played.

    Attributes:
        at: When it came.
        begins_at: When its first sample is heard.
        ends_at: When its last one is.
        late_s: How long the phone had nothing to play before it.
        frames: The frames whose heads came with it.
    """

    at: float
    begins_at: float
    ends_at: float
    late_s: float
    frames: tuple[Frame, ...]


@dataclass(slots=True)
class CallLog:
    """One call as the phone saw it; times in monotonic seconds.

    Attributes:
        sent: When each of the caller's frames was sent, and its turn; by number.
        silenced_at: When the bridge made the bot fall silent.
        failure: Why there was no call, or why it broke off.
    """

    call: int
    began_at: float
    ended_at: float = 0.0
    on_hold: bool = False
    sent: list[tuple[float, int]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    silenced_at: list[float] = field(default_factory=list)
    failure: str = ""


class Phone:
    """One call.

    Args:
        call: Its number; it stands in every frame.
        stop: Set once there were switches enough.
    """

    def __init__(self, call: int, habits: CallerHabits, stop: asyncio.Event) -> None:
        """Prepare; nothing happens before `run`."""
        self._habits = habits
        self._stop = stop
        self._random = random.Random(call)  # noqa: S311  habits, not secrets
        self._loop = asyncio.get_running_loop()
        self.log = CallLog(call, time.monotonic(), on_hold=habits.silent and call % 2 == 0)
        self._socket: WebSocketTransport
        self._started = asyncio.Event()
        self._accepted = asyncio.Event()
        self._heard = asyncio.Event()
        self._speaks_until = 0.0
        self._sends = False
        self._ends_at = 0.0  # of what is to be played
        self._reader = FrameReader()
        self._answers: dict[int, float] = {}  # turn -> when its answer was first heard

    async def run(self, url: str) -> CallLog:
        """Call, talk until there were switches enough, hang up. What goes wrong stands in the log."""
        log = self.log
        try:
            self._socket = await connect(url, token=BEARER)
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen())
                sending = tasks.create_task(self._send_audio())
                await self._begin()
                await self._converse()
                log.ended_at = time.monotonic()
                sending.cancel()
                listening.cancel()
                await self._tell(
                    type="session.end", reasonCode="client-disconnected", reason="bench"
                )
            await self._socket.close()
        except* (CallFailed, TransportError, TimeoutError) as group:
            log.ended_at = time.monotonic()
            log.failure = str(group.exceptions[0]) or type(group.exceptions[0]).__name__
        return log

    # What the caller does

    async def _begin(self) -> None:
        await self._tell(
            type="session.initiate",
            botName="bench",
            caller="anonymous",
            expectAudioMessages=True,
            supportedMediaFormats=FORMATS,
        )
        async with asyncio.timeout(MESSAGE_S):
            await self._accepted.wait()
            await self._activity("start", parameters={})
            await self._tell(type="userStream.start")
            await self._started.wait()
        self._sends = True

    async def _converse(self) -> None:
        habits, began = self._habits, self._loop.time()
        await self._turn(self._draw((FIRST_TURN_S, FIRST_TURN_S)), over_bot=False)
        if habits.silent:
            await self._be_silent()
        while not self._is_over(began):
            if habits.over_bot_s is not None:
                await self._wait(self._draw(habits.over_bot_s))
            else:
                await self._wait_for_quiet()
                await self._wait(self._draw(habits.rest_s))
            await self._turn(self._draw(habits.speech_s), over_bot=habits.over_bot_s is not None)
        await self._wait_for_quiet()
        await self._wait(LAST_S)

    def _is_over(self, began: float) -> bool:
        call_s = self._habits.call_s
        return self._stop.is_set() or (call_s is not None and self._loop.time() >= began + call_s)

    async def _turn(self, seconds: float, *, over_bot: bool) -> None:
        """Say or key something, and wait until its answer begins."""
        turn = Turn(len(self.log.turns) + 1, self._habits.keys, time.monotonic())
        self.log.turns.append(turn)
        if turn.keyed:
            for key in as_keys(self.log.call, turn.number):
                await self._activity("DTMF", value=key)
                await self._wait(KEY_GAP_S)
        else:
            self._speaks_until = self._loop.time() + seconds
            await self._wait(seconds + FRAME_S)
        turn.ended_at = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while turn.number not in self._answers:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            return  # told by the measures
        if over_bot:
            await self._wait(self._answers[turn.number] - time.monotonic())

    async def _be_silent(self) -> None:
        await self._wait_for_quiet()
        if self.log.on_hold:
            await self._wait(HOLD_AFTER_S)
            self._sends = False
            await self._tell(type="userStream.stop")
        await self._stop.wait()

    async def _wait_for_quiet(self) -> None:
        """Wait until nothing has come, and all that came was played."""
        while (left_s := self._ends_at + FRAME_S - time.monotonic()) > 0:
            await self._wait(left_s)

    def _draw(self, bounds: tuple[float, float]) -> float:
        return self._random.uniform(*bounds)

    async def _wait(self, seconds: float) -> None:
        await _until(self._loop.time() + seconds)

    # The wire

    async def _send_audio(self) -> None:
        name = conversation_id(self.log.call)
        head = f'{{"type":"userStream.chunk","conversationId":"{name}","audioChunk":"'
        at = self._loop.time() + self._random.random() * FRAME_S
        while True:
            at += FRAME_S
            await _until(at)
            if not self._sends:
                continue
            speaks = self._loop.time() < self._speaks_until
            turn = self.log.turns[-1].number if speaks else 0
            now_ns = time.monotonic_ns()
            frame = Frame(self.log.call, turn, len(self.log.sent), now_ns)
            self.log.sent.append((now_ns / 1e9, turn))
            pcm = write(frame, CALLER_RATE_HZ)
            await self._socket.send(head + b2a_base64(pcm, newline=False).decode() + '"}')

    async def _listen(self) -> None:
        while (text := await self._socket.recv()) is not None:
            now = time.monotonic()
            message = json.loads(text)
            match message["type"]:
                case "playStream.chunk":
                    self._play(a2b_base64(message["audioChunk"]), now)
                case "session.accepted":
                    self._accepted.set()
                case "userStream.started":
                    self._started.set()
                case "userStream.speech.started":
                    self._silence(now)
                case "activities":
                    if any(one.get("name") == "abortPrompts" for one in message["activities"]):
                        self._silence(now)
                case "session.error":
                    raise CallFailed(f"the bridge gave up: {message.get('reason')}")
        raise CallFailed("the bridge closed the socket")

    def _play(self, pcm: bytes, now: float) -> None:
        begins = max(now, self._ends_at)
        late_s = begins - self._ends_at
        self._ends_at = begins + len(pcm) / (2 * BOT_RATE_HZ)
        frames = tuple(self._reader.feed(pcm))
        self.log.chunks.append(Chunk(now, begins, self._ends_at, late_s, frames))
        for frame in frames:
            if frame.turn not in self._answers:
                self._answers[frame.turn] = begins
                self._heard.set()

    def _silence(self, now: float) -> None:
        """The bridge has taken the word from the bot: what is left is not played."""
        if self._ends_at > now:
            self._ends_at = now
            self.log.silenced_at.append(now)

    async def _activity(self, name: str, **fields: object) -> None:
        activity = {"id": f"{time.monotonic_ns()}", "type": "event", "name": name, **fields}
        await self._tell(type="activities", activities=[activity])

    async def _tell(self, **message: Any) -> None:
        await self._socket.send(
            json.dumps(message | {"conversationId": conversation_id(self.log.call)})
        )


async def _until(when: float) -> None:
    """Wait until the loop's clock says `when`; at least one turn of the loop."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    handle = loop.call_at(when, _resolve, waiter)
    try:
        await waiter
    finally:
        handle.cancel()


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
