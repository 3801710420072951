"""Sends one HTTP request of a tool and reads a bounded answer; again, where that does no harm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

from opusagent.errors import ConfigError, ToolError
from opusagent.tools.problems import kind_of

if TYPE_CHECKING:
    import httpx

__all__ = ["MAX_BODY_BYTES", "Answer", "HttpClient", "NoAnswer"]

MAX_BODY_BYTES: Final = 256_000
"""How much of an answer is read."""
MAX_TRIES: Final = 3
"""How often a repeatable request is sent, within its deadline."""
FIRST_PAUSE_S: Final = 0.2
"""Between the first two; twice as long between the next."""
MAX_REDIRECTS: Final = 3

_WORTH_A_TRY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        body: Its first `MAX_BODY_BYTES`.
        is_whole: Whether that is all of it.
    """

    status: int
    content_type: str
    body: bytes
    is_whole: bool


class NoAnswer(ToolError):
    """A service gave no answer, or none of use.

    Args:
        words: For the model.
        problem: For the log, without what was asked and answered.
        is_usual: Whether it comes of what was asked, and no one has to look at it.
    """

    def __init__(self, words: str, problem: str, *, is_usual: bool = False) -> None:
        super().__init__(words)
        self.problem = problem
        self.is_usual = is_usual


class HttpClient:
    """The connections of all HTTP tools of a process.

    Args:
        transport: What requests go through; httpx's own without.

    Raises:
        ConfigError: If httpx is not installed.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        try:
            import httpx  # noqa: PLC0415 - of the extra `tools`
        except ModuleNotFoundError:
            raise ConfigError("needs httpx: pip install 'opusagent[tools]'") from None
        self._httpx = httpx
        self._transport = transport
        self._made: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close what is open."""
        if self._made is not None:
            await self._made.aclose()
            self._made = None

    def warm_up(self) -> None:
        """Make what takes tens of milliseconds to make, certificates read and all."""
        if self._made is None:
            # A cookie that came with one caller's answer must not go out with another's request.
            jar = CookieJar(DefaultCookiePolicy(allowed_domains=()))
            self._made = self._httpx.AsyncClient(transport=self._transport, cookies=jar)

    async def fetch(
        self, make: Callable[[httpx.AsyncClient], httpx.Request], *, is_repeatable: bool
    ) -> Answer:
        """Send what `make` makes; a repeatable request is sent again where it fails.

        Raises:
            NoAnswer: If none comes.
        """
        pause_s = FIRST_PAUSE_S
        for _ in range(MAX_TRIES - 1 if is_repeatable else 0):
            with suppress(self._httpx.HTTPError):
                answer = await self._once(make)
                if answer.status not in _WORTH_A_TRY:
                    return answer
            await _pause(pause_s)
            pause_s *= 2
        try:
            return await self._once(make)
        except self._httpx.HTTPError as error:
            raise NoAnswer("the service cannot be reached", kind_of(error)) from None

    async def _once(self, make: Callable[[httpx.AsyncClient], httpx.Request]) -> Answer:
        self.warm_up()
        assert self._made is not None
        request = make(self._made)
        response = await self._made.send(request, stream=True)
        try:
            for _ in range(MAX_REDIRECTS):
                onward = response.next_request
                if onward is None or _origin(onward.url) != _origin(request.url):
                    break
                await response.aclose()
                response = await self._made.send(onward, stream=True)
            body, is_whole = await _read(response)
        finally:
            await response.aclose()
        kind = response.headers.get("content-type", "").lower()
        return Answer(response.status_code, kind, body, is_whole)


async def _read(response: httpx.Response) -> tuple[bytes, bool]:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return bytes(body[:MAX_BODY_BYTES]), False
    return bytes(body), True


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def _pause(seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
