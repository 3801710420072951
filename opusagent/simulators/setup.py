"""What a scenario needs around its conversation, and what becomes of its streams.

[setup]
limit_s = 21                                  # life of a stream at the service
faults = ["reset:stream=2:into=700"]          # as `nova --fault` takes them
settings = { session_limit_seconds = 21 }     # of the bridge, by their names

[[switch]]                                    # one for each change of stream, in order
reason = "lost"
during = "account"                            # while the caller says this phrase
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.simulators.faults import FaultSpec, parse_fault

__all__ = ["ExpectedSwitch", "Setup"]

type Value = str | bool | int | float


class Setup(BaseModel):
    """The service and the bridges of a scenario. What a file does not say is as always."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bridges: Annotated[int, Field(ge=1, le=4)] = 1
    """How many bridges there are, all with the same settings."""
    store: bool = False
    """Whether there is a Valkey in which the bridges keep their sessions; in memory without."""
    settings: dict[str, Value] = {}
    """Settings of the bridges, by their names in lower case."""
    agent: str = ""
    """The agent that is called, of those that are shipped; without it the one that is named like the scenario."""
    limit_s: Annotated[float, Field(gt=0, le=480)] = 480.0
    """Life of a stream at the service."""
    faults: tuple[str, ...] = ()
    """What goes wrong at the service, as `nova --fault` takes it."""

    @field_validator("settings")
    @classmethod
    def _exist(cls, settings: Mapping[str, Value]) -> Mapping[str, Value]:
        for name in settings:
            if name not in Settings.model_fields:
                raise ValueError(f"{name!r} is no setting")
        return settings

    @field_validator("faults")
    @classmethod
    def _parse(cls, faults: tuple[str, ...]) -> tuple[str, ...]:
        for text in faults:
            try:
                parse_fault(text)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return faults

    @property
    def environ(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {name.upper(): str(value) for name, value in self.settings.items()}

    @property
    def fault_specs(self) -> list[FaultSpec]:
        """The faults, parsed."""
        return [parse_fault(text) for text in self.faults]


class ExpectedSwitch(BaseModel):
    """A change of stream that a scenario is about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Literal["turn_complete", "interrupted", "silence", "deadline", "lost", "closed_first"]
    """Why the stream is replaced, in the bridge's words."""
    during: str = ""
    """The phrase that the caller is in the middle of; without one she is silent."""
