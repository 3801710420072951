"""A model that talks without being asked: it tells items, each with a token of its own, and notes what it is told."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from binascii import a2b_base64
from dataclasses import dataclass, field
from typing import Final

from opusagent.bench.stamps import Arrivals, stamps
from opusagent.models.session_state import Role
from opusagent.simulators.wire import (
    ConnectionFault,
    Refusal,
    StreamHandler,
    StreamRequest,
    StreamWriter,
)
from opusagent.sonic.peer_brain import ToolAsk
from opusagent.sonic.peer_writer import PeerWriter
from opusagent.sonic.reader import Stage, StopReason

__all__ = ["Item", "TalkingService", "TalkingStream"]

SENTENCE_BYTES: Final = 24_000 * 2 // 20
"""50 ms of 16-bit sound at 24 kHz: a talkative model is no faster than real time."""

_TOKEN: Final = re.compile(r"\bi\d+x\b")


@dataclass(frozen=True, slots=True)
class Item:
    """Something that was said or asked for.

    Attributes:
        token: Stands in its text and nowhere else.
        call: The number of the call.
        sent_at: When it went to the bridge, in monotonic seconds.
    """

    token: str
    call: int
    sent_at: float


@dataclass(slots=True)
class TalkingStream:
    """What came on one stream.

    Attributes:
        call: The number of its call; None until the caller was heard.
        heard_at: When the first frame of the caller came, in monotonic seconds.
        told: Tokens that it was told, in history or typed, in order.
        said: Tokens of what it said and asked for.
        reached: When the bridge answered a request of this stream, and how many items it had been given
            up to that: those had reached it.
        frames: Numbers of the caller's frames, in order.
    """

    asked_at: float
    call: int | None = None
    heard_at: float | None = None
    told: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    reached: list[tuple[float, int]] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)

    def reached_by(self, at: float) -> int:
        """How many of its items had certainly reached the bridge then, in monotonic seconds."""
        return max((count for answered_at, count in self.reached if answered_at <= at), default=0)


class TalkingService:
    """Answers every stream; see `Service` in `simulators/wire.py`.

    Attributes:
        talks: Whether items are told. What was told stays.
        speaks: Whether some of them are sentences with sound, and not only words.
        spoken: How many were.
        pause_s: Between two items of a call, at least and at most.
        items: All of them.
        streams: All of them, in order.
        arrivals: How old the callers' frames are when they come, over all calls.
    """

    def __init__(self, *, seed: int = 0) -> None:
        """`seed` is of the moments and kinds of the items."""
        self.talks = True
        self.speaks = False
        self.spoken = 0
        self.pause_s = (0.02, 0.15)
        self.items: list[Item] = []
        self.streams: list[TalkingStream] = []
        self.arrivals = Arrivals()
        self.random = random.Random(seed)  # noqa: S311 - not for secrets
        self._tokens = itertools.count(1)
        self._changed = asyncio.Event()

    def open_connection(self) -> ConnectionFault | None:
        """Every connection is good."""
        return None

    def open_stream(self, request: StreamRequest, writer: StreamWriter) -> StreamHandler | Refusal:
        """Every stream is taken."""
        del request
        stream = TalkingStream(time.monotonic())
        self.streams.append(stream)
        return _Handler(self, stream, writer)

    def new_token(self) -> str:
        """One that never was."""
        return f"i{next(self._tokens)}x"

    def streams_of(self, call: int) -> list[TalkingStream]:
        """The streams on which this caller was heard, in order."""
        return [stream for stream in self.streams if stream.call == call]

    def items_of(self, call: int) -> list[Item]:
        """What was told in this call."""
        return [item for item in self.items if item.call == call]

    def heard(self) -> None:
        """A caller is heard on a stream for the first time; for the streams themselves."""
        self._changed.set()

    async def until_heard(self, call: int, n_streams: int, timeout_s: float = 20.0) -> None:
        """Wait until a caller was heard on so many streams.

        Raises:
            TimeoutError: If that does not happen.
        """
        async with asyncio.timeout(timeout_s):
            while len(self.streams_of(call)) < n_streams:
                self._changed.clear()
                await self._changed.wait()


class _Handler:
    """One stream on the wire."""

    def __init__(
        self, service: TalkingService, stream: TalkingStream, writer: StreamWriter
    ) -> None:
        self._service = service
        self._stream = stream
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        ids = itertools.count(1)
        number = len(service.streams)
        self._says = PeerWriter(new_id=lambda: f"s{number}-{next(ids)}")
        self._texts: dict[str, list[str]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def receive(self, payload: bytes) -> None:
        if b'"audioInput"' in payload:
            begin = payload.index(b'"content":"') + 11
            self._hear(a2b_base64(payload[begin : payload.index(b'"', begin)]))
            return
        ((name, body),) = json.loads(payload)["event"].items()
        match name:
            case "promptStart":
                self._says.prompt_name = body["promptName"]
            case "contentStart" if "toolResultInputConfiguration" in body:
                token = body["toolResultInputConfiguration"]["toolUseId"]
                count = self._stream.said.index(token) + 1
                self._stream.reached.append((time.monotonic(), count))
            case "textInput":
                self._texts.setdefault(body["contentName"], []).append(body["content"])
            case "contentEnd":
                text = "".join(self._texts.pop(body["contentName"], ()))
                self._stream.told += _TOKEN.findall(text)

    def end_of_input(self) -> None:
        self.closed()
        self._writer.end()

    def closed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _hear(self, pcm: bytes) -> None:
        self._service.arrivals.add(pcm, time.monotonic_ns())
        found = list(stamps(pcm))
        self._stream.frames += [number for _, number, _ in found]
        if found and self._stream.call is None:
            self._stream.call = found[0][0]
            self._stream.heard_at = time.monotonic()
            self._service.heard()
            self._talk_later()

    def _speak(self, sentence: str) -> None:
        """Announce a sentence, speak it, and say that it was spoken."""
        self._says.text(Role.ASSISTANT, Stage.SPECULATIVE, [sentence], StopReason.PARTIAL_TURN)
        self._says.start_audio()
        self._says.audio(bytes(SENTENCE_BYTES))
        self._says.end_audio(StopReason.END_TURN)
        self._says.text(Role.ASSISTANT, Stage.FINAL, [sentence], StopReason.END_TURN)

    def _talk_later(self) -> None:
        pause_s = self._service.random.uniform(*self._service.pause_s)
        self._timer = self._loop.call_later(pause_s, self._talk)

    def _talk(self) -> None:
        self._talk_later()
        if not self._service.talks or self._stream.call is None:
            return
        token = self._service.new_token()
        match self._service.random.randrange(4 if self._service.speaks else 3):
            case 0:
                self._says.text(Role.USER, Stage.FINAL, [token], StopReason.PARTIAL_TURN)
            case 1:
                self._says.text(Role.ASSISTANT, Stage.FINAL, [token], StopReason.PARTIAL_TURN)
            case 3:
                self._service.spoken += 1
                self._speak(token)
            case _:
                self._says.tools([(token, ToolAsk("look_up", {"token": token}))])
        self._stream.said.append(token)
        for payload in self._says.drain():
            self._writer.send(payload)
        self._service.items.append(Item(token, self._stream.call, time.monotonic()))
