"""`serve`: the bridge, its admin port, and what signals do to them."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import structlog

from opusagent.admin import AdminServer
from opusagent.agents import AgentFolder
from opusagent.clock import SystemClock
from opusagent.config import Settings, effective, warnings
from opusagent.errors import ConfigError
from opusagent.footprint import keep_small, settle
from opusagent.hooks.hub import open_hooks
from opusagent.observability import Metrics, configure_logging
from opusagent.open_files import allow_open_files
from opusagent.preflight import (
    bedrock_problem,
    make_connector,
    model_doubts,
    voice_doubts,
)
from opusagent.server import RESUMED_FACTOR, BridgeServer
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.session_storage.opening import open_storage
from opusagent.store import storage_settings
from opusagent.transports.bedrock import BedrockConnector
from opusagent.transports.credentials import Credentials
from opusagent.transports.reachability import Problem

_log = structlog.get_logger("opusagent.serving")

PROBE_EVERY_S = 30.0
"""How often a TLS handshake looks whether Bedrock is there: cheap, and no stream is opened."""

ASK_EVERY_S = 5.0
"""How often the store of sessions is written, read and cleared of it again."""

_BEDROCK_KEYS = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME, AWS_CA_BUNDLE"

EXIT_OK = 0
EXIT_AT_ONCE = 130


async def serve(settings: Settings) -> int:
    """Run the bridge until SIGTERM or SIGINT; returns the exit code.

    Prints `READY ws://HOST:PORT admin http://HOST:PORT` once calls are taken.

    Raises:
        ConfigError: If it cannot work: an agent's file, a port in use, no credentials, a Bedrock whose
            certificate is not trusted or that does not speak HTTP/2. One that cannot be reached now
            may be reached later: the bridge starts and says that it is not ready.
    """
    configure_logging(settings)
    _log.info("settings", **effective(settings))
    files = allow_open_files(RESUMED_FACTOR * settings.session_max_concurrent)
    for sentence in filter(None, (*warnings(settings), files.warning)):
        _log.warning(sentence)
    clock = SystemClock()
    credentials = Credentials(utcnow=clock.utcnow)
    _log.info("credentials", found=await credentials.check())
    connector = make_connector(settings, credentials)
    await connector.prepare()
    metrics = Metrics()
    agents = AgentFolder.open(settings.agent_config_dir)
    for sentence in model_doubts(settings) + voice_doubts(settings, agents.directory):
        _log.warning(sentence)
    kept_in = storage_settings(settings)
    storage = open_storage(kept_in, clock=clock)
    if not kept_in.outlives_us:
        _log.warning("REDIS_URL is not set: a call cannot be taken up by another process")
    hooks = open_hooks(settings, metrics, clock)
    sessions = SessionManagerService(
        storage,
        session_ttl=settings.session_ttl,
        keep_ended=settings.keep_ended_sessions,
        clock=clock,
        meter=metrics,
        listener=hooks,
    )
    server = BridgeServer(
        settings,
        agents,
        connector,
        metrics,
        sessions=sessions,
        is_shared=kept_in.outlives_us,
        clock=clock,
    )
    server.bedrock_problem = await _probe(settings, connector)
    if server.bedrock_problem is not None and server.bedrock_problem.lasts:
        raise ConfigError(f"{_BEDROCK_KEYS}: {server.bedrock_problem}")
    admin = AdminServer(settings, server, metrics, sessions)
    admin_port = admin.bind()
    port = await server.start()
    stop, at_once = _on_signals()
    program_files = settle()
    await hooks.start()
    await sessions.start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(admin.run())
        probers = [
            tasks.create_task(_keep_probing(settings, server, connector)),
            tasks.create_task(_keep_asking(server, sessions)),
            tasks.create_task(keep_small(lambda: bool(server.calls()), program_files.let_go)),
        ]
        scheme = "wss" if settings.bridge_tls_cert else "ws"
        print(
            f"READY {url_of(scheme, settings.bridge_host, port)}"
            f" admin {url_of('http', settings.admin_host, admin_port)}",
            flush=True,
        )
        await stop.wait()
        drained = tasks.create_task(server.drain())
        second = tasks.create_task(at_once.wait())
        await asyncio.wait((drained, second), return_when=asyncio.FIRST_COMPLETED)
        code = EXIT_OK if drained.done() else EXIT_AT_ONCE
        for task in (drained, second, *probers):
            task.cancel()
        if code == EXIT_AT_ONCE:
            server.abort()
        await server.stop()
        admin.stop()
    await sessions.stop()
    await (hooks.stop() if code == EXIT_OK else hooks.stop(0.0))
    await storage.close()
    return code


def url_of(scheme: str, host: str, port: int) -> str:
    """Where something listens; an IPv6 address stands in brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _on_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events that the first and the second signal set."""
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return first, second


async def _probe(settings: Settings, connector: BedrockConnector) -> Problem | None:
    problem = await bedrock_problem(settings, connector)
    if problem is not None:
        _log.warning("Bedrock cannot be reached", problem=problem.words)
    return problem


async def _keep_asking(server: BridgeServer, sessions: SessionManagerService) -> None:
    """Look after the store of sessions: calls go on without it, but must not come in unnoticed."""
    never = asyncio.Event()
    while True:
        health = await sessions.health_check()
        problem = None if health["status"] == "healthy" else str(health["error"])
        if problem != server.store_problem:
            _log.warning("session store", problem=problem)
            server.store_problem = problem
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_EVERY_S):
                await never.wait()


async def _keep_probing(
    settings: Settings, server: BridgeServer, connector: BedrockConnector
) -> None:
    never = asyncio.Event()
    while True:
        try:
            async with asyncio.timeout(PROBE_EVERY_S):
                await never.wait()
        except TimeoutError:
            server.bedrock_problem = await _probe(settings, connector)
