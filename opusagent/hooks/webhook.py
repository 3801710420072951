"""A receiver over HTTP: each event is posted as JSON, signed, until it is taken."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from opusagent.clock import Clock
from opusagent.errors import ToolError
from opusagent.hooks.events import Event, redacted
from opusagent.hooks.lanes import Outcome
from opusagent.hooks.signing import headers_of
from opusagent.observability import Metrics
from opusagent.setting_types import LOOPBACK
from opusagent.tools.problems import kind_of
from opusagent.tools.tool import Place

__all__ = ["FIRST_PAUSE_S", "LONGEST_PAUSE_S", "Poster", "WebhookSink"]

_log = structlog.get_logger("opusagent.hooks")

FIRST_PAUSE_S: Final = 1.0
"""After an attempt that failed; twice as long each time, up to the longest."""
LONGEST_PAUSE_S: Final = 60.0

_WORTH_A_TRY: Final = frozenset({408, 425, 429})
"""Refusals that may pass, besides all from 500 on."""

type Post = Callable[[bytes, Mapping[str, str]], Awaitable[int]]
"""Sends a body with headers; gives the status, or raises `OSError`."""


class WebhookSink:
    """Posts events.

    Args:
        post: Sends one.
        key: Signs them.
        clock: Dates each attempt.
        metrics: Counts.
        include_text: Whether what was said, and arguments and results of tools, are told.
        include_numbers: Whether who called which number is told.
        retry_s: How long after the first attempt there may be another one.
    """

    kind: Final = "webhook"

    def __init__(
        self,
        post: Post,
        *,
        key: bytes,
        clock: Clock,
        metrics: Metrics,
        include_text: bool,
        include_numbers: bool,
        retry_s: float,
    ) -> None:
        self._post = post
        self._key = key
        self._clock = clock
        self._metrics = metrics
        self._include_text = include_text
        self._include_numbers = include_numbers
        self._retry_s = retry_s
        self._is_away = False

    async def deliver(self, event: Event, hurry: asyncio.Event) -> Outcome:
        """Post until a status of 200 to 299 comes, one that will not change, or time is up."""
        shown = redacted(event, text=self._include_text, numbers=self._include_numbers)
        body = shown.model_dump_json().encode()
        last_at = self._clock.monotonic() + self._retry_s
        pause_s = FIRST_PAUSE_S
        while True:
            status, problem = await self._attempt(event.id, body)
            if 200 <= status < 300:
                self._is_away = False
                return "delivered"
            if 0 < status < 500 and status not in _WORTH_A_TRY:
                _log.warning("webhook refused", type=event.type, status=status)
                return "refused"
            if not self._is_away:
                self._is_away = True
                _log.warning("webhook not taken", type=event.type, problem=problem)
            if hurry.is_set() or self._clock.monotonic() + pause_s > last_at:
                return "failed"
            self._metrics.event_retries.inc()
            await _wait(hurry, pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _attempt(self, event_id: str, body: bytes) -> tuple[int, str]:
        """Its status, 0 where there was none, and what to say of that in the log."""
        timestamp = int(self._clock.utcnow().timestamp())
        headers = headers_of(self._key, event_id, timestamp, body)
        try:
            status = await self._post(body, headers | {"content-type": "application/json"})
        except (OSError, ToolError, http.client.HTTPException) as error:
            return 0, kind_of(error)
        except (ValueError, RuntimeError) as error:  # a name nobody can look up; no thread
            return 0, kind_of(error)
        return status, f"HTTP {status}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: what was signed for one address is not sent to another."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Poster:
    """Posts to one address, each time in a thread: neither TLS nor a slow name server holds audio up.

    Args:
        url: Where to.
        timeout_s: What the receiver may take for an answer.
        place: Where threads come from.
    """

    def __init__(self, url: str, *, timeout_s: float, place: Place) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._place = place
        handlers: list[urllib.request.BaseHandler] = [
            _NoRedirect(),
            # Made once: to read the certificates takes tens of milliseconds.
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        ]
        if urlsplit(url).hostname in LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    async def __call__(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Post; gives the status.

        Raises:
            OSError: If no answer comes in time.
        """
        async with asyncio.timeout(self._timeout_s):
            return await self._place.plain("webhook", lambda: self._send(body, headers))

    def _send(self, body: bytes, headers: Mapping[str, str]) -> int:
        request = urllib.request.Request(  # noqa: S310 - the setting allows https only, http here
            self._url,
            data=body,
            headers={**headers, "user-agent": "opusagent", "connection": "close"},
            method="POST",
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return int(error.code)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
