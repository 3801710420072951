"""Faults of the local Nova Sonic service by name, as `--fault` takes them.

    NAME[:OPTION=VALUE...]     throttled:stream=1     reset:stream=2:after=5.3     reset:stream=2:into=300

`fault_help` lists every fault with the options that it takes; a comma does as well as a colon.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from opusagent.errors import ConfigError
from opusagent.simulators.wire import ConnectionFault, Refusal
from opusagent.sonic.peer_faults import STREAM_FAULTS, Fault

__all__ = ["FAULT_NAMES", "FaultSpec", "WireFault", "fault_help", "parse_fault"]


class WireFault(enum.StrEnum):
    """What goes wrong below the events, in the middle of a stream."""

    words: str

    def __new__(cls, name: str, words: str = "") -> Self:
        """A name, and what it means."""
        fault = str.__new__(cls, name)
        fault._value_ = name
        fault.words = words
        return fault

    RESET = "reset", "RST_STREAM without an error."
    RESET_CANCEL = "reset-cancel", "RST_STREAM with CANCEL."
    END = "end", "A bare end of the stream."
    ABORT = "abort", "The TCP connection is cut."
    GO_AWAY = "go-away", "GOAWAY; the TCP connection stays."
    HALF_FRAME = "half-frame", "Half an event, and the end."
    BAD_CRC = "bad-crc", "An event with a wrong checksum."
    EXCEPTION_LEFT_OPEN = "exception-left-open", "An exception, and the stream does not end."
    STALL = "stall", "Nothing is read for a while (30 s), then everything."
    NO_READ = "no-read", "Nothing is read any more: the flow-control window closes."

    @property
    def cuts(self) -> bool:
        """Whether the stream is of no use after it."""
        return self not in (WireFault.STALL, WireFault.NO_READ)


_REFUSALS: Final = {
    "throttled": Refusal(429, "ThrottlingException", "Too many tokens, please wait."),
    "throttled-open": Refusal(
        429, "ThrottlingException", "Too many tokens, please wait.", leave_open=True
    ),
    "not-ready": Refusal(429, "ModelNotReadyException", "The model is not ready."),
    "denied": Refusal(403, "AccessDeniedException", "You don't have access to the model."),
    "expired-token": Refusal(403, "ExpiredTokenException", "The security token is expired"),
    "not-found": Refusal(404, "ResourceNotFoundException", "Could not resolve the model."),
    "server-error": Refusal(500, "InternalServerException", "Internal error."),
    "unavailable-503": Refusal(503, "ServiceUnavailableException", "Try again later."),
}
_STATUS_OF: Final = {
    "ValidationException": 400,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ModelErrorException": 424,
    "ThrottlingException": 429,
    "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}
"""Bedrock's own (API reference, InvokeModelWithBidirectionalStream, errors)."""
_TYPE_OF: Final = {status: name for name, status in _STATUS_OF.items()}
_ODD_TYPE: Final = "UnknownException"
_CONNECTIONS: Final = {
    "tls-failure": ConnectionFault.TLS,
    "go-away-at-once": ConnectionFault.GO_AWAY,
    "drop": ConnectionFault.DROP,
}

_WHICH: Final = frozenset({"stream"})
_WHEN: Final = _WHICH | {"after", "into", "event", "nth"}
_OPTIONS: Final = {
    "stream": "which: the N-th stream that is asked for, refused ones counted (1); * is every one",
    "after": "seconds after the response head (0)",
    "into": "milliseconds into something that the caller says, as it arrives; with `after`: not before",
    "event": "at a client event of this name, e.g. audioInput",
    "nth": "the N-th such event, or the N-th time that the caller speaks so long (1)",
    "seconds": "how long",
    "code": "an HTTP status from 400 to 599, or an exception such as ThrottlingException",
}
_MORE: Final = {
    "refuse": {"code"},
    "slow-head": {"seconds"},
    "stall": {"seconds"},
}


@dataclass(frozen=True, slots=True)
class _Group:
    title: str
    options: frozenset[str]
    words: Mapping[str, str]


_GROUPS: Final = (
    _Group(
        "instead of a stream",
        _WHICH,
        {"refuse": "The error that `code` names."}
        | {name: f"{one.status} {one.error_type}" for name, one in _REFUSALS.items()},
    ),
    _Group(
        "before the stream begins",
        _WHICH,
        {"no-head": "No response head.", "slow-head": "A response head after a while (2 s)."},
    ),
    _Group(
        "of the connection; each stream has one of its own",
        _WHICH,
        {
            "tls-failure": "The handshake fails.",
            "go-away-at-once": "GOAWAY is the first thing said.",
            "drop": "Cut after the handshake.",
        },
    ),
    _Group(
        "an exception in the middle of a stream",
        _WHEN,
        {name: f"{code}: {message}" for name, (code, message) in STREAM_FAULTS.items()},
    ),
    _Group(
        "below the events, in the middle of a stream",
        _WHEN,
        {fault.value: fault.words for fault in WireFault},
    ),
    _Group(
        "for as long as the stream lives", _WHICH, {fault.value: fault.words for fault in Fault}
    ),
)

FAULT_NAMES: Final[tuple[str, ...]] = tuple(name for group in _GROUPS for name in group.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """One fault: what, on which stream, when.

    Attributes:
        stream: Number of the stream, from 1; None is every one.
        after_s: Seconds after the response head.
        into_s: How long the caller has been speaking when it strikes, by the audio that arrived.
            With `after_s` only what she begins to say after that counts.
        on_event: Name of a client event.
        nth: Of those events, or of the times that the caller spoke for so long; from 1.
        seconds: How long: the delay of a slow head, the length of a stall.
        code: What `refuse` refuses with.
    """

    name: str
    stream: int | None = 1
    after_s: float | None = None
    into_s: float | None = None
    on_event: str | None = None
    nth: int = 1
    seconds: float | None = None
    code: str = ""

    def hits(self, stream: int) -> bool:
        """Whether this stream has the fault."""
        return self.stream in (None, stream)

    @property
    def refusal(self) -> Refusal | None:
        """The answer before the stream begins, if that is the fault."""
        if self.name != "refuse":
            return _REFUSALS.get(self.name)
        if self.code.isdigit():
            status = int(self.code)
            return Refusal(status, _TYPE_OF.get(status, _ODD_TYPE), "Refused as ordered.")
        return Refusal(_STATUS_OF.get(self.code, 400), self.code, "Refused as ordered.")

    @property
    def connection(self) -> ConnectionFault | None:
        """What happens to the connection, if that is the fault."""
        return _CONNECTIONS.get(self.name)

    @property
    def wire(self) -> WireFault | None:
        """What happens below the events, if that is the fault."""
        return WireFault(self.name) if self.name in WireFault else None

    @property
    def cuts(self) -> bool:
        """Whether it ends the stream that it strikes in the middle."""
        return self.name in STREAM_FAULTS or (self.wire is not None and self.wire.cuts)


def parse_fault(text: str) -> FaultSpec:
    """Read `NAME[:OPTION=VALUE...]`.

    Raises:
        ConfigError: If the name is unknown, the fault does not use an option, or a value is wrong.
    """
    name, *given = re.split("[:,]", text)
    group = next((group for group in _GROUPS if name in group.words), None)
    if group is None:
        known = ", ".join(FAULT_NAMES)
        raise ConfigError(f"--fault: {name!r} is none of {known}; `--fault help` explains them")
    allowed = group.options | _MORE.get(name, set())
    values: dict[str, str] = {}
    for option in given:
        key, _, value = option.partition("=")
        if key not in allowed:
            raise ConfigError(f"--fault: {name} does not take {key!r}, only {_listed(allowed)}")
        if key in values or not value:
            raise ConfigError(f"--fault: {text}: {key} needs one value, as in {key}=VALUE")
        values[key] = value
    _agree(text, name, values)
    try:
        return FaultSpec(
            name=name,
            stream=None if values.get("stream") == "*" else _count(values, "stream"),
            after_s=_number(values, "after"),
            into_s=None if "into" not in values else (_number(values, "into") or 0.0) / 1000,
            on_event=values.get("event"),
            nth=_count(values, "nth"),
            seconds=_number(values, "seconds"),
            code=values.get("code", ""),
        )
    except ValueError as error:
        raise ConfigError(f"--fault: {text}: {error}") from error


def fault_help() -> str:
    """Every fault with what it does and the options that it takes, in lines."""
    lines = ["--fault NAME[:OPTION=VALUE...], for example reset:stream=2:after=5.3", ""]
    lines += [f"  {name + '=':9} {words}" for name, words in _OPTIONS.items()]
    width = max(map(len, FAULT_NAMES))
    for group in _GROUPS:
        lines += ["", f"{group.title} (options: {_listed(group.options)})"]
        for name, words in group.words.items():
            more = f" (also: {_listed(_MORE[name])})" if name in _MORE else ""
            lines.append(f"  {name:{width}}  {words}{more}")
    return "\n".join(lines)


def _listed(options: set[str] | frozenset[str]) -> str:
    return ", ".join(name for name in _OPTIONS if name in options)


def _agree(text: str, name: str, values: Mapping[str, str]) -> None:
    """Refuse options that do not go together."""
    if "event" in values and values.keys() & {"after", "into"}:
        raise ConfigError(f"--fault: {text}: event does not go together with after or into")
    if "nth" in values and not values.keys() & {"event", "into"}:
        raise ConfigError(f"--fault: {text}: nth of what? Add event or into")
    if name == "refuse" and not re.fullmatch(
        "[45][0-9][0-9]|[A-Z][A-Za-z]+", values.get("code", "")
    ):
        raise ConfigError(f"--fault: {text}: code must be {_OPTIONS['code']}")


def _count(values: Mapping[str, str], key: str) -> int:
    text = values.get(key, "1")
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{key} must be a number from 1 on, not {text!r}")
    return int(text)


def _number(values: Mapping[str, str], key: str) -> float | None:
    if key not in values:
        return None
    text = values[key]
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        raise ValueError(f"{key} must be a number, not {text!r}")
    return float(text)
