"""Faults of the local Nova Sonic service by name, as `--fault` takes them.

    NAME[:key=value...]     throttled:stream=1     reset:stream=2:after=3     531:event=audioInput:nth=50

`stream` counts the streams that the service was asked for, from 1; without it the first is meant,
`stream=*` is every one. `after` is seconds after the stream was opened, `event` and `nth` an event of the client's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from opusagent.errors import ConfigError
from opusagent.simulators.wire import ConnectionFault, Refusal
from opusagent.sonic.peer_faults import STREAM_FAULTS, Fault

__all__ = ["FAULT_NAMES", "FaultSpec", "WireFault", "parse_fault"]


class WireFault(enum.StrEnum):
    """What goes wrong below the events, in the middle of a stream."""

    RESET = "reset"  # RST_STREAM, no error
    RESET_CANCEL = "reset-cancel"  # RST_STREAM, CANCEL
    END = "end"  # a bare end of the stream
    ABORT = "abort"  # the TCP connection is cut
    GO_AWAY = "go-away"
    HALF_FRAME = "half-frame"
    BAD_CRC = "bad-crc"
    STALL = "stall"  # nothing is read for `seconds` (30), then everything
    NO_READ = "no-read"  # nothing is read any more: the flow-control window closes
    EXCEPTION_LEFT_OPEN = "exception-left-open"  # an exception, and the stream does not end


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
_HEADS: Final = ("no-head", "slow-head")
_CONNECTIONS: Final = {
    "tls-failure": ConnectionFault.TLS,
    "go-away-at-once": ConnectionFault.GO_AWAY,
    "drop": ConnectionFault.DROP,
}

FAULT_NAMES: Final[tuple[str, ...]] = (
    *_REFUSALS,
    *_HEADS,
    *_CONNECTIONS,
    *STREAM_FAULTS,
    *(fault.value for fault in Fault),
    *(fault.value for fault in WireFault),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """One fault: what, on which stream, when.

    Attributes:
        stream: Number of the stream, from 1; None is every one.
        after_s: Seconds after the stream was opened.
        on_event: Name of a client event; `nth` of them.
        seconds: How long: the delay of a slow head, the length of a stall.
    """

    name: str
    stream: int | None = 1
    after_s: float | None = None
    on_event: str | None = None
    nth: int = 1
    seconds: float | None = None

    def hits(self, stream: int) -> bool:
        """Whether this stream has the fault."""
        return self.stream in (None, stream)

    @property
    def refusal(self) -> Refusal | None:
        """The answer before the stream begins, if that is the fault."""
        return _REFUSALS.get(self.name)

    @property
    def connection(self) -> ConnectionFault | None:
        """What happens to the connection, if that is the fault."""
        return _CONNECTIONS.get(self.name)

    @property
    def wire(self) -> WireFault | None:
        """What happens below the events, if that is the fault."""
        return WireFault(self.name) if self.name in WireFault else None


def parse_fault(text: str) -> FaultSpec:
    """Read `NAME[:key=value...]`.

    Raises:
        ConfigError: If the name or a key is unknown, or a value is no number.
    """
    name, *options = text.split(":")
    if name not in FAULT_NAMES:
        raise ConfigError(f"--fault: {name!r} is none of {', '.join(FAULT_NAMES)}")
    values = dict(option.partition("=")[::2] for option in options)
    unknown = set(values) - {"stream", "after", "event", "nth", "seconds"}
    if unknown:
        raise ConfigError(
            f"--fault: {name}: unknown {', '.join(sorted(unknown))};"
            " there are stream, after, event, nth, seconds"
        )
    try:
        stream = values.get("stream", "1")
        return FaultSpec(
            name=name,
            stream=None if stream == "*" else int(stream),
            after_s=float(values["after"]) if "after" in values else None,
            on_event=values.get("event"),
            nth=int(values.get("nth", "1")),
            seconds=float(values["seconds"]) if "seconds" in values else None,
        )
    except ValueError as error:
        raise ConfigError(f"--fault: {text}: {error}") from error
