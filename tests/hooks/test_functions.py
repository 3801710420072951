from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, override

import pytest
import structlog

from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.hooks.events import Event
from opusagent.hooks.functions import FunctionSink, load_function
from opusagent.hooks.lanes import Outcome
from opusagent.observability import configure_logging
from opusagent.tools.workshop import Workshop
from tests.hooks.rig import turn
from tests.virtual_time import run


def deliver(function: Callable[[Event], Any]) -> tuple[Outcome, str]:
    """What becomes of an event, and what is logged."""
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)

    async def main() -> Outcome:
        workshop = Workshop()
        try:
            sink = FunctionSink("mine:on_event", function, workshop)
            return await sink.deliver(turn(1, text="471147114711"), asyncio.Event())
        finally:
            workshop.stop()

    try:
        return asyncio.run(main()), log.getvalue()
    finally:
        structlog.reset_defaults()


def test_a_plain_function_and_an_async_one_run_apart_from_the_loop() -> None:
    got: list[tuple[Event, bool]] = []

    def plain(event: Event) -> None:
        got.append((event, threading.current_thread() is threading.main_thread()))

    async def later(event: Event) -> None:
        plain(event)

    assert deliver(plain) == ("delivered", "")
    assert deliver(later) == ("delivered", "")
    assert got == [(turn(1, text="471147114711"), False)] * 2


def test_an_object_is_called_and_what_it_returns_is_awaited() -> None:
    got: list[Event] = []

    class Crm:
        async def __call__(self, event: Event) -> None:
            got.append(event)

    def around(event: Event) -> Coroutine[Any, Any, None]:
        return Crm()(event)

    assert deliver(Crm()) == ("delivered", "")
    assert deliver(around) == ("delivered", "")
    assert got == [turn(1, text="471147114711")] * 2


def test_one_that_fails_is_logged_without_what_was_said() -> None:
    def breaks(event: Event) -> None:
        os.environ[event.model_dump_json()]

    outcome, log = deliver(breaks)
    assert outcome == "failed"
    assert "KeyError" in log
    assert f"test_functions.py:{breaks.__code__.co_firstlineno + 1}" in log
    assert "471147114711" not in log


class Here(Workshop):
    """Threads as they are; async functions on the loop that waits, whose time may be virtual."""

    @override
    async def coroutine[T](self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await work()


def test_one_that_does_not_end_is_waited_for_ten_seconds_and_no_longer() -> None:
    let_go = threading.Event()

    async def hangs(event: Event) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for function in (hangs, lambda _: let_go.wait()):
            began = loop.time()
            sink = FunctionSink("mine:on_event", function, Here())
            assert await sink.deliver(turn(1), asyncio.Event()) == "failed"
            assert loop.time() - began == pytest.approx(10.0)

    try:
        run(main())
    finally:
        let_go.set()


def test_a_function_is_found_in_a_module_or_beside_nothing_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def on_event(event): ...\ndef none(): ...\nvalue = 1\n", encoding="utf-8")
    assert load_function(f"{path}:on_event").__name__ == "on_event"
    assert load_function("json:dumps").__name__ == "dumps"


def test_a_file_that_goes_to_another_folder_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "crm.py"
    path.write_text("import os\nos.chdir('/')\ndef told(event): ...\n", encoding="utf-8")
    load_function(f"{path}:told")
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:f", "EVENT_HOOKS: no_such_module: cannot be loaded"),
        ("/no/such.py:f", "EVENT_HOOKS: /no/such.py: there is no such file"),
        ("json:nothing", "EVENT_HOOKS: json has no function nothing"),
        ("os:getpid", "EVENT_HOOKS: os:getpid must take one argument"),
    ],
)
def test_one_that_cannot_be_called_is_refused_at_the_start(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_function(name)
