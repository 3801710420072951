"""The tools of a user's module."""

from __future__ import annotations

from opusagent.errors import ConfigError
from opusagent.tools import ToolRegistry
from opusagent.tools.python_tools import load_module
from opusagent.tools.tool import Tool

__all__ = ["tools_in"]


def tools_in(module: str) -> dict[str, Tool]:
    """The functions that the registries of a module have decorated, by name, in order.

    Raises:
        ConfigError: If the module cannot be loaded, or has none.
    """
    registries = [
        item for item in vars(load_module(module)).values() if isinstance(item, ToolRegistry)
    ]
    tools = {tool.spec.name: tool for registry in registries for tool in registry.tools}
    if not tools:
        raise ConfigError(f"{module}: has no function that a ToolRegistry decorates")
    return tools
