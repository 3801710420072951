"""Where a receiver's work runs: apart from the calls, and from the other receivers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from opusagent.errors import ToolError
from opusagent.tools.workshop import Workshop

__all__ = ["MAX_STUCK", "Crowded", "Workplace"]

_log = structlog.get_logger("opusagent.hooks")

MAX_STUCK: Final = 16
"""Threads of a receiver that nobody waits for any more; at this many it gets nothing before one of them ends."""


class Crowded(ToolError):
    """Too much of this receiver's work does not end; it has been logged."""


class Workplace:
    """A workshop for one receiver: what never returns takes no threads from the others.

    Args:
        name: Of the receiver, as it is logged.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._workshop = Workshop(max_abandoned=MAX_STUCK)
        self._is_crowded = False

    async def plain[T](self, name: str, work: Callable[[], T]) -> T:
        """Run `work` in a thread.

        Raises:
            Crowded: If too many threads do not end.
        """
        self._refuse_if_crowded()
        try:
            return await self._workshop.plain(name, work)
        except ToolError:
            self._refuse_if_crowded()  # since it waits for a thread
            raise

    async def coroutine[T](self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` on the loop of async functions.

        Raises:
            Crowded: If too many threads do not end.
        """
        self._refuse_if_crowded()
        return await self._workshop.coroutine(name, work)

    def stop(self) -> None:
        """End the loop of async functions, and what runs on it."""
        self._workshop.stop()

    def _refuse_if_crowded(self) -> None:
        stuck = self._workshop.abandoned
        was_crowded, self._is_crowded = self._is_crowded, stuck >= MAX_STUCK
        if not self._is_crowded:
            if was_crowded:
                _log.info("hook gets events again", hook=self._name)
            return
        if not was_crowded:  # once, not at every event
            _log.error(
                "hook hangs and gets no more events before one of its threads ends: "
                "give what it waits for a time limit, and restart",
                hook=self._name,
                threads=stuck,
            )
        raise Crowded(f"{self._name} cannot be run now: {stuck} of its threads do not end")
