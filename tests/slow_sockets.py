"""Websockets of tests that are made of `recv` and `send` alone."""

from __future__ import annotations

import abc
from collections.abc import Callable


class SlowSocket(abc.ABC):
    """Nothing is taken from it or sent on it without waiting."""

    @abc.abstractmethod
    async def recv(self) -> str | bytes | None:
        """Wait for the next message."""

    async def listen(self, take: Callable[[str | bytes], None]) -> None:
        """Give every message to `take`."""
        while (text := await self.recv()) is not None:
            take(text)

    def send_now(self, text: str) -> bool:
        """Refuse: it has to be waited for."""
        return False
