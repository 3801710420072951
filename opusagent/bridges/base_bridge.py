"""The shell of a call: it runs the core's effects over two transports and decides nothing.

caller transport --texts--> BaseBridge --inputs--> Call --effects--> BaseBridge --> pipes, texts, timers
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from itertools import groupby
from typing import Any, assert_never

from pydantic import JsonValue

from opusagent.audio.tail import AudioTail
from opusagent.audiocodes.codec import dump
from opusagent.audiocodes.messages import SessionError
from opusagent.audiocodes.outbox import Outbox
from opusagent.bridges.sonic_pipe import SonicPipe
from opusagent.call.call import Call, Phase
from opusagent.call.events import (
    AudioToSonic,
    CallerAttached,
    CallerLost,
    CallInput,
    CallOutcome,
    CloseStream,
    ControlToSonic,
    Effect,
    Finish,
    FromCaller,
    FromSonic,
    HangUpSocket,
    KeepState,
    NoteSent,
    OpenStream,
    Record,
    RecordSilence,
    Report,
    RunTool,
    Save,
    StreamId,
    StreamLost,
    StreamOpened,
    StreamSent,
    ToCaller,
    ToolCall,
    ToolFinished,
)
from opusagent.errors import ToolError, TransportError
from opusagent.models.session_state import SessionState
from opusagent.sonic.failures import classify
from opusagent.transports import CallerTransport, SonicConnector

END_S = 4.0
"""How long the streams of a call that is over may take to end, and its last texts to be sent. Together
with the closing of the socket, 3 s, it is all that a call takes after its end."""

UNSENT_S = 5.0
"""A caller's socket that leaves this much bot audio unread, besides its lead, is taken for dead."""

TEXT_BYTES_PER_S = 64_000
"""Of bot audio at most: 16-bit samples at 24 kHz in base64. At slower rates the same is more seconds."""

BACKLOG_S = 12.0
"""Caller audio that may wait for a stream: the whole replay ring and a little more. It waits only while
the service does not read, and a stream that does not read for 5 s is given up."""

type Tool = Callable[[ToolCall], Awaitable[dict[str, JsonValue]]]


class BaseBridge:
    """Carries one call between one websocket and its Nova Sonic streams.

    Args:
        call: The core.
        caller: The websocket, open.
        sonic: Makes transports for streams.
        report: Takes what is worth a log line and a count.
        save: Takes each new state of the session; must not block.
        saved: Waits, bounded, until what it took is stored; a socket is not closed before.
        tool: Runs a tool; without one every tool fails.
        keep: Takes each value of the call's state that the model sets, for the tools to see.
        record: Takes what is recorded of the call; must not block.
        lead_s: How far bot audio runs ahead of real time, in seconds.
    """

    def __init__(
        self,
        call: Call,
        *,
        caller: CallerTransport,
        sonic: SonicConnector,
        report: Callable[[Report], None],
        save: Callable[[SessionState], None] | None = None,
        saved: Callable[[], Awaitable[None]] | None = None,
        tool: Tool | None = None,
        keep: Callable[[str, JsonValue], None] | None = None,
        record: Callable[[Record | RecordSilence], None] | None = None,
        lead_s: float = 0.3,
    ) -> None:
        """Prepare; nothing happens before `run`."""
        self._call = call
        self._caller = caller
        self._sonic = sonic
        self._report = report
        self._save = save
        self._saved = saved
        self._tool = tool
        self._keep_state = keep
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._pipes: dict[StreamId, SonicPipe] = {}
        self._opened_at: dict[StreamId, float] = {}
        self._outbox = Outbox()
        self._left = asyncio.Event()  # set once the present websocket is not ours any more
        self._max_unsent = round((UNSENT_S + lead_s) * TEXT_BYTES_PER_S)
        self._closing: HangUpSocket | None = None
        self._to_send = asyncio.Event()
        self._writer_waits = False
        self._finished: asyncio.Future[CallOutcome] = self._loop.create_future()
        self._cut_short = False  # cancelled, or ended by a bug: the core is not asked any more
        self._tasks: asyncio.TaskGroup
        # Has the log's fields of this call; what comes off the network comes in a context without them.
        self._context = contextvars.copy_context()
        self._streams: set[asyncio.Task[None]] = set()
        self._running_tools: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    async def run(self, *first: str | bytes) -> CallOutcome:
        """Carry the call to its end.

        Args:
            first: Messages that were read from the websocket already.
        """
        self._context = contextvars.copy_context()
        async with asyncio.TaskGroup() as self._tasks:
            for text in first:
                self.step(FromCaller(text))
            self._serve_caller()
            try:
                outcome = await asyncio.shield(self._finished)
            finally:
                self._cut_short = not self._finished.done() or bool(self._finished.exception())
                self._reader.cancel()
                self._disarm()
                for task in tuple(self._running_tools):
                    task.cancel()
                await self._see_out(self._writer)
                if self._cut_short:
                    await self._apologise()
                await self._caller.close()
                self._left.set()
        return outcome

    @property
    def phase(self) -> Phase:
        """How far the call has come."""
        return self._call.phase

    @property
    def is_over(self) -> bool:
        """Whether the call has ended; its streams and its socket may still be closing."""
        return self._finished.done()

    async def attach(self, caller: CallerTransport, text: str | bytes) -> None:
        """Go on with the caller on another websocket; returns when that is not needed any more.

        Args:
            caller: The new websocket; the one before loses, whatever its state.
            text: The message that was read from it already.
        """
        left = asyncio.Event()
        if not self._finished.done():
            self._reader.cancel()
            self._writer.cancel()
            self._tasks.create_task(self._caller.close(1000, "resumed on another socket"))
            self._left.set()
            self._caller, self._left = caller, left
            self.step(CallerAttached(text, self._outbox.clear()))
            self._serve_caller()
            await left.wait()

    def _serve_caller(self) -> None:
        self._reader = self._tasks.create_task(self._read_caller(self._caller))
        self._writer = self._tasks.create_task(self._write_caller(self._caller))

    async def _see_out(self, writer: asyncio.Task[None]) -> None:
        """Let the streams end and the last texts leave, side by side."""
        for pipe in self._pipes.values():
            pipe.finish()
        self._to_send.set()
        _, late = await asyncio.wait((writer, *self._streams), timeout=END_S)
        for task in late:
            task.cancel()

    async def _apologise(self) -> None:
        """A bug ended the call: say so in the Bot API's words, so that the tenant's fail-over runs."""
        with contextlib.suppress(TransportError):
            await self._caller.send(dump(SessionError(reason="internal error")))

    def step(self, event: CallInput) -> None:
        """Give the core an input and run what it wants. Never waits, so no other task can slip in between.

        A bug ends this call and is raised by `run`, whoever gave the input.
        """
        self._guarded(lambda: self._call.handle(event, self._loop.time()))

    def _guarded(self, decide: Callable[[], list[Effect]]) -> None:
        if self._cut_short:
            return
        try:
            self._run_all(decide())
        except Exception as error:  # noqa: BLE001 - a bug; `run` raises it, where the call's top is
            if not self._finished.done():
                self._finished.set_exception(error)

    def _run_all(self, effects: list[Effect]) -> None:
        if texts := [effect.text for effect in effects if isinstance(effect, ToCaller)]:
            self._send(texts)
        for stream, group in groupby(effects, _events_to):
            if stream is None:
                for effect in group:
                    self._run(effect)
            else:  # a history is hundreds of events: they go together
                events = (effect for effect in group if isinstance(effect, ControlToSonic))
                self._pipes[stream].put(*(event.payload for event in events))
        self._rearm()

    def _run(self, effect: Effect) -> None:
        match effect:
            case AudioToSonic(stream, pcm):
                self._pipes[stream].put_audio(pcm)
            case OpenStream(stream, can_wait):
                self._open(stream, can_wait=can_wait)
            case CloseStream(stream):
                self._pipes.pop(stream).finish()
            case ToCaller() | ControlToSonic():
                pass  # sent already: those of a step go together
            case NoteSent(stream):
                self._pipes[stream].when_sent(partial(self.step, StreamSent(stream)))
            case HangUpSocket():
                self._closing = effect
                self._to_send.set()
            case RunTool(call):
                self._spawn(self._run_tool(call), self._running_tools)
            case KeepState(key, value):
                if self._keep_state is not None:
                    self._keep_state(key, value)
            case Save(state):
                if self._save is not None:
                    self._save(state)
            case Report():
                self._report(effect)
            case Record() | RecordSilence():
                if self._record is not None:
                    self._record(effect)
            case Finish(outcome):
                if not self._finished.done():
                    self._finished.set_result(outcome)
            case _:
                assert_never(effect)

    # The caller

    async def _read_caller(self, caller: CallerTransport) -> None:
        await caller.listen(partial(self._hear, caller))
        self._lose(caller)

    def _hear(self, caller: CallerTransport, text: str | bytes) -> None:
        """Take a message; one of a websocket that was replaced is nobody's."""
        if caller is self._caller:
            self._context.run(self.step, FromCaller(text))

    async def _write_caller(self, caller: CallerTransport) -> None:
        try:
            while True:
                while (text := self._outbox.take()) is not None:
                    await caller.send(text)
                if self._closing is not None:
                    if self._saved is not None:  # whoever takes the call up must find all of it
                        await self._saved()
                    await caller.close(self._closing.code, self._closing.reason)
                    return
                if self._finished.done():
                    return
                self._to_send.clear()
                self._writer_waits = True
                try:
                    await self._to_send.wait()
                finally:
                    self._writer_waits = False
        except TransportError:
            # The reader learns of it as well; whoever is first tells the core.
            self._lose(caller)

    def _lose(self, caller: CallerTransport, *unsent: str) -> None:
        """A websocket is gone; one that was replaced is nobody's loss."""
        if caller is self._caller:
            self.step(CallerLost((*unsent, *self._outbox.clear())))

    def _send(self, texts: list[str]) -> None:
        while self._writer_waits and not self._outbox.size and self._caller.send_now(texts[0]):
            texts = texts[1:]  # at once, without a turn of the loop
            if not texts:
                return
        self._outbox.put(texts)
        if self._outbox.size > self._max_unsent:
            unsent = self._outbox.clear()
            self._report(Report("caller does not read"))
            self._loop.call_soon(self._lose, self._caller, *unsent)
            self._tasks.create_task(self._caller.close(1008, "the peer does not read"))
        self._to_send.set()

    # The streams

    def _open(self, stream: StreamId, *, can_wait: bool) -> None:
        rate = self._call.caller_bytes_per_second
        pipe = SonicPipe(
            self._sonic.connect(self._call.model_id, can_wait=can_wait),
            encode=self._call.audio_encoder(stream),
            audio=partial(AudioTail, rate, BACKLOG_S),
            on_opened=partial(self._opened, stream),
            on_payload=lambda payload: self._context.run(self.step, FromSonic(stream, payload)),
            on_lost=partial(self._lost, stream),
            on_dropped=lambda n: self._report(
                Report("audio dropped", {"where": "outbox", "ms": round(n / rate * 1000)})
            ),
        )
        self._pipes[stream] = pipe
        self._spawn(self._carry(stream, pipe), self._streams)

    async def _carry(self, stream: StreamId, pipe: SonicPipe) -> None:
        try:
            await pipe.run()
        finally:
            if (began := self._opened_at.pop(stream, None)) is not None:
                age_s = round(self._loop.time() - began, 3)
                self._report(Report("stream closed", {"stream": stream, "age_s": age_s}))

    def _opened(self, stream: StreamId, expires_in_s: float | None) -> None:
        now = self._loop.time()
        self._opened_at[stream] = now
        self.step(StreamOpened(stream, None if expires_in_s is None else now + expires_in_s))

    def _lost(self, stream: StreamId, error: TransportError) -> None:
        self.step(StreamLost(stream, classify(error.code, error.message)))

    def _spawn(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = self._tasks.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)

    # Tools

    async def _run_tool(self, call: ToolCall) -> None:
        if self._tool is None:
            result: dict[str, JsonValue] = {"error": f"{call.name} cannot be run here"}
        else:
            try:
                result = await self._tool(call)
            except ToolError as error:
                result = {"error": str(error)}
            except Exception:  # noqa: BLE001 - somebody else's code: the call goes on without it
                self._report(Report("tool crashed", {"name": call.name}))
                result = {"error": f"{call.name} failed"}
        self.step(ToolFinished(call, result))

    # The timer

    def _rearm(self) -> None:
        at = self._call.next_timer()
        if at is None:
            self._disarm()
        elif self._timer is None or at < self._timer_at:
            # A deadline that only moved back is not worth a new timer: it fires early and looks again.
            self._disarm()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        # A loop fires up to its resolution early; the core would find nothing due yet.
        now = max(self._loop.time(), self._timer_at)
        self._guarded(lambda: self._call.handle_timer(now))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _events_to(effect: Effect) -> StreamId | None:
    """The stream that an effect is an event for; None for any other effect."""
    return effect.stream if isinstance(effect, ControlToSonic) else None
