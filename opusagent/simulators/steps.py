"""The steps of a scenario: what the caller does, and what happens to her line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CutSocket",
    "Dtmf",
    "HangUp",
    "Id",
    "Interrupt",
    "KillBridge",
    "Part",
    "Pause",
    "Say",
    "Sentences",
    "Step",
    "Wait",
]

type Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
type Sentences = tuple[Annotated[str, Field(min_length=1)], ...]
type Seconds = Annotated[float, Field(gt=0, le=600)]


class Part(BaseModel):
    """A part of a scenario's file; what it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Step(Part):
    answer_contains: Sentences = ()
    """What the bot's next answer must contain, without regard to case. For `interrupt` that is the
    answer that is interrupted."""
    answer_lacks: Sentences = ()
    """What it must not contain."""

    def verdict(self, answer: str) -> str:
        """What is wrong with the bot's answer to this step, in words; empty when nothing is."""
        low = answer.casefold()
        missing = [text for text in self.answer_contains if text.casefold() not in low]
        excess = [text for text in self.answer_lacks if text.casefold() in low]
        wrong = [f"lacks {text!r}" for text in missing] + [f"contains {text!r}" for text in excess]
        return f"the answer {answer!r} {' and '.join(wrong)}" if wrong else ""


class Wait(_Step):
    """Listen until the bot has said something to its end."""

    do: Literal["wait"]
    within_s: Seconds = 10.0
    """The call has failed when the bot has not begun by then."""


class Say(_Step):
    """Say a phrase; several in a row are one utterance."""

    do: Literal["say"]
    phrase: Id


class Interrupt(_Step):
    """Let the bot begin to speak, and talk over it."""

    do: Literal["interrupt"]
    phrase: Id
    after_s: Seconds
    """How long the bot has been heard when the caller begins."""
    within_s: Seconds = 10.0
    """The call has failed when the bot has not begun by then."""


class Dtmf(_Step):
    """Press keys."""

    do: Literal["dtmf"]
    digits: Annotated[str, Field(pattern=r"^[0-9A-D*#]{1,32}$")]
    collected: bool = False
    """Whether a tool waits for them, so that they are no turn of the transcript."""
    secret: bool = False
    """Whether they may stand nowhere afterwards."""


class Pause(_Step):
    """Say nothing."""

    do: Literal["pause"]
    seconds: Seconds


class HangUp(_Step):
    """End the call."""

    do: Literal["hang_up"]


class _Loss(Part):
    after_s: Seconds | None = None
    """How long the bot has been heard of its answer by then; at once without it."""
    within_s: Seconds = 10.0
    """The call has failed when the bot has not begun by then."""
    resume_after_s: Seconds = 0.6
    """How soon VoiceAI Connect comes back."""


class CutSocket(_Loss):
    """Lose the websocket, and come back on another one."""

    do: Literal["cut_socket"]
    to: Literal["same", "other"] = "same"
    """To the same bridge, or to the next one."""


class KillBridge(_Loss):
    """Kill the bridge that has the call (kill -9), and come back to the next one."""

    do: Literal["kill_bridge"]


type Step = Annotated[
    Wait | Say | Interrupt | Dtmf | Pause | CutSocket | KillBridge | HangUp,
    Field(discriminator="do"),
]
