"""Texts with `${NAME}` of the environment and `{argument}` of the model in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from opusagent.errors import ConfigError
from opusagent.tools.tool import at_key

__all__ = ["JsonTemplate", "Template", "fill_json", "names_in", "read_json", "resolve"]

_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_PART: Final = re.compile(r"\$\{(?P<variable>\w+)\}|\{(?P<argument>[A-Za-z0-9_-]+)\}")


@dataclass(frozen=True, slots=True)
class _Argument:
    name: str


class Template:
    """A text of an agent's file.

    Args:
        text: What stands there.
        environ: What `${NAME}` is taken from.

    Raises:
        ConfigError: If a variable is not there.
    """

    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        self._parts: list[str | _Argument] = []
        end = 0
        for match in _PART.finditer(text):
            self._parts.append(text[end : match.start()])
            if match["argument"]:
                self._parts.append(_Argument(match["argument"]))
            else:
                self._parts.append(_variable(match["variable"], environ))
            end = match.end()
        self._parts.append(text[end:])

    @property
    def head(self) -> str:
        """The text before the first argument."""
        ends = (i for i, part in enumerate(self._parts) if isinstance(part, _Argument))
        return "".join(map(str, self._parts[: next(ends, len(self._parts))]))

    @property
    def names(self) -> set[str]:
        """The arguments in it."""
        return {part.name for part in self._parts if isinstance(part, _Argument)}

    def fill(self, arguments: Mapping[str, JsonValue], quote: Callable[[str, str], str]) -> str:
        """The text with arguments in it; one that is not given is empty.

        Args:
            arguments: By name.
            quote: Makes a part of the text of an argument's name and text.
        """
        return "".join(
            part if isinstance(part, str) else quote(part.name, as_text(arguments.get(part.name)))
            for part in self._parts
        )

    def fill_value(self, arguments: Mapping[str, JsonValue]) -> JsonValue:
        """As `fill`, but where the text is one argument alone, it is that argument, whatever its type.

        Raises:
            KeyError: If it is one argument alone, and it is not given.
        """
        match [part for part in self._parts if part]:
            case [_Argument(name)]:
                return arguments[name]
        return self.fill(arguments, lambda _, text: text)


def resolve(texts: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Texts with variables of the environment in them, filled.

    Raises:
        ConfigError: If a variable is not there; names the key.
    """
    return {name: _resolved(name, text, environ) for name, text in texts.items()}


type JsonTemplate = (
    Template | dict[str, JsonTemplate] | list[JsonTemplate] | bool | int | float | None
)
"""A JSON value whose texts are templates."""


def read_json(value: JsonValue, environ: Mapping[str, str]) -> JsonTemplate:
    """A JSON value of an agent's file, its variables of the environment filled.

    Raises:
        ConfigError: If a variable is not there; names the key.
    """
    match value:
        case str():
            return Template(value, environ)
        case dict():
            return {key: _read_at(key, item, environ) for key, item in value.items()}
        case list():
            return [_read_at(str(n), item, environ) for n, item in enumerate(value)]
        case _:
            return value


def fill_json(value: JsonTemplate, arguments: Mapping[str, JsonValue]) -> JsonValue:
    """A JSON value with arguments in its texts; what is one argument alone, and not given, is left out."""
    match value:
        case Template():
            return value.fill_value(arguments)
        case dict():
            return dict(_given((key, item, arguments) for key, item in value.items()))
        case list():
            return [item for _, item in _given(("", item, arguments) for item in value)]
        case _:
            return value


def names_in(value: JsonTemplate) -> Iterator[str]:
    """The arguments in the texts of a JSON value."""
    match value:
        case Template():
            yield from value.names
        case dict():
            for item in value.values():
                yield from names_in(item)
        case list():
            for item in value:
                yield from names_in(item)


def as_text(value: JsonValue) -> str:
    """An argument inside a text."""
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)


def _given(
    items: Iterator[tuple[str, JsonTemplate, Mapping[str, JsonValue]]],
) -> Iterator[tuple[str, JsonValue]]:
    for key, item, arguments in items:
        try:
            yield key, fill_json(item, arguments)
        except KeyError:
            continue


def _read_at(key: str, value: JsonValue, environ: Mapping[str, str]) -> JsonTemplate:
    with at_key(key):
        return read_json(value, environ)


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if not (value := environ.get(name, "").rstrip("\r\n")):  # as mounted files end
        raise ConfigError(f"${{{name}}} is not set in the environment")
    return value


def _resolved(key: str, text: str, environ: Mapping[str, str]) -> str:
    with at_key(key):
        return _VARIABLE.sub(lambda match: _variable(match[1], environ), text)
