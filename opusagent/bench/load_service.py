"""A Nova Sonic service that only carries load: stamped bot audio in real time, no conversation.

Run as a process of its own: `python -m opusagent.bench.load_service CA_FILE FRAME_MS`. Prints `READY URL`,
and obeys the lines of its standard input: `reset` counts anew (and says so), `figures` prints what arrived as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from binascii import a2b_base64, b2a_base64
from pathlib import Path
from typing import Any

import uvloop

from opusagent.bench.stamps import Arrivals, Stamper
from opusagent.simulators.wire import (
    ConnectionFault,
    Refusal,
    StreamHandler,
    StreamRequest,
    StreamWriter,
    WireServer,
)

BOT_BYTES_PER_MS = 48  # 24 kHz, 16 bit

_START = (
    b'{"event":{"contentStart":{"contentId":"a1","type":"AUDIO","role":"ASSISTANT",'
    b'"audioOutputConfiguration":{"mediaType":"audio/lpcm","sampleRateHertz":24000}}}}'
)
_AUDIO = b'{"event":{"audioOutput":{"contentId":"a1","content":"'


class LoadStream:
    """Hears, and speaks once it has heard enough to know that audio is open."""

    def __init__(self, service: LoadService, call: int, writer: StreamWriter) -> None:
        """Prepare; it speaks once it has heard something."""
        self._service = service
        self.writer = writer
        self._stamper = Stamper(call, service.frame_ms * BOT_BYTES_PER_MS)
        self._started_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def receive(self, payload: bytes) -> None:
        """Take one event of the client."""
        if b'"audioInput"' not in payload:
            return
        # The content is the only long string of the event.
        begin = payload.index(b'"content":"') + 11
        pcm = a2b_base64(payload[begin : payload.index(b'"', begin)])
        self._service.arrivals.add(pcm, time.monotonic_ns())
        if self._timer is None and self._service.talks:
            self.writer.send(_START)
            self.begun()
            self._started_at = self._loop.time()
            self._speak()

    def end_of_input(self) -> None:
        """The client has nothing more to say."""
        self.closed()
        self.writer.end()

    def closed(self) -> None:
        """The stream is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def begun(self) -> None:
        """It speaks from now on."""

    def _speak(self) -> None:
        pcm = self._stamper.frame(time.monotonic_ns())
        self.writer.send(_AUDIO + b2a_base64(pcm, newline=False) + b'"}}}')
        at = self._started_at + self._stamper.sent * self._service.frame_ms / 1000
        self._timer = self._loop.call_at(at, self._speak)


class LoadService:
    """Answers every stream; see `Service` in `simulators/wire.py`."""

    def __init__(self, frame_ms: int, *, talks: bool = True) -> None:
        """`frame_ms` is the length of one event of bot audio."""
        self.frame_ms = frame_ms
        self.talks = talks
        self.arrivals = Arrivals()
        self._streams = 0

    def open_connection(self) -> ConnectionFault | None:
        """Every connection is good."""
        return None

    def open_stream(self, request: StreamRequest, writer: StreamWriter) -> StreamHandler | Refusal:
        """Every stream is taken."""
        del request
        self._streams += 1
        return self.make_stream(self._streams, writer)

    def make_stream(self, number: int, writer: StreamWriter) -> StreamHandler:
        """The stream of that number, from 1."""
        return LoadStream(self, number, writer)

    def reset(self) -> None:
        """Count anew."""
        self.arrivals.begin(time.monotonic_ns())

    def figures(self) -> dict[str, Any]:
        """What arrived."""
        return {
            "frames": self.arrivals.frames,
            "doubled": self.arrivals.doubled,
            "disordered": self.arrivals.disordered,
            "ages_ms": self.arrivals.ages_ms,
        }


async def serve_load(service: LoadService, ca_file: Path) -> None:
    """Be the service of a load until the end of standard input."""
    async with WireServer(service, ca_file=ca_file) as server:
        print(f"READY {server.url}", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line == "reset":
                service.reset()
                print("counting anew", flush=True)
            else:
                print(json.dumps(service.figures()), flush=True)


if __name__ == "__main__":
    uvloop.run(serve_load(LoadService(int(sys.argv[2])), Path(sys.argv[1])))
