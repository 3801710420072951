"""The local Nova Sonic service without a network: a strict `SonicPeer` for each stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, Final, override

from opusagent.sonic.peer import SonicPeer
from opusagent.sonic.peer_brain import Brain, Ears
from opusagent.sonic.peer_faults import STREAM_FAULTS
from opusagent.sonic.peer_record import StreamRecord
from opusagent.sonic.profiles import Timing
from opusagent.transports.memory import MemoryConnector, MemorySonic, ServiceEnd

__all__ = ["PlayService", "serve_stream"]

type Spawn = Callable[[Coroutine[Any, Any, bytes | None]], asyncio.Task[bytes | None]]
"""`create_task` of a loop or of a group."""

HEAD_S: Final = 0.1
"""How long a response head takes."""
_TIMING: Final = Timing(interruptible_playout=True)
"""The caller may interrupt for as long as she hears the bot, however soon its audio was there."""


class PlayService(MemoryConnector):
    """Makes streams, and answers each of them.

    Args:
        brain: Makes the mind of a stream, by its number from 1.
        ears: Understand the caller.
        tasks: Where the streams live.
    """

    def __init__(self, brain: Callable[[int], Brain], ears: Ears, tasks: asyncio.TaskGroup) -> None:
        super().__init__(accepts=False)
        self._brain = brain
        self._ears = ears
        self._tasks = tasks
        self._ids = itertools.count(1)
        self._peers: list[SonicPeer] = []

    @override
    def connect(self, model_id: str = "", *, can_wait: bool = False) -> MemorySonic:
        """A transport for a new stream, which is answered."""
        transport = super().connect(model_id, can_wait=can_wait)
        loop = asyncio.get_running_loop()
        peer = SonicPeer(
            self._brain(len(self.streams)),
            self._ears,
            now=loop.time(),
            new_id=lambda: f"id-{next(self._ids)}",
            timing=_TIMING,
            strict_samples=True,
        )
        self._peers.append(peer)
        loop.call_later(HEAD_S, self.streams[-1].accept)
        serving = serve_stream(self.streams[-1], peer, self._tasks.create_task)
        self._tasks.create_task(serving)
        return transport

    @property
    def records(self) -> list[StreamRecord]:
        """What every stream got and did, in order."""
        return [peer.record for peer in self._peers]

    def break_off(self) -> None:
        """Let the newest stream fail now."""
        if self._peers:
            peer = self._peers[-1]
            peer.fail(*STREAM_FAULTS["model-stream"], asyncio.get_running_loop().time())
            if peer.failure is not None:
                self.streams[-1].fail(*peer.failure)


async def serve_stream(end: ServiceEnd, peer: SonicPeer, spawn: Spawn) -> None:
    """Be the service of one stream until it is over.

    Args:
        end: Where the bytes are.
        peer: Knows what to answer.
        spawn: Makes the task that waits for them.
    """
    loop = asyncio.get_running_loop()
    incoming = spawn(end.receive())
    try:
        while not peer.over and not end.is_closed:
            due = peer.next_timer()
            timeout = None if due is None else max(due - loop.time(), 0.0)
            await asyncio.wait((incoming,), timeout=timeout)
            if not incoming.done():
                peer.handle_timer(max(loop.time(), due or 0.0))
            elif (payload := incoming.result()) is None:
                peer.end_input(loop.time())
            else:
                peer.receive(payload, loop.time())
                incoming = spawn(end.receive())
            for payload in peer.events_to_send():
                end.send(payload)
        if peer.failure is None:
            end.end()
        else:
            end.fail(*peer.failure)
    finally:
        incoming.cancel()
