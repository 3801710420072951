"""What a socket is for: the messages of VoiceAI Connect before a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from opusagent.audiocodes import messages
from opusagent.audiocodes.codec import dump, parse
from opusagent.errors import RemoteProtocolError
from opusagent.transports import CallerTransport

__all__ = ["Asked", "BrokenRequest", "CallerLine", "Handshake", "Nonsense"]

_log = structlog.get_logger("opusagent.server")

MAX_BROKEN = 20
"""Messages that cannot be read before the first that can; more come from nobody who wants a call."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call is asked for. `text` is the message as it came."""

    text: str | bytes
    message: messages.SessionRequest


@dataclass(frozen=True, slots=True)
class CallerLine:
    """A caller's socket, the query of its URL, and the message on it that asks for a call, as it came."""

    caller: CallerTransport
    tenant: str
    query: Mapping[str, str]
    text: str | bytes


@dataclass(frozen=True, slots=True)
class BrokenRequest:
    """A call is asked for in words that cannot be read. `got` says what is wrong, never a content."""

    got: str


@dataclass(frozen=True, slots=True)
class Nonsense:
    """Nothing that came was a message."""


class Handshake:
    """Reads one socket up to the message that asks for a call.

    Attributes:
        validated: Whether the administrator's test button was answered.
    """

    def __init__(self, caller: CallerTransport) -> None:
        """Read nothing yet."""
        self._caller = caller
        self.validated = False

    async def request(self) -> Asked | BrokenRequest | Nonsense | None:
        """Wait, without bound, for what the socket is for; None if it was closed before.

        Validations are answered. Messages of another type, of unknown types and broken ones are
        passed over, the last up to `MAX_BROKEN`.

        Raises:
            TransportError: If the socket is lost while an answer is sent.
        """
        broken = 0
        while (text := await self._caller.recv()) is not None:
            try:
                message = parse(text)
            except RemoteProtocolError as error:
                # Of a broken message whose type is known, the type comes first.
                if error.got.startswith(("session.initiate", "session.resume")):
                    return BrokenRequest(error.got)
                broken += 1
                if broken > MAX_BROKEN:
                    return Nonsense()
                continue
            match message:
                case messages.SessionInitiate() | messages.SessionResume():
                    return Asked(text, message)
                case messages.ConnectionValidate():
                    self.validated = True
                    _log.info("connection validated")
                    await self._caller.send(dump(messages.ConnectionValidated()))
                case _:
                    pass
        return None
