"""An agent: what the bot says, with which voice, and how it behaves on the telephone."""

from __future__ import annotations

import enum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from opusagent.models.telephone import Dtmf, Failure, Filler, Silence, TelephoneTools
from opusagent.models.texts import Template, fill, is_zone

MAX_TOOL_S = 30.0
"""What a tool may take: a stream without an interactive event for 55 s was seen to be ended (field reports)."""


class Endpointing(enum.StrEnum):
    """How soon the model takes its turn. Nova 2 waits 1.5 s, 1.75 s or 2 s (Nova 2 user guide, turn taking)."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Greeting(_Strict):
    """Who speaks first. With neither text nor audio the bot waits for the caller."""

    text: Template = ""
    """Typed to the model when the call is up; the model answers it aloud and never sees it again."""
    audio: str = ""
    """Path of a WAV file (mono, 16 bit) that is played instead; relative to the agent's file."""


class Resume(_Strict):
    """What happens when a caller comes back on a new line and another stream has to go on with her."""

    text: Template = ""
    """Typed to the model then, to have it say something; without it the caller goes on speaking."""


class Inference(_Strict):
    """Nova Sonic's inference parameters (Nova user guide, input events)."""

    max_tokens: Annotated[int, Field(ge=1, le=10_000)] = 1024
    top_p: Annotated[float, Field(ge=0, le=1)] = 0.9
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.7


type ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""What Bedrock takes as the name of a tool (Bedrock API reference, ToolSpecification)."""
type ToolSeconds = Annotated[float, Field(gt=0, le=MAX_TOOL_S)]
type NotEmpty = Annotated[str, Field(min_length=1)]


class PythonTools(_Strict):
    """Functions of a Python module: those that a `ToolRegistry` in it has decorated."""

    type: Literal["python"]
    module: NotEmpty
    """Its dotted name, or the path of a `.py` file; relative to the agent's file."""
    only: tuple[ToolName, ...] = ()
    """Which of them; without it all."""
    run_in: Literal["process", "thread"] = "process"
    """A process of their own, or threads of the bridge's, where what computes holds audio up."""


class ToolParameter(_Strict):
    """One argument of a tool over HTTP, as the model is told of it."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    description: str = ""
    enum: tuple[str | int | float, ...] = ()
    """The only values that are allowed; without it any of the type."""
    required: bool = True


class HttpTool(_Strict):
    """A tool that is one HTTP request.

    `{argument}` stands for an argument in `url`, `query` and `body`, `${NAME}` for a variable of the
    environment there and in `headers`. A text of a query or body that is nothing but `{argument}` keeps the
    argument's type, and is left out where the argument is. Arguments that stand nowhere go into the
    body where the method has one, else into the query.
    """

    type: Literal["http"]
    name: ToolName
    description: NotEmpty
    parameters: dict[ToolName, ToolParameter] = {}
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: NotEmpty
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: dict[str, JsonValue] | None = None
    timeout_s: ToolSeconds = 10.0
    repeatable: bool = False
    """Whether the request may be sent again: after a failure, or in a call that was taken up again."""
    result: str = ""
    """What the model gets: `$.a.b[0]` of a JSON answer (`[*]` is every item), `text`, or without it all."""


class McpServer(_Strict):
    """The tools of an MCP server: at a URL (streamable HTTP), or a command that is run (stdio)."""

    type: Literal["mcp"]
    name: ToolName
    """Stands before the name of a tool that another one has as well."""
    url: str = ""
    headers: dict[str, str] = {}
    """`${NAME}` is a variable of the environment, in `url` and `env` too."""
    command: tuple[str, ...] = ()
    folder: str = ""
    """Where the command runs; relative to the agent's file."""
    env: dict[str, str] = {}
    """What the command gets of the environment besides PATH and the like."""
    only: tuple[str, ...] = ()
    """Which of its tools; without it all."""
    repeatable: tuple[str, ...] = ()
    """Which of its tools may be run again where nobody knows whether they have run."""
    timeout_s: ToolSeconds = 10.0

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if bool(self.url) == bool(self.command):
            raise ValueError("give url or command, one of them")
        return self


type AgentTool = Annotated[
    PythonTools | HttpTool | McpServer | TelephoneTools, Field(discriminator="type")
]


def _zone(name: str) -> str:
    default = fill(name, {})  # what stands where nothing is known; it may be nothing
    if not is_zone(default) and (default or not name):
        raise ValueError(f"{default!r} is no time zone; it is called like Europe/Berlin")
    return name


def _number(number: str) -> str:
    if not plain_number(number.removesuffix("*")):
        raise ValueError(f"{number!r} is no number; it is like +49301234, or +4930* for a range")
    return number


def plain_number(number: str) -> str:
    """A number, or the user of a SIP address, without what people write it with: `+49 (30) 12` is `493012`."""
    return "".join(c for c in number.casefold() if c not in " +-()/.")


type Number = Annotated[str, AfterValidator(_number)]
"""A called number; with `*` at its end every number that begins so."""
type LanguageTag = Literal[
    "en-US", "en-GB", "en-AU", "en-IN", "hi-IN", "fr-FR", "it-IT", "de-DE", "es-US", "pt-BR"
]
"""What Nova Sonic speaks (Nova 2 user guide, language support)."""


class Agent(_Strict):
    """One file of `config/agents`."""

    system_prompt: Template
    bot_names: tuple[NotEmpty, ...] = ()
    """Names of bots that it answers for besides its own; on Live Hub a bot's name is an id."""
    numbers: tuple[Number, ...] = ()
    """Called numbers that it answers, whatever the bot's name."""
    model: str = ""
    """Which Nova Sonic, as Bedrock's model id; that of the settings without."""
    language: LanguageTag | None = None
    """What it speaks unless the caller wishes otherwise; without it the prompt decides."""
    time_zone: Annotated[Template, AfterValidator(_zone)] = "UTC"
    """Whose time the variables of time tell; an IANA name. Where a variable gives none, it is its default, or UTC."""
    voice: str = "tiffany"
    greeting: Greeting = Greeting()
    resume: Resume = Resume()
    inference: Inference = Inference()
    endpointing: Endpointing = Endpointing.MEDIUM
    tools: tuple[AgentTool, ...] = ()
    comfort_audio: str = ""
    """WAV file that a caller hears while the model cannot be reached; a soft tone without one."""
    goodbye_on_failure: str = "the assistant is not available"
    """The reason given to AudioCodes when a call has to end because the model stays away."""
    dtmf: Dtmf = Dtmf()
    filler: Filler = Filler()
    silence: Silence | None = None
    """Without it a caller may be silent for as long as she likes."""
    failure: Failure = Failure()

    @property
    def telephone(self) -> TelephoneTools:
        """What it may do with the telephone."""
        sections = (tool for tool in self.tools if isinstance(tool, TelephoneTools))
        return next(sections, TelephoneTools(type="telephone"))

    @model_validator(mode="after")
    def _reaches_only_targets(self) -> Self:
        if sum(isinstance(tool, TelephoneTools) for tool in self.tools) > 1:
            raise ValueError("tools: one section of type telephone is enough")
        for key, section in (("silence", self.silence), ("failure", self.failure)):
            if section is None or section.then != "transfer":
                continue
            if section.target not in self.telephone.targets:
                raise ValueError(f"{key}.target: must be one of the telephone's targets")
        return self
