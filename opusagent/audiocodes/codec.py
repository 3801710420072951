"""Messages from and to text: the only place where the JSON of the Bot API is read or written."""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from opusagent.audiocodes.messages import FromBot, PlayStreamChunk, ToBot, UserStreamChunk
from opusagent.errors import RemoteProtocolError

__all__ = ["ChunkWriter", "UnknownMessage", "dump", "parse", "parse_bot"]

_MAX_TYPE_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A message of a type that nobody knows; `type` is cut to 64 characters."""

    type: str


class _AnyMessage(BaseModel):
    type: str


_TO_BOT: Final[TypeAdapter[ToBot]] = TypeAdapter(Annotated[ToBot, Field(discriminator="type")])
_FROM_BOT: Final[TypeAdapter[FromBot]] = TypeAdapter(
    Annotated[FromBot, Field(discriminator="type")]
)


def parse(text: str | bytes) -> ToBot | UnknownMessage:
    """A message from VoiceAI Connect to the bot.

    Raises:
        RemoteProtocolError: If it is a binary frame, not a JSON object, or breaks its type's shape.
    """
    return _parse(_TO_BOT, text)


def parse_bot(text: str | bytes) -> FromBot | UnknownMessage:
    """A message from the bot to VoiceAI Connect.

    Raises:
        RemoteProtocolError: As `parse`.
    """
    return _parse(_FROM_BOT, text)


def _parse[T](adapter: TypeAdapter[T], text: str | bytes) -> T | UnknownMessage:
    if isinstance(text, bytes):
        raise RemoteProtocolError(wire="audiocodes", got="a binary frame")
    try:
        return adapter.validate_json(text, extra="ignore", by_alias=True, by_name=False)
    except ValidationError as error:
        problem = error
    try:
        message_type = _AnyMessage.model_validate_json(text).type
    except ValidationError as error:
        problem = error
    else:
        if problem.errors(include_input=False)[0]["type"] == "union_tag_invalid":
            return UnknownMessage(message_type[:_MAX_TYPE_CHARS])
    # Where and what kind, never the content: it may be private.
    first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"][:5])
    got = f"{where}: {first['type']}" if where else first["type"]
    raise RemoteProtocolError(wire="audiocodes", got=got)


def dump(message: ToBot | FromBot) -> str:
    """The text of a message. For bot audio see `ChunkWriter`, which is faster."""
    return message.model_dump_json(exclude_none=True)


class ChunkWriter:
    """Writes the chunks of one stream: everything but the audio is prepared once."""

    def __init__(self, message: UserStreamChunk | PlayStreamChunk) -> None:
        """`message` is the pattern; its audio is left out."""
        fields = message.model_dump(mode="json", exclude_none=True, exclude={"audio_chunk"})
        self._head = f'{json.dumps(fields, separators=(",", ":"))[:-1]},"audioChunk":"'

    def __call__(self, data: bytes) -> str:
        """The text of the message that carries `data`."""
        return f'{self._head}{binascii.b2a_base64(data, newline=False).decode("ascii")}"}}'
