"""A scripted service on the real wire, and a loop that reports everything left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opusagent.clock import Clock, SystemClock
from opusagent.simulators.wire import (
    ConnectionFault,
    Refusal,
    StreamHandler,
    StreamRequest,
    StreamWriter,
    WireServer,
)
from opusagent.transports.bedrock import BedrockConnector, BedrockTransport, Limits
from opusagent.transports.credentials import Credentials

LIMIT_S = 20.0
MODEL = "amazon.nova-2-sonic-v1:0"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
QUICK = Limits(connect_s=2.0, open_s=3.0, head_s=0.5, send_s=0.5, close_s=2.0)

type Script = Callable[[StreamRequest, StreamWriter], StreamHandler | Refusal]


def run_clean(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main`; fail if it hangs, leaves a task, or anything reaches the loop's error handler."""
    problems: list[dict[str, Any]] = []

    async def whole() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, found: problems.append(found))
        async with asyncio.timeout(LIMIT_S):
            await main()
        if others := _others():
            await asyncio.wait(others, timeout=2)
        assert not _others(), f"left behind: {_others()}"
        gc.collect()  # so that what nobody retrieved is reported while the handler is there
        await asyncio.wait((asyncio.get_running_loop().run_in_executor(None, gc.collect),))

    asyncio.run(whole())
    assert not problems, problems


def _others() -> set[asyncio.Task[Any]]:
    """Every task but this one, and but the service's own handshakes that a client broke off."""
    return {
        task
        for task in asyncio.all_tasks() - {asyncio.current_task()}
        if "_accept_connection2" not in repr(task.get_coro())
    }


class Handler:
    """Records what one stream received; `react` may answer."""

    def __init__(
        self, writer: StreamWriter, react: Callable[[bytes, StreamWriter], None] | None = None
    ) -> None:
        self.writer = writer
        self.received: list[bytes] = []
        self.ended = asyncio.Event()
        self.gone = asyncio.Event()
        self._react = react
        self._came = asyncio.Event()

    def receive(self, payload: bytes) -> None:
        self.received.append(payload)
        self._came.set()
        if self._react is not None:
            self._react(payload, self.writer)

    def end_of_input(self) -> None:
        self.ended.set()

    def closed(self) -> None:
        assert not self.gone.is_set(), "closed() is called once"
        self.gone.set()

    async def has(self, count: int) -> None:
        while len(self.received) < count:
            self._came.clear()
            await self._came.wait()


@dataclass
class Scripted:
    """A service that does as the test says; `handlers` and `requests` in order of arrival."""

    script: Script | None = None
    fault: ConnectionFault | None = None
    handlers: list[Handler] = field(default_factory=list)
    requests: list[StreamRequest] = field(default_factory=list)

    def open_connection(self) -> ConnectionFault | None:
        return self.fault

    def open_stream(self, request: StreamRequest, writer: StreamWriter) -> StreamHandler | Refusal:
        self.requests.append(request)
        answer = Handler(writer) if self.script is None else self.script(request, writer)
        if isinstance(answer, Handler):
            self.handlers.append(answer)
        return answer


def echo(_: StreamRequest, writer: StreamWriter) -> Handler:
    """Send back whatever comes, and end when the client ends."""
    handler = Handler(writer, lambda payload, to: to.send(payload))
    handler.end_of_input = writer.end  # type: ignore[method-assign]
    return handler


@dataclass
class Rig:
    """A running service, and a connector that trusts it."""

    service: Scripted
    server: WireServer
    ca_file: Path

    def connector(
        self,
        *,
        limits: Limits = QUICK,
        credentials: Credentials | None = None,
        clock: Clock | None = None,
    ) -> BedrockConnector:
        clock = clock or SystemClock()
        return BedrockConnector(
            region="us-east-1",
            model_id=MODEL,
            credentials=credentials or Credentials(utcnow=clock.utcnow, environ=KEYS),
            utcnow=clock.utcnow,
            endpoint=self.server.url,
            ca_file=self.ca_file,
            limits=limits,
        )

    def transport(self, *, limits: Limits = QUICK) -> BedrockTransport:
        return self.connector(limits=limits).connect()

    @asynccontextmanager
    async def opened(self, *, limits: Limits = QUICK) -> AsyncIterator[BedrockTransport]:
        transport = self.transport(limits=limits)
        try:
            await transport.open()
            yield transport
        finally:
            await transport.close()


@asynccontextmanager
async def serving(directory: Path, service: Scripted) -> AsyncIterator[Rig]:
    """Serve on a free port, with an authority of its own."""
    ca_file = directory / "ca.pem"
    async with WireServer(service, ca_file=ca_file) as server:
        yield Rig(service, server, ca_file)
