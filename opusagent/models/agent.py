"""An agent: what the bot says, with which voice, and how it behaves on the telephone."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Endpointing(enum.StrEnum):
    """How soon the model takes its turn. Nova 2 waits 1.5 s, 1.75 s or 2 s (Nova 2 user guide, turn taking)."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Greeting(_Strict):
    """Who speaks first. With neither text nor audio the bot waits for the caller."""

    text: str = ""
    """Typed to the model when the call is up; the model answers it aloud and never sees it again."""
    audio: str = ""
    """Path of a WAV file (mono, 16 bit) that is played instead; relative to the agent's file."""


class Resume(_Strict):
    """What happens when a caller comes back on a new line and another stream has to go on with her."""

    text: str = ""
    """Typed to the model then, to have it say something; without it the caller goes on speaking."""


class Inference(_Strict):
    """Nova Sonic's inference parameters (Nova user guide, input events)."""

    max_tokens: Annotated[int, Field(ge=1, le=10_000)] = 1024
    top_p: Annotated[float, Field(ge=0, le=1)] = 0.9
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.7


class Agent(_Strict):
    """One file of `config/agents`."""

    system_prompt: str
    voice: str = "tiffany"
    greeting: Greeting = Greeting()
    resume: Resume = Resume()
    inference: Inference = Inference()
    endpointing: Endpointing = Endpointing.MEDIUM
    comfort_audio: str = ""
    """WAV file that a caller hears while the model cannot be reached; a soft tone without one."""
    goodbye_on_failure: str = "the assistant is not available"
    """The reason given to AudioCodes when a call has to end because the model stays away."""
