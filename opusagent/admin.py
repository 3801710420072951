"""The operator's port: is it alive, can it take a call, what has it counted.

Starlette on uvicorn, apart from the telephone side. Every answer comes from memory; nothing here
waits, so that a probe is answered however busy the calls are.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.observability import Metrics

__all__ = ["AdminServer", "BridgeStatus", "admin_app"]

type _Endpoint = Callable[[Request], Awaitable[Response]]


class BridgeStatus(Protocol):
    """What the admin port asks of the bridge; both answers come at once, from memory."""

    def ready(self) -> list[str]:
        """Why no call could be taken now, in words; empty when one could."""
        ...

    def stats(self) -> dict[str, Any]:
        """JSON-ready facts for `/stats`."""
        ...


def admin_app(settings: Settings, status: BridgeStatus, metrics: Metrics) -> Starlette:
    """The application: `/healthz`, `/readyz`, `/metrics`, `/stats`.

    `/stats` needs `Authorization: Bearer ADMIN_TOKEN` unless the port is on loopback; with no token
    configured it is closed there.
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
        return JSONResponse(status.stats() | {"metrics": metrics.snapshot()})

    guarded = _guard(settings)
    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", numbers),
            Route("/stats", guarded(stats)),
        ]
    )


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

    def __init__(self, settings: Settings, status: BridgeStatus, metrics: Metrics) -> None:
        self._host = settings.admin_host
        self._port = settings.admin_port
        self._socket: socket.socket | None = None
        self._server = _Server(
            uvicorn.Config(
                admin_app(settings, status, metrics),
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
