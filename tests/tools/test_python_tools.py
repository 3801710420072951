from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, JsonValue

from opusagent.errors import ConfigError
from opusagent.tools.python_tools import read_docstring, tool_of
from opusagent.tools.tool import Tool, ToolContext
from opusagent.tools.workshop import Workshop
from tests.tools.rig import asks, of_call


def tool(function: Callable[..., object], timeout_s: float = 10.0) -> Tool:
    return tool_of(function, timeout_s=timeout_s, repeatable=False)


def ask(function: Callable[..., object], arguments: str = "{}") -> dict[str, JsonValue]:
    made = tool(function)
    return asyncio.run(of_call([made])(asks(made.spec.name, arguments)))


class Address(BaseModel):
    street: str
    city: str = "Bonn"


def everything(
    text: str,
    context: ToolContext,
    count: Annotated[int, Field(ge=1, le=9)] = 2,
    kind: Literal["card", "cash"] = "card",
    tags: list[str] | None = None,
    address: Address | None = None,
    *,
    json: float = 0.5,
) -> dict[str, object]:
    """Take one of each.

    It is a test.

    Args:
        text (str): What to say,
            in one sentence.
        count: How often.
        context: None of the model's business.

    Returns:
        All of it.
    """
    return {
        "text": text,
        "count": count,
        "kind": kind,
        "tags": tags,
        "address": address,
        "json": json,
        "agent": context.agent,
    }


def test_the_model_is_told_what_stands_in_signature_and_docstring() -> None:
    spec = tool(everything).spec
    assert spec.description == "Take one of each.\n\nIt is a test."
    schema: dict[str, Any] = spec.input_schema
    assert schema["required"] == ["text"]
    properties = schema["properties"]
    assert list(properties) == ["text", "count", "kind", "tags", "address", "json"]
    assert properties["text"] == {
        "type": "string",
        "description": "What to say, in one sentence.",
    }
    assert properties["count"]["maximum"] == 9
    assert properties["kind"] == {"type": "string", "enum": ["card", "cash"], "default": "card"}
    assert properties["tags"] == {"type": "array", "items": {"type": "string"}}
    assert "null" not in str(schema)


def test_arguments_arrive_as_the_types_of_the_signature() -> None:
    given = '{"text": 4711, "count": "3", "address": {"street": "Main"}, "json": 1}'
    assert ask(everything, given) == {
        "text": "4711",
        "count": 3,
        "kind": "card",
        "tags": None,
        "address": {"street": "Main", "city": "Bonn"},
        "json": 1.0,
        "agent": "bank",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{}", "text: Field required"),
        ('{"text": "a", "count": 10}', "count: Input should be less than or equal to 9"),
        ('{"text": "a", "kind": "gold"}', "kind: Input should be 'card' or 'cash'"),
        ('{"text": "a", "address": {}}', "address.street: Field required"),
        ('{"text": "a", "other": 1}', "other: Extra inputs are not permitted"),
        ('{"text": "a", "context": {}}', "context: Extra inputs are not permitted"),
        ("[1]", "the arguments are not a JSON object"),
        ("{", "the arguments are not JSON"),
    ],
)
def test_wrong_arguments_are_a_result_that_names_them(arguments: str, words: str) -> None:
    assert ask(everything, arguments) == {"error": words}


def test_a_function_behind_a_decorator_is_still_async() -> None:
    def twice[**P](function: Callable[P, object]) -> Callable[P, object]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> object:
            return function(*args, **kwargs)

        return wrapper

    @twice
    async def slow() -> str:
        """Be slow."""
        return "done"

    assert ask(slow) == {"result": "done"}


def run_to_its_end[**P](
    function: Callable[P, Coroutine[Any, Any, object]],
) -> Callable[P, object]:
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> object:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


def with_a_connection[**P](function: Callable[P, object]) -> Callable[P, object]:
    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> object:
        return function(*args, **kwargs)

    return wrapper


def test_a_decorator_decides_how_its_function_runs() -> None:
    @run_to_its_end
    async def of_a_plain_one() -> str:
        """Be slow."""
        return "done"

    @with_a_connection
    def of_an_async_one() -> str:
        """Look up."""
        return "done"

    def that_returns_a_coroutine() -> object:
        """Look up."""
        return with_a_connection(lambda: "done")()

    async def main(function: Callable[..., object]) -> dict[str, JsonValue]:
        workshop, made = Workshop(), tool(function)
        try:
            return await of_call([made], place=workshop)(asks(made.spec.name))
        finally:
            workshop.stop()

    for function in (of_a_plain_one, of_an_async_one, that_returns_a_coroutine):
        assert asyncio.run(main(function)) == {"result": "done"}


def test_the_context_may_be_left_out_where_the_function_is_called_otherwise() -> None:
    def who(context: ToolContext | None = None) -> str:
        """Say who calls."""
        return "nobody" if context is None else context.caller

    assert who() == "nobody"
    assert tool(who).spec.input_schema == {"type": "object", "properties": {}}
    assert ask(who) == {"result": "+15551230001"}


def nothing_said() -> None: ...


async def one_by_one() -> AsyncIterator[str]:
    """Look up."""
    yield "done"


def untyped(order_id) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Look up."""


def positional(order_id: str, /) -> None:
    """Look up."""


def many(*order_ids: str) -> None:
    """Look up."""


def strange(order_id: Path | object) -> None:
    """Look up."""


def not_json(callback: Callable[[], int]) -> None:
    """Look up."""


def unknown_type(order_id: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Look up."""


def much_too_long_a_name_for_a_tool_because_sixty_four_letters_are_the_most_there_may_be() -> None:
    """Look up."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (nothing_said, "needs a docstring"),
        (one_by_one, "yields its results; return them at once, as a list"),
        (untyped, "order_id: needs a type"),
        (positional, "order_id: cannot be given by its name"),
        (many, "order_ids: cannot be given by its name"),
        (not_json, "its arguments cannot be described"),
        (unknown_type, "a type cannot be found: name 'Nowhere' is not defined"),
        (
            much_too_long_a_name_for_a_tool_because_sixty_four_letters_are_the_most_there_may_be,
            "no name for a tool",
        ),
    ],
)
def test_a_function_that_the_model_could_not_use_is_refused_by_name(
    function: Callable[..., object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        tool(function)
    assert str(caught.value).startswith(f"{function.__name__}: ")


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 30.1, float("nan")])
def test_a_deadline_is_above_0_and_at_most_30_seconds(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="timeout_s"):
        tool(everything, timeout_s)
    assert tool(everything, 30).timeout_s == 30


@pytest.mark.parametrize(
    ("text", "said", "about"),
    [
        ("One line.", "One line.", {}),
        ("Say.\n\nReturns:\n    x", "Say.", {}),
        ("Say.\n\nArgs:\n    a: one\n    b (int, optional): two\n\n    c: three", "Say.", "abc"),
        ("Say.\nArgs:\n  a:\n    one\n    and: more\n  b: two\nRaises:\n  c: no", "Say.", "ab"),
        ("Args: these are many.", "Args: these are many.", {}),
        ("", "", {}),
    ],
)
def test_docstrings_in_the_style_of_google_are_understood(
    text: str, said: str, about: dict[str, str] | str
) -> None:
    described, found = read_docstring(text)
    assert described == said
    assert list(found) == list(about)


def test_a_description_may_begin_below_its_argument_and_have_colons() -> None:
    assert read_docstring("Say.\n\nArgs:\n    a:\n        One: two.")[1] == {"a": "One: two."}
