"""What happens in a play: what the caller does, and what the model does when it is its turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import override

from pydantic import JsonValue

__all__ = [
    "Act",
    "Acts",
    "CallerStep",
    "Calls",
    "ChangesStream",
    "HangsUp",
    "Interrupts",
    "Listens",
    "LosesLine",
    "LosesStream",
    "Presses",
    "Says",
    "Told",
    "Waits",
]


@dataclass(frozen=True, slots=True)
class Says:
    """The caller says something; a plain text is the same.

    Attributes:
        answered: Whether she hears the bot out before she goes on.
    """

    text: str
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Interrupts:
    """The caller talks over the bot once she has heard it for `after_s` seconds."""

    text: str
    after_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Presses:
    """The caller presses keys.

    Attributes:
        keys: 0 to 9, *, # and A to D.
        answered: Whether she hears the bot out before she goes on.
    """

    keys: str
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Waits:
    """The caller is silent for so many seconds; they cost next to nothing."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Listens:
    """The caller hears the bot out, who speaks of its own accord."""


@dataclass(frozen=True, slots=True)
class LosesLine:
    """The caller's websocket is lost, and VoiceAI Connect comes back with `session.resume`."""

    back_after_s: float = 0.5


@dataclass(frozen=True, slots=True)
class LosesStream:
    """The model's stream breaks off now; the call goes on with another one."""


@dataclass(frozen=True, slots=True)
class ChangesStream:
    """The caller is silent until the bridge has replaced the model's stream, because it became old.

    That is after six minutes; `settings={"transition_threshold_seconds": 20}` makes it sooner.
    """


@dataclass(frozen=True, slots=True)
class HangsUp:
    """The caller hangs up. Every play ends so, where nobody did before.

    Where it is her last step, she may cut the model short: of its turns only a `Told` has to be reached.
    """


type CallerStep = (
    str
    | Says
    | Interrupts
    | Presses
    | Waits
    | Listens
    | LosesLine
    | LosesStream
    | ChangesStream
    | HangsUp
)


class Calls:
    """The model asks for a tool: `Calls("find_order", number="12")`.

    Args:
        tool: Its name.
        arguments: All of them as they are, legal or not; in place of those by name.
    """

    def __init__(self, tool: str, arguments: JsonValue = None, /, **named: JsonValue) -> None:
        self.tool = tool
        self.arguments: JsonValue = named if arguments is None else arguments

    @override
    def __repr__(self) -> str:
        if isinstance(self.arguments, dict):
            given = [f"{name}={value!r}" for name, value in self.arguments.items()]
        else:
            given = [repr(self.arguments)]
        return f"Calls({', '.join([repr(self.tool), *given])})"


type Act = str | Calls
type Acts = Act | Sequence[Act] | Told
"""One turn of the model: sentences that it says, tools that it asks for after them, or nothing: `()`.

In a sentence `{key}` is a field of the tool's result that it was given last, `{outer.inner}` one inside of it.
"""


class Told:
    """A turn of the model, for which it must have been told something: `Told("keys.*12", "Thank you.")`.

    Args:
        pattern: A regular expression that is in what the model heard, was typed, or got from a tool, without
            regard to case; where it is not, or this turn never comes, the play fails.
        acts: What the model says and asks for then.
    """

    def __init__(self, pattern: str, *acts: Act) -> None:
        self.pattern = re.compile(pattern, re.IGNORECASE | re.DOTALL)
        self.acts = acts

    @override
    def __repr__(self) -> str:
        return f"Told({', '.join(map(repr, (self.pattern.pattern, *self.acts)))})"
