"""The process in which the Python tools of a bridge run: `python -m opusagent.tools.host FD`.

It is told what to run on the socket FD, and ends when that is closed, whatever still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, override

from pydantic import JsonValue

from opusagent.errors import ConfigError, ToolError
from opusagent.tools.framing import Frames, frame
from opusagent.tools.modules import load_module, load_source, tools_in
from opusagent.tools.tool import CallState, Tool, ToolContext, ToolCrashed, json_value
from opusagent.tools.workshop import Workshop

STATE_S: Final = 5.0
"""What the bridge may take to answer a question about a call's state."""
NICE: Final = 19
"""How much it stands back where processors are scarce: as far as it can. With 10, tools that compute cost the audio
of 25 calls twice the delay (p99, on two cores)."""


class _FarState(CallState):
    """The state of a call, which the bridge has."""

    def __init__(self, ask: Callable[[dict[str, Any]], JsonValue]) -> None:
        super().__init__()
        self._ask = ask

    @override
    def get(self, key: str, default: JsonValue = None) -> JsonValue:
        return self._all().get(key, default)

    @override
    def set(self, key: str, value: JsonValue) -> None:
        self._ask({"set": [key, json_value(key, value)]})

    @override
    def __contains__(self, key: object) -> bool:
        return key in self._all()

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    @override
    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, JsonValue]:
        values = self._ask({})
        assert isinstance(values, dict)
        return values


class _Host(asyncio.Protocol):
    """Runs what it is told to."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._frames = Frames()
        self._to_do: deque[dict[str, Any]] = deque()
        self._has_loaded = False
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._workshop = Workshop(
            lambda count: self._from_thread({"abandoned": count}),
            lambda names: self._send({"blocked": names}),  # the bridge has the log
        )
        self._running: dict[int, asyncio.Task[None]] = {}
        self._asks = itertools.count()
        self._asked: dict[int, Future[JsonValue]] = {}
        self._lock = threading.Lock()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._to_do += self._frames.feed(data)
        if not self._has_loaded:
            self._work()

    def _work(self) -> None:
        """Do what is to be done; not what has been given up before it began."""
        self._has_loaded = False
        given_up = {message["id"] for message in self._to_do if message["do"] == "cancel"}
        while self._to_do and not self._has_loaded:
            message = self._to_do.popleft()
            if message["do"] != "run" or message["id"] not in given_up:
                self._take(message)
            self._has_loaded = message["do"] == "load"
        if self._has_loaded:  # which takes its time: read first what has come meanwhile
            self._loop.call_soon(self._loop.call_soon, self._work)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        os.killpg(os.getpgrp(), signal.SIGKILL)  # whatever still runs: nobody waits for it

    def _take(self, message: Mapping[str, Any]) -> None:
        """Do what the bridge wants."""
        match message["do"]:
            case "path":
                sys.path[:] = message["path"]
            case "load":
                if problem := _load(message["module"], message["source"]):
                    self._send({"unloaded": message["module"], "problem": problem})
            case "run":
                task = self._tasks.create_task(self._run(message))
                self._running[message["id"]] = task
                task.add_done_callback(lambda _: self._running.pop(message["id"]))
            case "cancel":
                if (running := self._running.get(message["id"])) is not None:
                    running.cancel()
            case "answer":
                asked = self._asked.pop(message["ask"], None)
                if asked is not None and "wrong" in message:
                    asked.set_exception(ValueError(message["wrong"]))
                elif asked is not None:
                    asked.set_result(message["value"])
            case "say":
                self._send({"alive": True})

    async def _run(self, message: Mapping[str, Any]) -> None:
        number = message["id"]
        answer: dict[str, Any]
        try:
            tool = _tool(message["module"], message["tool"])
            state = _FarState(partial(self._ask, number))
            context = ToolContext(**message["context"], state=state)
            answer = {"done": await tool.run(message["arguments"], context, self._workshop)}
        except ToolError as error:
            answer = {"refused": str(error)}
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            answer = _failure(error)  # a tool that cancels itself
        except Exception as error:  # noqa: BLE001 - users' code, in the one place that runs it
            answer = _failure(error)
        self._send(answer | {"id": number})

    def _ask(self, number: int, question: dict[str, Any]) -> JsonValue:
        """In a tool's thread: ask the bridge about its call's state, and wait for the answer."""
        answer: Future[JsonValue] = Future()
        with self._lock:
            ask = next(self._asks)
            self._asked[ask] = answer
        self._from_thread({"id": number, "ask": ask, **question})
        try:
            return answer.result(STATE_S)
        finally:
            self._asked.pop(ask, None)

    def _from_thread(self, message: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._send, message)

    def _send(self, message: dict[str, Any]) -> None:
        self._transport.write(frame(message))


def _tool(module: str, name: str) -> Tool:
    try:
        return tools_in(module)[name]
    except KeyError:  # its file has changed since the call began
        raise ToolError(f"{name} is not available any more") from None
    except ConfigError:  # which the bridge has been told
        raise ToolError(f"{name} is not available") from None


def _load(module: str, source: str | None) -> str:
    """Load a module that the bridge has loaded; what is wrong here, if it cannot be."""
    try:
        if source is None:
            load_module(module)
        else:
            load_source(module, source)
    except ConfigError as error:
        return str(error)
    return ""


def _failure(error: BaseException) -> dict[str, Any]:
    told = ToolCrashed.of(error)
    return {"kind": told.kind, "at": told.at, "trace": told.trace}


async def _serve(fd: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # a tool begins in the step that asks for it
    async with asyncio.TaskGroup() as tasks:
        await loop.create_connection(lambda: _Host(tasks), sock=socket.socket(fileno=fd))
        await loop.create_future()  # the process ends with its connection


if __name__ == "__main__":
    # Whoever ends the bridge may signal all its processes; this one is needed until the bridge is gone.
    # Not `SIG_IGN`: what a tool starts would inherit that, and could not be ended by the tool.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    os.nice(NICE)
    with contextlib.suppress(OSError):  # where memory is short, the calls are to live on; Linux
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    # The bridge's standard output has another reader than what tools print.
    with contextlib.suppress(OSError, AttributeError):  # a bridge without standard error
        os.dup2(sys.stderr.fileno(), 1)
        sys.stdout = sys.stderr
    asyncio.run(_serve(int(sys.argv[1])))
