"""Waiting in tests: for what a test looks at or, where nothing can be looked at, for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def pass_time(seconds: float) -> None:
    """Let time pass: that of the loop, which may be virtual."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    loop.call_later(seconds, woken.set_result, None)
    await woken


async def eventually(look: Callable[[], object], within_s: float = 5.0) -> bool:
    """Whether `look` comes true in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not look():
        if loop.time() >= deadline:
            return False
        await pass_time(0.005)
    return True
