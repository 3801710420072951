from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from opusagent.clock import FakeClock
from opusagent.errors import SessionFenced, SessionUnreadable, StorageUnavailable
from opusagent.models.session_state import ConversationItem, SessionState, SessionStatus
from opusagent.services.session_manager_service import (
    Refusal,
    Refused,
    Resumed,
    SessionManagerService,
)
from opusagent.session_storage.codec import Codec
from opusagent.session_storage.file_storage import FileSessionStorage
from opusagent.session_storage.memory_storage import MemorySessionStorage
from tests import virtual_time
from tests.services.faulty import FaultyStorage, Tally

run = virtual_time.run


class Rig:
    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.memory = MemorySessionStorage(clock=self.clock, default_ttl=10**9)
        self.storage = FaultyStorage(self.memory)
        self.meter = Tally()
        self.service = self.process("p1", **options)

    def process(self, owner: str, **options: Any) -> SessionManagerService:
        return SessionManagerService(
            self.storage, owner=owner, clock=self.clock, meter=self.meter, **options
        )


def test_a_created_session_is_stored_with_its_fields_owner_and_times() -> None:
    async def scenario() -> None:
        rig = Rig()
        state = await rig.service.create_session(
            "c", tenant="acme", status=SessionStatus.ACTIVE, media_format="raw/mulaw"
        )
        assert (state.owner, state.owner_epoch, state.tenant) == ("p1", 1, "acme")
        assert state.created_at == state.last_activity == rig.clock.utcnow()
        assert await rig.service.get_session("c") == state
        assert state.media_format == "raw/mulaw"

    run(scenario())


def test_a_field_that_is_wrong_is_refused_before_anything_is_stored() -> None:
    async def scenario() -> None:
        rig = Rig()
        with pytest.raises(ValidationError):
            await rig.service.create_session("c", status="asleep")
        assert rig.storage.log == []

    run(scenario())


def test_a_session_that_is_created_again_is_taken_over_whole() -> None:
    async def scenario() -> None:
        rig = Rig()
        first = await rig.service.create_session("c", caller="one")
        second = await rig.process("p2").create_session("c")
        assert second.owner_epoch == first.owner_epoch + 1
        assert await rig.service.get_session("c") == second
        assert not await rig.storage.store_session("c", first.to_dict())

    run(scenario())


def test_an_id_of_another_tenant_cannot_be_created_and_its_session_is_not_touched() -> None:
    async def scenario() -> None:
        rig = Rig()
        theirs = await rig.service.create_session("c", tenant="acme")
        with pytest.raises(SessionFenced):
            await rig.process("p2").create_session("c", tenant="other")
        assert await rig.service.get_session("c") == theirs

    run(scenario())


def test_a_conversation_is_taken_up_by_another_process_with_all_that_was_said() -> None:
    async def scenario() -> None:
        rig = Rig()
        state = await rig.service.create_session(
            "c", conversation_history=[{"type": "input", "text": "my name is Alice"}]
        )
        rig.clock.advance(30)
        verdict = await rig.process("p2").take_up("c")
        assert isinstance(verdict, Resumed)
        taken = verdict.state
        assert taken.conversation_history == state.conversation_history
        assert (taken.owner, taken.owner_epoch, taken.resumed_count) == ("p2", 2, 1)
        assert taken.status is SessionStatus.ACTIVE
        assert taken.last_activity == rig.clock.utcnow()
        assert await rig.service.get_session("c") == taken
        assert not await rig.storage.store_session("c", state.to_dict())

    run(scenario())


def test_a_recovery_is_a_log_line_with_the_length_of_the_history_and_none_of_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        rig = Rig()
        said = [{"type": "input", "text": "my name is Alice"}, {"type": "output", "text": "hi"}]
        await rig.service.create_session("c", conversation_history=said)
        await rig.process("p2").take_up("c")

    with caplog.at_level("INFO", logger="session_manager_service"):
        run(scenario())
    assert "'event': 'session_resumed'" in caplog.text
    assert "'history_items': 2" in caplog.text
    assert "Alice" not in caplog.text


def test_three_cuts_are_counted_as_three() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("c")
        for number in (1, 2, 3):
            state = await rig.service.resume_session("c")
            assert state is not None
            assert state.resumed_count == number
        assert rig.meter.recoveries == ["resumed"] * 3
        assert len(rig.meter.loads) == 3

    run(scenario())


async def refusal(rig: Rig, conversation_id: str = "c", **options: Any) -> Refused:
    before = await rig.memory.retrieve_session(conversation_id)
    verdict = await rig.process("p2").take_up(conversation_id, **options)
    assert isinstance(verdict, Refused)
    assert await rig.memory.retrieve_session(conversation_id) == before, "its owner keeps it"
    assert rig.meter.recoveries[-1] == verdict.reason
    assert await rig.process("p2").resume_session(conversation_id, **options) is None
    return verdict


def test_an_unknown_conversation_is_refused() -> None:
    assert run(refusal(Rig())).reason is Refusal.UNKNOWN


@pytest.mark.parametrize("status", [SessionStatus.ENDED, SessionStatus.ERROR])
def test_a_conversation_that_has_ended_is_refused(status: SessionStatus) -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("c", status=status)
        assert (await refusal(rig)).reason is Refusal.ENDED
        assert not await rig.service.validate_session("c")

    run(scenario())


@pytest.mark.parametrize(
    "status", [SessionStatus.INITIATED, SessionStatus.ACTIVE, SessionStatus.PAUSED]
)
def test_a_conversation_in_any_other_status_is_taken_up(status: SessionStatus) -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("c", status=status)
        assert await rig.service.validate_session("c")
        assert await rig.service.resume_session("c")

    run(scenario())


def test_a_conversation_expires_an_hour_after_its_last_sign_of_life() -> None:
    async def scenario() -> None:
        rig = Rig()
        state = await rig.service.create_session("c")
        rig.clock.advance(3000)
        await rig.memory.touch_session("c", 1, state.to_dict()["last_activity"])
        rig.clock.advance(3600)
        assert await rig.service.validate_session("c")
        rig.clock.advance(1)
        assert not await rig.service.validate_session("c")
        assert (await refusal(rig)).reason is Refusal.EXPIRED

    run(scenario())


def test_another_tenants_conversation_is_refused_as_if_it_did_not_exist() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("c", tenant="acme")
        unknown = await refusal(rig, "nobody's")
        for tenant in ("", "other"):
            foreign = await refusal(rig, tenant=tenant)
            assert foreign.reason is Refusal.FOREIGN
            assert foreign.words == unknown.words
            assert not await rig.service.validate_session("c", tenant=tenant)
            assert await rig.service.get_session("c", tenant=tenant) is None
        assert await rig.service.get_session("c", tenant="acme")
        assert await rig.service.get_session("c")
        assert await rig.service.resume_session("c", tenant="acme")

    run(scenario())


@pytest.mark.parametrize(
    "data",
    [
        {"schema_version": 2},
        {"created_at": "yesterday"},
        {"conversation_history": "no list"},
        {"audio_buffer": ["no hex"]},
    ],
)
def test_data_that_is_no_session_of_ours_cannot_be_resumed_and_is_no_crash(
    data: dict[str, Any],
) -> None:
    async def scenario() -> None:
        rig = Rig()
        state = await rig.service.create_session("c")
        await rig.memory.store_session("c", {**state.to_dict(), "owner_epoch": 9, **data})
        await rig.memory.store_session("c", {**state.to_dict(), "owner_epoch": 9, **data})
        assert (await refusal(rig)).reason is Refusal.UNREADABLE
        with pytest.raises(SessionUnreadable, match=next(iter(data))):
            await rig.service.get_session("c")

    run(scenario())


def test_the_error_of_an_unreadable_session_names_the_field_and_not_what_it_holds() -> None:
    async def scenario() -> None:
        rig = Rig()
        state = await rig.service.create_session("c")
        await rig.memory.store_session("c", {**state.to_dict(), "caller": ["+49 123 secret"]})
        with pytest.raises(SessionUnreadable, match="caller") as caught:
            await rig.service.get_session("c")
        assert "secret" not in str(caught.value)

    run(scenario())


def test_a_store_in_trouble_is_a_refusal_and_no_error() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("c")
        rig.storage.down()
        verdict = await rig.process("p2").take_up("c")
        assert verdict == Refused(Refusal.UNAVAILABLE)
        assert rig.meter.recoveries == ["unavailable"]
        with pytest.raises(StorageUnavailable):
            await rig.service.validate_session("c")

    run(scenario())


def test_a_conversation_that_somebody_else_takes_in_the_same_moment_is_refused() -> None:
    class Racing(FaultyStorage):
        async def claim_session(self, conversation_id: str, owner: str) -> dict[str, Any] | None:
            claimed = await super().claim_session(conversation_id, owner)
            await self.inner.claim_session(conversation_id, "faster")
            return claimed

    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("c")
        rig.storage = Racing(rig.memory)
        assert await rig.process("p2").take_up("c") == Refused(Refusal.TAKEN)

    run(scenario())


def test_every_refusal_has_words_for_the_peer() -> None:
    assert all(Refused(reason).words for reason in Refusal)


def test_a_damaged_record_gives_way_to_a_new_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        storage = FileSessionStorage(tmp_path)
        service = SessionManagerService(storage)
        await service.create_session("c")
        (tmp_path / "c.json").write_text("junk")
        assert await service.take_up("c") == Refused(Refusal.UNREADABLE)
        (tmp_path / "c.json").write_text("junk")
        fresh = await service.create_session("c")
        assert fresh.owner_epoch >= 1
        assert await service.resume_session("c")

    # With files there are threads, for which virtual time does not wait.
    asyncio.run(scenario())


def test_a_session_sealed_with_another_key_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        ours = SessionManagerService(FileSessionStorage(tmp_path, codec=Codec(keys=[b"a" * 32])))
        theirs = SessionManagerService(FileSessionStorage(tmp_path, codec=Codec(keys=[b"b" * 32])))
        state = await ours.create_session("c")
        assert await theirs.take_up("c") == Refused(Refusal.UNREADABLE)
        assert await ours.get_session("c") == state
        fresh = await theirs.create_session("c")
        assert fresh.owner_epoch > state.owner_epoch

    asyncio.run(scenario())


def test_fields_are_changed_by_name_and_checked() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("c")
        rig.clock.advance(5)
        assert await rig.service.update_session("c", bot_name="sales", ours={"a": 1})
        state = await rig.service.get_session("c")
        assert state is not None
        assert state.bot_name == "sales"
        assert state.last_activity == rig.clock.utcnow()
        assert state.to_dict()["ours"] == {"a": 1}
        with pytest.raises(ValidationError):
            await rig.service.update_session("c", resumed_count=-1)
        assert not await rig.service.update_session("nobody's", bot_name="x")

    run(scenario())


@pytest.mark.parametrize("keep", [True, False])
def test_an_ended_session_is_kept_for_audit_or_removed(keep: bool) -> None:  # noqa: FBT001
    async def scenario() -> None:
        rig = Rig(keep_ended=keep)
        await rig.service.create_session("c")
        assert await rig.service.end_session("c", "caller hung up")
        state = await rig.service.get_session("c")
        assert (state is not None) is keep
        if state is not None:
            assert state.status is SessionStatus.ENDED
            assert state.metadata["end_reason"] == "caller hung up"
        assert not await rig.service.validate_session("c")
        assert not await rig.service.end_session("nobody's")

    run(scenario())


def test_sessions_are_listed_deleted_and_cleaned_up() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("old")
        rig.clock.advance(timedelta(days=30).total_seconds() + 1)
        for name in ("b", "a"):
            await rig.service.create_session(name)
        await rig.storage.store_session("health-check", {})
        assert await rig.service.list_active_sessions() == ["a", "b", "old"]
        assert await rig.service.cleanup_expired_sessions(30 * 86_400) == 1
        assert await rig.service.delete_session("a")
        assert not await rig.service.delete_session("a")
        assert await rig.service.list_active_sessions() == ["b"]

    run(scenario())


def test_the_statistics_count_sessions_and_name_the_store() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.service.create_session("c")
        stats = await rig.service.get_session_stats()
        assert stats["active_sessions_count"] == 1
        assert stats["storage_type"] == "memory"
        assert stats["unsaved"] == 0

    run(scenario())


def test_the_health_check_writes_reads_and_deletes() -> None:
    async def scenario() -> None:
        rig = Rig()
        assert await rig.service.health_check() == {"status": "healthy", "storage": "operational"}
        assert [(what, name) for _, what, name in rig.storage.log] == [
            ("store", "health-check"),
            ("retrieve", "health-check"),
            ("delete", "health-check"),
        ]
        rig.storage.down()
        assert await rig.service.health_check() == {"status": "unhealthy", "error": "down"}

    run(scenario())


def test_a_store_that_forgets_what_it_was_given_is_unhealthy() -> None:
    class Forgetful(FaultyStorage):
        async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
            return True

    async def scenario() -> None:
        service = SessionManagerService(Forgetful(MemorySessionStorage()))
        assert (await service.health_check())["status"] == "unhealthy"

    run(scenario())


def test_a_health_check_of_another_process_in_between_does_no_harm() -> None:
    class Shared(FaultyStorage):
        deletions = 2

        async def store_session(self, conversation_id: str, session_data: dict[str, Any]) -> bool:
            stored = await super().store_session(conversation_id, session_data)
            if self.deletions:
                self.deletions -= 1
                await self.inner.delete_session(conversation_id)
            return stored

    async def scenario() -> None:
        service = SessionManagerService(Shared(MemorySessionStorage()))
        assert (await service.health_check())["status"] == "healthy"

    run(scenario())


def test_what_is_stored_by_hand_can_be_resumed() -> None:
    """As in the published example: history set on the state, stored through the storage."""

    async def scenario() -> None:
        storage = MemorySessionStorage()
        service = SessionManagerService(storage)
        session: SessionState = await service.create_session("conversation-123")
        session.conversation_history = [
            ConversationItem(type="input", text="Hello, I need help"),
            ConversationItem(type="output", text="Hi! How can I assist you?"),
        ]
        assert await storage.store_session("conversation-123", session.to_dict())
        resumed = await service.resume_session("conversation-123")
        assert resumed is not None
        assert resumed.conversation_history[0].text == "Hello, I need help"

    run(scenario())
