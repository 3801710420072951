"""The groups of tests that the session-resume document names, under its class names.

They show what the document promises, as a reader would try it. The rules stand beside the modules, in
`tests/contract`, `tests/session_storage`, `tests/services` and `tests/models`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from opusagent.clock import FakeClock
from opusagent.function_handler import FunctionHandler
from opusagent.models.session_state import (
    ConversationItem,
    FunctionCall,
    SessionState,
    SessionStatus,
)
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.session_storage import SessionStorage
from opusagent.session_storage.memory_storage import MemorySessionStorage
from opusagent.session_storage.redis_storage import RedisSessionStorage
from opusagent.transcript_manager import TranscriptManager
from tests.session_storage import valkey
from tests.test_server_resume import ANN, House, in_a_house
from tests.waiting import pass_time

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def state(**fields: object) -> SessionState:
    return SessionState.model_validate(
        {"conversation_id": "c", "created_at": NOW, "last_activity": NOW, **fields}
    )


class TestSessionState:
    def test_creation_and_serialisation(self) -> None:
        session = state(status="active", conversation_history=[{"type": "input", "text": "hi"}])
        again = SessionState.from_dict(session.to_dict())
        assert again == session
        assert again.status is SessionStatus.ACTIVE
        assert again.conversation_history == [ConversationItem(type="input", text="hi")]

    def test_activity_tracking(self) -> None:
        session = state()
        session.update_activity(NOW + timedelta(minutes=50))
        assert not session.is_expired(NOW + timedelta(minutes=100))

    def test_resume_counting(self) -> None:
        session = state()
        session.increment_resume_count()
        assert session.resumed_count == 1

    def test_expiration(self) -> None:
        assert not state().is_expired(NOW + timedelta(seconds=3600))
        assert state().is_expired(NOW + timedelta(seconds=3601))
        assert state().is_expired(NOW + timedelta(seconds=61), max_age_seconds=60)

    def test_resume_validation(self) -> None:
        for status in SessionStatus:
            can = status not in (SessionStatus.ENDED, SessionStatus.ERROR)
            assert state(status=status).can_resume(NOW) is can
        assert not state().can_resume(NOW + timedelta(hours=2))


async def stores_and_retrieves(storage: SessionStorage) -> None:
    data = state(caller="+49 123").to_dict()
    assert await storage.store_session("c", data)
    assert await storage.retrieve_session("c") == data
    assert await storage.retrieve_session("other") is None


async def deletes(storage: SessionStorage) -> None:
    await storage.store_session("c", state().to_dict())
    assert await storage.delete_session("c")
    assert await storage.retrieve_session("c") is None


async def lists(storage: SessionStorage) -> None:
    for name in ("b", "a"):
        await storage.store_session(name, state(conversation_id=name).to_dict())
    assert await storage.list_active_sessions() == ["a", "b"]


async def cleans_up(storage: SessionStorage, now: datetime) -> None:
    await storage.store_session("old", state(last_activity=now - timedelta(hours=2)).to_dict())
    await storage.store_session("new", state(last_activity=now).to_dict())
    assert await storage.cleanup_expired_sessions(max_age_seconds=3600) == 1
    assert await storage.list_active_sessions() == ["new"]


class TestMemorySessionStorage:
    @pytest.fixture
    def storage(self) -> MemorySessionStorage:
        clock = FakeClock(utcnow=NOW)
        return MemorySessionStorage(max_sessions=1000, cleanup_interval=300, clock=clock)

    def test_store_and_retrieve(self, storage: MemorySessionStorage) -> None:
        asyncio.run(stores_and_retrieves(storage))

    def test_delete(self, storage: MemorySessionStorage) -> None:
        asyncio.run(deletes(storage))

    def test_list_active_sessions(self, storage: MemorySessionStorage) -> None:
        asyncio.run(lists(storage))

    def test_cleanup_expired_sessions(self, storage: MemorySessionStorage) -> None:
        asyncio.run(cleans_up(storage, NOW))


@pytest.mark.integration
class TestRedisSessionStorage:
    @pytest.fixture
    def url(self, tmp_path: Path) -> Iterator[str]:
        with valkey.running(tmp_path) as server:
            yield server.url

    def test_store_and_retrieve(self, url: str) -> None:
        async def scenario() -> None:
            storage = RedisSessionStorage(
                redis_url=url,
                session_prefix="opusagent:session:",
                default_ttl=3600,
                max_connections=20,
                retry_on_timeout=True,
                socket_keepalive=True,
            )
            await stores_and_retrieves(storage)
            await storage.close()

        asyncio.run(scenario())

    def test_delete(self, url: str) -> None:
        async def scenario() -> None:
            storage = RedisSessionStorage(url)
            await deletes(storage)
            await storage.close()

        asyncio.run(scenario())

    def test_list_and_cleanup(self, url: str) -> None:
        async def scenario() -> None:
            storage = RedisSessionStorage(url, clock=FakeClock(utcnow=NOW))
            await lists(storage)
            await storage.delete_session("a")
            await storage.delete_session("b")
            await cleans_up(storage, NOW)
            await storage.close()

        asyncio.run(scenario())

    def test_the_production_example(self, url: str) -> None:
        async def scenario() -> None:
            storage = RedisSessionStorage(redis_url=url)
            service = SessionManagerService(storage)
            await service.start()
            try:
                await service.create_session("prod-test-123")
                resumed = await service.resume_session("prod-test-123")
                assert resumed is not None
                assert resumed.resumed_count == 1
            finally:
                await service.stop()
                await storage.close()

        asyncio.run(scenario())


class TestSessionManagerService:
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock(utcnow=NOW)

    @pytest.fixture
    def service(self, clock: FakeClock) -> SessionManagerService:
        return SessionManagerService(MemorySessionStorage(clock=clock), clock=clock)

    def test_creation_and_resume(self, service: SessionManagerService) -> None:
        async def scenario() -> None:
            await service.create_session(
                "conversation-123",
                status=SessionStatus.ACTIVE,
                media_format="pcm16",
                conversation_history=[{"type": "input", "text": "Hello, I need help"}],
            )
            resumed = await service.resume_session("conversation-123")
            assert resumed is not None
            assert len(resumed.conversation_history) == 1
            assert resumed.resumed_count == 1
            assert await service.resume_session("other") is None

        asyncio.run(scenario())

    def test_update_and_end(self, service: SessionManagerService) -> None:
        async def scenario() -> None:
            await service.create_session("c")
            assert await service.update_session("c", bot_name="sales")
            assert await service.validate_session("c")
            assert await service.end_session("c")
            assert not await service.validate_session("c")
            assert await service.resume_session("c") is None
            assert await service.delete_session("c")

        asyncio.run(scenario())

    def test_an_expired_session_is_not_resumed(
        self, service: SessionManagerService, clock: FakeClock
    ) -> None:
        async def scenario() -> None:
            await service.create_session("c")
            clock.advance(3601)
            assert await service.resume_session("c") is None

        asyncio.run(scenario())

    def test_statistics_and_health(self, service: SessionManagerService) -> None:
        async def scenario() -> None:
            await service.create_session("c")
            stats = await service.get_session_stats()
            assert stats["active_sessions_count"] == 1
            assert stats["storage_type"] == "memory"
            assert await service.health_check() == {"status": "healthy", "storage": "operational"}

        asyncio.run(scenario())


class TestComponentRestoration:
    def test_the_transcript_is_restored_read_and_cleared(self) -> None:
        transcript = TranscriptManager()
        said = [
            {"type": "input", "text": "Hello, I need help"},
            {"type": "output", "text": "Hi! How can I assist you?"},
        ]
        transcript.restore_conversation_context(said, at=NOW)
        context = transcript.get_conversation_context()
        assert [(item.type, item.text) for item in context] == [
            ("input", "Hello, I need help"),
            ("output", "Hi! How can I assist you?"),
        ]
        transcript.clear_conversation_context()
        assert transcript.get_conversation_context() == []

    def test_the_function_calls_are_restored_read_and_cleared(self) -> None:
        functions = FunctionHandler()
        call = {"tool_use_id": "1", "name": "look_up", "arguments": "{}", "started_at": NOW}
        functions.restore_function_calls([FunctionCall.model_validate(call)])
        (restored,) = functions.get_function_call_history()
        assert restored.name == "look_up"
        functions.clear_function_call_history()
        assert functions.get_function_call_history() == []

    def test_what_is_no_conversation_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            TranscriptManager().restore_conversation_context([{"type": "nobody"}], at=NOW)


class TestSessionResumeIntegration:
    def test_the_complete_flow(self) -> None:
        """A call, a lost line, the same conversation in another process, at the model's wire."""

        async def scenario(house: House) -> None:
            async with house.process() as one, house.process() as other:
                await house.keep(conversation_history=ANN)
                await one.resume()
                assert (await other.resume()).accepted
                await pass_time(1.0)
                assert other.told() == [("USER", "My name is Ann."), ("ASSISTANT", "Hello Ann.")]
                assert (await house.stored()).resumed_count == 2

        in_a_house(scenario)

    def test_a_session_that_cannot_be_resumed_is_answered_with_the_reason(self) -> None:
        async def scenario(house: House) -> None:
            async with house.process() as here:
                assert (await here.resume()).refused == "conversation not found"

        in_a_house(scenario)
