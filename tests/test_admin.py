import asyncio
import contextlib
import os
import signal
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from opusagent.admin import AdminServer, admin_app
from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.observability import Metrics


class Status:
    """A bridge that is whatever the test says."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def ready(self) -> list[str]:
        return self.reasons

    def stats(self) -> dict[str, Any]:
        return {"calls": 3}


def get(
    path: str, *, settings: Settings | None = None, status: Status | None = None, token: str = ""
) -> httpx.Response:
    app = admin_app(settings or Settings(), status or Status(), Metrics())

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return await client.get(path, headers=headers)

    return asyncio.run(main())


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
def test_stats_on_an_open_port_need_the_token(token: str, code: int) -> None:
    settings = Settings(admin_host="0.0.0.0", admin_token=SecretStr("right"))
    app_token = token.encode().decode("latin-1").encode("ascii", "ignore").decode()
    assert get("/stats", settings=settings, token=app_token).status_code == code


def test_stats_on_an_open_port_without_a_configured_token_are_closed() -> None:
    answer = get("/stats", settings=Settings(admin_host="0.0.0.0"))
    assert answer.status_code == 403
    assert "ADMIN_TOKEN" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_health_and_metrics_need_no_token(path: str) -> None:
    settings = Settings(admin_host="0.0.0.0", admin_token=SecretStr("right"))
    assert get(path, settings=settings).status_code == 200


def test_an_unknown_path_is_not_found() -> None:
    assert get("/calls/../etc").status_code == 404


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
