"""How many files and sockets this process may have open at once (`ulimit -n`), and whether that is enough.

Where it is not, the event loop closes new connections without a word: libuv does so with EMFILE (measured).
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Allowed", "allow_open_files", "for_calls"]

OF_THE_PROCESS: Final = 100
"""Ports, the store, the log, tools, and who asks the admin port."""
OF_A_CALL: Final = 6
"""Two websockets while a caller comes back, two streams during a change, and two files of a recording."""
MOST: Final = 1 << 20
"""Nobody needs more, and a system may refuse it."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is allowed, and what so many calls may need."""

    files: int
    needed: int

    @property
    def warning(self) -> str | None:
        """In words that it is too little, if it is."""
        if self.files >= self.needed:
            return None
        return (
            f"ulimit -n is {self.files}: SESSION_MAX_CONCURRENT calls may need {self.needed} open"
            " files and sockets; beyond that, connections are closed without a word"
        )


def for_calls(calls: int, *, soft: int, hard: int) -> Allowed:
    """What should be allowed for so many calls, given the two limits; `RLIM_INFINITY` is none."""
    needed = min(OF_THE_PROCESS + calls * OF_A_CALL, MOST)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return Allowed(needed if soft == resource.RLIM_INFINITY else soft, needed)
    return Allowed(needed if hard == resource.RLIM_INFINITY else min(needed, hard), needed)


def allow_open_files(
    calls: int, *, set_limits: Callable[[int, tuple[int, int]], None] = resource.setrlimit
) -> Allowed:
    """Raise this process's own limit as far as so many calls need and the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = for_calls(calls, soft=soft, hard=hard)
    if soft != resource.RLIM_INFINITY and allowed.files > soft:
        try:
            set_limits(resource.RLIMIT_NOFILE, (allowed.files, hard))
        except (OSError, ValueError):  # a sandbox; or macOS, which has a limit of its own beyond
            return Allowed(soft, allowed.needed)
    return allowed
