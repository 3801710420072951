"""The process in which the Python tools of a bridge run, as the bridge sees it.

A function that computes holds Python's lock, and whoever wants to run beside it in one process waits for
it: 25 calls with a frame every 20 ms do not get by with that (measured). So nothing of a tool but its
arguments and its bounded result is ever in the bridge's process.

    bridge --run, cancel, state--> host.py: a `Workshop` --done, refused, failed, asks for state--> bridge
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, cast, override

import structlog
from pydantic import JsonValue

from opusagent.errors import ToolError
from opusagent.models.agent import MAX_TOOL_S
from opusagent.tools.framing import Frames, frame
from opusagent.tools.modules import source_of
from opusagent.tools.tool import Arguments, JsonObject, Place, Tool, ToolContext, ToolCrashed
from opusagent.tools.workshop import MAX_ABANDONED, log_blocked

__all__ = ["ToolProcess"]

_log = structlog.get_logger("opusagent.tools")

READY_S: Final = 20.0
"""How long a bridge waits at its start until its tools are loaded."""
LOADED_S: Final = 60.0
"""What the process may take to load all modules; else it is ended. No tool's deadline is a reason before."""
ANSWERS_S: Final = 2.0
"""What the process may take to say that it is alive, after a tool in it was late; else it is ended."""

LEAVES_S: Final = 1.0
"""What a tool that was cancelled in a process that is used no more gets to end in good order."""


class ToolProcess:
    """Runs tools of users' modules in a process, and starts another one when that one is of no use.

    Args:
        on_abandoned: Told how many of its threads nobody waits for any more, whenever that changes.
        command: What is run; takes the number of a socket as its last argument.
    """

    def __init__(
        self,
        on_abandoned: Callable[[int], None] = lambda _: None,
        *,
        command: tuple[str, ...] = (sys.executable, "-m", "opusagent.tools.host"),
    ) -> None:
        self._on_abandoned = on_abandoned
        self._command = command
        self._modules: list[str] = []
        self._live: _Process | None = None
        self._retired: set[_Process] = set()
        self._starting = asyncio.Lock()

    def tool_of(self, module: str, tool: Tool) -> Tool:
        """A tool of a module, to be run there."""
        if module not in self._modules:
            self._modules.append(module)
        name = tool.spec.name

        async def run(arguments: Arguments, context: ToolContext, _place: Place) -> JsonObject:
            return await self.run(module, name, arguments, context)

        return replace(tool, run=run)

    def renew(self) -> bool:
        """Have no more begun in a process whose files of tools are not those that are loaded here now.

        What runs in it goes on to its end.

        Returns:
            Whether another process is needed.
        """
        live = self._live
        if live is None:
            return self.is_needed
        now = {module: source_of(module) for module in self._modules}
        if any(now.get(module, text) != text for module, text in live.sources.items()):
            self._retire(live)
            return self.is_needed
        for module in now.keys() - live.sources.keys():
            live.load(module, now[module])
        return False

    def forget_modules(self) -> None:
        """Load no module into another process but those of which `tool_of` is told from now on."""
        self._modules.clear()

    @property
    def is_needed(self) -> bool:
        """Whether there are tools to be run there."""
        return bool(self._modules)

    @property
    def unloaded(self) -> Mapping[str, str]:
        """Modules that were loaded here and cannot be loaded there, and why."""
        return {} if self._live is None else self._live.unloaded

    async def start(self) -> None:
        """Have a process ready, with its modules loaded; bounded."""
        process = await self._present()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await process.is_alive.wait()

    async def _present(self) -> _Process:
        async with self._starting:
            if self._live is None or self._live.is_gone:
                self._live = await self._begin()
            return self._live

    async def stop(self) -> None:
        """End it, and whatever runs in it."""
        for process in (self._live, *self._retired):
            if process is not None:
                process.kill()
                await asyncio.to_thread(process.popen.wait)
        self._live = None
        self._retired.clear()

    async def run(
        self, module: str, tool: str, arguments: Arguments, context: ToolContext
    ) -> JsonObject:
        """Run a tool of a module.

        Raises:
            ToolError: As the tool raised it, or because the process ended.
            ToolCrashed: If it raised anything else.
        """
        process = await self._present()
        return await process.run(module, tool, arguments, context)

    async def _begin(self) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            popen = subprocess.Popen(  # noqa: S603, ASYNC220 - our own module; it takes a millisecond or two
                [*self._command, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the bridge; and all of it ends together
            )
        process = _Process(popen, self._crowded, self._gone)
        await asyncio.get_running_loop().create_connection(lambda: process, sock=ours)
        process.send({"do": "path", "path": sys.path})
        for module in self._modules:
            process.load(module, source_of(module))
        process.send({"do": "say"})
        return process

    def _crowded(self, process: _Process, abandoned: int) -> None:
        self._on_abandoned(abandoned)
        if abandoned < MAX_ABANDONED or process is not self._live:
            return
        _log.warning("tools do not end: another process takes over", threads=abandoned)
        self._retire(process)

    def _retire(self, process: _Process) -> None:
        self._live = None
        self._retired.add(process)
        process.retire()

    def _gone(self, process: _Process) -> None:
        if process is self._live:
            self._live = None
        self._on_abandoned(0)
        self._reap(process)

    def _reap(self, process: _Process) -> None:
        if process.popen.poll() is not None:
            self._retired.discard(process)
            return
        self._retired.add(process)
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, self._reap, process)


@dataclass(slots=True)
class _Run:
    result: asyncio.Future[JsonObject]
    context: ToolContext
    name: str


class _Process(asyncio.Protocol):
    """One process.

    Attributes:
        sources: The text of each module that it was told to load; None of those that are no files.
        unloaded: Those that cannot be loaded there, and why.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        on_abandoned: Callable[[_Process, int], None],
        on_gone: Callable[[_Process], None],
    ) -> None:
        self.popen = popen
        self.sources: dict[str, str | None] = {}
        self.unloaded: dict[str, str] = {}
        self.is_gone = False
        self.is_alive = asyncio.Event()
        self._on_abandoned = on_abandoned
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._numbers = itertools.count()
        self._runs: dict[int, _Run] = {}
        self._transport: asyncio.Transport
        self._doubt: asyncio.TimerHandle | None = self._loop.call_later(LOADED_S, self._give_up)
        self._is_retired = False

    async def run(
        self, module: str, tool: str, arguments: Arguments, context: ToolContext
    ) -> JsonObject:
        """As `ToolProcess.run`."""
        number = next(self._numbers)
        run = self._runs[number] = _Run(self._loop.create_future(), context, tool)
        about = {f.name: getattr(context, f.name) for f in fields(context) if f.name != "state"}
        self.send(
            {
                "do": "run",
                "id": number,
                "module": module,
                "tool": tool,
                "arguments": arguments,
                "context": about,
            }
        )
        try:
            return await run.result
        except asyncio.CancelledError:
            if not self.is_gone:
                self.send({"do": "cancel", "id": number})
                self._ask_whether_it_lives()
            raise
        finally:
            del self._runs[number]
            self._end_if_done()

    def load(self, module: str, source: str | None) -> None:
        """Have a module loaded; of a file the text that works, whatever it is on disk by now."""
        self.sources[module] = source
        self.send({"do": "load", "module": module, "source": source})

    def send(self, message: dict[str, Any]) -> None:
        """Tell the process something."""
        self._transport.write(frame(message))

    def retire(self) -> None:
        """Let it end what it does, within what a tool may take, and then end it."""
        self._is_retired = True
        self._loop.call_later(MAX_TOOL_S, self.kill)
        self._end_if_done()

    def kill(self) -> None:
        """End it at once, and what its tools have started."""
        self._kill()
        self._transport.close()

    def _kill(self) -> None:
        if self.popen.returncode is None:  # else the number may be somebody else's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's

    @override
    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._take(message)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self.is_alive.set()  # nobody needs to wait for it
        if self._doubt is not None:
            self._doubt.cancel()
        self._kill()
        for run in self._runs.values():
            if not run.result.done():
                run.result.set_exception(
                    ToolError(f"{run.name} failed; what came of it is not known")
                )
        if self._runs:
            _log.error(
                "the process of the tools ended", running=[r.name for r in self._runs.values()]
            )
        self._on_gone(self)

    def _take(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"alive": True}:
                self.is_alive.set()
                if self._doubt is not None:
                    self._doubt.cancel()
                    self._doubt = None
            case {"unloaded": str(module), "problem": str(problem)}:
                _log.error("tools cannot be loaded in their process", problem=problem)
                self.unloaded[module] = problem
            case {"abandoned": int(count)}:
                self._on_abandoned(self, count)
            case {"blocked": [*names]}:
                log_blocked(names)
            case {"id": int(number)} if number in self._runs:
                self._take_of(self._runs[number], message)
            case {"id": int(number), "ask": int(ask)}:
                self._refuse(number, ask, "nobody waits for this tool any more")
            case _:
                pass  # of a tool that nobody waits for any more

    def _take_of(self, run: _Run, message: Mapping[str, Any]) -> None:
        match message:
            case {"ask": int(ask), "set": [str(key), value]}:
                self._answer(message["id"], ask, lambda: run.context.state.set(key, value))
            case {"ask": int(ask), "set": _}:
                self._refuse(message["id"], ask, "no value of the state")
            case {"ask": int(ask)}:
                state = run.context.state
                self._answer(message["id"], ask, lambda: {key: state.get(key) for key in state})
            case _ if run.result.done():
                pass
            case {"done": dict(result)}:
                run.result.set_result(result)
            case {"refused": str(words)}:
                run.result.set_exception(ToolError(words))
            case {"kind": str(kind), "at": str(at), "trace": str(trace)}:
                run.result.set_exception(ToolCrashed(kind, at, trace))

    def _answer(self, number: int, ask: int, work: Callable[[], JsonValue]) -> None:
        try:
            value = work()
        except ValueError as error:
            self._refuse(number, ask, str(error))
        else:
            self.send({"do": "answer", "id": number, "ask": ask, "value": value})

    def _refuse(self, number: int, ask: int, words: str) -> None:
        self.send({"do": "answer", "id": number, "ask": ask, "wrong": words})

    def _ask_whether_it_lives(self) -> None:
        if self._doubt is None:
            self.send({"do": "say"})
            self._doubt = self._loop.call_later(ANSWERS_S, self._give_up)

    def _give_up(self) -> None:
        _log.error("the process of the tools does not react: it is ended", pid=self.popen.pid)
        self.kill()

    def _end_if_done(self) -> None:
        if self._is_retired and not self._runs:
            self._loop.call_later(LEAVES_S, self.kill)
