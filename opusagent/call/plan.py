"""Everything a call needs to know before it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from opusagent.call import functions
from opusagent.models.agent import Agent
from opusagent.models.session_state import ToolSpec
from opusagent.models.texts import needs_start
from opusagent.sonic.languages import LANGUAGES
from opusagent.sonic.stream import SonicConfig

__all__ = ["Ambient", "CallPlan", "ContinuationPolicy", "Recording"]

MARGIN_S = 10.0
"""How long before a stream's limit it is replaced at the latest; a tenth of a limit that is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuationPolicy:
    """When a stream is replaced. Names and defaults of the AWS session-continuation sample, in seconds.

    Attributes:
        transition_threshold_s: Age of a stream from which the next one is prepared.
        audio_start_timeout_s: How long after that a good moment is waited for.
        next_session_ready_timeout_s: A standby that is not open by then is replaced.
        limit_s: Age at which the service ends a stream (Nova 2 user guide: eight minutes).
    """

    transition_threshold_s: float = 360.0
    audio_start_timeout_s: float = 100.0
    next_session_ready_timeout_s: float = 30.0
    limit_s: float = 480.0

    @property
    def last_s(self) -> float:
        """Age that no stream passes."""
        return self.limit_s - min(MARGIN_S, self.limit_s / 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambient:
    """What a core may not fetch itself: ids, the calendar, chance.

    Attributes:
        new_id: A fresh unique id.
        utcnow: The time of day, aware of its zone.
        random: Uniform in [0, 1).
    """

    new_id: Callable[[], str]
    utcnow: Callable[[], datetime]
    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Recording:
    """A sound made ready when the agent was loaded: 16-bit mono PCM for each play rate in hertz."""

    by_rate: Mapping[int, bytes] = field(default_factory=dict)

    def at(self, rate_hz: int) -> bytes:
        """The sound at this rate; empty where there is none."""
        return self.by_rate.get(rate_hz, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """The agent that takes the call, and the settings of the line.

    Attributes:
        query: Of the URL that the caller's socket came to.
        settle: Gives the plan that is kept to, of the called number (empty where nobody tells it);
            None: this one.
    """

    agent: Agent
    agent_name: str = "default"
    model_id: str = "amazon.nova-2-sonic-v1:0"
    query: Mapping[str, str] = field(default_factory=dict)
    settle: Callable[[str], CallPlan] | None = None
    tools: tuple[ToolSpec, ...] = ()
    greeting_audio: Recording = Recording()
    comfort_audio: Recording = Recording()
    filler_audio: Recording = Recording()
    failure_audio: Recording = Recording()
    barge_in: bool = True
    barge_in_on_dtmf: bool = True
    abort_prompts: bool = True
    play_lead_s: float = 0.3
    dtmf_pause_s: float = 1.0
    speech_threshold_rms: int = 300
    audio_buffer_s: float = 10.0
    continuation: ContinuationPolicy = ContinuationPolicy()
    deaf_after_s: float = 6.0
    record: bool = False
    resume_grace_s: float = 0.0
    max_history_bytes: int = 40_000
    max_part_bytes: int = 1_000

    @property
    def tools_of_model(self) -> tuple[ToolSpec, ...]:
        """What the model may ask for: not what gets digits in its place."""
        dtmf = self.agent.dtmf
        hidden = {dtmf.tool, *(entry.tool for entry in dtmf.inputs.values())}
        return tuple(tool for tool in self.tools if tool.name not in hidden)

    @property
    def prompt(self) -> str:
        """What the model is told before the call, with variables in it."""
        parts = [self.agent.system_prompt]
        if self.agent.language is not None:
            language = LANGUAGES[self.agent.language].name
            parts.append(f"Speak {language}, unless the caller asks for another language.")
        if self.greeting_audio.by_rate and self.agent.greeting.text:
            # The model did not say it, and would greet once more.
            parts.append(f"The caller has been greeted already: {self.agent.greeting.text}")
        return "\n\n".join(parts)

    @property
    def waits_for_start(self) -> bool:
        """Whether no stream can be opened before the `start` activity has come, or is taken as come."""
        return self.settle is not None or needs_start(self.prompt, self.agent.time_zone)

    def sonic_config(self, *, input_rate_hz: int, output_rate_hz: int) -> SonicConfig:
        """What each stream of the call is opened with, at the rates that the phone side settled.

        The prompt is to be filled in.
        """
        return SonicConfig(
            system_prompt=self.prompt,
            model_id=self.model_id,
            voice=self.agent.voice,
            tools=(*self.tools_of_model, *functions.specs(self.agent)),
            input_rate_hz=input_rate_hz,
            output_rate_hz=output_rate_hz,
            inference=self.agent.inference,
            endpointing=self.agent.endpointing,
            max_part_bytes=self.max_part_bytes,
        )
