"""One TOML file is one conversation, for the simulated caller and for the local service alike.

The caller follows the steps; the service knows the phrases and answers by rules. Neither tells the
other anything: what the service answers depends on what it hears. A wrong file is a `ConfigError`
that names file, key and reason.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from opusagent.errors import ConfigError
from opusagent.simulators.setup import ExpectedSwitch, Setup
from opusagent.simulators.steps import (
    CutSocket,
    HangUp,
    Id,
    Interrupt,
    KillBridge,
    Part,
    Say,
    Sentences,
    Step,
)
from opusagent.simulators.voice import BOT, CALLER, VoiceStyle

__all__ = [
    "BotRules",
    "CallerRules",
    "Phrase",
    "Scenario",
    "ToolRule",
    "TypedRule",
    "find_scenario",
    "load_scenario",
    "names_in",
    "scenario_names",
    "strings_in",
]

_TEMPLATE: Final = re.compile(r"\{([A-Za-z_][\w.]*)\}")
_RESULT: Final = "result."


class ToolRule(Part):
    """A tool that the bot asks for."""

    name: Annotated[str, Field(min_length=1)]
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Strings in it are templates."""
    answer: Sentences
    """Said when the result is there; `{result.key}` is a field of it."""
    failed: Sentences = ("I am sorry, that did not work.",)
    """Said instead when the result has an `error`."""
    tools: tuple[ToolRule, ...] = ()
    """Asked for once `answer` has been said; not after a failure."""

    def chain(self) -> Iterator[ToolRule]:
        """This rule, and those that follow it."""
        yield self
        for tool in self.tools:
            yield from tool.chain()


class Phrase(Part):
    """Something the caller can say, and what the bot makes of it."""

    id: Id
    text: Annotated[str, Field(min_length=1)]
    facts: dict[Id, str] = Field(default_factory=dict)
    """What the bot learns by it, if the words of it arrive."""
    answer: Sentences = ()
    """Templates: `{name}` is a fact that the bot knows by now."""
    forgets: Sentences = ()
    """Said instead of `answer` when a fact in it was never heard; the bot's own `forgets` without."""
    tools: tuple[ToolRule, ...] = ()
    """Asked for once `answer` has been said."""

    def chain(self) -> Iterator[ToolRule]:
        """Every tool that may follow it."""
        for tool in self.tools:
            yield from tool.chain()


class TypedRule(Part):
    """What the bot answers to text that was typed to it, e.g. the order to greet, or keys."""

    pattern: str
    """A regular expression, searched for without regard to case; its named groups are facts."""
    answer: Sentences

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return pattern

    def search(self, text: str) -> re.Match[str] | None:
        """Where the pattern is in a text."""
        return re.search(self.pattern, text, re.IGNORECASE)


class _Sound(Part):
    voice: str = ""
    words_per_minute: Annotated[int, Field(ge=80, le=450)] | None = None
    pitch: Annotated[int, Field(ge=0, le=99)] | None = None

    def _style(self, default: VoiceStyle) -> VoiceStyle:
        return VoiceStyle(
            voice=self.voice or default.voice,
            words_per_minute=self.words_per_minute or default.words_per_minute,
            pitch=default.pitch if self.pitch is None else self.pitch,
        )


class CallerRules(_Sound):
    """Who calls."""

    number: str = "+15551230001"

    @property
    def style(self) -> VoiceStyle:
        """How the caller sounds."""
        return self._style(CALLER)


class BotRules(_Sound):
    """How the bot answers where no phrase says it."""

    unknown: Sentences = ("I am sorry, I did not understand that.",)
    """The answer to speech that is in no book."""
    forgets: Sentences = ("I am sorry, you have not told me that.",)

    @property
    def style(self) -> VoiceStyle:
        """How the bot sounds."""
        return self._style(BOT)


class Scenario(Part):
    """A whole conversation."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    description: str
    setup: Setup = Setup()
    caller: CallerRules = CallerRules()
    bot: BotRules = BotRules()
    phrase: tuple[Phrase, ...]
    typed: tuple[TypedRule, ...] = ()
    step: Annotated[tuple[Step, ...], Field(min_length=1)]
    switch: tuple[ExpectedSwitch, ...] = ()
    """Every change of stream, in order; there may be no other."""
    end: Literal["caller", "bot", "transferred"] = "caller"
    """Who hangs up in the end, or that the caller is put through."""

    @property
    def phrases(self) -> dict[str, str]:
        """Text of each phrase by its id: the phrase book."""
        return {phrase.id: phrase.text for phrase in self.phrase}

    @property
    def route(self) -> tuple[int, ...]:
        """The bridge, from 1, to which each of the call's websockets goes, in order."""
        route = [1]
        alive = list(range(1, self.setup.bridges + 1))
        for step in self.step:
            here = route[-1]
            if isinstance(step, CutSocket) and step.to == "same":
                route.append(here)
            elif isinstance(step, CutSocket | KillBridge):
                others = [*alive[alive.index(here) + 1 :], *alive[: alive.index(here)]]
                route.append(others[0])
            if isinstance(step, KillBridge):
                alive.remove(here)
        return tuple(route)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Every sentence of the bot that has no template in it, to be rendered ahead."""
        rules = [self.bot.unknown, self.bot.forgets, *(rule.answer for rule in self.typed)]
        for phrase in self.phrase:
            rules += [phrase.answer, phrase.forgets]
            rules += [said for tool in phrase.chain() for said in (tool.answer, tool.failed)]
        return tuple(dict.fromkeys(s for said in rules for s in said if not names_in(s)))

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        problems = [*self._wrong_phrases(), *self._wrong_templates(), *self._wrong_steps()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_phrases(self) -> Iterator[str]:
        ids: set[str] = set()
        for i, phrase in enumerate(self.phrase):
            if phrase.id in ids:
                yield f"phrase[{i}].id: {phrase.id!r} is there twice"
            ids.add(phrase.id)

    def _wrong_templates(self) -> Iterator[str]:
        facts = {name for phrase in self.phrase for name in phrase.facts}
        for i, rule in enumerate(self.typed):
            groups = set(re.compile(rule.pattern).groupindex)
            facts |= groups
            for name in _unknown(rule.answer, facts):
                yield f"typed[{i}].answer: {{{name}}} is neither a fact nor a group of the pattern"
        for i, phrase in enumerate(self.phrase):
            for name in _unknown(phrase.answer, facts):
                yield f"phrase[{i}].answer: {{{name}}} is a fact of no phrase"
            for name in _unknown(phrase.forgets, set()):
                yield f"phrase[{i}].forgets: {{{name}}} cannot be there: it was forgotten"
            for tool in phrase.chain():
                used = (*strings_in(tool.arguments), *tool.answer, *tool.failed)
                for name in _unknown(used, facts):
                    if not name.startswith(_RESULT):
                        yield f"phrase[{i}].tools: {{{name}}} is neither a fact nor `result.key`"

    def _wrong_steps(self) -> Iterator[str]:
        n_alive = self.setup.bridges
        for i, step in enumerate(self.step):
            if isinstance(step, Say | Interrupt) and step.phrase not in self.phrases:
                known = ", ".join(self.phrases)
                yield f"step[{i}].phrase: there is no phrase {step.phrase!r}; there are {known}"
            if isinstance(step, HangUp) and i + 1 < len(self.step):
                yield f"step[{i + 1}]: nothing can follow hang_up"
            killed = isinstance(step, KillBridge)
            leaves = killed or (isinstance(step, CutSocket) and step.to == "other")
            if leaves and (n_alive < 2 or not self.setup.store):
                yield f"step[{i}]: there is no other bridge on the same store (setup.bridges, .store)"
            n_alive -= killed
        said = {step.phrase for step in self.step if isinstance(step, Say | Interrupt)}
        for i, switch in enumerate(self.switch):
            if switch.during and switch.during not in said:
                yield f"switch[{i}].during: no step says {switch.during!r}"


def names_in(template: str) -> list[str]:
    """The names of the facts that a template asks for."""
    return _TEMPLATE.findall(template)


def strings_in(value: JsonValue) -> Iterator[str]:
    """Every string inside a JSON value."""
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from strings_in(item)
        case list():
            for item in value:
                yield from strings_in(item)


def load_scenario(path: Path) -> Scenario:
    """The scenario in a file.

    Raises:
        ConfigError: If it cannot be read or is no scenario; names file, key and reason.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return _parse(text, str(path))


def scenario_names() -> tuple[str, ...]:
    """The scenarios that are shipped."""
    files = resources.files("opusagent.simulators").joinpath("scenarios").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def find_scenario(name: str) -> Scenario:
    """A shipped scenario by its name, or any other by the path of its file.

    Raises:
        ConfigError: If there is none, or as `load_scenario`.
    """
    if name in scenario_names():
        shipped = resources.files("opusagent.simulators").joinpath("scenarios", f"{name}.toml")
        return _parse(shipped.read_text(encoding="utf-8"), f"{name}.toml")
    if name.endswith(".toml"):
        return load_scenario(Path(name))
    known = ", ".join(scenario_names())
    raise ConfigError(f"--scenario: {name!r} is none of {known}; or give a .toml file")


def _parse(text: str, file: str) -> Scenario:
    try:
        return Scenario.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: no TOML: {error}") from error
    except ValidationError as error:
        problems = [_problem(one["loc"], one["msg"]) for one in error.errors()]
        raise ConfigError(f"{file}: {'; '.join(problems)}") from error


def _problem(location: tuple[int | str, ...], reason: str) -> str:
    """A key as it would be written in the file, and what is wrong with it."""
    key = ""
    if location[:1] == ("step",):
        location = location[:2] + location[3:]  # without the kind of step, which pydantic adds
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    reason = reason.removeprefix("Value error, ")
    return f"{key}: {reason}" if key else reason


def _unknown(templates: tuple[str, ...], known: set[str]) -> Iterator[str]:
    for template in templates:
        for name in names_in(template):
            if name not in known:
                yield name
