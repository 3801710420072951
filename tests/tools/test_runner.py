from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from opusagent.config import Settings
from opusagent.errors import ToolError
from opusagent.observability import configure_logging
from opusagent.tools import ToolContext, ToolRegistry
from opusagent.tools.python_tools import tool_of
from opusagent.tools.tool import MAX_STATE_BYTES, CallState, Tool
from opusagent.tools.workshop import Workshop
from tests import virtual_time
from tests.tools.rig import Counts, asks, of_call
from tests.tools.test_arguments import JSON
from tests.waiting import pass_time

registry = ToolRegistry()


@registry.tool(timeout_s=30)
async def takes(seconds: float) -> str:
    """Take a while."""
    await pass_time(seconds)
    return f"took {seconds:g}"


@registry.tool()
async def for_ever() -> None:
    """Never end."""
    await asyncio.Event().wait()


@registry.tool()
def raises() -> None:
    """Fail."""
    raise LookupError("the caller said 471147114711")


@registry.tool()
async def gives_up() -> None:
    """Be out of time by itself."""
    raise TimeoutError


@registry.tool()
async def cancels_itself() -> None:
    """Cancel itself."""
    raise asyncio.CancelledError


@registry.tool()
def refuses_without_a_word() -> None:
    """Say nothing."""
    raise ToolError


@registry.tool()
def refuses() -> None:
    """Say no."""
    raise ToolError("the shop is closed on Sundays")


@registry.tool()
def too_much() -> str:
    """Return ten megabytes."""
    return "x" * 10_000_000


@registry.tool()
def which_call(context: ToolContext) -> dict[str, JsonValue]:
    """Say what it knows."""
    return {
        "call": context.conversation_id,
        "caller": context.caller,
        "agent": context.agent,
        "use": context.tool_use_id,
    }


def result_of(name: str, arguments: str = "{}", *, meter: Counts | None = None) -> object:
    return virtual_time.run(of_call(registry.tools, meter=meter)(asks(name, arguments)))


@pytest.mark.parametrize(
    ("name", "arguments", "result", "outcome"),
    [
        ("takes", '{"seconds": 5}', {"result": "took 5"}, "done"),
        ("takes", "{", {"error": "the arguments are not JSON"}, "refused"),
        ("raises", "{}", {"error": "raises failed"}, "failed"),
        ("gives_up", "{}", {"error": "gives_up failed"}, "failed"),
        ("cancels_itself", "{}", {"error": "cancels_itself failed"}, "failed"),
        (
            "refuses_without_a_word",
            "{}",
            {"error": "refuses_without_a_word failed"},
            "refused",
        ),
        ("refuses", "{}", {"error": "the shop is closed on Sundays"}, "refused"),
        ("for_ever", "{}", {"error": "for_ever did not answer within 10 seconds"}, "late"),
        (
            "takes",
            '{"seconds": 31}',
            {"error": "takes did not answer within 30 seconds"},
            "late",
        ),
    ],
)
def test_whatever_becomes_of_a_tool_is_one_object_and_is_counted(
    name: str, arguments: str, result: dict[str, str], outcome: str
) -> None:
    counts = Counts()
    assert result_of(name, arguments, meter=counts) == result
    assert counts.outcomes == [outcome]


def test_a_deadline_is_kept_to_the_moment() -> None:
    counts = Counts()
    result_of("for_ever", meter=counts)
    ((_, _, seconds),) = counts.ended
    assert seconds == pytest.approx(10.0)


def test_a_tool_that_is_gone_is_an_error() -> None:
    assert result_of("gone") == {"error": "there is no tool named gone"}


def test_ten_megabytes_are_cut_to_twenty_kilobytes() -> None:
    assert len(json.dumps(result_of("too_much"))) <= 20_000


def test_a_tool_knows_the_call_that_it_serves() -> None:
    assert result_of("which_call") == {
        "call": "c1",
        "caller": "+15551230001",
        "agent": "bank",
        "use": "u1",
    }


def test_many_tools_run_at_once() -> None:
    async def main() -> None:
        tools = of_call(registry.tools)
        loop = asyncio.get_running_loop()
        asked = [tools(asks("takes", '{"seconds": 5}', f"u{n}")) for n in range(50)]
        assert await asyncio.gather(*asked) == [{"result": "took 5"}] * 50
        assert loop.time() == pytest.approx(5)

    virtual_time.run(main())


def test_a_tool_ends_with_the_call_that_asked_for_it() -> None:
    async def main() -> None:
        counts = Counts()
        loop = asyncio.get_running_loop()
        asked = loop.create_task(of_call(registry.tools, meter=counts)(asks("for_ever")))
        await pass_time(1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert counts.outcomes == ["cancelled"]

    virtual_time.run(main())


@settings(max_examples=60)
@given(
    st.sampled_from([tool.spec.name for tool in registry.tools]),
    st.text() | JSON.map(json.dumps) | st.dictionaries(st.text(), JSON).map(json.dumps),
)
def test_no_arguments_make_anything_but_an_object_come_out(name: str, arguments: str) -> None:
    assert isinstance(result_of(name, arguments), dict)


@pytest.mark.usefixtures("logging_as_it_was")
def test_the_log_says_which_tool_failed_and_where_and_not_what_the_caller_said() -> None:
    for private in (False, True):
        log = io.StringIO()
        configure_logging(Settings(log_format="json", log_private=private), log)
        result_of("raises")
        (line,) = map(json.loads, log.getvalue().splitlines())
        assert line["event"] == "tool failed"
        assert (line["tool"], line["error"]) == ("raises", "LookupError")
        assert line["at"].startswith(__file__)
        assert ("471147114711" in log.getvalue()) == private


@pytest.mark.usefixtures("logging_as_it_was")
def test_the_log_says_which_tool_was_late() -> None:
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)
    result_of("for_ever")
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["event"], line["tool"], line["after_s"]) == ("tool late", "for_ever", 10.0)


@pytest.mark.usefixtures("logging_as_it_was")
def test_the_log_says_where_in_the_file_of_the_tool_and_what_was_no_error_at_all() -> None:
    def reads() -> object:
        """Read."""
        return json.loads("")

    def looks() -> object:
        """Look."""
        return os.environ["NOBODY_HAS_SET_IT"]  # of a module that is frozen into Python

    def leaves() -> None:
        """Leave."""
        sys.exit(3)

    async def leaves_later() -> None:
        """Leave."""
        sys.exit(3)

    async def main(tool: Tool) -> None:
        workshop = Workshop()
        try:
            await of_call([tool], place=workshop)(asks(tool.spec.name))
        finally:
            workshop.stop()

    for function, kind in (
        (reads, "JSONDecodeError"),
        (looks, "KeyError"),
        (leaves, "SystemExit"),
        (leaves_later, "SystemExit"),
    ):
        log = io.StringIO()
        configure_logging(Settings(log_format="json"), log)
        asyncio.run(main(tool_of(function, timeout_s=1, repeatable=False)))
        (line,) = map(json.loads, log.getvalue().splitlines())
        at = f"{__file__}:{function.__code__.co_firstlineno + 2}"
        assert (line["error"], line["at"]) == (kind, at)


# State


def test_state_is_kept_and_each_change_is_told() -> None:
    told: dict[str, JsonValue] = {}
    state = CallState({"a": 1}, told.__setitem__)
    state.set("b", {"c": [1]})
    assert state.get("b") == {"c": [1]}
    assert (state.get("x"), state.get("x", "y")) == (None, "y")
    assert ("a" in state, list(state), len(state)) == (True, ["a", "b"], 2)
    assert told == {"b": {"c": [1]}}


def test_what_is_kept_changes_only_by_setting_it() -> None:
    told: dict[str, JsonValue] = {}
    state = CallState({}, told.__setitem__)
    value: dict[str, JsonValue] = {"n": [1]}
    state.set("a", value)
    value["n"] = 2
    kept = state.get("a")
    assert isinstance(kept, dict)
    kept["n"] = 3
    assert state.get("a") == {"n": [1]} == told["a"]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2},
        float("nan"),
        "x" * MAX_STATE_BYTES,
        b"x",
        "caf\udce9",
        json.loads("[" * 40 + "]" * 40),
    ],
)
def test_what_cannot_be_stored_is_not_kept(value: JsonValue) -> None:
    told: dict[str, JsonValue] = {}
    state = CallState({}, told.__setitem__)
    with pytest.raises(ValueError, match="the state 'a'"):
        state.set("a", value)
    assert (len(state), told) == (0, {})


@pytest.mark.parametrize("key", ["caf\udce9", 4527, None, b"x"])
def test_nothing_is_kept_under_what_is_no_text(key: Any) -> None:
    told: dict[str, JsonValue] = {}
    state = CallState({}, told.__setitem__)
    with pytest.raises(ValueError, match=r"the key .* must be a text"):
        state.set(key, 1)
    assert (len(state), told) == (0, {})


def test_what_the_model_has_set_is_there_and_told_to_nobody() -> None:
    told: dict[str, JsonValue] = {}
    state = CallState({}, told.__setitem__)
    state.learn("a", 1)
    assert (state.get("a"), told) == (1, {})
