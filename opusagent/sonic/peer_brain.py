"""What a `SonicPeer` needs from outside to hold a conversation: ears, a brain, a voice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from opusagent.models.session_state import Turn

__all__ = ["Brain", "Ears", "Heard", "PeerContext", "Reply", "ToolAnswer", "ToolAsk"]


@dataclass(frozen=True, slots=True)
class Heard:
    """What was understood of an utterance; an empty text is a noise."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolAsk:
    """A tool that the brain wants. `arguments` should be an object; anything else is a fault."""

    name: str
    arguments: JsonValue


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """A tool's result as the client sent it."""

    tool_use_id: str
    name: str
    result: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the brain does next: speak these sentences, then ask for these tools.

    With neither, nothing is said.
    """

    sentences: tuple[str, ...] = ()
    tools: tuple[ToolAsk, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerContext:
    """What a model knows when it answers.

    Attributes:
        system_prompt: The SYSTEM text of this stream.
        history: The turns that were replayed to this stream.
        conversation: The history and then everything that was heard, typed or said on this stream.
        tool_names: The tools that it was offered.
        tool_results: Every result so far, oldest first.
    """

    system_prompt: str = ""
    history: tuple[Turn, ...] = ()
    conversation: tuple[Turn, ...] = ()
    tool_names: tuple[str, ...] = ()
    tool_results: tuple[ToolAnswer, ...] = ()


class Ears(Protocol):
    """Recognises speech."""

    def hear(self, pcm: bytes, rate_hz: int) -> Heard:
        """What was said in an utterance: 16-bit PCM with a little silence around it."""
        ...


class Brain(Protocol):
    """Decides what to say, and says it."""

    def reply(self, heard: str, context: PeerContext) -> Reply:
        """The answer to what was heard or typed; several utterances without answer come joined."""
        ...

    def after_tools(self, answers: Sequence[ToolAnswer], context: PeerContext) -> Reply:
        """What to do once all tools of one reply have answered."""
        ...

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        """The sentence as 16-bit PCM."""
        ...
