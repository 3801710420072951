"""All receivers of a process: from stored states to events to those who asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import structlog

from opusagent.clock import Clock
from opusagent.config import Settings
from opusagent.hooks.functions import DEADLINE_S, FunctionSink, load_function
from opusagent.hooks.lanes import Lanes, Sink
from opusagent.hooks.story import events_between
from opusagent.hooks.webhook import Poster, WebhookSink
from opusagent.hooks.workplace import Workplace
from opusagent.models.session_state import SessionState
from opusagent.observability import Metrics
from opusagent.setting_types import signing_key

__all__ = ["DRAIN_S", "Hooks", "described", "open_hooks"]

_log = structlog.get_logger("opusagent.hooks")

DRAIN_S: Final = 1.0
"""What events may take to be delivered when the process ends."""


class Hooks:
    """Tells receivers what happens in calls; a `StoredListener` of the saver.

    Args:
        sinks: Who is told.
        metrics: Counts.
        max_waiting: Events that may wait for each of them.
        workplaces: Where they run; ended with the hooks.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        metrics: Metrics,
        *,
        max_waiting: int,
        workplaces: Sequence[Workplace] = (),
    ) -> None:
        self._lanes = [Lanes(sink, metrics, max_waiting=max_waiting) for sink in sinks]
        self._workplaces = workplaces

    async def start(self) -> None:
        """Begin to deliver. `stop` in the same task."""
        for lanes in self._lanes:
            await lanes.start()

    async def stop(self, within_s: float = DRAIN_S) -> None:
        """Deliver what waits, at most so long, to all side by side; the rest is dropped and counted."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        for lanes in self._lanes:
            lanes.hurry()
        dropped = 0
        for lanes in reversed(self._lanes):
            dropped += await lanes.stop(max(deadline - loop.time(), 0.0))
        if dropped:
            _log.warning("events dropped at the end", events=dropped)
        for workplace in self._workplaces:
            workplace.stop()

    def stored(self, before: SessionState | None, after: SessionState, tenant: str) -> None:
        """Tell what `after`, which is stored now, has beyond `before`. Never blocks and never raises."""
        if not self._lanes:
            return
        try:
            for event in events_between(before, after, tenant=tenant):
                for lanes in self._lanes:
                    lanes.put(event)
        except Exception:  # noqa: BLE001  a bug here must not end the saving of sessions
            _log.exception("no events", conversation_id=after.conversation_id)

    @property
    def waiting(self) -> int:
        """Deliveries that are still to be made."""
        return sum(lanes.waiting for lanes in self._lanes)


def open_hooks(
    settings: Settings, metrics: Metrics, clock: Clock, *, deadline_s: float = DEADLINE_S
) -> Hooks:
    """The receivers that are configured, each with a workplace of its own.

    Args:
        settings: Name them.
        metrics: Counts.
        clock: Dates what is posted.
        deadline_s: What a function may take for an event.

    Raises:
        ConfigError: If a function cannot be found.
    """
    workplaces = [Workplace(name) for name in settings.event_hooks]
    sinks: list[Sink] = [
        FunctionSink(name, load_function(name), place, deadline_s=deadline_s)
        for name, place in zip(settings.event_hooks, workplaces, strict=True)
    ]
    if settings.webhook_url is not None and settings.webhook_secret is not None:
        url = settings.webhook_url.get_secret_value()
        workplaces.append(place := Workplace("webhook"))
        sinks.append(
            WebhookSink(
                Poster(url, timeout_s=settings.webhook_timeout_seconds, place=place),
                key=signing_key(settings.webhook_secret.get_secret_value()),
                clock=clock,
                metrics=metrics,
                include_text=settings.webhook_include_text,
                include_numbers=settings.webhook_include_numbers,
                retry_s=settings.webhook_retry_seconds,
            )
        )
    return Hooks(sinks, metrics, max_waiting=settings.event_queue_size, workplaces=workplaces)


def described(settings: Settings) -> str:
    """Who is told, in words without secrets; empty where nobody is. Raises `ConfigError` as `open_hooks`."""
    for name in settings.event_hooks:
        load_function(name)
    told = list(settings.event_hooks)
    if settings.webhook_url is not None:
        parts = urlsplit(settings.webhook_url.get_secret_value())
        told.append(f"webhook at {parts.scheme}://{parts.netloc}")
    return ", ".join(told)
