"""Everything that can go wrong, by whose fault it is.

OpusAgentError
├── ConfigError              start-up only; the process exits 2 and names the key
├── RemoteProtocolError      the peer broke its protocol; that message is dropped, the call goes on
├── LocalProtocolError       we broke it: a bug, never caught below the top of a call
├── NoCommonFormat           the two sides share no media format; the call is refused in words
├── TransportError           a socket or AWS failed; becomes an input of the call
├── StorageUnavailable       the session store failed; the call goes on, resume is degraded
├── SessionUnreadable        a stored session is damaged, or sealed with a key that is not here
├── SessionFenced            another process owns this session now
└── ToolError                becomes a tool result; never ends a call
"""

from __future__ import annotations

from collections.abc import Sequence


class OpusAgentError(Exception):
    """The root: `except OpusAgentError` catches everything this package raises on purpose."""


class ConfigError(OpusAgentError):
    """The configuration cannot work. The message names the key or file and what is allowed."""


class RemoteProtocolError(OpusAgentError):
    """The peer sent something its protocol does not allow.

    Attributes:
        wire: `"audiocodes"` or `"sonic"`.
        got: What was wrong, without the content itself (content may be private).
    """

    def __init__(self, *, wire: str, got: str) -> None:
        super().__init__(f"{wire}: {got}")
        self.wire = wire
        self.got = got


class LocalProtocolError(OpusAgentError):
    """This program used a protocol object wrongly: a bug."""


class NoCommonFormat(OpusAgentError):
    """None of the media formats that the peer offered can be used."""

    def __init__(self, offered: Sequence[str]) -> None:
        super().__init__(f"no common media format; offered: {', '.join(offered) or 'none'}")
        self.offered = tuple(offered)


class TransportError(OpusAgentError):
    """A byte pipe failed.

    Attributes:
        code: The peer's name for the error, e.g. `ThrottlingException`, or one of ours, e.g. `NoHead`.
        message: The peer's words; may be empty.
    """

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class StorageUnavailable(OpusAgentError):
    """The session store cannot be reached or does not answer in time."""


class SessionUnreadable(OpusAgentError):
    """A stored session cannot be read; it cannot be resumed either.

    Attributes:
        damaged: Whether the record itself is broken. False: it may be sound, but is sealed with a key
            that this process was not given.
        owner_epoch: What the record's epoch is, as far as that could be read; else 0.
    """

    def __init__(self, why: str, *, damaged: bool, owner_epoch: int = 0) -> None:
        super().__init__(why)
        self.damaged = damaged
        self.owner_epoch = owner_epoch


class SessionFenced(OpusAgentError):
    """A newer owner holds the session; this process must stop writing and let go quietly."""


class ToolError(OpusAgentError):
    """A tool could not give a result. The message is for the model to speak about."""
