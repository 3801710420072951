"""Receivers that hang, on real threads."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from opusagent.clock import SystemClock
from opusagent.config import Settings
from opusagent.hooks.functions import FunctionSink
from opusagent.hooks.hub import open_hooks
from opusagent.hooks.lanes import Outcome
from opusagent.hooks.workplace import MAX_STUCK, Workplace
from opusagent.observability import Metrics, configure_logging
from tests.hooks import mine
from tests.hooks.rig import turn
from tests.hooks.test_story import state
from tests.waiting import eventually, pass_time


class Logged:
    """What is logged meanwhile."""

    def __init__(self) -> None:
        self._text = io.StringIO()

    def __enter__(self) -> Callable[[str], list[dict[str, Any]]]:
        configure_logging(Settings(log_format="json"), self._text)
        return self._with

    def __exit__(self, *_: object) -> None:
        structlog.reset_defaults()

    def _with(self, words: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self._text.getvalue().splitlines())
        return [line for line in lines if words in line["event"]]


@pytest.mark.integration
def test_a_function_that_hangs_takes_nothing_from_the_others_and_the_webhook() -> None:
    n_calls = MAX_STUCK + 12  # some are under way when it is full
    mine.got.clear()
    mine.let_go.clear()

    async def main() -> list[int]:
        posted: list[int] = []

        async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            posted.append(1)
            writer.write(b"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(receive, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            settings = Settings.model_validate(
                {
                    "event_hooks": ["tests.hooks.mine:hangs", "tests.hooks.mine:counts"],
                    "webhook_url": f"http://127.0.0.1:{port}/",
                    "webhook_secret": "sixteen letters!",
                }
            )
            hooks = open_hooks(settings, Metrics(), SystemClock(), deadline_s=1.0)
            await hooks.start()
            for number in range(n_calls):
                hooks.stored(None, state(conversation_id=f"c{number}"), "")
            assert await eventually(lambda: not hooks.waiting, within_s=30.0)
            hooks.stored(None, state(conversation_id="one more"), "")
            assert await eventually(lambda: not hooks.waiting)
            await hooks.stop()
        return posted

    with Logged() as logged:
        try:
            posted = asyncio.run(main())
        finally:
            mine.let_go.set()
        assert [line["hook"] for line in logged("hangs")] == ["tests.hooks.mine:hangs"]
        assert MAX_STUCK <= len(logged("hook failed")) < n_calls
    assert sorted(mine.got) == sorted([*(f"c{number}" for number in range(n_calls)), "one more"])
    assert len(posted) == n_calls + 1


@pytest.mark.integration
def test_one_that_hung_gets_events_again_when_its_threads_end() -> None:
    let_go = threading.Event()

    async def main() -> list[Outcome]:
        place = Workplace("mine:on_event")
        sink = FunctionSink("mine:on_event", lambda _: let_go.wait(), place, deadline_s=0.2)
        hurry = asyncio.Event()
        first = await asyncio.gather(*(sink.deliver(turn(n), hurry) for n in range(MAX_STUCK)))
        refused = [await sink.deliver(turn(n), hurry) for n in (17, 18)]
        let_go.set()

        async with asyncio.timeout(5):
            while await sink.deliver(turn(19), hurry) == "failed":
                await pass_time(0.01)
        place.stop()
        return [*first, *refused]

    with Logged() as logged:
        assert set(asyncio.run(main())) == {"failed"}
        assert len(logged("hook hangs")) == len(logged("hook gets events again")) == 1
        assert len(logged("hook failed")) == MAX_STUCK
