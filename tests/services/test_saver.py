from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from opusagent.models.session_state import ConversationItem, SessionState, SessionStatus
from opusagent.services.saver import Held
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.session_storage.memory_storage import MemorySessionStorage
from tests import virtual_time
from tests.services.faulty import START, FaultyStorage, LoopClock, Tally, later


class Bench:
    """One process with a store that does what the test wants."""

    def __init__(self, inner: MemorySessionStorage | None = None, **options: Any) -> None:
        self.clock = LoopClock()
        self.inner = inner or MemorySessionStorage(clock=self.clock)
        self.storage = FaultyStorage(self.inner)
        self.meter = Tally()
        self.fenced: list[float] = []
        self.service = SessionManagerService(
            self.storage, clock=self.clock, meter=self.meter, **options
        )

    def hold(self, conversation_id: str = "c", **options: Any) -> Held:
        return self.service.hold(
            conversation_id,
            on_fenced=lambda: self.fenced.append(self.clock.monotonic()),
            **options,
        )

    def state(self, *texts: str, conversation_id: str = "c", **fields: Any) -> SessionState:
        return SessionState.model_validate(
            {
                "conversation_id": conversation_id,
                "created_at": START,
                "last_activity": self.clock.utcnow(),
                "conversation_history": [ConversationItem(type="input", text=t) for t in texts],
                **fields,
            }
        )

    async def stored(self, conversation_id: str = "c") -> dict[str, Any]:
        data = await self.inner.retrieve_session(conversation_id)
        assert data is not None
        return data

    async def texts(self) -> list[str]:
        return [item["text"] for item in (await self.stored())["conversation_history"]]


def in_virtual_time(test: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        async def whole() -> None:
            bench = Bench()
            await bench.service.start()
            await test(bench)
            bench.storage.up()
            await bench.service.stop()

        virtual_time.run(whole())

    del run.__wrapped__  # pytest would look for a fixture `bench`
    return run


@in_virtual_time
async def test_what_is_put_is_stored_at_once_under_its_tenant_and_owner(bench: Bench) -> None:
    held = bench.hold(tenant="acme")
    held.put(bench.state("hello"))
    await later(0.001)
    stored = await bench.stored()
    assert await bench.texts() == ["hello"]
    assert (stored["tenant"], stored["owner"]) == ("acme", bench.service.owner)
    assert stored["owner_epoch"] == held.owner_epoch == 1
    assert bench.meter.saves == [("ok", 0.0)]


@in_virtual_time
async def test_put_never_waits_and_the_newest_of_several_wins(bench: Bench) -> None:
    bench.storage.delay_s = 0.05
    held = bench.hold()
    for number in range(100):
        held.put(bench.state(f"turn {number}"))
        await later(0.01)
    assert await bench.service.flush(1.0) == 0
    assert await bench.texts() == ["turn 99"]
    assert bench.storage.most_at_once == 1
    # One store takes 50 ms, and in a second of puts there is room for 20.
    assert bench.storage.count("store") <= 22


@in_virtual_time
async def test_what_is_put_while_a_write_is_under_way_is_written_next(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state("first"))
    await later(0.1)
    bench.storage.delay_s = 0.05
    held.put(bench.state("second"))
    await later(0.01)
    held.put(bench.state("third"))
    assert await bench.service.flush(1) == 0
    assert await bench.texts() == ["third"]


@in_virtual_time
async def test_each_item_is_written_once_and_nothing_is_written_without_one(bench: Bench) -> None:
    held = bench.hold()
    for number in range(10):
        held.put(bench.state(f"turn {number}"))
        await later(0.1)
    assert bench.storage.count("store") == 10
    await later(60)
    assert bench.storage.count("store") == 10
    assert 59 <= bench.storage.count("touch") <= 60


@in_virtual_time
async def test_every_write_is_done_within_100_ms_of_its_event(bench: Bench) -> None:
    bench.storage.delay_s = 0.02
    held = bench.hold()
    for number in range(50):
        await later(0.137)
        held.put(bench.state(f"turn {number}"))
    await later(0.1)
    assert await bench.texts() == ["turn 49"]
    assert max(seconds for _, seconds in bench.meter.saves) <= 0.1


@in_virtual_time
async def test_while_the_store_is_down_states_wait_and_the_newest_is_written_when_it_is_back(
    bench: Bench,
) -> None:
    held = bench.hold()
    held.put(bench.state("before"))
    await later(1)
    bench.storage.down()
    for number in range(20):
        held.put(bench.state(f"turn {number}"))
        await later(0.5)
    assert bench.service.is_failing
    assert await bench.texts() == ["before"]
    tries = [at for at, what, _ in bench.storage.log if what == "store"][1:]
    pauses = [round(b - a, 3) for a, b in itertools.pairwise(tries)]
    assert pauses[:5] == [0.1, 0.2, 0.4, 0.8, 1.0]
    assert set(pauses[5:]) == {1.0}
    bench.storage.up()
    await later(1)
    assert await bench.texts() == ["turn 19"]
    assert not bench.service.is_failing
    assert bench.meter.saves_that_were("ok") == 2
    assert bench.meter.saves_that_were("failed") == len(tries)


@in_virtual_time
async def test_a_store_that_is_down_at_the_first_write_gets_the_session_later(
    bench: Bench,
) -> None:
    bench.storage.down()
    held = bench.hold()
    held.put(bench.state("hello"))
    await later(3)
    bench.storage.up()
    await later(1)
    assert await bench.texts() == ["hello"]
    assert held.owner_epoch == 1


@in_virtual_time
async def test_a_bug_in_a_library_is_tried_again_like_any_trouble(bench: Bench) -> None:
    bench.storage.error = KeyError(1470)
    held = bench.hold()
    held.put(bench.state("hello"))
    await later(1)
    bench.storage.up()
    await later(1)
    assert await bench.texts() == ["hello"]


@in_virtual_time
async def test_the_log_says_once_that_saving_fails_and_once_that_it_works_again(
    bench: Bench,
) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(str(record.msg))  # type: ignore[method-assign]
    logger = logging.getLogger("session_manager_service")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        held = [bench.hold(f"c{number}") for number in range(5)]
        bench.storage.down()
        for number, one in enumerate(held):
            one.put(bench.state("my secret", conversation_id=f"c{number}"))
        await later(10)
        bench.storage.up()
        await later(2)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert sum("sessions are not saved" in line for line in lines) == 1
    assert sum("sessions are saved again" in line for line in lines) == 1
    assert "secret" not in "".join(lines)


@in_virtual_time
async def test_a_session_that_another_process_claimed_is_let_go_at_the_next_save(
    bench: Bench,
) -> None:
    held = bench.hold()
    held.put(bench.state("ours"))
    await later(0.1)
    bench.storage.watch_session = lambda *_: lambda: None  # type: ignore[method-assign]
    await bench.inner.claim_session("c", "other")
    held.put(bench.state("too late"))
    await later(0.001)
    assert len(bench.fenced) == 1
    assert held.is_fenced
    assert await bench.texts() == ["ours"]
    assert bench.meter.saves[-1][0] == "fenced"
    held.put(bench.state("later still"))
    writes = len(bench.storage.log)
    await later(10)
    assert len(bench.storage.log) == writes
    assert len(bench.fenced) == 1
    assert await bench.service.flush(1) == 0


@in_virtual_time
async def test_a_published_claim_is_believed_only_after_asking_the_store(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state("ours"))
    await later(0.1)
    held.claimed(7)
    await later(0.001)
    assert bench.storage.count("touch") == 1
    assert not held.is_fenced
    await bench.inner.claim_session("c", "other")
    await later(0.001)
    assert bench.fenced == [pytest.approx(0.101, abs=0.01)]


@in_virtual_time
async def test_a_claim_of_our_own_is_no_reason_to_ask(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state())
    await later(0.1)
    held.claimed(held.owner_epoch)
    await later(0.1)
    assert bench.storage.count("touch") == 0


def test_a_claim_that_nobody_published_is_noticed_within_a_heartbeat() -> None:
    class Silent(MemorySessionStorage):
        def watch_session(self, *_: object) -> Callable[[], None]:
            return lambda: None

    async def scenario() -> None:
        clock = LoopClock()
        bench = Bench(Silent(clock=clock))
        await bench.service.start()
        held = bench.hold()
        held.put(bench.state())
        await later(5.3)
        await bench.inner.claim_session("c", "other")
        await later(1.0)
        assert len(bench.fenced) == 1
        await bench.service.stop()

    virtual_time.run(scenario())


@in_virtual_time
async def test_a_caller_on_hold_for_hours_keeps_the_session(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state("hold the line"))
    await later(3 * 3600)
    assert await bench.texts() == ["hold the line"]
    assert await bench.service.validate_session("c")
    held.release()
    await later(3601)
    assert await bench.inner.retrieve_session("c") is None


@in_virtual_time
async def test_what_the_store_lost_is_written_again(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state("hello"))
    await later(0.1)
    await bench.inner.delete_session("c")
    await later(1.0)
    assert await bench.texts() == ["hello"]
    assert not held.is_fenced


@in_virtual_time
async def test_what_a_failover_set_back_is_written_again(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state("one"))
    await later(0.1)
    old = await bench.stored()
    held.put(bench.state("one", "two"))
    await later(0.1)
    await bench.inner.store_session("c", old)
    await later(1.0)
    assert await bench.texts() == ["one", "two"]


@in_virtual_time
async def test_a_call_that_lets_go_has_its_last_state_written_and_nothing_more(
    bench: Bench,
) -> None:
    bench.storage.delay_s = 0.1
    held = bench.hold()
    held.put(bench.state("goodbye", status=SessionStatus.ENDED))
    held.release()
    assert await bench.service.flush(2) == 0
    assert (await bench.stored())["status"] == "ended"
    writes = len(bench.storage.log)
    await later(10)
    assert len(bench.storage.log) == writes


@in_virtual_time
async def test_nobody_waits_for_what_a_call_that_was_taken_over_still_puts(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state("hello"))
    await later(0.001)
    await bench.inner.claim_session("c", "another process")
    held.claimed(held.owner_epoch + 1)
    await later(0.001)
    assert held.is_fenced
    held.put(bench.state("hello", "a word too late"))
    assert held.is_clean.is_set()
    assert await bench.service.flush(1.0) == 0
    assert await bench.texts() == ["hello"]


@in_virtual_time
async def test_a_call_that_let_go_or_was_fenced_watches_no_more(bench: Bench) -> None:
    held, fenced = bench.hold("c"), bench.hold("d")
    held.put(bench.state())
    fenced.put(bench.state(conversation_id="d"))
    await later(0.1)
    assert bench.storage.watched == 2
    held.release()
    await bench.inner.claim_session("d", "other")
    await later(0.1)
    assert bench.storage.watched == 0


@in_virtual_time
async def test_an_ended_conversation_gives_no_sign_of_life(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state(status=SessionStatus.ENDED))
    await later(10)
    assert bench.storage.count("touch") == 0
    held.put(bench.state("a late text", status=SessionStatus.ENDED))
    await later(0.1)
    assert await bench.texts() == ["a late text"]


def test_an_ended_conversation_is_removed_where_the_setting_says_so() -> None:
    async def scenario() -> None:
        bench = Bench(keep_ended=False)
        await bench.service.start()
        held = bench.hold()
        held.put(bench.state("hello"))
        await later(0.1)
        assert await bench.texts() == ["hello"]
        held.put(bench.state("goodbye", status=SessionStatus.ENDED))
        await later(10)
        assert await bench.inner.retrieve_session("c") is None
        await bench.service.stop()

    virtual_time.run(scenario())


@in_virtual_time
async def test_a_call_that_ended_while_the_store_was_down_is_written_when_it_is_back(
    bench: Bench,
) -> None:
    bench.storage.down()
    held = bench.hold()
    held.put(bench.state("goodbye"))
    held.release()
    assert await bench.service.flush(2) == 1
    await later(60)
    bench.storage.up()
    await later(1)
    assert await bench.texts() == ["goodbye"]


@in_virtual_time
async def test_what_could_not_be_written_for_the_life_of_a_session_is_given_up(
    bench: Bench,
) -> None:
    bench.storage.down()
    held = bench.hold()
    held.put(bench.state())
    held.release()
    await later(3605)
    tries = len(bench.storage.log)
    await later(60)
    assert len(bench.storage.log) == tries
    assert not bench.service.is_failing
    assert held.is_clean.is_set()


@in_virtual_time
async def test_nothing_is_kept_of_a_call_that_let_go(bench: Bench) -> None:
    held = bench.hold()
    held.put(bench.state())
    held.release()
    await later(0.1)
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None


@in_virtual_time
async def test_a_call_that_has_nothing_to_store_is_not_waited_for(bench: Bench) -> None:
    bench.hold()
    began = bench.clock.monotonic()
    assert await bench.service.flush(0.5) == 0
    assert bench.clock.monotonic() == began


@in_virtual_time
async def test_flush_is_bounded_and_says_how_many_are_not_stored(bench: Bench) -> None:
    bench.storage.delay_s = 100
    for number in range(3):
        bench.hold(f"c{number}").put(bench.state(conversation_id=f"c{number}"))
    began = bench.clock.monotonic()
    assert await bench.service.flush(0.5) == 3
    assert bench.clock.monotonic() - began == pytest.approx(0.5)


@in_virtual_time
async def test_one_slow_session_delays_no_other(bench: Bench) -> None:
    bench.storage.delay_s = 100
    bench.hold("slow").put(bench.state(conversation_id="slow"))
    await later(0.1)
    bench.storage.delay_s = 0
    bench.hold("quick").put(bench.state("hi", conversation_id="quick"))
    await later(0.001)
    assert (await bench.stored("quick"))["conversation_history"]


@in_virtual_time
async def test_a_resumed_call_shows_life_before_it_has_anything_to_write(bench: Bench) -> None:
    bench.hold().put(bench.state("hello"))
    await later(0.1)
    state = await bench.service.resume_session("c")
    assert state is not None
    held = bench.hold(stored=state)
    assert held.owner_epoch == 2
    await later(5)
    assert len(bench.fenced) == 1  # the first one
    assert not held.is_fenced
    held.put(state.model_copy(update={"last_activity": bench.clock.utcnow(), "bot_name": "b"}))
    await later(0.1)
    assert (await bench.stored())["bot_name"] == "b"


@in_virtual_time
async def test_of_two_new_calls_with_one_id_the_second_wins_and_nothing_is_mixed(
    bench: Bench,
) -> None:
    first, second = bench.hold(), bench.hold()
    first.put(bench.state("first"))
    await later(0.1)
    second.put(bench.state("second"))
    await later(0.1)
    first.put(bench.state("first again"))
    await later(2)
    assert (first.is_fenced, second.is_fenced) == (True, False)
    assert await bench.texts() == ["second"]


def test_two_processes_that_begin_the_same_session_at_once_do_not_mix() -> None:
    async def scenario() -> None:
        inner = MemorySessionStorage(clock=LoopClock())
        benches = [Bench(inner, owner=f"p{number}") for number in range(3)]
        held = []
        for number, bench in enumerate(benches):
            bench.storage.delay_s = 0.01 + number * 0.003
            await bench.service.start()
            held.append(bench.hold())
        for number, bench in enumerate(benches):
            held[number].put(bench.state(f"p{number}"))
        await later(3)
        (winner,) = (number for number, one in enumerate(held) if not one.is_fenced)
        assert await benches[0].texts() == [f"p{winner}"]
        for bench in reversed(benches):
            await bench.service.stop()

    virtual_time.run(scenario())


@in_virtual_time
async def test_a_new_call_with_another_tenants_id_is_fenced_and_changes_nothing(
    bench: Bench,
) -> None:
    bench.hold(tenant="acme").put(bench.state("theirs"))
    await later(0.1)
    intruder = bench.hold(tenant="other")
    intruder.put(bench.state("mine"))
    await later(0.1)
    assert intruder.is_fenced
    assert await bench.texts() == ["theirs"]
    assert (await bench.stored())["owner_epoch"] == 1


@in_virtual_time
async def test_an_error_in_a_calls_own_code_leaves_the_others_alone(bench: Bench) -> None:
    def broken() -> None:
        raise RuntimeError("a bug of the call")

    problems: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    held = bench.service.hold("c", on_fenced=broken)
    held.put(bench.state())
    await later(0.1)
    await bench.inner.claim_session("c", "other")
    await later(0.1)
    assert len(problems) == 1
    bench.hold("d").put(bench.state(conversation_id="d"))
    await later(0.1)
    assert await bench.stored("d")


def test_a_listener_that_breaks_is_started_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.storage.listen_errors = [KeyError(1), KeyError(2)]
        await bench.service.start()
        await later(5)
        assert bench.storage.listen_errors == []
        await bench.service.stop()

    virtual_time.run(scenario())


def test_a_service_may_be_stopped_and_started_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        for number in range(2):
            await bench.service.start()
            bench.hold(f"c{number}").put(bench.state(conversation_id=f"c{number}"))
            await bench.service.stop()
            assert await bench.stored(f"c{number}")

    virtual_time.run(scenario())


# Who wants to know what is stored


class Listener:
    """Notes what it is told, with what the store had by then."""

    def __init__(self, inner: MemorySessionStorage) -> None:
        self.inner = inner
        self.told: list[tuple[list[str] | None, list[str], str]] = []

    def stored(self, before: SessionState | None, after: SessionState, tenant: str) -> None:
        def texts(state: SessionState) -> list[str]:
            return [item.text for item in state.conversation_history]

        self.told.append((None if before is None else texts(before), texts(after), tenant))


def with_a_listener(main: Callable[[Bench, Listener], Awaitable[None]]) -> None:
    async def whole() -> None:
        storage = MemorySessionStorage(clock=LoopClock())
        listener = Listener(storage)
        bench = Bench(storage, listener=listener)
        await bench.service.start()
        await main(bench, listener)
        bench.storage.up()
        await bench.service.stop()

    virtual_time.run(whole())


def test_a_listener_is_told_of_each_state_once_it_is_stored_and_of_the_one_before() -> None:
    async def main(bench: Bench, listener: Listener) -> None:
        bench.storage.delay_s = 0.5
        held = bench.hold(tenant="acme")
        held.put(bench.state("one"))
        await later(0.4)
        assert listener.told == []  # on its way to the store
        await later(5.0)
        assert listener.told == [(None, ["one"], "acme")]
        held.put(bench.state("one", "two"))
        held.put(bench.state("one", "two", "three"))  # takes its place
        await later(5.0)
        assert listener.told[1:] == [(["one"], ["one", "two", "three"], "acme")]

    with_a_listener(main)


def test_a_listener_hears_nothing_of_what_the_store_does_not_take() -> None:
    async def main(bench: Bench, listener: Listener) -> None:
        held = bench.hold()
        held.put(bench.state("one"))
        await later(0.1)
        bench.storage.down()
        held.put(bench.state("one", "two"))
        await later(30.0)
        assert len(listener.told) == 1
        bench.storage.up()
        await later(2.0)
        assert listener.told[1:] == [(["one"], ["one", "two"], "")]
        assert await bench.inner.claim_session("c", "another") is not None
        held.put(bench.state("one", "two", "three"))
        await later(2.0)
        assert bench.fenced
        assert len(listener.told) == 2

    with_a_listener(main)


def test_a_listener_is_told_of_a_conversation_that_was_taken_up() -> None:
    counts: list[tuple[int, int]] = []

    class Counts:
        def stored(self, before: SessionState | None, after: SessionState, tenant: str) -> None:
            assert before is not None
            counts.append((before.resumed_count, after.resumed_count))

    async def whole() -> None:
        bench = Bench(listener=Counts())
        await bench.service.start()
        created = await bench.service.create_session("c")
        bench.hold(stored=created).release()
        assert counts == []
        resumed = await bench.service.resume_session("c")
        bench.hold(stored=resumed).release()
        assert counts == [(0, 1)]
        await bench.service.stop()

    virtual_time.run(whole())
