"""What a `SonicPeer` can be told to do wrong, by name."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from opusagent.sonic.peer_refusals import HISTORY_LIMIT, IDLE, INVALID, UNEXPECTED

__all__ = ["STREAM_FAULTS", "Fault", "StreamFault"]


class Fault(enum.StrEnum):
    """Misbehaviour that needs no error: the stream lives on, or just ends."""

    words: str

    def __new__(cls, name: str, words: str = "") -> Self:
        """A name, and what it means."""
        fault = str.__new__(cls, name)
        fault._value_ = name
        fault.words = words
        return fault

    ZOMBIE = "zombie", "Takes everything and never says a word."
    PREMATURE_CLOSE = "premature-close", "Ends without a word where the first answer should begin."
    DIES_AFTER_REPLAY = (
        "dies-after-replay",
        "Refuses with an error 5 s after audio began, if it was given a history.",
    )
    NO_END_TURN = "no-end-turn", "The last audio of a turn ends like any other."
    NO_FINAL = "no-final", "What the bot said is never confirmed."
    LATE_FINAL = "late-final", "What the bot said is confirmed while the stream closes."
    DUPLICATE_TEXT = "duplicate-text", "Every text comes twice."
    SPLIT_TEXT = "split-text", "What the caller said comes in two blocks."
    EMPTY_TEXT = "empty-text", "An empty text comes before each real one."
    NO_STAGE = "no-stage", "Texts do not say whether they are final."
    STRAY_END = "stray-end", "A block that never began ends before each one that begins."
    UNKNOWN_EVENT = "unknown-event", "Events that nobody knows, before each block."
    EMPTY_AUDIO = "empty-audio", "An empty piece of audio before each real one."
    ODD_AUDIO = "odd-audio", "Pieces of audio end in the middle of a sample."
    FAST_AUDIO = "fast-audio", "Audio comes at ten times its speed."
    SLOW_AUDIO = "slow-audio", "Audio comes at 0.8 times its speed."
    TOOL_WITHOUT_END = "tool-without-end", "The block of a tool use is never ended."
    INTERLEAVED_TOOLS = (
        "interleaved-tools",
        "The blocks of several tool uses overlap and end in the opposite order.",
    )
    TWICE_ENCODED_TOOL = "twice-encoded-tool", "The arguments of a tool use are JSON in JSON."
    BROKEN_TOOL = "broken-tool", "The arguments of a tool use are no JSON."
    DUPLICATE_TOOL = "duplicate-tool", "A tool use comes twice in its block."
    SWALLOWED_TEXT = "swallowed-text", "The first typed text is ignored."
    ECHO_TYPED = "echo-typed", "Typed texts come back as if the caller had said them."
    NO_INTERRUPTION = (
        "no-interruption",
        "The bot falls silent when interrupted, but does not say so.",
    )
    TEXT_BEFORE_AUDIO_END = (
        "text-before-audio-end",
        "At an interruption the text ends before the audio does.",
    )
    AUDIO_INTERRUPTED = (
        "audio-interrupted",
        "At an interruption the audio ends with INTERRUPTED too.",
    )
    DOUBLE_INTERRUPTION = "double-interruption", "An interruption is announced twice."


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFault:
    """An error in the middle of a stream.

    Attributes:
        code: Exception type; `STREAM_FAULTS` has those that are known.
        message: Its words.
        on_event: It strikes at the `nth` client event of this name, `""` being any event;
        nth: counted from 1.
        after_s: It strikes so long after the stream opened.
    """

    code: str
    message: str
    on_event: str | None = None
    nth: int = 1
    after_s: float | None = None


STREAM_FAULTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "internal": (
            "internalServerException",
            UNEXPECTED,
        ),
        "model-stream": ("modelStreamErrorException", "The model stream failed."),
        "validation": (
            "validationException",
            INVALID,
        ),
        "throttling": (
            "throttlingException",
            "Too many requests, please wait before trying again.",
        ),
        "model-timeout": (
            "modelTimeoutException",
            "Model has timed out in processing the request. Try your request again.",
        ),
        "unavailable": ("serviceUnavailableException", "Service is unavailable. Try again later."),
        "531": (
            "validationException",
            "InternalErrorCode=531::RST_STREAM closed stream. HTTP/2 error code: NO_ERROR",
        ),
        "532": ("validationException", IDLE.format(55)),
        "532-295": ("validationException", IDLE.format(295)),
        "instability": (
            "validationException",
            "System instability detected. Please retry your request.",
        ),
        "content-filter": (
            "validationException",
            "This request has been blocked by our content filters.",
        ),
        "over-limit": (
            "validationException",
            HISTORY_LIMIT,
        ),
        "expired-credentials": (
            "validationException",
            "The security token included in the request is expired",
        ),
        "weird": ("weirdException", "An error that no client has heard of."),
    }
)
"""Errors by name: exception type and words."""
