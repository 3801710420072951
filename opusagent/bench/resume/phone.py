"""A caller of VoiceAI Connect who comes back whenever her line is lost, and notes how long that took."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from binascii import b2a_base64
from dataclasses import dataclass, field
from typing import Any, Final

from opusagent.bench.load_callers import BEARER, CALLER_BYTES_PER_MS, FORMATS
from opusagent.bench.stamps import Stamper
from opusagent.errors import TransportError
from opusagent.transports.websocket import WebSocketTransport, connect

__all__ = ["Door", "Phone", "Return", "pause"]

RETRY_S: Final = 0.02
GIVE_UP_S: Final = 20.0
"""How long a caller tries to come back."""


@dataclass(slots=True)
class Door:
    """What a load balancer knows: which bridges take callers now, those that are preferred first."""

    urls: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Return:
    """One `session.resume` that was accepted; times in monotonic seconds."""

    asked_at: float
    accepted_at: float
    url: str


class Phone:
    """One call: `run` in a task of its own, until `hang_up`.

    Args:
        number: Stands in every frame; at least 0.
        door: Where to call, and to come back to.
        frame_ms: Length of a frame; VoiceAI Connect sends 160 ms (measured on a live capture).

    Attributes:
        sent: How many frames were written to a socket.
        returns: Every resume that was accepted.
        refused: The reason of a `session.error`.
        hung_up: Whether the bridge asked for the end of the call.
        first_url: Where the call began.
        last_url: Where it is now.
        is_up: Set while her frames flow.
        lost: Why there is no call any more, if nobody wanted that.
    """

    def __init__(self, number: int, door: Door, *, frame_ms: int = 20) -> None:
        """Prepare; nothing happens before `run`."""
        self.number = number
        self.conversation_id = str(uuid.uuid4())
        self.returns: list[Return] = []
        self.refused: str | None = None
        self.hung_up = False
        self.lost = ""
        self.first_url = self.last_url = ""
        self.is_up = asyncio.Event()
        self._door = door
        self._frame_s = frame_ms / 1000
        self._stamper = Stamper(number, frame_ms * CALLER_BYTES_PER_MS)
        self._socket: WebSocketTransport | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._done = False
        self._head = (
            f'{{"type":"userStream.chunk","conversationId":"{self.conversation_id}","audioChunk":"'
        )

    @property
    def sent(self) -> int:
        """How many frames were written to a socket."""
        return self._stamper.sent

    async def run(self) -> None:
        """Call, speak without a pause, and come back until it is over."""
        resumes = False
        while not self._done:
            if (found := await self._connect()) is None:
                self.lost = "no bridge could be reached"
                return
            url, socket = found
            asked_at = time.monotonic()
            try:
                answer = await self._ask(socket, resumes=resumes)
            except TransportError:
                continue
            if answer is None:
                continue  # closed without a word: try again
            if answer["type"] == "session.error":
                self.refused = self.lost = str(answer["reason"])
                return
            self.first_url, self.last_url = self.first_url or url, url
            if resumes:
                self.returns.append(Return(asked_at, time.monotonic(), url))
            resumes = True
            await self._carry(socket)

    async def cut(self) -> None:
        """Lose the socket without a word; what was written to it has left."""
        if self._socket is not None and self._speaking is not None:
            self._speaking.cancel()
            await pause(0.002)  # uvloop writes at the end of a turn, and an abort forgets
            self._socket.abort()

    async def hang_up(self) -> None:
        """End the call, if it is not over."""
        self._done = True
        if self._socket is not None:
            if self._speaking is not None:
                self._speaking.cancel()
            with contextlib.suppress(TransportError):
                await self._send(
                    self._socket,
                    type="session.end",
                    reasonCode="client-disconnected",
                    reason="bench",
                )
            await self._socket.close()

    async def _connect(self) -> tuple[str, WebSocketTransport] | None:
        give_up_at = time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up_at and not self._done:
            for url in tuple(self._door.urls):
                with contextlib.suppress(TransportError):
                    return url, await connect(url, token=BEARER)
            await pause(RETRY_S)
        return None

    async def _ask(self, socket: WebSocketTransport, *, resumes: bool) -> dict[str, Any] | None:
        more = {} if resumes else {"botName": "bench", "expectAudioMessages": True}
        kind = "session.resume" if resumes else "session.initiate"
        await self._send(socket, type=kind, supportedMediaFormats=FORMATS, **more)
        while (text := await socket.recv()) is not None:
            answer: dict[str, Any] = json.loads(text)
            if answer["type"] in ("session.accepted", "session.error"):
                return answer
        return None

    async def _carry(self, socket: WebSocketTransport) -> None:
        self._socket = socket
        async with asyncio.TaskGroup() as tasks:
            self._speaking = tasks.create_task(self._speak(socket))
            while (text := await socket.recv()) is not None:
                if '"hangup"' in str(text):
                    self.hung_up = True
            self._socket = None
            self.is_up.clear()
            self._speaking.cancel()

    async def _speak(self, socket: WebSocketTransport) -> None:
        start = {"id": str(uuid.uuid4()), "type": "event", "name": "start", "parameters": {}}
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TransportError):
            await self._send(socket, type="activities", activities=[start])
            await self._send(socket, type="userStream.start")
            self.is_up.set()
            began, frames = loop.time(), 0
            while True:
                pcm = self._stamper.frame(time.monotonic_ns())
                await socket.send(self._head + b2a_base64(pcm, newline=False).decode() + '"}')
                frames += 1
                await pause(began + frames * self._frame_s - loop.time())

    async def _send(self, socket: WebSocketTransport, **message: object) -> None:
        await socket.send(json.dumps(message | {"conversationId": self.conversation_id}))


async def pause(seconds: float) -> None:
    """Wait."""
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()
