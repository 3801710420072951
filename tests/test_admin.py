import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import JsonValue, SecretStr

from opusagent.admin import STORE_S, AdminServer, admin_app
from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.models.session_state import SessionState
from opusagent.observability import NAMED_LOGGERS, Metrics
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.session_storage.memory_storage import MemorySessionStorage
from tests import virtual_time
from tests.services.faulty import FaultyStorage

GUARDED = ("/stats", "/calls", "/calls/c", "/sessions/c", "/conversation/c/history", "/loggers")


class Status:
    """A bridge that is whatever the test says."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.under_way: list[dict[str, JsonValue]] = []

    def calls(self) -> list[dict[str, JsonValue]]:
        return self.under_way

    def ready(self) -> list[str]:
        return self.reasons

    def stats(self) -> dict[str, Any]:
        return {"calls": 3}


class Stored:
    """A store with one conversation in it, of two minutes past noon."""

    def __init__(self, conversation_id: str = "c") -> None:
        self.conversation_id = conversation_id
        self.storage = FaultyStorage(MemorySessionStorage())
        self.sessions = SessionManagerService(self.storage)

    async def fill(self, **fields: JsonValue) -> None:
        at = datetime.now(UTC)  # noqa: TID251  the store looks at the real clock
        said = [
            {"type": "input", "text": "My name is Ada.", "at": "2026-01-01T12:02:00Z"},
            {"type": "output", "text": "Hello Ada.", "at": "2026-01-01T12:02:01Z"},
        ]
        state = SessionState.model_validate(
            {
                "conversation_id": self.conversation_id,
                "created_at": at,
                "last_activity": at,
                "conversation_history": said,
            }
        )
        await self.storage.inner.store_session(self.conversation_id, state.to_dict() | fields)


def ask(
    method: str,
    path: str,
    *,
    settings: Settings | None = None,
    status: Status | None = None,
    token: str = "",
    stored: Stored | None = None,
    fields: dict[str, JsonValue] | None = None,
    body: bytes = b"",
) -> httpx.Response:
    """One request, with a store of one conversation where `stored` is given."""
    sessions = None if stored is None else stored.sessions
    app = admin_app(settings or Settings(), status or Status(), Metrics(), sessions)

    async def main() -> httpx.Response:
        if stored is not None:
            await stored.fill(**(fields or {}))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return await client.request(method, path, headers=headers, content=body)

    return asyncio.run(main())


def get(path: str, **options: Any) -> httpx.Response:
    return ask("GET", path, **options)


def test_a_process_that_answers_is_alive() -> None:
    answer = get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "alive"}


def test_a_bridge_that_can_take_a_call_is_ready() -> None:
    answer = get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "reasons": []}


def test_a_bridge_that_cannot_says_why_but_stays_alive() -> None:
    status = Status()
    status.reasons = ["draining", "at capacity: 20 calls"]
    answer = get("/readyz", status=status)
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reasons": status.reasons}
    assert get("/healthz", status=status).status_code == 200


def test_metrics_are_in_the_format_of_prometheus() -> None:
    answer = get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "opusagent_calls_active 0.0" in answer.text
    assert "process_resident_memory_bytes" in answer.text


def test_stats_join_the_bridges_facts_with_the_metrics() -> None:
    facts = get("/stats").json()
    assert facts["calls"] == 3
    assert facts["metrics"]["calls_active"] == 0


@pytest.mark.parametrize(
    ("token", "code"), [("", 401), ("wrong", 401), ("schlüssel", 401), ("right", 200)]
)
@pytest.mark.parametrize("path", GUARDED)
def test_on_an_open_port_all_but_health_and_metrics_needs_the_token(
    path: str, token: str, code: int
) -> None:
    settings = Settings(admin_host="0.0.0.0", admin_token=SecretStr("right"))
    app_token = token.encode().decode("latin-1").encode("ascii", "ignore").decode()
    status = Status()
    status.under_way = [{"id": "c"}]
    answer = get(path, settings=settings, token=app_token, status=status, stored=Stored())
    assert answer.status_code == code


@pytest.mark.parametrize("path", GUARDED)
def test_on_an_open_port_without_a_configured_token_it_is_closed(path: str) -> None:
    answer = get(path, settings=Settings(admin_host="0.0.0.0"), stored=Stored())
    assert answer.status_code == 403
    assert "ADMIN_TOKEN" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_health_and_metrics_need_no_token(path: str) -> None:
    settings = Settings(admin_host="0.0.0.0", admin_token=SecretStr("right"))
    assert get(path, settings=settings).status_code == 200


def test_an_unknown_path_is_not_found() -> None:
    assert get("/etc").status_code == 404
    assert get("/calls/../etc").status_code == 404


# Calls and conversations


def test_calls_under_way_are_listed_and_shown_one_by_one() -> None:
    status = Status()
    status.under_way = [{"id": "a", "state": "talking"}, {"id": "b/2", "state": "detached"}]
    assert get("/calls", status=status).json() == {"calls": status.under_way}
    assert get("/calls/a", status=status).json() == status.under_way[0]
    assert get("/calls/b%2F2", status=status).json() == status.under_way[1]
    answer = get("/calls/other", status=status)
    assert (answer.status_code, answer.json()) == (404, {"error": "no such call in this process"})


@pytest.mark.parametrize("conversation_id", ["c", "a/b history"])
def test_a_history_has_the_shape_of_the_recovery_guide(conversation_id: str) -> None:
    answer = get(f"/conversation/{conversation_id}/history", stored=Stored(conversation_id))
    assert answer.json() == {
        "sessionId": conversation_id,
        "historyLength": 2,
        "history": [
            {
                "role": "user",
                "text": "My name is Ada.",
                "timestamp": "2026-01-01T12:02:00+00:00",
            },
            {
                "role": "assistant",
                "text": "Hello Ada.",
                "timestamp": "2026-01-01T12:02:01+00:00",
            },
        ],
    }


def test_a_session_is_looked_up_without_a_word_of_what_was_said() -> None:
    answer = get("/sessions/c", stored=Stored())
    assert answer.json()["status"] == "initiated"
    assert answer.json()["turns"] == 2
    assert "Ada" not in answer.text


@pytest.mark.parametrize("path", ["/sessions/{}", "/conversation/{}/history"])
def test_what_cannot_be_shown_of_a_session_is_said_in_words(path: str) -> None:
    assert get(path.format("other"), stored=Stored()).status_code == 404
    assert get(path.format("c")).status_code == 404  # nothing is stored at all
    broken = get(path.format("c"), stored=Stored(), fields={"schema_version": 99})
    assert broken.status_code == 422
    assert "schema_version" in broken.json()["error"]
    down = Stored()
    down.storage.down()
    answer = get(path.format("c"), stored=down)
    assert (answer.status_code, answer.json()) == (503, {"error": "session store: down"})


def test_stats_count_the_stored_sessions_and_say_null_where_they_cannot() -> None:
    stored = Stored()
    assert get("/stats", stored=stored).json()["active_sessions_count"] == 1
    stored.storage.down()
    facts = get("/stats", stored=stored).json()
    assert facts["active_sessions_count"] is None
    assert facts["calls"] == 3


def test_a_store_that_does_not_answer_holds_nobody_up() -> None:
    stored = Stored()
    stored.storage.delay_s = 3600
    transport = httpx.ASGITransport(admin_app(Settings(), Status(), Metrics(), stored.sessions))

    async def main() -> tuple[int, object, float]:
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            answer = await client.get("/conversation/c/history")
            stats = (await client.get("/stats")).json()
        now = asyncio.get_running_loop().time()
        return answer.status_code, stats["active_sessions_count"], now

    assert virtual_time.run(main()) == (503, None, 2 * STORE_S)


# Log levels


@pytest.fixture
def levels_as_they_were() -> Iterator[None]:
    before = {name: logging.getLogger(name).level for name in NAMED_LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_the_documents_loggers_are_set_while_the_process_runs(levels_as_they_were: None) -> None:
    for name in ("session_manager_service", "memory_session_storage", "redis_session_storage"):
        answer = ask("PUT", f"/loggers/{name}", body=b'{"level": "DEBUG"}')
        assert answer.json() == {"name": name, "level": "DEBUG"}
        assert logging.getLogger(name).isEnabledFor(logging.DEBUG)
        assert get("/loggers").json()["loggers"][name] == "DEBUG"
        ask("PUT", f"/loggers/{name}", body=b'{"level": "ERROR"}')
        assert not logging.getLogger(name).isEnabledFor(logging.WARNING)


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"{}", b'{"level": "LOUD"}', b'{"level": 10}', b'{"level": ["INFO"]}'],
)
def test_a_level_that_is_none_is_refused_in_words(body: bytes, levels_as_they_were: None) -> None:
    before = get("/loggers").json()
    answer = ask("PUT", "/loggers/session_manager_service", body=body)
    assert answer.status_code == 400
    assert "DEBUG, INFO, WARNING, ERROR" in answer.json()["error"]
    assert get("/loggers").json() == before


def test_at_debug_each_write_of_a_session_is_a_line_without_a_word_of_it(
    levels_as_they_were: None, caplog: pytest.LogCaptureFixture
) -> None:
    ask("PUT", "/loggers/memory_session_storage", body=b'{"level": "DEBUG"}')
    get("/sessions/c", stored=Stored())
    assert "session written" in caplog.text
    assert "Ada" not in caplog.text
    caplog.clear()
    ask("PUT", "/loggers/memory_session_storage", body=b'{"level": "INFO"}')
    get("/sessions/c", stored=Stored())
    assert caplog.text == ""


def test_a_logger_that_is_none_of_ours_is_not_found() -> None:
    answer = ask("PUT", "/loggers/botocore", body=b'{"level": "DEBUG"}')
    assert answer.status_code == 404
    assert "session_manager_service" in answer.json()["error"]


def test_on_an_open_port_a_level_is_set_with_the_token_only(levels_as_they_were: None) -> None:
    settings = Settings(admin_host="0.0.0.0", admin_token=SecretStr("right"))
    for token, code in (("", 401), ("wrong", 401), ("right", 200)):
        answer = ask(
            "PUT",
            "/loggers/session_manager_service",
            settings=settings,
            token=token,
            body=b'{"level": "DEBUG"}',
        )
        assert answer.status_code == code


# The port


@pytest.mark.integration
def test_the_port_answers_until_it_is_stopped_and_leaves_signals_to_the_bridge() -> None:
    async def main() -> list[int]:
        server = AdminServer(Settings(admin_port=0), Status(), Metrics())
        url = f"http://127.0.0.1:{server.bind()}"
        signals: list[int] = []
        terminated = asyncio.Event()
        loop = asyncio.get_running_loop()

        def terminate() -> None:
            signals.append(1)
            terminated.set()

        loop.add_signal_handler(signal.SIGTERM, terminate)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.run())
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{url}/readyz")).status_code == 200
                os.kill(os.getpid(), signal.SIGTERM)
                async with asyncio.timeout(5):
                    await terminated.wait()
                assert (await client.get(f"{url}/healthz")).status_code == 200
                assert not running.done()
            server.stop()
            async with asyncio.timeout(5):
                await running
        loop.remove_signal_handler(signal.SIGTERM)
        return signals

    assert asyncio.run(main()) == [1]


@pytest.mark.integration
def test_a_cancelled_admin_port_is_free_again() -> None:
    async def main() -> None:
        server = AdminServer(Settings(admin_port=0), Status(), Metrics())
        port = server.bind()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.run())
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"http://127.0.0.1:{port}/healthz")
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        again = AdminServer(Settings(admin_port=port), Status(), Metrics())
        assert again.bind() == port
        again.stop()
        await again.run()

    asyncio.run(main())


@pytest.mark.integration
def test_a_port_that_is_taken_is_an_error_in_words() -> None:
    async def main() -> None:
        first = AdminServer(Settings(admin_port=0), Status(), Metrics())
        port = first.bind()
        with pytest.raises(ConfigError, match=f"ADMIN_PORT={port}: cannot listen there: Address"):
            AdminServer(Settings(admin_port=port), Status(), Metrics()).bind()
        first.stop()
        await first.run()

    asyncio.run(main())
