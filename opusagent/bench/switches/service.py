"""The local Nova Sonic service for counted calls, as a process of its own.

`python -m opusagent.bench.switches.service CA_FILE HABITS`, the habits as JSON. Prints `READY URL`; a line on its
standard input makes it print everything that its streams were given, as JSON.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import uvloop

from opusagent.bench.switches.cases import ServiceHabits
from opusagent.bench.switches.frames import find
from opusagent.bench.switches.mind import NumberEars, NumberMind, turns_in
from opusagent.simulators.faults import parse_fault
from opusagent.simulators.sonic_service import NovaService, ServicePlan, StreamLog
from opusagent.simulators.wire import (
    ConnectionFault,
    Refusal,
    StreamHandler,
    StreamRequest,
    StreamWriter,
    WireServer,
)
from opusagent.sonic.peer_record import StreamRecord
from opusagent.sonic.profiles import Timing

__all__ = ["TIMING", "CountedService"]

TIMING: Final = Timing(speed=4.0, think_s=0.15, pause_s=0.6, final_delay_s=0.5, linger_s=0.5)
"""Quicker than the real one, whose turns end after 1.5 s; slower than a telephone line needs to notice that
nobody speaks (0.4 s), which nothing real is quicker than."""
DEAD_STANDBY_S: Final = 0.25
DIES_AFTER_S: Final = 0.8
CUT_AFTER_S: Final = (0.8, 2.0)
_SEED: Final = 4


class CountedService:
    """A `NovaService` with habits that depend on what its streams were told; see `Service` in `simulators/wire.py`."""

    def __init__(self, habits: ServiceHabits, n_calls: int, limit_s: float) -> None:
        """`n_calls` are under way at once."""
        self._habits = habits
        self._replies: list[tuple[float, int, int, int]] = []  # at, stream, call, turn
        self._serial = itertools.count(1)
        self._random = random.Random(_SEED)  # noqa: S311  moments of faults, not secrets
        self._struck: dict[int, float] = {}  # stream -> when
        self._per_call: Counter[int] = Counter()
        self._kinds = itertools.cycle(habits.cut_kinds)
        self._minds: dict[int, int] = {}  # stream -> serial of its mind
        self.nova = NovaService(
            self._mind,
            NumberEars(),
            ServicePlan(
                timing=dataclasses.replace(TIMING, limit_s=limit_s),
                open_delay_s=habits.open_delay_s,
                quota=habits.quota * n_calls or None,
            ),
        )

    def open_connection(self) -> ConnectionFault | None:
        """Every connection is good."""
        return self.nova.open_connection()

    def open_stream(self, request: StreamRequest, writer: StreamWriter) -> StreamHandler | Refusal:
        """Take a stream, and see to it that it fails as it should."""
        handler = self.nova.open_stream(request, writer)
        if isinstance(handler, Refusal):
            return handler
        log = self.nova.streams[-1]
        self._minds[log.number] = self._newest
        if self._habits.dead_standby and self._newest % 2 == 0:
            asyncio.get_running_loop().call_later(DEAD_STANDBY_S, self._end_unless_used, log)
        if self._habits.dies_after_history or self._habits.cuts:
            return _Watched(self, handler, log)
        return handler

    def audio_opened(self, log: StreamLog, record: StreamRecord) -> None:
        """A stream is live, for `_Watched`."""
        if self._habits.dies_after_history and record.history:
            self._strike_later(log, DIES_AFTER_S, self._habits.dies_after_history, "internal")
        elif self._habits.cuts:
            after_s = self._random.uniform(*CUT_AFTER_S)
            self._strike_later(log, after_s, self._habits.cuts, next(self._kinds))

    def figures(self) -> dict[str, Any]:
        """All that is known of every stream, times in monotonic seconds."""
        return {
            "streams": [self._stream(log) for log in self.nova.streams],
            "replies": [(self.nova.at(at), *rest) for at, *rest in self._replies],
            "open": self.nova.open_streams,
        }

    def _mind(self) -> NumberMind:
        serial = self._newest = next(self._serial)

        def replied(call: int, turn: int) -> None:
            self._replies.append((self.nova.now, serial, call, turn))

        habits = self._habits
        return NumberMind(serial, habits.answer_s, tools=habits.tools, replied=replied)

    def _strike_later(self, log: StreamLog, after_s: float, at_most: int, kind: str) -> None:
        def strike() -> None:
            call = _call_of(log)
            if call is None or log.closed_at is not None or self._per_call[call] >= at_most:
                return
            self._per_call[call] += 1
            self._struck[log.number] = self.nova.now
            self.nova.strike(parse_fault(f"{kind}:stream={log.number}"))

        asyncio.get_running_loop().call_later(after_s, strike)

    def _end_unless_used(self, log: StreamLog) -> None:
        if log.closed_at is None and log.record is not None and log.record.audio_opened_at is None:
            self.nova.strike(parse_fault(f"reset:stream={log.number}"))

    def _stream(self, log: StreamLog) -> dict[str, Any]:
        at = self.nova.at
        facts: dict[str, Any] = {
            "number": log.number,
            "mind": self._minds.get(log.number, 0),
            "asked_at": at(log.asked_at),
            "closed_at": None if log.closed_at is None else at(log.closed_at),
            "refused": log.refused,
            "struck_at": at(self._struck[log.number]) if log.number in self._struck else None,
        }
        if (record := log.record) is not None and record.audio_opened_at is not None:
            facts |= {
                "call": _call_of(log),
                "audio_opened_at": at(record.audio_opened_at),
                "frames": self._frames(record),
                "prompt": record.system_prompt,
                "history": [turn.model_dump(mode="json") for turn in record.history],
                "typed": [(at(text.at), text.value) for text in record.typed],
                "heard": [(at(text.at), text.value) for text in record.heard],
                "said": [(at(text.at), text.value) for text in record.said],
                "results": [(at(r.at), r.value.result) for r in record.tool_results],
                "interrupted": [at(when) for when in record.interruptions],
                "refusal": record.failure,
            }
        return facts

    def _frames(self, record: StreamRecord) -> list[tuple[float, int, int, int]]:
        """When it came, turn, number and nanoseconds of every frame of the caller's."""
        found: list[tuple[float, int, int, int]] = []
        audio = bytes(record.audio)
        for event in record.events:
            if event.audio_bytes:
                pcm = audio[event.audio_offset : event.audio_offset + event.audio_bytes]
                came = round(self.nova.at(event.at), 4)
                found += [(came, frame.turn, frame.number, frame.extra) for frame in find(pcm)]
        return found


class _Watched:
    """A stream whose first audio is waited for."""

    def __init__(self, service: CountedService, handler: StreamHandler, log: StreamLog) -> None:
        self._service = service
        self._handler = handler
        self._log = log
        self._is_live = False

    def receive(self, payload: bytes) -> None:
        self._handler.receive(payload)
        record = self._log.record
        if not self._is_live and record is not None and record.audio_opened_at is not None:
            self._is_live = True
            self._service.audio_opened(self._log, record)

    def end_of_input(self) -> None:
        self._handler.end_of_input()

    def closed(self) -> None:
        self._handler.closed()


def _call_of(log: StreamLog) -> int | None:
    """Whose stream it is: by the caller's audio, or by what it was told."""
    record = log.record
    if record is None:
        return None
    if frames := find(bytes(record.audio[: 16 * record.audio_rate_hz])):
        return frames[0].call
    texts = [turn.text for turn in record.history] + [text.value for text in record.typed]
    named = turns_in(" ".join(texts))
    return named[0][0] if named else None


async def _main(ca_file: Path, habits: str) -> None:
    given = json.loads(habits)
    n_calls, limit_s = given.pop("n_calls"), given.pop("limit_s")
    given["cut_kinds"] = tuple(given["cut_kinds"])
    service = CountedService(ServiceHabits(**given), n_calls, limit_s)
    async with WireServer(service, ca_file=ca_file) as server:
        _say(f"READY {server.url}")
        while (await asyncio.to_thread(sys.stdin.readline)).strip():
            _say(json.dumps(service.figures() | {"connections": server.connections}))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main(Path(sys.argv[1]), sys.argv[2]))
