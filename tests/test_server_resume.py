"""Callers who come back: to the process that has the call, to another one, or to nothing."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from opusagent.agents import AgentDirectory
from opusagent.call.events import EndedBy
from opusagent.config import Settings
from opusagent.hooks.events import CallEnded, Event
from opusagent.hooks.story import events_between
from opusagent.models.agent import Agent
from opusagent.models.session_state import ConversationItem, SessionState
from opusagent.observability import Metrics
from opusagent.server import BridgeServer
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.session_storage.memory_storage import MemorySessionStorage
from opusagent.transports.memory import MemoryCaller, caller_pair
from opusagent.transports.reachability import Problem
from tests.bridges.rig import Brain, Services
from tests.call.driver import SILENT_AGENT
from tests.services.faulty import START, FaultyStorage, LoopClock
from tests.virtual_time import run
from tests.waiting import pass_time

FORMATS = ["raw/lpcm16", "raw/lpcm16_24"]


class Phone:
    """One websocket of VoiceAI Connect."""

    def __init__(self, end: MemoryCaller, served: asyncio.Task[None]) -> None:
        self.end = end
        self.served = served
        self.heard: list[dict[str, Any]] = []

    async def listen(self) -> None:
        while (text := await self.end.recv()) is not None:
            self.heard.append(json.loads(text))

    async def say(self, kind: str, conversation_id: str = "c", **fields: object) -> None:
        await self.end.send(json.dumps({"type": kind, "conversationId": conversation_id, **fields}))

    @property
    def accepted(self) -> bool:
        return any(message["type"] == "session.accepted" for message in self.heard)

    @property
    def refused(self) -> str | None:
        reasons = (m["reason"] for m in self.heard if m["type"] == "session.error")
        return next(reasons, None)


class Process:
    """One bridge."""

    def __init__(
        self,
        house: House,
        *,
        agents: dict[str, Agent] | None = None,
        brain: Brain | None = None,
        ids: str = "s",
        **settings: Any,
    ) -> None:
        self.house = house
        self.services = Services(brain=brain, ids=ids)
        self.metrics = Metrics()
        self.settings = Settings(**settings)
        self.storage = FaultyStorage(house.storage)
        self.sessions = SessionManagerService(
            self.storage,
            clock=house.clock,
            meter=self.metrics,
            session_ttl=self.settings.session_ttl,
            listener=self,
        )
        self.events: list[Event] = []
        self.server = BridgeServer(
            self.settings,
            AgentDirectory(agents or {"default": SILENT_AGENT}),
            self.services,
            self.metrics,
            sessions=self.sessions,
            is_shared=True,
            clock=house.clock,
            at_rest=lambda: None,
        )

    def stored(self, before: SessionState | None, after: SessionState, tenant: str) -> None:
        """What applications would be told."""
        self.events += events_between(before, after, tenant=tenant)

    @property
    def told_applications(self) -> list[str]:
        return [event.type for event in self.events]

    async def socket(
        self, kind: str, conversation_id: str = "c", *, tenant: str = "", **fields: object
    ) -> Phone:
        """A websocket that begins with this message; gives it once it was answered, or soon."""
        ours, theirs = caller_pair()
        phone = Phone(theirs, self.house.tasks.create_task(self.server.serve(ours, tenant)))
        self.house.tasks.create_task(phone.listen())
        await phone.say(kind, conversation_id, supportedMediaFormats=FORMATS, **fields)
        await pass_time(0.2)
        return phone

    async def call(self, conversation_id: str = "c", **options: Any) -> Phone:
        """Somebody calls, and is listened to."""
        phone = await self.socket("session.initiate", conversation_id, **options)
        await phone.say("activities", conversation_id, activities=[START_EVENT])
        await phone.say("userStream.start", conversation_id)
        await pass_time(0.1)
        return phone

    async def resume(self, conversation_id: str = "c", **options: Any) -> Phone:
        """Somebody comes back."""
        return await self.socket("session.resume", conversation_id, **options)

    def count(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(f"opusagent_{name}", labels)
        return value or 0.0

    def told(self) -> list[tuple[str, str]]:
        """The history of the newest stream."""
        return [(t.role.value, t.text) for t in self.services.peers[-1].record.history]


START_EVENT = {"id": "1", "type": "event", "name": "start", "parameters": {}}


@dataclass
class House:
    """Processes around one store."""

    tasks: asyncio.TaskGroup
    clock: LoopClock = field(default_factory=LoopClock)
    storage: MemorySessionStorage = field(init=False)

    def __post_init__(self) -> None:
        self.storage = MemorySessionStorage(clock=self.clock)

    @asynccontextmanager
    async def process(self, **options: Any) -> AsyncIterator[Process]:
        process = Process(self, **options)
        await process.sessions.start()
        try:
            yield process
        finally:
            await process.server.stop()
            await process.sessions.stop()
            await process.services.all_over()

    async def stored(self, conversation_id: str = "c") -> SessionState:
        data = await self.storage.retrieve_session(conversation_id)
        assert data is not None
        return SessionState.from_dict(data)

    async def keep(self, conversation_id: str = "c", **fields: Any) -> None:
        """A session as somebody left it."""
        state = {
            "conversation_id": conversation_id,
            "created_at": START,
            "last_activity": self.clock.utcnow(),
            "status": "paused",
            **fields,
        }
        data = SessionState.model_validate(state).to_dict()
        await self.storage.store_session(conversation_id, data)


def in_a_house(main: Callable[[House], Coroutine[None, None, None]]) -> None:
    async def whole() -> None:
        async with asyncio.TaskGroup() as tasks:
            await main(House(tasks))

    run(whole())


ANN = [
    ConversationItem(type="input", text="My name is Ann.", at=START),
    ConversationItem(type="output", text="Hello Ann.", at=START + timedelta(seconds=2)),
]


# The same process


def test_a_caller_who_comes_back_to_the_process_that_has_the_call_needs_no_store() -> None:
    async def main(house: House) -> None:
        async with house.process() as here:
            first = await here.call()
            here.storage.down()
            first.end.abort()
            await pass_time(5.0)
            second = await here.resume()
            assert second.accepted
            assert len(here.services.streams) == 1
            assert first.served is not second.served
            await second.say("session.end")
            await pass_time(5.0)
            assert first.served.done()
            assert second.served.done()
            assert here.server.stats()["calls_active"] == 0
            here.storage.up()

    in_a_house(main)


def test_a_second_resume_in_the_same_moment_gets_the_call_that_the_first_one_got() -> None:
    async def main(house: House) -> None:
        await house.keep(conversation_history=ANN)
        async with house.process() as here:
            here.storage.delay_s = 0.05
            async with asyncio.TaskGroup() as both:
                one, two = (both.create_task(here.resume()) for _ in range(2))
            await pass_time(1.0)
            assert two.result().accepted
            assert here.server.stats()["calls_active"] == 1
            assert len(here.services.streams) == 1
            assert (await house.stored()).owner_epoch == 1
            assert one.result().end.closed_with == (1000, "resumed on another socket")
            await two.result().say("session.end")
            await pass_time(5.0)
            assert here.server.stats()["calls_active"] == 0

    in_a_house(main)


def test_each_of_several_resumes_of_nothing_is_refused() -> None:
    async def main(house: House) -> None:
        async with house.process() as here:
            here.storage.delay_s = 0.05
            async with asyncio.TaskGroup() as all_at_once:
                asked = [all_at_once.create_task(here.resume()) for _ in range(3)]
            await pass_time(1.0)
            assert {one.result().refused for one in asked} == {"conversation not found"}
            assert here.count("session_recoveries_total", outcome="unknown") == 3

    in_a_house(main)


def test_two_resumes_of_a_call_that_is_storing_its_end_get_one_call() -> None:
    async def main(house: House) -> None:
        async with house.process(resume_grace_seconds=0) as here:
            first = await here.call()
            here.storage.delay_s = 0.1
            here.storage.log.clear()
            first.end.abort()
            await pass_time(0.01)
            async with asyncio.TaskGroup() as both:
                one, two = (both.create_task(here.resume()) for _ in range(2))
            await pass_time(2.0)
            assert one.result().end.closed_with == (1000, "resumed on another socket")
            assert two.result().accepted
            assert here.server.stats()["calls_active"] == 1
            assert len(here.services.streams) == 2
            assert (await house.stored()).owner_epoch == 2
            (end_at, what, _), (asked_at, then, _), *_ = here.storage.log
            assert (what, then) == ("store", "retrieve")
            assert asked_at >= end_at + 0.1  # the end was stored by then

    in_a_house(main)


def test_a_call_that_is_over_is_taken_up_from_the_store_though_its_streams_still_close() -> None:
    async def main(house: House) -> None:
        async with house.process(resume_grace_seconds=0) as here:
            first = await here.call()
            for task in here.services.tasks:
                task.cancel()  # the service never ends its stream
            first.end.abort()
            await pass_time(0.1)
            assert not first.served.done()
            second = await here.resume()
            assert second.accepted
            await pass_time(10.0)
            assert first.served.done()
            assert here.server.stats()["calls_active"] == 1
            await second.say("session.end")
            await pass_time(5.0)
            assert here.server.stats()["calls_active"] == 0

    in_a_house(main)


def test_after_the_grace_a_caller_is_taken_up_from_the_store() -> None:
    async def main(house: House) -> None:
        async with house.process(resume_grace_seconds=10) as here:
            first = await here.call()
            first.end.abort()
            await pass_time(20.0)
            assert here.server.stats()["calls_active"] == 0
            assert here.services.streams[0].is_closed
            assert (await here.resume()).accepted
            assert len(here.services.streams) == 2

    in_a_house(main)


# The same conversation begun anew


def test_a_lost_call_that_is_asked_for_anew_is_over_and_another_begins() -> None:
    async def main(house: House) -> None:
        async with house.process() as here:
            first = await here.call()
            first.end.abort()
            await pass_time(5.0)
            second = await here.call()
            assert second.accepted
            assert here.server.stats()["calls_active"] == 1
            assert len(here.services.streams) == 2
            assert here.told() == []
            stored = await house.stored()
            assert (stored.status, stored.owner_epoch, stored.resumed_count) == ("active", 2, 0)
            await pass_time(5.0)
            assert first.served.done()
            assert here.services.streams[0].is_closed
            second.end.abort()
            assert (await here.resume()).accepted
            assert len(here.services.streams) == 2
            assert here.told_applications[:3] == ["call.started", "call.ended", "call.started"]
            ended = here.events[1]
            assert isinstance(ended, CallEnded)
            assert (ended.ended_by, ended.reason) == ("socket", "the caller began anew")

    in_a_house(main)


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 10.0])
def test_of_two_who_begin_anew_at_once_one_gets_the_call(delay_s: float) -> None:
    async def main(house: House) -> None:
        async with house.process() as here:
            first = await here.call()
            first.end.abort()
            await pass_time(1.0)
            here.storage.delay_s = delay_s
            async with asyncio.TaskGroup() as both:
                asked = [both.create_task(here.socket("session.initiate")) for _ in range(2)]
            await pass_time(1.0)
            one, two = (phone.result() for phone in asked)
            assert (one.accepted, two.accepted) == (True, False)
            assert two.refused == "this conversation is under way already"
            assert here.server.stats()["calls_active"] == 1
            assert len(here.services.streams) == 2
            here.storage.delay_s = 0.0

    in_a_house(main)


@pytest.mark.parametrize("delay_s", [0.0, 0.05])
@pytest.mark.parametrize("grace_s", [0.0, 60.0])
@pytest.mark.parametrize("kinds", ["resume initiate", "initiate resume"])
def test_who_comes_back_and_begins_anew_at_once_has_one_call(
    kinds: str, grace_s: float, delay_s: float
) -> None:
    async def main(house: House) -> None:
        async with house.process(resume_grace_seconds=grace_s) as here:
            first = await here.call()
            first.end.abort()
            await pass_time(1.0)
            here.storage.delay_s = delay_s
            async with asyncio.TaskGroup() as both:
                asked = [both.create_task(here.socket(f"session.{k}")) for k in kinds.split()]
            await pass_time(3.0)
            phones = [phone.result() for phone in asked]
            on_the_line = [p for p in phones if p.accepted and p.end.closed_with is None]
            assert len(on_the_line) == 1
            assert here.server.stats()["calls_active"] == 1
            assert sum(not stream.is_closed for stream in here.services.streams) == 1
            await on_the_line[0].say("session.end")
            await pass_time(5.0)
            assert here.server.stats()["calls_active"] == 0
            assert (await house.stored()).status == "ended"

    in_a_house(main)


def test_a_lost_call_is_not_anothers_to_begin_anew() -> None:
    async def main(house: House) -> None:
        async with house.process() as here:
            first = await here.call(tenant="acme")
            first.end.abort()
            await pass_time(1.0)
            other = await here.socket("session.initiate", tenant="globex")
            assert other.refused == "this conversation is under way already"
            assert (await here.resume(tenant="acme")).accepted
            assert len(here.services.streams) == 1

    in_a_house(main)


def test_who_cannot_begin_anew_keeps_the_call_that_she_lost() -> None:
    async def main(house: House) -> None:
        async with house.process() as here:
            first = await here.call()
            first.end.abort()
            await pass_time(1.0)
            here.server.bedrock_problem = Problem("an untrusted certificate", lasts=True)
            other = await here.socket("session.initiate")
            assert other.refused == "the model cannot be reached"
            assert (await here.resume()).accepted
            assert len(here.services.streams) == 1

    in_a_house(main)


def test_who_begins_anew_needs_no_free_line() -> None:
    async def main(house: House) -> None:
        async with house.process(session_max_concurrent=1) as here:
            first = await here.call()
            first.end.abort()
            await pass_time(1.0)
            assert (await here.socket("session.initiate", "other")).refused == "all lines are busy"
            assert (await here.socket("session.initiate")).accepted

    in_a_house(main)


# Another process


def test_another_process_takes_the_call_and_the_old_owner_goes_without_a_word() -> None:
    async def main(house: House) -> None:
        async with house.process() as old, house.process() as new:
            first = await old.call()
            before = len(first.heard)
            began = asyncio.get_running_loop().time()
            second = await new.resume()
            assert second.accepted
            assert first.served.done() or first.end.closed_with == (1000, "resumed elsewhere")
            assert asyncio.get_running_loop().time() - began < 0.3
            await pass_time(5.0)
            assert first.served.done()
            assert first.heard[before:] == []
            assert all(end.is_closed for end in old.services.streams)
            assert old.services.peers[0].record.closed_properly
            assert old.count("calls_total", ended_by=EndedBy.FENCED.value) == 1
            writes = old.storage.count("store")
            await pass_time(60.0)
            assert old.storage.count("store") == writes
            stored = await house.stored()
            assert (stored.owner, stored.owner_epoch) == (new.sessions.owner, 2)
            assert stored.resumed_count == 1

    in_a_house(main)


def test_an_owner_that_hears_of_nothing_is_gone_within_a_heartbeat() -> None:
    async def main(house: House) -> None:
        async with house.process() as old, house.process() as new:
            first = await old.call()
            # A store that tells nobody of claims: the claim comes by another way than `watch_session`.
            data = await house.storage.retrieve_session("c")
            assert data is not None
            await house.storage.store_session(
                "c", {**data, "owner": "somebody", "owner_epoch": data["owner_epoch"] + 1}
            )
            await pass_time(1.1)
            assert first.end.closed_with == (1000, "resumed elsewhere")
            assert (await new.resume()).accepted

    in_a_house(main)


def test_a_resumed_call_that_says_nothing_still_notices_its_successor() -> None:
    async def main(house: House) -> None:
        await house.keep(conversation_history=ANN, current_turn=1)
        async with house.process() as one, house.process() as two:
            first = await one.resume()
            assert one.storage.count("store") == 1  # the return itself, and nothing more
            await pass_time(3.0)
            await two.resume()
            await pass_time(1.0)
            assert first.end.closed_with == (1000, "resumed elsewhere")

    in_a_house(main)


def test_a_session_without_an_owner_keeps_alive_in_its_new_process() -> None:
    async def main(house: House) -> None:
        await house.keep(conversation_history=ANN)
        async with house.process(session_ttl=30) as here, house.process(session_ttl=30) as next_one:
            await here.resume()
            await pass_time(300.0)  # on hold
            assert (await next_one.resume()).accepted

    in_a_house(main)


def test_the_new_stream_is_told_the_conversation_before_it_hears_anything() -> None:
    async def main(house: House) -> None:
        await house.keep(conversation_history=ANN)
        async with house.process() as here:
            assert (await here.resume()).accepted
            await pass_time(1.0)
            assert here.told() == [("USER", "My name is Ann."), ("ASSISTANT", "Hello Ann.")]
            assert here.services.peers[0].record.failure is None
            assert here.count("session_recoveries_total", outcome="resumed") == 1
            assert here.count("session_load_seconds_count") == 1

    in_a_house(main)


def test_the_agent_of_before_goes_on_though_its_file_has_changed() -> None:
    async def main(house: House) -> None:
        max_ = SILENT_AGENT.model_copy(update={"system_prompt": "You are Max.", "voice": "matthew"})
        eva = SILENT_AGENT.model_copy(update={"system_prompt": "You are Eva."})
        both = {"default": SILENT_AGENT, "sales": max_}
        async with (
            house.process(agents=both) as old,
            house.process(agents={"default": SILENT_AGENT, "sales": eva}) as new,
            house.process(agents={"default": SILENT_AGENT}) as other,
        ):
            await old.call(botName="sales")
            for process in (new, other):
                assert (await process.resume()).accepted
                await pass_time(0.5)
                record = process.services.peers[0].record
                assert record.system_prompt == "You are Max."
                assert record.prompt is not None
                assert record.prompt.audio_output_configuration.voice_id == "matthew"

    in_a_house(main)


def test_a_stored_agent_that_cannot_be_used_gives_way_to_the_one_of_the_file() -> None:
    async def main(house: House) -> None:
        await house.keep(agent={"nonsense": 1}, conversation_history=ANN)
        async with house.process() as here:
            assert (await here.resume()).accepted
            assert here.services.peers[0].record.system_prompt == SILENT_AGENT.system_prompt

    in_a_house(main)


# Nobody's conversation


async def no_session(house: House) -> None:
    """There is none."""


async def expired(house: House) -> None:
    await house.keep(last_activity="2025-12-31T00:00:00Z")


async def ended(house: House) -> None:
    await house.keep(status="ended")


async def failed(house: House) -> None:
    await house.keep(status="error")


async def foreign(house: House) -> None:
    await house.keep(tenant="acme")


async def of_another_version(house: House) -> None:
    await house.storage.store_session("c", {"conversation_id": "c", "schema_version": 7})


REFUSED = [
    (no_session, "conversation not found"),
    (expired, "conversation has expired"),
    (ended, "conversation has ended"),
    (failed, "conversation has ended"),
    (foreign, "conversation not found"),
    (of_another_version, "conversation cannot be resumed"),
]


@pytest.mark.parametrize(("left", "words"), REFUSED)
def test_a_conversation_that_cannot_go_on_is_refused_in_words(
    left: Callable[[House], Coroutine[None, None, None]], words: str
) -> None:
    async def main(house: House) -> None:
        await left(house)
        async with house.process() as here:
            phone = await here.resume()
            assert phone.refused == words
            assert phone.end.closed_with == (1000, "refused")
            assert here.services.streams == []
            assert here.count("calls_refused_total", reason="unknown_session") == 1

    in_a_house(main)


@pytest.mark.parametrize(("left", "words"), REFUSED)
def test_where_it_is_wanted_a_fresh_conversation_begins_but_never_in_anothers_name(
    left: Callable[[House], Coroutine[None, None, None]],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(house: House) -> None:
        await left(house)
        async with house.process(on_unknown_session="fresh") as here:
            phone = await here.resume()
            assert phone.accepted is (left is not foreign)
            if left is foreign:
                assert phone.refused == words
                assert (await house.stored()).tenant == "acme"
                return
            await pass_time(2.0)
            stored = await house.stored()
            assert stored.status == "active"
            assert stored.conversation_history == []

    in_a_house(main)
    assert ("started afresh" in capsys.readouterr().out) is (left is not foreign)


def test_a_store_in_trouble_is_a_refusal_with_its_reason() -> None:
    async def main(house: House) -> None:
        await house.keep()
        async with house.process() as here:
            here.storage.down()
            phone = await here.resume()
            await pass_time(2.0)
            assert phone.refused == "session store unavailable"
            assert here.count("session_recoveries_total", outcome="unavailable") == 1
            here.storage.up()

    in_a_house(main)


def test_a_store_that_fails_over_is_waited_for() -> None:
    async def main(house: House) -> None:
        await house.keep(conversation_history=ANN)
        async with house.process() as here:
            here.storage.down()
            phone = await here.resume()
            await pass_time(1.0)
            assert phone.heard == []
            here.storage.up()
            await pass_time(0.2)
            assert phone.accepted

    in_a_house(main)


@pytest.mark.parametrize("on_unknown", ["refuse", "fresh"])
def test_who_comes_back_twice_at_once_is_heard_on_one_line_and_hung_up_on_by_neither(
    on_unknown: str,
) -> None:
    async def main(house: House) -> None:
        await house.keep(conversation_history=ANN)
        async with (
            house.process(on_unknown_session=on_unknown) as slow,
            house.process(on_unknown_session=on_unknown) as quick,
        ):
            slow.storage.delay_s = 0.05
            async with asyncio.TaskGroup() as both:
                loser = both.create_task(slow.resume())
                await pass_time(0.12)  # it has claimed, and has not stored that
                winner = both.create_task(quick.resume())
            await pass_time(3.0)
            assert winner.result().accepted
            assert winner.result().end.closed_with is None
            assert loser.result().refused is None
            assert not loser.result().accepted
            assert loser.result().end.closed_with == (1000, "resumed elsewhere")
            assert (await house.stored()).owner == quick.sessions.owner

    in_a_house(main)


def test_two_tenants_never_see_each_others_conversations() -> None:
    async def main(house: House) -> None:
        async with house.process() as here, house.process() as there:
            await here.call(tenant="acme")
            for process in (here, there):
                phone = await process.resume(tenant="globex")
                assert phone.refused == "conversation not found"
                assert process.count("session_recoveries_total", outcome="foreign") == 1
            assert here.server.stats()["calls_active"] == 1
            assert (await house.stored()).owner_epoch == 1  # its owner was not even disturbed
            assert (await there.resume(tenant="acme")).accepted

    in_a_house(main)


# How many


def test_callers_who_come_back_are_taken_above_the_capacity_up_to_twice() -> None:
    async def main(house: House) -> None:
        for name in ("a", "b", "d"):
            await house.keep(name, conversation_history=ANN)
        async with house.process(session_max_concurrent=2) as here:
            await here.call("x")
            await here.call("y")
            assert (await here.socket("session.initiate", "z")).refused == "all lines are busy"
            assert (await here.resume("a")).accepted
            assert (await here.resume("b")).accepted
            assert (await here.resume("d")).refused == "all lines are busy"
            assert here.count("session_recoveries_total", outcome="at_capacity") == 1
            assert (await house.stored("d")).owner_epoch == 0  # for somebody else to take

    in_a_house(main)


def test_no_more_than_twice_the_capacity_are_taken_though_all_come_back_at_once() -> None:
    async def main(house: House) -> None:
        names = [f"c{n}" for n in range(6)]
        for name in names:
            await house.keep(name, conversation_history=ANN)
        async with house.process(session_max_concurrent=2) as here:
            here.storage.delay_s = 0.02
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(here.resume(name)) for name in names]
            phones = [one.result() for one in asked]
            assert sum(phone.accepted for phone in phones) == 4
            assert sum(phone.refused == "all lines are busy" for phone in phones) == 2

    in_a_house(main)


def test_a_caller_who_comes_back_to_her_own_call_needs_no_free_line() -> None:
    async def main(house: House) -> None:
        async with house.process(session_max_concurrent=1) as here:
            await here.call()
            assert (await here.resume()).accepted
            assert here.server.stats()["calls_active"] == 1

    in_a_house(main)


def test_a_bridge_without_its_store_is_not_ready_unless_it_may_do_without() -> None:
    async def main(house: House) -> None:
        async with house.process() as strict, house.process(ready_without_store=True) as lenient:
            for process in (strict, lenient):
                process.server.store_problem = "Connection refused"
                assert (await process.call(f"c-{id(process)}")).accepted  # calls go on either way
            assert strict.server.ready() == ["session store: Connection refused"]
            assert lenient.server.ready() == []

    in_a_house(main)


# Letting go


def test_twenty_calls_are_let_go_and_taken_up_by_another_process_and_none_is_hung_up() -> None:
    async def main(house: House) -> None:
        async with (
            house.process(session_max_concurrent=20) as old,
            house.process(session_max_concurrent=20) as new,
        ):
            phones = {f"c-{n}": await old.call(f"c-{n}") for n in range(20)}
            await old.server.drain()
            for phone in phones.values():
                assert phone.end.closed_with == (1012, "service restart")
                assert phone.refused is None
                assert not any(
                    m["type"] == "activities" and "hangup" in str(m) for m in phone.heard
                )
            assert old.server.stats()["calls_active"] == 0
            assert old.sessions.facts()["sessions_unsaved"] == 0
            for name in phones:
                assert (await new.resume(name)).accepted
            assert new.server.stats()["calls_active"] == 20

    in_a_house(main)


def test_the_last_state_is_stored_before_the_socket_is_closed_however_slow_the_store_is() -> None:
    async def main(house: House) -> None:
        async with house.process() as old, house.process() as new:
            phone = await old.call()
            loud = base64.b64encode(b"\xff\x3f\x00\xc0" * 160).decode()
            for _ in range(50):
                await phone.say("userStream.chunk", audioChunk=loud)
                await pass_time(0.02)
            old.storage.delay_s = 0.2
            drain = house.tasks.create_task(old.server.drain())
            await phone.served  # the socket is closed: she comes back at once
            stored = await house.stored()
            assert stored.status == "paused"
            assert stored.audio_buffer
            assert (await new.resume()).accepted
            await drain
            await pass_time(1.0)
            assert new.services.peers[0].record.audio_s > 1.0

    in_a_house(main)


def test_a_process_that_lets_go_sends_callers_who_come_back_on_to_the_next() -> None:
    async def main(house: House) -> None:
        async with house.process() as old, house.process() as new:
            await old.call()
            drain = house.tasks.create_task(old.server.drain())
            await pass_time(1.0)
            phone = await old.resume()
            assert phone.end.closed_with == (1012, "service restart")
            assert phone.refused is None
            assert (await new.resume()).accepted
            await drain

    in_a_house(main)


def test_a_resume_that_is_overtaken_by_the_signal_is_sent_on() -> None:
    async def main(house: House) -> None:
        await house.keep(conversation_history=ANN)
        async with house.process() as old, house.process() as new:
            old.storage.delay_s = 0.1
            async with asyncio.TaskGroup() as tasks:
                asked = tasks.create_task(old.resume())
                await pass_time(0.15)
                tasks.create_task(old.server.drain())
            await pass_time(1.0)
            assert asked.result().end.closed_with == (1012, "service restart")
            assert (await new.resume()).accepted

    in_a_house(main)


def test_no_conversation_begins_afresh_in_a_process_that_lets_go() -> None:
    async def main(house: House) -> None:
        async with house.process(on_unknown_session="fresh") as old:
            old.storage.delay_s = 0.1
            async with asyncio.TaskGroup() as tasks:
                asked = tasks.create_task(old.resume())
                await pass_time(0.05)
                tasks.create_task(old.server.drain())
            await pass_time(1.0)
            assert asked.result().end.closed_with == (1012, "service restart")
            assert not asked.result().accepted

    in_a_house(main)


def test_while_the_store_is_down_calls_run_on_at_a_signal() -> None:
    async def main(house: House) -> None:
        async with house.process(drain_seconds=30) as here:
            phone = await here.call()
            here.server.store_problem = "down"
            drain = house.tasks.create_task(here.server.drain())
            await pass_time(15.0)
            assert phone.end.closed_with is None
            await phone.say("session.end")
            await pass_time(5.0)
            assert phone.end.closed_with == (1000, "session ended")
            await drain

    in_a_house(main)


def test_a_store_that_stands_still_delays_no_audio() -> None:
    async def main(house: House) -> None:
        async with house.process() as here:
            phone = await here.call()
            peer = here.services.peers[0]
            loud = base64.b64encode(b"\xff\x3f\x00\xc0" * 160).decode()
            here.storage.delay_s = 1000.0
            heard_s = peer.record.audio_s
            for number in range(1, 101):
                await phone.say("userStream.chunk", audioChunk=loud)
                await pass_time(0.02)
                assert peer.record.audio_s >= heard_s + 0.02 * number - 0.001
            here.storage.delay_s = 0.0

    in_a_house(main)


def test_three_processes_are_replaced_one_after_the_other_and_no_call_is_lost() -> None:
    async def main(house: House) -> None:
        async with AsyncExitStack() as stack:
            fleet = [await stack.enter_async_context(house.process()) for _ in range(3)]
            where = {f"c-{n}": fleet[n % 3] for n in range(20)}
            phones = {name: await process.call(name) for name, process in where.items()}
            for leaving in tuple(fleet):
                fleet.remove(leaving)
                fleet.append(await stack.enter_async_context(house.process()))
                drain = house.tasks.create_task(leaving.server.drain())
                for n, name in enumerate(name for name in where if where[name] is leaving):
                    await phones[name].served
                    assert phones[name].refused is None
                    where[name] = fleet[n % 3]
                    phones[name] = await where[name].resume(name)
                    assert phones[name].accepted
                await drain
            assert sum(process.server.stats()["calls_active"] for process in fleet) == 20

    in_a_house(main)


# What applications are told


def test_a_call_that_moves_from_process_to_process_is_told_once_as_a_whole() -> None:
    async def main(house: House) -> None:
        async with house.process() as one:
            first = await one.call(caller="+1555")
            async with asyncio.TaskGroup() as tasks:
                drain = tasks.create_task(one.server.drain())
                await pass_time(25.0)
                assert drain.done()
            assert first.end.closed_with is not None
            assert one.told_applications == ["call.started", "call.ended"]
            async with house.process() as two:
                second = await two.resume()
                assert two.told_applications == ["call.resumed"]
                await second.say("session.end")
                await pass_time(5.0)
                assert two.told_applications == ["call.resumed", "call.ended"]
                paused, over = one.events[-1], two.events[-1]
                assert isinstance(paused, CallEnded)
                assert isinstance(over, CallEnded)
                assert (paused.ended_by, paused.resumable) == ("shutdown", True)
                assert (over.ended_by, over.resumable) == ("caller", False)
                assert paused.id != over.id

    in_a_house(main)


def test_a_caller_who_comes_back_to_the_same_process_is_told_as_well() -> None:
    async def main(house: House) -> None:
        async with house.process() as here:
            first = await here.call()
            first.end.abort()
            await pass_time(5.0)
            second = await here.resume()
            await second.say("session.end")
            await pass_time(5.0)
            assert here.told_applications == ["call.started", "call.resumed", "call.ended"]

    in_a_house(main)
