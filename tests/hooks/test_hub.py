"""From what calls store to those who asked for it."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
import structlog

from opusagent.clock import SystemClock
from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.hooks.events import Event
from opusagent.hooks.hub import Hooks, described, open_hooks
from opusagent.hooks.lanes import Outcome
from opusagent.observability import Metrics, configure_logging
from tests.hooks.rig import Receiver
from tests.hooks.test_story import said, state
from tests.virtual_time import run

SECRET = {"webhook_secret": "sixteen letters!"}


def test_every_receiver_gets_every_event() -> None:
    async def main() -> None:
        receivers = [Receiver(), Receiver()]
        hooks = Hooks(receivers, Metrics(), max_waiting=10)
        await hooks.start()
        hooks.stored(None, state(conversation_history=[said("bot", 1), said("bot", 2)]), "acme")
        assert hooks.waiting == 4
        await hooks.stop()
        assert receivers[0].got == receivers[1].got
        assert len(receivers[0].got) == 2

    run(main())


def test_the_end_of_the_process_waits_for_all_receivers_together_not_in_turn() -> None:
    async def main() -> None:
        receivers = [Receiver(lambda _: 60.0) for _ in range(5)]
        metrics = Metrics()
        hooks = Hooks(receivers, metrics, max_waiting=10)
        await hooks.start()
        hooks.stored(None, state(), "")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await hooks.stop(1.0)
        assert loop.time() - began == pytest.approx(1.0)
        dropped = metrics.registry.get_sample_value(
            "opusagent_event_deliveries_total", {"to": "function", "outcome": "dropped"}
        )
        assert dropped == 5

    run(main())


def test_all_receivers_learn_together_that_the_process_ends() -> None:
    class Waits(Receiver):
        async def deliver(self, event: Event, hurry: asyncio.Event) -> Outcome:
            await hurry.wait()
            return await super().deliver(event, hurry)

    async def main() -> None:
        receivers = [Waits(lambda _: 0.6), Waits(lambda _: 0.6)]
        hooks = Hooks(receivers, Metrics(), max_waiting=10)
        await hooks.start()
        hooks.stored(None, state(), "")
        await hooks.stop(1.0)
        assert [len(receiver.got) for receiver in receivers] == [1, 1]

    run(main())


def test_a_bug_of_ours_is_no_trouble_for_whoever_saves() -> None:
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)

    async def main() -> None:
        hooks = Hooks([Receiver()], Metrics(), max_waiting=10)
        await hooks.start()
        undated = said("bot", 1, "471147114711").model_copy(update={"at": "now"})
        broken = state(conversation_history=[undated, said("bot", 2)])
        hooks.stored(state(), broken, "")
        await hooks.stop()

    try:
        run(main())
    finally:
        structlog.reset_defaults()
    assert '"no events"' in log.getvalue()
    assert "471147114711" not in log.getvalue()


def test_without_a_receiver_nothing_is_made() -> None:
    async def main() -> None:
        hooks = open_hooks(Settings(), Metrics(), SystemClock())
        await hooks.start()
        hooks.stored(None, state(), "")
        assert hooks.waiting == 0
        await hooks.stop()

    run(main())
    assert described(Settings()) == ""


def test_who_is_told_is_said_without_what_is_secret(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def on_event(event): ...\n", encoding="utf-8")
    settings = Settings.model_validate(
        {"event_hooks": [f"{path}:on_event"], "webhook_url": "https://crm.example/token"} | SECRET
    )
    assert described(settings) == f"{path}:on_event, webhook at https://crm.example"


def test_a_function_that_is_not_there_is_a_configuration_error() -> None:
    settings = Settings.model_validate({"event_hooks": ["json:nothing"]})
    with pytest.raises(ConfigError, match="EVENT_HOOKS: json has no function nothing"):
        open_hooks(settings, Metrics(), SystemClock())
    with pytest.raises(ConfigError, match="EVENT_HOOKS"):
        described(settings)
