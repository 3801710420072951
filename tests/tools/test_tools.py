"""The registry, as users see it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from opusagent.errors import ConfigError
from opusagent.tools import ToolContext, ToolError, ToolRegistry


def test_a_function_becomes_a_tool_and_stays_the_function_that_it_is() -> None:
    registry = ToolRegistry()

    @registry.tool(timeout_s=3, repeatable=True)
    def add(a: int, b: int = 1) -> int:
        """Add two numbers.

        Args:
            a: The first.
        """
        return a + b

    assert add(1, 2) == 3
    (spec,) = registry.specs()
    assert (spec.name, spec.description, spec.repeatable) == ("add", "Add two numbers.", True)
    assert spec.input_schema == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "The first."},
            "b": {"type": "integer", "default": 1},
        },
        "required": ["a"],
    }
    assert registry.tools[0].timeout_s == 3


def test_who_forgets_the_brackets_of_the_decorator_is_told_so() -> None:
    def add(a: int) -> int:
        """Add."""
        return a

    with pytest.raises(ConfigError, match=r"^add: write @registry\.tool\(\), with its brackets$"):
        ToolRegistry().tool(add)  # type: ignore[arg-type]


def test_a_tool_can_be_tried_without_a_call() -> None:
    registry = ToolRegistry()

    @dataclass
    class Order:
        status: str

    @registry.tool()
    def plain(order_id: str) -> Order:
        """Look up."""
        return Order(f"{order_id} was shipped")

    @registry.tool()
    async def also_async(context: ToolContext) -> str:
        """Say who calls."""
        return context.caller

    async def main() -> None:
        assert await registry.invoke("plain", '{"order_id": "A1"}') == {"status": "A1 was shipped"}
        caller = ToolContext(caller="+1555")
        assert await registry.invoke("also_async", "", caller) == {"result": "+1555"}
        with pytest.raises(ToolError, match="order_id: Field required"):
            await registry.invoke("plain", "{}")
        with pytest.raises(ToolError, match="no tool named other"):
            await registry.invoke("other", "{}")

    asyncio.run(main())


def test_two_tools_cannot_have_one_name() -> None:
    registry = ToolRegistry()

    def look_up() -> None:
        """Look up."""

    registry.tool()(look_up)
    with pytest.raises(ConfigError, match="look_up: there is a tool of this name"):
        registry.tool()(look_up)
