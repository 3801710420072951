"""All calls of a process on virtual time: how they are let go, and what happens when none is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from opusagent.agents import AgentDirectory
from opusagent.bridges.under_way import REST_S
from opusagent.config import Settings
from opusagent.models.agent import Agent
from opusagent.observability import Metrics
from opusagent.server import BridgeServer
from opusagent.transports.memory import MemoryCaller, MemoryConnector, caller_pair
from tests.call.driver import SILENT_AGENT
from tests.services.faulty import LoopClock
from tests.slow_sockets import SlowSocket
from tests.virtual_time import run
from tests.waiting import pass_time

SOCKET_CLOSE_S = 3.0
"""What a websocket takes to close towards a peer that does not react."""


class _StuckCaller(SlowSocket):
    """A websocket whose peer asks for a call and from then on neither reads nor closes."""

    def __init__(self, request: str) -> None:
        self._first = [request]
        self._closed = asyncio.Event()

    async def recv(self) -> str | bytes | None:
        if self._first:
            return self._first.pop()
        await self._closed.wait()
        return None

    async def send(self, text: str) -> None:
        await asyncio.Event().wait()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if not self._closed.is_set():
            await pass_time(SOCKET_CLOSE_S)
            self._closed.set()


class Exchange:
    """A server without a network, and who calls it.

    Attributes:
        rested: When it was at rest.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        agents: Mapping[str, Agent] = MappingProxyType({"default": SILENT_AGENT}),
        problems: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self._tasks = tasks
        self.loop = asyncio.get_running_loop()
        self.rested: list[float] = []
        self.connector = MemoryConnector()
        self.metrics = Metrics()
        self.server = BridgeServer(
            Settings(**settings),
            AgentDirectory(agents, problems=problems),
            self.connector,
            self.metrics,
            clock=LoopClock(),
            at_rest=lambda: self.rested.append(self.loop.time()),
        )

    async def call(
        self, conversation_id: str, query: Mapping[str, str] | None = None
    ) -> tuple[MemoryCaller, asyncio.Task[None]]:
        """Somebody calls; gives her end of the line and what ends with the call."""
        ours, theirs = caller_pair()
        task = self._tasks.create_task(self.server.serve(ours, "", query))
        await theirs.send(initiate(conversation_id))
        await pass_time(0.1)
        return theirs, task

    async def resume(self, conversation_id: str) -> tuple[MemoryCaller, asyncio.Task[None]]:
        """Somebody comes back on another websocket."""
        ours, theirs = caller_pair()
        task = self._tasks.create_task(self.server.serve(ours, ""))
        await theirs.send(initiate(conversation_id).replace("initiate", "resume"))
        await pass_time(0.1)
        return theirs, task

    async def stuck_call(self, conversation_id: str) -> asyncio.Task[None]:
        """Somebody calls who does nothing after that, and whose stream does not end either."""
        caller = _StuckCaller(initiate(conversation_id))
        task = self._tasks.create_task(self.server.serve(caller, ""))
        await pass_time(0.1)
        return task


def initiate(conversation_id: str) -> str:
    formats = ["raw/lpcm16", "raw/lpcm16_24"]
    return json.dumps(
        {
            "type": "session.initiate",
            "conversationId": conversation_id,
            "supportedMediaFormats": formats,
        }
    )


def end(conversation_id: str) -> str:
    return json.dumps({"type": "session.end", "conversationId": conversation_id})


def on_an_exchange(
    main: Callable[[Exchange], Coroutine[None, None, None]], **settings: Any
) -> None:
    async def whole() -> None:
        async with asyncio.TaskGroup() as tasks:
            exchange = Exchange(tasks, **settings)
            await main(exchange)
            await exchange.server.stop()

    run(whole())


# Letting go


@pytest.mark.parametrize("drain_seconds", [15, 30, 60])
def test_everything_is_over_three_seconds_before_the_time_is_up(drain_seconds: float) -> None:
    async def main(exchange: Exchange) -> None:
        polite, _ = await exchange.call("polite")
        stuck = await exchange.stuck_call("stuck")
        began = exchange.loop.time()
        await exchange.server.drain()
        await exchange.server.stop()
        took = exchange.loop.time() - began
        assert stuck.done()
        assert took <= drain_seconds - 3.0
        assert took >= drain_seconds - 12.0  # calls run on as long as they can
        assert polite.closed_with == (1012, "service restart")

    on_an_exchange(main, drain_seconds=drain_seconds)


def test_a_drain_ends_with_the_last_call() -> None:
    async def main(exchange: Exchange) -> None:
        first, _ = await exchange.call("one")
        second, _ = await exchange.call("two")
        async with asyncio.TaskGroup() as tasks:
            drain = tasks.create_task(exchange.server.drain())
            await first.send(end("one"))
            await pass_time(5.0)
            assert not drain.done()
            await second.send(end("two"))
            await pass_time(4.0)
            assert drain.done()
        assert second.closed_with == (1000, "session ended")

    on_an_exchange(main, drain_seconds=60)


@pytest.mark.parametrize("drain_seconds", [0, 2, 4])
def test_with_little_time_calls_are_let_go_at_once(drain_seconds: float) -> None:
    async def main(exchange: Exchange) -> None:
        caller, task = await exchange.call("c")
        began = exchange.loop.time()
        await exchange.server.drain()
        await exchange.server.stop()
        assert caller.closed_with == (1012, "service restart")
        assert exchange.loop.time() - began <= 4.0
        await task

    on_an_exchange(main, drain_seconds=drain_seconds)


# What the admin port asks


def test_the_calls_under_way_are_listed_with_their_state_and_the_age_of_their_stream() -> None:
    async def main(exchange: Exchange) -> None:
        caller, task = await exchange.call("one")
        await exchange.call("two")
        await pass_time(2.0)
        (first, second) = exchange.server.calls()
        assert (first["id"], second["id"]) == ("one", "two")
        assert (first["agent"], first["tenant"], first["state"]) == ("default", "", "talking")
        assert (first["stream_age_s"], first["switches"]) == (2.2, 0)
        caller.abort()
        await pass_time(1.0)
        (first, second) = exchange.server.calls()
        assert (first["state"], second["state"]) == ("detached", "talking")
        assert first["stream_age_s"] == 3.2
        again, _ = await exchange.resume("one")
        assert exchange.server.calls()[0]["state"] == "talking"
        await again.send(end("one"))
        await task
        assert [call["id"] for call in exchange.server.calls()] == ["two"]

    on_an_exchange(main)


def test_who_comes_back_where_nothing_is_stored_is_refused_and_counted() -> None:
    async def main(exchange: Exchange) -> None:
        caller, _ = await exchange.resume("unknown")
        assert "conversation not found" in str(await caller.recv())
        count = exchange.metrics.registry.get_sample_value(
            "opusagent_session_recoveries_total", {"outcome": "unknown"}
        )
        assert count == 1

    on_an_exchange(main)


def test_a_refusal_says_in_the_log_whom_it_met() -> None:
    async def main(exchange: Exchange) -> None:
        with capture_logs(processors=[merge_contextvars]) as lines:
            await exchange.resume("unknown")
        (line,) = (line for line in lines if line["event"] == "call refused")
        assert line["conversation_id"] == "unknown"

    on_an_exchange(main)


@pytest.mark.parametrize("is_tolerated", [False, True])
def test_a_store_that_is_down_makes_the_bridge_unready_unless_that_is_tolerated(
    *, is_tolerated: bool
) -> None:
    async def main(exchange: Exchange) -> None:
        exchange.server.store_problem = "down"
        expected = [] if is_tolerated else ["session store: down"]
        assert exchange.server.ready() == expected
        assert exchange.server.stats()["store_problem"] == "down"

    on_an_exchange(main, ready_without_store=is_tolerated)


# At rest


def test_memory_is_given_back_a_moment_after_the_last_call() -> None:
    async def main(exchange: Exchange) -> None:
        one, first = await exchange.call("one")
        two, second = await exchange.call("two")
        await one.send(end("one"))
        await first
        await pass_time(2 * REST_S)
        assert exchange.rested == []
        await two.send(end("two"))
        await second
        over_at = exchange.loop.time()
        await pass_time(2 * REST_S)
        assert exchange.rested == [pytest.approx(over_at + REST_S)]

    on_an_exchange(main)


def test_memory_is_not_given_back_while_another_call_has_begun() -> None:
    async def main(exchange: Exchange) -> None:
        caller, task = await exchange.call("one")
        await caller.send(end("one"))
        await task
        await pass_time(REST_S / 2)
        caller, task = await exchange.call("two")
        await pass_time(3 * REST_S)
        assert exchange.rested == []
        await caller.send(end("two"))
        await task
        await pass_time(2 * REST_S)
        assert len(exchange.rested) == 1

    on_an_exchange(main)


def test_a_server_that_has_stopped_does_nothing_any_more() -> None:
    async def main(exchange: Exchange) -> None:
        caller, task = await exchange.call("one")
        await caller.send(end("one"))
        await task
        await exchange.server.stop()
        await pass_time(2 * REST_S)
        assert exchange.rested == []

    on_an_exchange(main)


def test_a_call_that_ends_after_the_server_has_stopped_changes_nothing() -> None:
    async def main(exchange: Exchange) -> None:
        task = await exchange.stuck_call("one")
        await exchange.server.stop()
        assert not task.done()
        await task
        await pass_time(2 * REST_S)
        assert exchange.rested == []

    on_an_exchange(main)


# Who answers


STAFF = {
    "default": SILENT_AGENT,
    "sales": SILENT_AGENT.model_copy(
        update={"system_prompt": "I sell at {called}.", "numbers": ("+4930*",), "model": "other"}
    ),
    "help": SILENT_AGENT.model_copy(update={"system_prompt": "I help {query.who}."}),
}


async def prompt_of(exchange: Exchange) -> str:
    """What the newest stream was told before the call."""
    stream = exchange.connector.streams[-1]
    while True:
        event = json.loads(await stream.receive() or b"{}")["event"]
        if "textInput" in event:
            return str(event["textInput"]["content"])


async def start(caller: MemoryCaller, conversation_id: str, callee: str) -> None:
    activity = {"type": "event", "name": "start", "parameters": {"callee": callee}}
    message = {"type": "activities", "conversationId": conversation_id, "activities": [activity]}
    await caller.send(json.dumps(message))
    await pass_time(0.1)


def test_the_called_number_picks_the_agent_its_model_and_its_prompt() -> None:
    async def main(exchange: Exchange) -> None:
        caller, task = await exchange.call("c")
        assert exchange.connector.streams == []
        await start(caller, "c", "+49301")
        assert exchange.connector.models == ["other"]
        assert await prompt_of(exchange) == "I sell at +49301."
        assert exchange.server.calls()[0]["agent"] == "sales"
        await caller.send(end("c"))
        await task

    on_an_exchange(main, agents=STAFF)


def test_the_query_of_the_url_picks_the_agent_without_waiting_for_the_number() -> None:
    async def main(exchange: Exchange) -> None:
        caller, task = await exchange.call("c", query={"agent": "help", "who": "you"})
        assert await prompt_of(exchange) == "I help you."
        await start(caller, "c", "+49301")
        assert exchange.server.calls()[0]["agent"] == "help"
        assert len(exchange.connector.streams) == 1
        await caller.send(end("c"))
        await task

    on_an_exchange(main, agents=STAFF)


def test_what_is_wrong_with_files_of_agents_stands_in_the_stats() -> None:
    async def main(exchange: Exchange) -> None:
        assert exchange.server.stats()["agent_problems"] == {"x.toml": "x.toml: is not TOML"}
        assert exchange.server.ready() == []

    on_an_exchange(main, problems={"x.toml": "x.toml: is not TOML"})
