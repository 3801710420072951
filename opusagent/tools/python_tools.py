"""Python functions as tools: what the model is told of them stands in signature and docstring."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, get_args, get_type_hints

from opusagent.errors import ConfigError
from opusagent.models.agent import MAX_TOOL_S
from opusagent.models.session_state import ToolSpec
from opusagent.tools.arguments import REQUIRED, Parameter, Parameters
from opusagent.tools.results import as_object
from opusagent.tools.tool import Arguments, JsonObject, Place, Tool, ToolContext

__all__ = ["tool_of"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECTION: Final = re.compile(
    r"(Args|Arguments|Parameters|Returns?|Raises|Yields|Examples?|Notes?|Todo):\s*"
)
_ARGS: Final = ("Args:", "Arguments:", "Parameters:")
_ARGUMENT: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")


def tool_of(function: Callable[..., object], *, timeout_s: float, repeatable: bool) -> Tool:
    """A function, plain or async, as a tool.

    Its docstring, up to the first section, is what the model is told of it, its `Args` (Google style) what it
    is told of the arguments. A parameter of the type `ToolContext` is none of the model's.

    Raises:
        ConfigError: If the model could not be told enough, or the deadline is out of bounds.
    """
    name = getattr(function, "__name__", "")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name}: no name for a tool: letters, digits, _ and -, at most 64")
    if inspect.isasyncgenfunction(inspect.unwrap(function)):
        raise ConfigError(f"{name}: yields its results; return them at once, as a list")
    if not 0 < timeout_s <= MAX_TOOL_S:
        raise ConfigError(f"{name}: timeout_s must be above 0 and at most {MAX_TOOL_S:g}")
    described, about = read_docstring(inspect.getdoc(function) or "")
    if not described:
        raise ConfigError(f"{name}: needs a docstring: it is what the model is told of the tool")
    try:
        parameters, context_name = _parameters(function, about)
        checked = Parameters(parameters)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return Tool(
        spec=ToolSpec(
            name=name, description=described, input_schema=checked.schema, repeatable=repeatable
        ),
        timeout_s=timeout_s,
        run=partial(_run, name, function, checked, context_name),
    )


async def _run(
    name: str,
    function: Callable[..., Any],
    parameters: Parameters,
    context_name: str,
    arguments: Arguments,
    context: ToolContext,
    place: Place,
) -> JsonObject:
    def call() -> Any:  # not on the loop of audio either: validators may be users' code
        given = parameters.check(arguments)
        return function(**given, **({context_name: context} if context_name else {}))

    async def awaited(pending: Awaitable[object]) -> JsonObject:
        return as_object(await pending)

    def begun() -> JsonObject | Awaitable[object]:
        result = call()
        return result if inspect.isawaitable(result) else as_object(result)

    if inspect.iscoroutinefunction(function):
        return await place.coroutine(name, lambda: awaited(call()))
    result = await place.plain(name, begun)
    if isinstance(result, dict):
        return result
    # A plain function around an async one: only what it returns says so.
    return await place.coroutine(name, lambda: awaited(result))


def _parameters(
    function: Callable[..., object], about: dict[str, str]
) -> tuple[list[Parameter], str]:
    """The parameters that the model gives, and the name of the one that takes the context."""
    real = inspect.unwrap(function)
    # What it returns is nobody's business here.
    told = {name: hint for name, hint in real.__annotations__.items() if name != "return"}
    try:
        hints = get_type_hints(
            SimpleNamespace(__annotations__=told),
            globalns=getattr(real, "__globals__", {}),
            include_extras=True,
        )
    except (NameError, TypeError) as error:
        raise ConfigError(f"a type cannot be found: {error}") from None
    parameters = []
    context_name = ""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in hints:
            raise ConfigError(f"{parameter.name}: needs a type")
        annotation = hints[parameter.name]
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"{parameter.name}: cannot be given by its name")
        if annotation is ToolContext or ToolContext in get_args(annotation):
            context_name = parameter.name
            continue
        parameters.append(
            Parameter(
                name=parameter.name,
                annotation=annotation,
                default=REQUIRED if parameter.default is parameter.empty else parameter.default,
                description=about.get(parameter.name, ""),
            )
        )
    return parameters, context_name


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of its function, and of each argument."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if _SECTION.fullmatch(line)), len(lines))
    about: dict[str, str] = {}
    begin = next((i for i, line in enumerate(lines) if line.rstrip() in _ARGS), len(lines))
    block = []
    for line in lines[begin + 1 :]:
        if line and not line[0].isspace():
            break
        block.append(line)
    name = ""
    for line in textwrap.dedent("\n".join(block)).splitlines():
        if line and not line[0].isspace() and (match := _ARGUMENT.fullmatch(line)):
            name, about[match[1]] = match[1], match[2].strip()
        elif name and line.strip():
            about[name] = f"{about[name]} {line.strip()}".strip()
    return "\n".join(lines[:first]).strip(), about
