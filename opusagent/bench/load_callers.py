"""Many callers that only carry load: stamped caller audio in real time, ages of the bot audio that comes back."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from binascii import a2b_base64, b2a_base64
from typing import Final

from opusagent.bench.stamps import Arrivals, Stamper
from opusagent.errors import OpusAgentError
from opusagent.transports.websocket import WebSocketTransport, connect

__all__ = ["BEARER", "CALLER_BYTES_PER_MS", "FORMATS", "SETTLE_S", "CallFailed", "LoadCaller"]

CALLER_BYTES_PER_MS: Final = 32  # 16 kHz, 16 bit
FORMATS: Final = ["raw/lpcm16", "raw/lpcm16_24"]
BEARER: Final = "bench"
SETTLE_S: Final = 0.5
_CHUNK: Final = '"type":"playStream.chunk"'


class CallFailed(OpusAgentError):
    """The bridge did not take or answer a call."""


class LoadCaller:
    """One call: `begin`, `talk` for a while, `end`."""

    def __init__(self, number: int, frame_ms: int, arrivals: Arrivals) -> None:
        """`arrivals` collects the bot audio of all callers."""
        self._frame_s = frame_ms / 1000
        self._stamper = Stamper(number, frame_ms * CALLER_BYTES_PER_MS)
        self._arrivals = arrivals
        self._id = str(uuid.uuid4())
        self._socket: WebSocketTransport
        self.accepted_s = 0.0

    async def begin(self, url: str) -> None:
        """Call, and open the caller's audio.

        Raises:
            CallFailed: If the bridge refuses the session.
            TransportError: If it cannot be reached.
        """
        began = time.monotonic()
        self._socket = await connect(url, token=BEARER)
        await self._send(
            type="session.initiate",
            botName="bench",
            caller="anonymous",
            expectAudioMessages=True,
            supportedMediaFormats=FORMATS,
        )
        await self._until("session.accepted")
        self.accepted_s = time.monotonic() - began
        start = {"id": str(uuid.uuid4()), "type": "event", "name": "start", "parameters": {}}
        await self._send(type="activities", activities=[start])
        await self._send(type="userStream.start")
        await self._until("userStream.started")

    async def talk(
        self, seconds: float, phase_s: float = 0.0, *, settle_s: float = SETTLE_S
    ) -> None:
        """Send and receive.

        Args:
            seconds: How long the caller speaks.
            phase_s: When the first frame goes; spreads the callers over one frame.
            settle_s: How long to receive on, so that what is on its way is not lost.
        """
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._socket.listen(self._hear))
            await self._speak(seconds, phase_s)
            await _until_time(asyncio.get_running_loop().time() + settle_s)
            listening.cancel()

    async def end(self) -> None:
        """Hang up."""
        await self._send(type="session.end", reasonCode="client-disconnected", reason="bench")
        await self._socket.close()

    @property
    def sent(self) -> int:
        """How many frames were sent."""
        return self._stamper.sent

    async def _speak(self, seconds: float, phase_s: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time() + phase_s
        head = f'{{"type":"userStream.chunk","conversationId":"{self._id}","audioChunk":"'
        for number in range(int(seconds / self._frame_s)):
            await _until_time(began + number * self._frame_s)
            pcm = self._stamper.frame(time.monotonic_ns())
            text = head + b2a_base64(pcm, newline=False).decode() + '"}'
            if not self._socket.send_now(text):
                await self._socket.send(text)

    def _hear(self, text: str | bytes) -> None:
        now_ns = time.monotonic_ns()
        if isinstance(text, str) and _CHUNK in text[:40]:
            begin = text.index('"audioChunk":"') + 14
            self._arrivals.add(a2b_base64(text[begin : text.index('"', begin)]), now_ns)

    async def _send(self, **message: object) -> None:
        await self._socket.send(json.dumps(message | {"conversationId": self._id}))

    async def _until(self, kind: str) -> None:
        async with asyncio.timeout(15):
            while (text := await self._socket.recv()) is not None:
                got = json.loads(text)["type"]
                if got == kind:
                    return
                if got == "session.error":
                    break
        raise CallFailed(f"no {kind}; the bridge said {text!r}")


async def _until_time(when: float) -> None:
    loop = asyncio.get_running_loop()
    if when > loop.time():
        waiter = loop.create_future()
        handle = loop.call_at(when, _resolve, waiter)
        try:
            await waiter
        finally:
            handle.cancel()


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
