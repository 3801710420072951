"""The load service of `bench --tools`: each stream asks for a tool every now and then.

`python -m opusagent.bench.tools.service CA_FILE FRAME_MS TOOL,TOOL`; as `load_service.py` otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, override

import uvloop

from opusagent.bench.load_service import LoadService, LoadStream, serve_load
from opusagent.simulators.wire import StreamHandler, StreamWriter

EVERY_S: Final = 1.0
"""How often each call's model asks for a tool."""
_RESULT: Final = b'"toolResult":'


class _Stream(LoadStream):
    """Asks for its tools in turn."""

    def __init__(self, service: ToolService, number: int, writer: StreamWriter) -> None:
        super().__init__(service, number, writer)
        self._tools = service
        self._number = number
        self._names = itertools.cycle(service.names)
        for _ in range(number):  # not all calls the same at once
            next(self._names)
        self._asking: asyncio.TimerHandle | None = None

    @override
    def begun(self) -> None:
        loop = asyncio.get_running_loop()
        self._asking = loop.call_later(EVERY_S * (self._number * 0.618 % 1), self._ask)

    @override
    def receive(self, payload: bytes) -> None:
        if _RESULT in payload[:200]:
            content = json.loads(payload)["event"]["toolResult"]["content"]
            self._tools.answered(json.loads(content), time.monotonic_ns())
        else:
            super().receive(payload)

    @override
    def closed(self) -> None:
        super().closed()
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        self._asking = asyncio.get_running_loop().call_later(EVERY_S, self._ask)
        number = self._tools.next_number()
        arguments = json.dumps({"asked_ns": time.monotonic_ns()})
        block = {"contentId": f"t{number}"}
        use = {"toolName": next(self._names), "toolUseId": f"u{number}", "content": arguments}
        for name, fields in (
            ("contentStart", {"type": "TOOL", "role": "TOOL"}),
            ("toolUse", {**use, "role": "TOOL"}),
            ("contentEnd", {"type": "TOOL", "stopReason": "TOOL_USE"}),
        ):
            self.writer.send(json.dumps({"event": {name: block | fields}}).encode())


class ToolService(LoadService):
    """Also measures what comes of its tools.

    Args:
        names: The tools that each stream asks for, in turn; none if empty.
    """

    def __init__(self, frame_ms: int, names: Sequence[str]) -> None:
        super().__init__(frame_ms)
        self.names = names
        self._numbers = itertools.count()
        self.reset()

    def next_number(self) -> int:
        """Of the next request."""
        self._counts["asked"] += 1
        return next(self._numbers)

    def answered(self, result: dict[str, Any], now_ns: int) -> None:
        """A result came."""
        self._counts["failed" if "error" in result else "done"] += 1
        if "started" in result:
            self._start_ms.append((result["started"] - result["asked"]) / 1e6)
            self._result_ms.append((now_ns - result["ended"]) / 1e6)

    @override
    def make_stream(self, number: int, writer: StreamWriter) -> StreamHandler:
        return _Stream(self, number, writer) if self.names else super().make_stream(number, writer)

    @override
    def reset(self) -> None:
        super().reset()
        self._start_ms: list[float] = []
        self._result_ms: list[float] = []
        self._counts = Counter[str]()

    @override
    def figures(self) -> dict[str, Any]:
        times = {"start_ms": self._start_ms, "result_ms": self._result_ms}
        return super().figures() | times | {"tools": self._counts}


if __name__ == "__main__":
    _names = [name for name in sys.argv[3].split(",") if name]
    uvloop.run(serve_load(ToolService(int(sys.argv[2]), _names), Path(sys.argv[1])))
