"""A line that drops, a process that dies, a deploy in the middle of calls: on real sockets, with real processes.

caller <-websocket-> bridge processes <-h2-> the service (this process)
                           |
                        Valkey
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from opusagent.bench.resume.measure import SAFE_S, measure_kills, percentile
from opusagent.bench.resume.phone import Phone, pause
from opusagent.bench.resume.promises import STALL_MS
from opusagent.bench.resume.stage import Bridge, Log, Stage, stage
from opusagent.bench.resume.stall import measure_stall
from opusagent.errors import TransportError
from opusagent.processes import SETTINGS, Child
from opusagent.simulators.caller import SimulatedCaller
from opusagent.simulators.caller_record import CallRecord, check_numbers
from opusagent.simulators.caller_script import (
    CutSocket,
    Pause,
    SendNumbers,
    WaitForBot,
    WaitForBotToSpeak,
)
from opusagent.simulators.sonic_service import NovaService, ServicePlan
from opusagent.simulators.valkey import LocalValkey
from opusagent.simulators.wire import WireServer
from opusagent.transports.websocket import WebSocketTransport, connect
from tests.end_to_end.rig import (
    END_S,
    KEYS,
    PLAN,
    QUICK,
    Line,
    NumberBrain,
    ToldEars,
    ToneBrain,
    run,
    say,
)
from tests.waiting import eventually

pytestmark = pytest.mark.integration

STORED_S = 10.0
"""How long a state may take to be in the store on a busy machine."""

TEST_S = 150.0
"""A process takes a few seconds to start on a busy machine."""


def on_the_wires(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TEST_S):
            await main

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


# The same process


def test_a_bot_that_is_cut_off_in_a_sentence_goes_on_with_it_and_no_frame_is_missing() -> None:
    brain = NumberBrain(1_000, 150)

    async def main(line: Line) -> None:
        plan = replace(PLAN, numbered_ms=20)
        record = await line.call(
            say(),
            WaitForBotToSpeak(seconds=1.0),
            CutSocket(resume_after_s=0.3, behind_chunk=True),
            WaitForBot(quiet_s=0.3),
            plan=plan,
        )
        assert record.in_vain == []
        assert len(record.resumed_after_s) == 1
        check = check_numbers(record.numbers_heard, brain.expected)
        assert check.doubled == ()
        assert check.lost == ()
        ids = [span.stream_id for span in record.played]
        assert ids == ["1", "2"]
        assert len(line.service.streams) == 1

    run(main, brain=lambda: brain, resume_grace_seconds=10)


@pytest.mark.parametrize("half_open", [False, True])
def test_no_frame_of_the_caller_is_lost_where_her_line_drops(*, half_open: bool) -> None:
    async def main(line: Line) -> None:
        record = await line.call(
            SendNumbers(count=50),
            CutSocket(resume_after_s=0.2, half_open=half_open),
            SendNumbers(count=50, first=50),
            Pause(0.3),
        )
        assert len(record.resumed_after_s) == 1
        assert await eventually(lambda: line.numbers(1, range(100)).ok), line.numbers(1)
        assert len(line.service.streams) == 1
        (resumed,) = line.logged("session resumed")
        assert resumed["where"] == "same process"

    run(main, resume_grace_seconds=10)


def test_a_caller_who_does_not_come_back_leaves_no_stream_behind() -> None:
    async def main(line: Line) -> None:
        await line.call(say(), WaitForBot(quiet_s=0.1), CutSocket(resume_after_s=None))
        assert await eventually(lambda: not line.service.open_streams, 6.0)
        assert await eventually(lambda: bool(line.logged("call ended")), END_S)
        (ended,) = line.logged("call ended")
        assert ended["by"] == "socket"

    run(main, resume_grace_seconds=1)


# Another process, and a conversation


class Pair:
    """Two bridge processes in front of one service."""

    def __init__(self, service: NovaService, valkey: LocalValkey, bridges: list[Bridge]) -> None:
        self.service = service
        self.valkey = valkey
        self.bridges = bridges

    async def dial(self) -> WebSocketTransport:
        """Reach whichever bridge is there, as a load balancer would."""
        for bridge in self.bridges[:-1]:
            try:
                return await connect(bridge.url)
            except TransportError:
                continue
        return await connect(self.bridges[-1].url)

    async def kill(self) -> None:
        """End the first one as a crash would."""
        os.kill(self.bridges[0].child.pid, signal.SIGKILL)
        self.bridges[0].child.kill()
        await self.bridges[0].child.gone()
        self.bridges.pop(0)

    def stored(self, conversation_id: str) -> dict[str, Any]:
        with redis.Redis(port=self.valkey.port) as client:
            raw = client.hget(f"opusagent:session:{conversation_id}", "doc")
        if raw is None:
            raise LookupError(conversation_id)
        assert isinstance(raw, bytes)
        found: dict[str, Any] = json.loads(raw)
        return found

    def texts(self, conversation_id: str) -> list[str]:
        """What is stored of the conversation, without an answer of which there is more to come."""
        try:
            items = self.stored(conversation_id)["conversation_history"]
        except LookupError:
            return []
        return [item["text"] for item in items if not item["unfinished"]]


@asynccontextmanager
async def a_pair(tmp_path: Path, ears: ToldEars, agent: str) -> AsyncIterator[Pair]:
    agents = tmp_path / "agents"
    agents.mkdir()
    (agents / "default.toml").write_text(agent)
    config = tmp_path / "bridge.toml"
    config.touch()
    service = NovaService(ToneBrain, ears, ServicePlan(timing=QUICK))
    ca_file = tmp_path / "ca.pem"
    async with LocalValkey() as valkey, WireServer(service, ca_file=ca_file) as wire:
        environ = {
            **KEYS,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": wire.url,
            "AWS_CA_BUNDLE": str(ca_file),
            "AWS_REGION": "us-east-1",
            "BRIDGE_HOST": "127.0.0.1",
            "BRIDGE_PORT": "0",
            "ADMIN_PORT": "0",
            "REDIS_URL": valkey.url,
            "AGENT_CONFIG_DIR": str(agents),
            "LOG_FORMAT": "json",
        }
        logs = [Log(), Log()]
        arguments = ("serve", "--config", str(config))
        one, two = (
            Child("opusagent", *arguments, environ=environ, hide=SETTINGS, log=log.take)
            for log in logs
        )
        async with one, two:
            bridges = [Bridge(one, logs[0]), Bridge(two, logs[1])]
            for bridge in bridges:
                await bridge.ready()
            yield Pair(service, valkey, bridges)


GREETS = 'system_prompt = "You are a test."\n[greeting]\ntext = "Greet the caller."\n'


def test_a_conversation_goes_on_though_its_process_was_killed(tmp_path: Path) -> None:
    async def main() -> None:
        ears = ToldEars("My name is Ann.", "What is my name?")
        async with a_pair(tmp_path, ears, GREETS) as pair:
            caller = SimulatedCaller(
                replace(PLAN, resume_after_s=0.05, limit_s=60.0), pair.dial, conversation_id="c-1"
            )
            calling = asyncio.ensure_future(
                caller.run(
                    [
                        WaitForBot(quiet_s=0.3),
                        say(),
                        WaitForBot(quiet_s=0.3),
                        Pause(5.0),  # she is quiet until long after the kill
                        say(),
                        WaitForBot(quiet_s=0.3),
                    ]
                )
            )
            before = ["Yes.", "My name is Ann.", "Yes."]
            assert await eventually(lambda: pair.texts("c-1") == before, 20.0)
            await pair.kill()
            record: CallRecord = await calling
            assert record.violations == []
            assert record.in_vain == []
            assert record.refused is None
            assert len(record.resumed_after_s) == 1
            old, new = (log.record for log in pair.service.streams)
            assert old is not None
            assert new is not None
            assert new.failure is None
            # Nothing was typed to greet her again, and all was told before she was heard.
            assert [text.value for text in old.typed] == ["Greet the caller."]
            assert new.typed == []
            told = [(turn.role.value, turn.text) for turn in new.history]
            assert told == [
                ("USER", "[call connected]"),
                ("ASSISTANT", "Yes."),
                ("USER", "My name is Ann."),
                ("ASSISTANT", "Yes."),
            ]
            assert new.system_prompt == old.system_prompt
            assert new.prompt is not None
            assert old.prompt is not None
            assert new.prompt.audio_output_configuration == old.prompt.audio_output_configuration
            assert [heard.value for heard in new.heard] == ["What is my name?"]
            after = [*before, "What is my name?", "Yes."]
            assert await eventually(lambda: pair.texts("c-1") == after, 10.0), pair.texts("c-1")
            assert await eventually(lambda: pair.stored("c-1")["status"] == "ended", 10.0)
            assert pair.stored("c-1")["resumed_count"] == 1

    on_the_wires(main())


# Many calls


def lost_items(played: Stage, phones: list[Phone], until: float) -> list[str]:
    """What was said before `until` and is neither told to the last stream of its call nor said on it."""
    missing = []
    for phone in phones:
        *_, last = played.service.streams_of(phone.number)
        due = [i for i in played.service.items_of(phone.number) if i.sent_at <= until - SAFE_S]
        missing += [item.token for item in due if item.token not in last.told]
    return missing


def all_stored(played: Stage, phones: list[Phone]) -> bool:
    """Whether all that was said in these calls is in their sessions."""
    with redis.Redis(port=played.store.port) as client:
        for phone in phones:
            stored = client.hget(_key(phone), "doc") or b""
            assert isinstance(stored, bytes)
            items = played.service.items_of(phone.number)
            if not all(item.token.encode() in stored for item in items):
                return False
    return True


async def readiness(bridge: Bridge, status: int) -> bool:
    """Whether `/readyz` comes to say this in time."""
    for _ in range(200):
        if (await bridge.get("/readyz"))[0] == status:
            return True
        await pause(0.1)
    return False


def assert_well(phones: list[Phone]) -> None:
    for phone in phones:
        assert phone.refused is None
        assert not phone.lost
        assert not phone.hung_up


def test_at_a_kill_nothing_is_lost_that_was_said_a_tenth_of_a_second_before() -> None:
    async def main() -> None:
        found = await measure_kills(2, progress=print)
        assert found.kills == 2
        assert found.items > 20
        assert (found.lost, found.twice, found.refused) == (0, 0, [])

    on_the_wires(main())


def test_without_saving_a_kill_loses_everything() -> None:
    """What shows that the test above can fail."""

    async def main() -> None:
        found = await measure_kills(1, progress=print, saving=False)
        assert found.items > 10
        assert found.lost == found.items

    on_the_wires(main())


def test_at_a_signal_twenty_calls_are_taken_up_by_another_process() -> None:
    async def main() -> None:
        async with stage(n_calls=20) as played:
            played.service.pause_s = (0.2, 0.6)
            old = await played.add()
            phones = [await played.call(frame_ms=160) for _ in range(20)]
            await played.add()
            played.service.talks = False
            assert await eventually(lambda: all_stored(played, phones), STORED_S)
            until = max(item.sent_at for item in played.service.items) + 2 * SAFE_S
            assert await played.let_go(old) == 0
            for phone in phones:
                await played.service.until_heard(phone.number, 2)
            assert_well(phones)
            assert lost_items(played, phones, until) == []
            for phone in phones:
                await phone.hang_up()

    on_the_wires(main())


def test_three_processes_are_replaced_one_after_the_other_under_twenty_calls() -> None:
    async def main() -> None:
        async with stage(n_calls=20) as played:
            played.service.pause_s = (0.5, 1.5)
            fleet = [await played.add() for _ in range(3)]
            phones: list[Phone] = []
            told_at: dict[int, list[float]] = defaultdict(list)
            for number in range(20):
                played.prefer(fleet[number % 3])
                phones.append(await played.call(frame_ms=160))
            for leaving in fleet:
                fresh = await played.add()
                played.prefer(fresh)
                before = {p.number: len(played.service.streams_of(p.number)) for p in phones}
                moving = [p for p in phones if p.last_url == leaving.url]
                for phone in moving:
                    told_at[phone.number].append(time.monotonic())
                assert await played.let_go(leaving) == 0
                for phone in moving:
                    await played.service.until_heard(phone.number, before[phone.number] + 1)
            played.service.talks = False
            await pause(0.5)  # what is on its way to a process that lets go is told by nobody
            assert_well(phones)
            # The last stream of each call knows every item: it was told it, or said it.
            for phone in phones:
                streams = played.service.streams_of(phone.number)
                assert len(streams) >= 2
                known = set(streams[-1].told) | set(streams[-1].said)
                for item in played.service.items_of(phone.number):
                    # A process that lets go listens to nobody; the caller's words are kept as sound.
                    moves = zip(told_at[phone.number], phone.returns, strict=True)
                    late = any(at - SAFE_S < item.sent_at < one.asked_at for at, one in moves)
                    assert late or item.token in known
                times = [streams[-1].told.count(token) for token in set(streams[-1].told)]
                assert set(times) <= {1}
            for phone in phones:
                await phone.hang_up()

    on_the_wires(main())


# A store in trouble


def test_a_store_that_stands_still_is_not_heard_and_gets_the_state_when_it_is_back() -> None:
    async def main() -> None:
        async with stage() as played:
            bridge = await played.add()
            phone = await played.call()
            await pause(0.5)
            os.kill(played.store.pid, signal.SIGSTOP)
            try:
                assert await readiness(bridge, 503)
                assert "session store" in (await bridge.get("/readyz"))[1]
            finally:
                os.kill(played.store.pid, signal.SIGCONT)
            (stream,) = played.service.streams_of(phone.number)
            sent = phone.sent
            assert await eventually(lambda: len(stream.frames) >= sent)
            assert stream.frames == sorted(set(stream.frames))
            played.service.talks = False
            assert await readiness(bridge, 200)
            assert await eventually(lambda: all_stored(played, [phone]), STORED_S)
            await phone.hang_up()

    on_the_wires(main())


def test_a_store_that_stands_still_delays_no_frame_of_the_callers() -> None:
    async def main() -> None:
        found = await measure_stall(n_calls=4, seconds=2.0)
        assert len(found.stalled_ms) > 300
        assert found.missing == 0
        # The middle ones: on a busy machine the slowest say nothing about the store.
        assert percentile(found.stalled_ms, 50) - percentile(found.well_ms, 50) < STALL_MS

    on_the_wires(main())


def test_a_record_that_was_damaged_under_a_call_is_whole_again_after_its_next_item() -> None:
    async def main() -> None:
        async with stage() as played:
            await played.add()
            phone = await played.call()
            await pause(0.3)
            with redis.Redis(port=played.store.port) as client:
                client.hset(_key(phone), "doc", b'{"conversation_id": "tor')
            n_items = len(played.service.items)
            assert await eventually(lambda: len(played.service.items) > n_items)
            played.service.talks = False
            assert await eventually(lambda: all_stored(played, [phone]), STORED_S)
            await phone.hang_up()

    on_the_wires(main())


def test_a_store_that_is_gone_ends_no_call_and_a_damaged_record_is_refused_in_words() -> None:
    async def main() -> None:
        async with stage() as played:
            doomed = await played.add()
            phone = await played.call()
            await played.add()
            played.prefer(doomed)
            played.service.talks = False
            assert await eventually(lambda: all_stored(played, [phone]), STORED_S)
            os.kill(doomed.child.pid, signal.SIGSTOP)  # so that it does not mend the record
            with redis.Redis(port=played.store.port) as client:
                client.hset(_key(phone), "doc", b"torn")
            await played.kill(doomed)
            assert await eventually(lambda: phone.refused is not None, 10.0)
            assert phone.refused == "conversation cannot be resumed"
            with redis.Redis(port=played.store.port) as client:
                assert client.get(f"corrupt:{_key(phone)}") == b"torn"

    on_the_wires(main())


def _key(phone: Phone) -> str:
    return f"opusagent:session:{phone.conversation_id}"
