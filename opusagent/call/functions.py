"""The telephone's functions as the model is told of them, and the arguments that they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from opusagent.call.arguments import parse_arguments
from opusagent.errors import ToolError
from opusagent.models.agent import Agent
from opusagent.models.session_state import ToolSpec
from opusagent.models.telephone import MAX_WAIT_S, TelephoneFunction

__all__ = [
    "GOODBYE_TO_COME",
    "CollectDigits",
    "GetState",
    "HangUpCall",
    "NoArguments",
    "PlayUrl",
    "SendDtmf",
    "SendMetadata",
    "SetState",
    "TransferCall",
    "read",
    "specs",
]


MAX_REASON: Final = 200
"""Characters of a reason: it travels in a header of SIP, with hang-ups and transfers."""

GOODBYE_TO_COME: Final[Mapping[str, JsonValue]] = {
    "status": "say goodbye now: the call ends when the caller has heard it"
}
"""The result of a `hang_up` that came before the bot had said goodbye."""


def _one_line(value: object) -> object:
    """A text without what ends a header's line, and cut: a hang-up is not to fail for its reason."""
    if not isinstance(value, str):
        return value
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())[:MAX_REASON]


type _Reason = Annotated[str, BeforeValidator(_one_line)]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class NoArguments(_Arguments):
    """Of a function that takes none."""


class HangUpCall(_Arguments):
    """Of `hang_up`."""

    reason: Annotated[_Reason, Field(description="Why, in a few words.")] = ""


class TransferCall(_Arguments):
    """Of `transfer_call`."""

    target: Annotated[str, Field(description="Whom to transfer the caller to.")]
    reason: Annotated[_Reason, Field(description="Why, in a few words.")] = ""


class SendDtmf(_Arguments):
    """Of `send_dtmf`. Longer entries are ignored by VoiceAI Connect (AudioCodes Bot API)."""

    digits: Annotated[
        str, Field(pattern=r"^[0-9*#]{1,20}$", description="At most 20 of 0 to 9, * and #.")
    ]


class SendMetadata(_Arguments):
    """Of `send_metadata`."""

    data: Annotated[dict[str, JsonValue], Field(description="A JSON object.")]


class PlayUrl(_Arguments):
    """Of `play_url`."""

    sound: Annotated[str, Field(description="What to play.")]


class CollectDigits(_Arguments):
    """Of `collect_digits`."""

    input: Annotated[str, Field(description="What is to be entered.")] = ""
    count: Annotated[
        int, Field(ge=0, le=64, description="How many digits; 0 if that is not known.")
    ] = 0
    terminator: Annotated[
        str, Field(pattern=r"^[0-9*#]?$", description="The key that ends the entry, for example #.")
    ] = ""
    timeout_s: Annotated[
        float | None,
        Field(gt=0, le=MAX_WAIT_S, description="Seconds without a key that end the entry."),
    ] = None
    sensitive: Annotated[
        bool, Field(description="Whether the digits are secret, like those of a PIN.")
    ] = False


class SetState(_Arguments):
    """Of `set_state`."""

    key: Annotated[str, Field(min_length=1, max_length=100, description="A name for it.")]
    value: Annotated[JsonValue, Field(description="Any JSON value.")]


class GetState(_Arguments):
    """Of `get_state`."""

    key: Annotated[str, Field(description="The name it has; without it everything is given.")] = ""


_ARGUMENTS: Final[Mapping[TelephoneFunction, type[_Arguments]]] = {
    TelephoneFunction.HANG_UP: HangUpCall,
    TelephoneFunction.TRANSFER_CALL: TransferCall,
    TelephoneFunction.SEND_DTMF: SendDtmf,
    TelephoneFunction.SEND_METADATA: SendMetadata,
    TelephoneFunction.PLAY_URL: PlayUrl,
    TelephoneFunction.START_RECORDING: NoArguments,
    TelephoneFunction.STOP_RECORDING: NoArguments,
    TelephoneFunction.PAUSE_RECORDING: NoArguments,
    TelephoneFunction.RESUME_RECORDING: NoArguments,
    TelephoneFunction.COLLECT_DIGITS: CollectDigits,
    TelephoneFunction.SET_STATE: SetState,
    TelephoneFunction.GET_STATE: GetState,
}

_DESCRIPTIONS: Final[Mapping[TelephoneFunction, str]] = {
    TelephoneFunction.HANG_UP: "Ends the call. Say goodbye to the caller first, then use this at once.",
    TelephoneFunction.TRANSFER_CALL: (
        "Transfers the caller to somebody else. Tell the caller first. If it fails, the call goes on."
    ),
    TelephoneFunction.SEND_DTMF: "Presses keys of the telephone towards the other end of the line.",
    TelephoneFunction.SEND_METADATA: "Gives data about the call to the contact centre.",
    TelephoneFunction.PLAY_URL: "Plays a recorded sound to the caller, after what you are saying.",
    TelephoneFunction.START_RECORDING: "Starts to record the call. The caller must have agreed.",
    TelephoneFunction.STOP_RECORDING: "Ends the recording of the call.",
    TelephoneFunction.PAUSE_RECORDING: "Pauses the recording of the call.",
    TelephoneFunction.RESUME_RECORDING: "Goes on with the recording of the call.",
    TelephoneFunction.COLLECT_DIGITS: (
        "Waits for the caller to enter digits with the keys of the telephone. "
        "Ask the caller for them first, then use this at once."
    ),
    TelephoneFunction.SET_STATE: "Keeps a value under a name for the rest of the call.",
    TelephoneFunction.GET_STATE: "Gives what is kept for this call.",
}


def read[A: BaseModel](kind: type[A], arguments: str) -> A:
    """The arguments that the model sent.

    Raises:
        ToolError: Naming each argument that is wrong, and why.
    """
    try:
        return kind.model_validate(parse_arguments(arguments))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        words = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}"[:200] for one in problems[:5]]
        raise ToolError("; ".join(words)) from None


def specs(agent: Agent) -> tuple[ToolSpec, ...]:
    """The telephone's functions that the agent was given, as the model is told of them."""
    telephone = agent.telephone
    choices = {
        TelephoneFunction.TRANSFER_CALL: (
            "target",
            {name: target.description for name, target in telephone.targets.items()},
        ),
        TelephoneFunction.PLAY_URL: (
            "sound",
            {name: sound.description for name, sound in telephone.sounds.items()},
        ),
        TelephoneFunction.COLLECT_DIGITS: ("input", dict.fromkeys(agent.dtmf.inputs, "")),
    }
    return tuple(
        ToolSpec(
            name=function.value,
            description=_DESCRIPTIONS[function],
            input_schema=_schema(function, *choices.get(function, ("", {}))),
        )
        for function in dict.fromkeys(telephone.functions)
    )


def _schema(
    function: TelephoneFunction, chosen: str, names: Mapping[str, str]
) -> dict[str, JsonValue]:
    """The arguments as JSON schema; `chosen` is the one that is a name out of `names`."""
    schema = _plain(_ARGUMENTS[function].model_json_schema())
    properties = schema["properties"]
    assert isinstance(properties, dict)
    if not chosen:
        return schema
    choice = properties[chosen]
    assert isinstance(choice, dict)
    if not names:
        del properties[chosen]
        return schema
    choice["enum"] = [*names]
    about = [f"{name}: {text}" for name, text in names.items() if text]
    choice["description"] = "\n".join([str(choice["description"]), *about])
    return schema


def _plain(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A schema without references, titles made of names, and null for what may be left out."""
    defined = schema.get("$defs", {})
    assert isinstance(defined, dict)
    properties = _inlined(schema.get("properties", {}), defined)
    assert isinstance(properties, dict)
    plain: dict[str, JsonValue] = {}
    for name, about in properties.items():
        assert isinstance(about, dict)
        kinds = about.pop("anyOf", None)
        kind = kinds[0] if isinstance(kinds, list) and isinstance(kinds[0], dict) else {}
        plain[name] = {
            key: value
            for key, value in (about | kind).items()
            if key != "title" and not (key == "default" and value in ("", None))
        }
    return {"type": "object", "properties": plain, "required": schema.get("required", [])}


def _inlined(schema: JsonValue, defined: Mapping[str, JsonValue]) -> JsonValue:
    """With each reference replaced by what it stands for; none of ours refers to itself."""
    match schema:
        case dict() if isinstance(name := schema.get("$ref"), str):
            found = _inlined(defined[name.removeprefix("#/$defs/")], defined)
            assert isinstance(found, dict)
            return found | {key: value for key, value in schema.items() if key != "$ref"}
        case dict():
            return {key: _inlined(value, defined) for key, value in schema.items()}
        case _:
            return schema
