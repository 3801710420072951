"""What an agent may do with the telephone, and what it does when nobody speaks or nothing works.

These are sections of an agent's file. Names and bounds of the telephone's functions are those of the
AudioCodes Bot API (Sending activities; Transferring calls).
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from opusagent.models.texts import FullTemplate, Template

__all__ = [
    "Dtmf",
    "Entry",
    "Failure",
    "Filler",
    "Silence",
    "Sound",
    "Target",
    "TelephoneFunction",
    "TelephoneTools",
]

MAX_WAIT_S = 30.0
"""The longest that a tool may take, and so the longest that keys are waited for."""

type Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
type OneLine = Annotated[str, Field(pattern=r"^[^\r\n]*$", max_length=1_000)]
type HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!%*_+`'~.-]{1,100}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TelephoneFunction(enum.StrEnum):
    """What the model may be given; its name is that of the tool."""

    HANG_UP = "hang_up"
    TRANSFER_CALL = "transfer_call"
    SEND_DTMF = "send_dtmf"
    SEND_METADATA = "send_metadata"
    PLAY_URL = "play_url"
    START_RECORDING = "start_recording"
    STOP_RECORDING = "stop_recording"
    PAUSE_RECORDING = "pause_recording"
    RESUME_RECORDING = "resume_recording"
    COLLECT_DIGITS = "collect_digits"
    SET_STATE = "set_state"
    GET_STATE = "get_state"


class Target(_Strict):
    """Somebody whom callers may be transferred to."""

    to: Annotated[str, Field(pattern=r"^(tel:\+?[0-9*#().-]+|sips?:\S+)$", max_length=500)]
    """`tel:+15551234` or `sip:user@host`."""
    description: OneLine = ""
    """Who that is, as the model is told."""
    referred_by: OneLine = ""
    """The SIP URI of the Referred-By header."""
    headers: dict[HeaderName, OneLine] = {}
    """SIP headers that go with the transfer."""


class Sound(_Strict):
    """A recording that VoiceAI Connect fetches and plays."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2_000)]
    media_format: OneLine = "wav/lpcm16"
    description: OneLine = ""
    """What it is, as the model is told, and as it is logged by VoiceAI Connect."""
    cache: bool = True
    """Whether VoiceAI Connect may keep it."""
    max_s: Annotated[float, Field(gt=0, le=3_600)] | None = None
    """How long it may play; where VoiceAI Connect tells of the end (`playFinished`), that counts. Without it
    60 s, of which a hang-up or a transfer waits 15 s where no end of anything has been told in the call."""


class TelephoneTools(_Strict):
    """The telephone's own functions, and whom and what they may reach."""

    type: Literal["telephone"]
    functions: tuple[TelephoneFunction, ...] = ()
    """What the model may do. The targets serve `silence` and `failure` as well."""
    targets: dict[Name, Target] = {}
    """Whom calls may be transferred to, by the name that the model uses: nobody else."""
    sounds: dict[Name, Sound] = {}
    """What may be played, by the name that the model uses: nothing else."""

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if TelephoneFunction.TRANSFER_CALL in self.functions and not self.targets:
            raise ValueError("transfer_call needs targets")
        if TelephoneFunction.PLAY_URL in self.functions and not self.sounds:
            raise ValueError("play_url needs sounds")
        return self


class Entry(_Strict):
    """Digits that a caller enters, and what becomes of them."""

    count: Annotated[int, Field(ge=0, le=64)] = 0
    """How many there are; 0: as many as she presses."""
    terminator: Annotated[str, Field(pattern=r"^[0-9*#]?$")] = ""
    """The key that ends the entry, and is no part of it."""
    timeout_s: Annotated[float, Field(gt=0, le=MAX_WAIT_S)] | None = None
    """The pause that ends it. Without it `DTMF_PAUSE_SECONDS`, or 4 s where digits were asked for."""
    wait_s: Annotated[float, Field(gt=0, le=MAX_WAIT_S)] = 15.0
    """How long the first key may take, from when the bot has been heard, where digits were asked for."""
    sensitive: bool = False
    """Whether the digits stay out of logs, transcript, stored session and recording."""
    tool: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = ""
    """A tool that gets the digits in the model's place; the model gets its result only."""
    argument: Name = "digits"
    """The tool's argument that they are."""


class Dtmf(Entry):
    """Keys that the caller presses; the fields of an entry say what becomes of those nobody asked for."""

    barge_in: bool | None = None
    """Whether a key silences the bot; without it `BARGE_IN_ON_DTMF`."""
    pause_recording: bool = False
    """Whether AudioCodes' recording pauses while sensitive digits are entered."""
    inputs: dict[Name, Entry] = {}
    """What `collect_digits` may ask for, by the name that the model uses."""

    @model_validator(mode="after")
    def _waits_for_nobody(self) -> Self:
        # By its value: a stored agent has all fields.
        if self.wait_s != Entry().wait_s:
            raise ValueError("wait_s belongs under [dtmf.inputs.NAME], where digits are asked for")
        return self


class Filler(_Strict):
    """A sign of life while a tool takes its time. Without text and audio there is none."""

    after_s: Annotated[float, Field(gt=0, le=MAX_WAIT_S)] = 2.0
    audio: str = ""
    """Path of a WAV file (mono, 16 bit) that is played; relative to the agent's file."""
    text: Template = ""
    """Typed to the model instead, which then says something of its own."""


class Silence(_Strict):
    """What happens when the caller says nothing."""

    after_s: Annotated[float, Field(ge=0, le=600)] = 10.0
    """How long nobody may speak; 0: only AudioCodes' `noUserInput` event counts."""
    prompt: FullTemplate = (
        "The caller has been silent for a while. "
        "Ask in one short sentence whether they are still there."
    )
    """Typed to the model then."""
    prompts: Annotated[int, Field(ge=0, le=20)] = 2
    """How often, before something else is done."""
    then: Literal["hang_up", "transfer", "nothing"] = "hang_up"
    target: str = ""
    """Whom to transfer to: one of the telephone's targets."""
    reason: OneLine = "the caller is silent"
    """Given to AudioCodes."""


class Failure(_Strict):
    """What happens when the model stays away."""

    then: Literal["error", "hang_up", "transfer"] = "error"
    """`error`: `session.error`, on which AudioCodes' own fail-over runs."""
    target: str = ""
    """Whom to transfer to: one of the telephone's targets."""
    audio: str = ""
    """Path of a WAV file that the caller hears before; relative to the agent's file."""
