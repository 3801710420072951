"""AWS credentials: found once, fetched anew before they expire, pinned for each stream.

The chain of signatures of a stream breaks when its key changes, so a stream keeps what it began
with, and none begins with credentials that could expire before its eight minutes are over.

    get()   more than 15 min left   what is there
            10 to 15 min left       what is there, and new ones are fetched meanwhile
            less                    new ones are waited for
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from opusagent.errors import ConfigError, TransportError

__all__ = ["Credentials", "Pinned", "botocore_chain"]

_FETCH_AHEAD: Final = timedelta(minutes=15)
_ENOUGH_FOR_A_STREAM: Final = timedelta(minutes=10)
_KEY, _SECRET, _TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"


@dataclass(frozen=True, slots=True)
class Pinned:
    """Credentials that do not change any more. Nothing secret is in its `repr`.

    Attributes:
        expires_at: UTC; None when they do not expire.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None


class Credentials:
    """The process's source of credentials. Belongs to one event loop."""

    def __init__(
        self,
        *,
        utcnow: Callable[[], datetime],
        environ: Mapping[str, str] | None = None,
        chain: Callable[[], Pinned] | None = None,
        fetch_s: float = 5.0,
    ) -> None:
        """Look for keys in the environment first, and then along AWS's standard chain.

        Args:
            utcnow: The clock that expiry is judged by.
            environ: `os.environ` by default.
            chain: Where to ask when the environment has no keys; it may block, and is called in a
                thread. `botocore_chain` by default.
            fetch_s: How long a call may wait for it.
        """
        self._utcnow = utcnow
        self._environ = os.environ if environ is None else environ
        self._make_chain = botocore_chain if chain is None else lambda: chain
        self._chain: Callable[[], Pinned] | None = None
        self._fetch_s = fetch_s
        self._current: Pinned | None = None
        self._fetching: asyncio.Future[Pinned] | None = None

    async def get(self) -> Pinned:
        """Give credentials for a new stream.

        Raises:
            TransportError: `NoCredentials`, if there are none, or none that are valid.
        """
        current = self._current
        if current is None or self._expires_within(current, _FETCH_AHEAD):
            fetching = self._fetch()
            if current is None or self._expires_within(current, _ENOUGH_FOR_A_STREAM):
                await asyncio.wait((fetching,), timeout=self._fetch_s)
                current = self._outcome(fetching)
        return current

    async def check(self) -> str:
        """Say in words where the credentials come from; for the start-up.

        Raises:
            ConfigError: If there are none.
        """
        try:
            pinned = await self.get()
        except TransportError as error:
            raise ConfigError(
                f"AWS credentials: {error.message}. Set {_KEY} and {_SECRET}, or a profile, or run "
                "where a role is attached (container, pod, instance, web identity)"
            ) from error
        expiry = f", valid until {pinned.expires_at:%H:%M} UTC" if pinned.expires_at else ""
        return f"access key {pinned.access_key_id[:4]}…{pinned.access_key_id[-2:]}{expiry}"

    def forget(self, refused: Pinned) -> None:
        """Fetch anew at the next call: the service has refused these. Newer ones stay."""
        if self._current == refused:
            self._current = None
            self._chain = None

    def _fetch(self) -> asyncio.Future[Pinned]:
        """Fetch, once at a time, whether or not anybody waits for the outcome."""
        if self._fetching is None:
            loop = asyncio.get_running_loop()
            self._fetching = loop.run_in_executor(None, self._load)
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, fetching: asyncio.Future[Pinned]) -> None:
        self._fetching = None
        if not fetching.cancelled() and fetching.exception() is None:
            self._current = fetching.result()

    def _outcome(self, fetching: asyncio.Future[Pinned]) -> Pinned:
        """Give the new credentials; without any, the old ones as long as they are valid."""
        current = self._current
        if current is not None and not self._expires_within(current, timedelta()):
            return current
        if fetching.done() and (error := fetching.exception()) is not None:
            raise TransportError("NoCredentials", str(error)) from error
        if current is not None:
            raise TransportError("NoCredentials", "they have expired")
        raise TransportError("NoCredentials", f"no answer within {self._fetch_s} s")

    def _load(self) -> Pinned:
        # A secret that is mounted as a file often ends with a newline; no key holds a space.
        key, secret, token = (
            self._environ.get(name, "").strip() for name in (_KEY, _SECRET, _TOKEN)
        )
        if key and secret:
            return Pinned(key, secret, token or None)
        if self._chain is None:
            self._chain = self._make_chain()
        return self._chain()

    def _expires_within(self, pinned: Pinned, span: timedelta) -> bool:
        return pinned.expires_at is not None and pinned.expires_at - self._utcnow() <= span


def botocore_chain() -> Callable[[], Pinned]:
    """Make a function that asks botocore's standard chain; it blocks, and refreshes what expires.

    The SDK of the stream knows neither containers, nor instances, nor roles; botocore does. It is
    imported here and not above because it costs memory that a process with plain keys can save.
    """
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    session = Session()

    def load() -> Pinned:
        try:
            found = session.get_credentials()
            if found is None:
                raise _NothingFound
            frozen = found.get_frozen_credentials()
        except BotoCoreError as error:
            raise _NothingFound(str(error)) from error
        # botocore tells the time of expiry only here; static credentials have none.
        expires_at: datetime | None = getattr(found, "_expiry_time", None)
        return Pinned(frozen.access_key, frozen.secret_key, frozen.token, expires_at)

    return load


class _NothingFound(Exception):
    """The chain has no credentials; says what the last link said."""

    def __init__(self, words: str = "none found in the standard chain") -> None:
        super().__init__(words)
