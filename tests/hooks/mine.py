"""Hooks as users write them: `EVENT_HOOKS=tests.hooks.mine:hangs,tests.hooks.mine:counts`."""

from __future__ import annotations

import threading

from opusagent.hooks.events import Event

got: list[str] = []
let_go = threading.Event()


def hangs(event: Event) -> None:
    """Never returns, unless a test has mercy with it."""
    let_go.wait()


def counts(event: Event) -> None:
    """Notes whose event it was."""
    got.append(event.conversation_id)
