"""The operator's port: is it alive, can it take a call, what has it counted, who is on the line.

Starlette on uvicorn, apart from the telephone side. Only what is asked of stored sessions waits for
their store, and not for long; everything else comes from memory, so that a probe is answered however
busy the calls are.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import structlog
import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from opusagent.config import Settings
from opusagent.errors import ConfigError, SessionUnreadable, StorageUnavailable
from opusagent.facts import history, session_facts
from opusagent.models.session_state import SessionState
from opusagent.observability import NAMED_LOGGERS, Metrics
from opusagent.services.session_manager_service import SessionManagerService

__all__ = ["AdminServer", "BridgeStatus", "admin_app"]

_log = structlog.get_logger("opusagent.admin")

STORE_S: Final = 2.0
"""What the store of sessions may take for an answer."""

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")

type _Endpoint = Callable[[Request], Awaitable[Response]]


class BridgeStatus(Protocol):
    """What the admin port asks of the bridge; every answer comes at once, from memory."""

    def ready(self) -> list[str]:
        """Why no call could be taken now, in words; empty when one could."""
        ...

    def stats(self) -> dict[str, Any]:
        """JSON-ready facts for `/stats`."""
        ...

    def calls(self) -> list[dict[str, JsonValue]]:
        """The calls under way, each with its `id`."""
        ...


def admin_app(
    settings: Settings,
    status: BridgeStatus,
    metrics: Metrics,
    sessions: SessionManagerService | None = None,
) -> Starlette:
    """The application. `/healthz`, `/readyz` and `/metrics` are open to whoever reaches the port.

    `/stats`, `/calls`, `/sessions/ID`, `/conversation/ID/history` and `/loggers` need `Authorization:
    Bearer ADMIN_TOKEN` unless the port is on loopback; with no token configured they are closed there.

    Args:
        settings: Who may see what.
        status: The bridge.
        metrics: Its counts.
        sessions: What is stored; None where nothing is.
    """

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        reasons = status.ready()
        return JSONResponse(
            {"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200
        )

    async def numbers(_request: Request) -> Response:
        return Response(
            generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def stats(_request: Request) -> Response:
        return JSONResponse(
            status.stats() | await _stored(sessions) | {"metrics": metrics.snapshot()}
        )

    async def calls(_request: Request) -> Response:
        return JSONResponse({"calls": status.calls()})

    async def call(request: Request) -> Response:
        wanted = request.path_params["id"]
        for found in status.calls():
            if found["id"] == wanted:
                return JSONResponse(found)
        return _no("no such call in this process", 404)

    def of_session(show: Callable[[SessionState], dict[str, JsonValue]]) -> _Endpoint:
        async def look_up(request: Request) -> Response:
            try:
                async with asyncio.timeout(STORE_S):
                    state = sessions and await sessions.get_session(request.path_params["id"])
            except (StorageUnavailable, TimeoutError) as error:
                return _no(f"session store: {error}", 503)
            except SessionUnreadable as error:
                return _no(f"the session cannot be read: {error}", 422)
            return JSONResponse(show(state)) if state else _no("no such session", 404)

        return look_up

    guarded = _guard(settings)
    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", numbers),
            Route("/stats", guarded(stats)),
            Route("/calls", guarded(calls)),
            Route("/calls/{id:path}", guarded(call)),
            Route("/sessions/{id:path}", guarded(of_session(session_facts))),
            Route("/conversation/{id:path}/history", guarded(of_session(_conversation))),
            Route("/loggers", guarded(_loggers)),
            Route("/loggers/{name}", guarded(_set_logger), methods=["PUT"]),
        ]
    )


def _no(words: str, code: int) -> Response:
    return JSONResponse({"error": words}, status_code=code)


async def _stored(sessions: SessionManagerService | None) -> dict[str, JsonValue]:
    """How many sessions are stored, by the name of the session-resume document; null if unknown."""
    if sessions is None:
        return {}
    try:
        async with asyncio.timeout(STORE_S):
            return {"active_sessions_count": len(await sessions.list_active_sessions())}
    except (StorageUnavailable, TimeoutError):
        return {"active_sessions_count": None}


def _conversation(state: SessionState) -> dict[str, JsonValue]:
    items = history(state)
    return {
        "sessionId": state.conversation_id,
        "historyLength": len(items),
        "history": items,
    }


def _levels() -> dict[str, JsonValue]:
    return {
        name: logging.getLevelName(logging.getLogger(name).getEffectiveLevel())
        for name in NAMED_LOGGERS
    }


async def _loggers(_request: Request) -> Response:
    return JSONResponse({"loggers": _levels()})


async def _set_logger(request: Request) -> Response:
    """Set the level of a logger while the process runs; a restart forgets it."""
    name = request.path_params["name"]
    if name not in NAMED_LOGGERS:
        return _no(f"loggers are {', '.join(NAMED_LOGGERS)}", 404)
    try:
        asked = json.loads(await request.body())
    except ValueError:
        asked = None
    level = asked.get("level") if isinstance(asked, dict) else None
    if level not in _LEVELS:
        return _no(f'send {{"level": LEVEL}} with one of {", ".join(_LEVELS)}', 400)
    logging.getLogger(name).setLevel(level)
    _log.info("log level set", logger=name, to=level)
    return JSONResponse({"name": name, "level": level})


def _guard(settings: Settings) -> Callable[[_Endpoint], _Endpoint]:
    """The rule of who may see more than health and metrics."""
    if settings.admin_is_local:
        return lambda endpoint: endpoint
    secret = settings.admin_token
    expected = None if secret is None else f"Bearer {secret.get_secret_value()}".encode()

    def guarded(endpoint: _Endpoint) -> _Endpoint:
        async def check(request: Request) -> Response:
            if expected is None:
                words = "set ADMIN_TOKEN to read this where ADMIN_HOST is not loopback"
                return JSONResponse({"error": words}, status_code=403)
            given = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, expected):
                return JSONResponse(
                    {"error": "wrong or missing token"},
                    status_code=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return await endpoint(request)

        return check

    return guarded


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGTERM and SIGINT to the bridge, which drains its calls first."""
        yield


class AdminServer:
    """The admin port: `bind` at start-up, `run` in a task, `stop` when the last call is gone."""

    def __init__(
        self,
        settings: Settings,
        status: BridgeStatus,
        metrics: Metrics,
        sessions: SessionManagerService | None = None,
    ) -> None:
        self._host = settings.admin_host
        self._port = settings.admin_port
        self._socket: socket.socket | None = None
        self._server = _Server(
            uvicorn.Config(
                admin_app(settings, status, metrics, sessions),
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )

    def bind(self) -> int:
        """Take the port; returns its number, which matters where the setting is 0.

        Raises:
            ConfigError: If the address cannot be taken. (uvicorn itself would end the process.)
        """
        self._socket = self._socket or self._listen()
        port: int = self._socket.getsockname()[1]
        return port

    async def run(self) -> None:
        """Answer requests until `stop`; binds first if that was not done."""
        with self._socket or self._listen() as listener:
            try:
                await self._server.serve(sockets=[listener])
            finally:
                if self._server.started:  # a cancelled uvicorn leaves its listeners open
                    for server in self._server.servers:
                        server.close()

    def stop(self) -> None:
        """Let `run` return once the answers under way are out, at most a second later."""
        self._server.should_exit = True

    def _listen(self) -> socket.socket:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            return socket.create_server(address, family=family, backlog=64)
        except OSError as error:
            place = f"ADMIN_HOST={self._host} ADMIN_PORT={self._port}"
            raise ConfigError(f"{place}: cannot listen there: {error.strerror}") from error
