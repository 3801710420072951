"""The tools of `bench --tools`, as a user's module would have them. Their times are the machine's monotonic clock's."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Final

from opusagent.tools import ToolRegistry

registry = ToolRegistry()

BUSY_S: Final = 0.3
"""How long a tool sleeps or computes."""
LARGE_BYTES: Final = 10_000_000

type Times = dict[str, int | str]


def _times(asked_ns: int, started_ns: int) -> Times:
    return {"asked": asked_ns, "started": started_ns, "ended": time.monotonic_ns()}


@registry.tool()
def quick(asked_ns: int) -> Times:
    """Return at once."""
    return _times(asked_ns, time.monotonic_ns())


@registry.tool()
def sleeps(asked_ns: int) -> Times:
    """Sleep."""
    started_ns = time.monotonic_ns()
    threading.Event().wait(BUSY_S)
    return _times(asked_ns, started_ns)


@registry.tool()
def spins(asked_ns: int) -> Times:
    """Compute."""
    started_ns = time.monotonic_ns()
    while time.monotonic_ns() < started_ns + BUSY_S * 1e9:
        pass
    return _times(asked_ns, started_ns)


@registry.tool()
async def blocks(asked_ns: int) -> Times:
    """Compute, although it should await."""
    return spins(asked_ns)


@registry.tool()
async def awaits(asked_ns: int) -> Times:
    """Wait as it should."""
    started_ns = time.monotonic_ns()
    with suppress(TimeoutError):
        async with asyncio.timeout(BUSY_S):
            await asyncio.Event().wait()
    return _times(asked_ns, started_ns)


@registry.tool()
def raises(asked_ns: int) -> Times:
    """Fail."""
    raise RuntimeError(str(asked_ns))


@registry.tool()
def large(asked_ns: int) -> Times:
    """Return 10 MB."""
    started_ns = time.monotonic_ns()
    text = "x" * LARGE_BYTES
    return {**_times(asked_ns, started_ns), "text": text}


@registry.tool(timeout_s=1.0)
def never(asked_ns: int) -> Times:
    """Never return."""
    threading.Event().wait()
    return _times(asked_ns, 0)
