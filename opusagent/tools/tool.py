"""What a tool is, and what it is told of the call that it serves."""

from __future__ import annotations

import json
import os
import sysconfig
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pydantic import JsonValue, TypeAdapter, ValidationError

from opusagent.call.variables import MAX_STATE_BYTES, MAX_STATE_DEPTH, depth_of
from opusagent.errors import ConfigError
from opusagent.models.session_state import ToolSpec

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "MAX_STATE_BYTES",
    "Arguments",
    "CallState",
    "JsonObject",
    "Place",
    "Tool",
    "ToolContext",
    "ToolCrashed",
    "at_key",
    "json_value",
]

DEFAULT_TIMEOUT_S: Final = 10.0
"""What a tool may take unless it says otherwise."""

_NOT_THEIRS: Final = (
    f"{Path(__file__).parents[1]}{os.sep}",
    *(f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("stdlib", "purelib", "platlib")),
)
"""Where code is that whoever wrote a tool has not written."""

type JsonObject = dict[str, JsonValue]
type Arguments = dict[str, JsonValue]

_JSON: Final = TypeAdapter[JsonValue](JsonValue)


class CallState:
    """Values that tools keep for the rest of the call. May be used from any thread.

    Args:
        values: What was kept so far.
        on_change: Called with each value that is set, in the thread that set it.
    """

    def __init__(
        self,
        values: Mapping[str, JsonValue] | None = None,
        on_change: Callable[[str, JsonValue], None] = lambda *_: None,
    ) -> None:
        self._values = dict(values or {})
        self._on_change = on_change
        self._lock = threading.Lock()

    def get(self, key: str, default: JsonValue = None) -> JsonValue:
        """A copy of what is kept under `key`."""
        with self._lock:
            return _copy(self._values.get(key, default))

    def set(self, key: str, value: JsonValue) -> None:
        """Keep a copy of `value`.

        Raises:
            ValueError: If it or its key is none of JSON, it is nested too deeply (`MAX_STATE_DEPTH`), or it
                is one too many (`MAX_STATE_BYTES`).
        """
        kept = json_value(key, value)
        with self._lock:
            values = self._values | {key: kept}
            if len(json.dumps(values)) > MAX_STATE_BYTES:
                raise ValueError(f"the state {key!r} does not fit into {MAX_STATE_BYTES} bytes")
            self._values = values
            self._on_change(key, _copy(kept))

    def learn(self, key: str, value: JsonValue) -> None:
        """Take a value that the model has set."""
        with self._lock:
            self._values = self._values | {key: value}

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._values))

    def __len__(self) -> int:
        return len(self._values)


class ToolCrashed(Exception):
    """A tool raised something that is not for the model, perhaps in another process.

    Attributes:
        kind: The name of its type.
        at: File and line.
        trace: The whole, which may have a caller's words in it.
    """

    def __init__(self, kind: str, at: str, trace: str) -> None:
        super().__init__(kind, at)
        self.kind = kind
        self.at = at
        self.trace = trace

    @classmethod
    def of(cls, error: BaseException) -> ToolCrashed:
        """What is told of it: of the lines that led to it the last one of who wrote the tool."""
        if isinstance(error, ToolCrashed):
            return error
        trace = "".join(traceback.format_exception(error))
        cause = error.__cause__
        if isinstance(cause, StopIteration) or not isinstance(cause, Exception | None):
            error = cause  # which the workshop cannot pass on as it is
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if _is_theirs(frame.filename)] or frames
        at = f"{own[-1].filename}:{own[-1].lineno}" if own else ""
        return cls(type(error).__name__, at, trace)


def _is_theirs(filename: str) -> bool:
    """Whether it is a file of who wrote a tool; Python's frozen modules and compiled ones have no whole path."""
    return Path(filename).is_absolute() and not filename.startswith(_NOT_THEIRS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """The call that a tool is run in. A function gets it in the parameter that has this type.

    Attributes:
        conversation_id: AudioCodes' id of the call.
        caller: The caller's number, as the telephone side gave it.
        agent: The name of the agent that answers.
        tool_use_id: Of this request; the same when it is run again, so it can keep things from being done twice.
        state: Values that are kept for the rest of the call.
    """

    conversation_id: str = ""
    caller: str = ""
    agent: str = ""
    tool_use_id: str = ""
    state: CallState = field(default_factory=CallState)


class Place(Protocol):
    """Where users' functions run, apart from the loop that carries audio."""

    async def plain[T](self, name: str, work: Callable[[], T]) -> T:
        """Run a plain function of the tool `name` and return its result.

        Raises:
            ToolError: If there is no room for it.
        """
        ...

    async def coroutine[T](self, name: str, work: Callable[[], Coroutine[object, object, T]]) -> T:
        """Run a coroutine function of the tool `name` and return its result."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something that the model can have done.

    Attributes:
        spec: What the model is told of it.
        timeout_s: Its deadline.
        run: Does it; the result is within the bounds of `results.as_object`. A `ToolError` is told to
            the model, any other exception only as a failure.
    """

    spec: ToolSpec
    run: Callable[[Arguments, ToolContext, Place], Awaitable[JsonObject]]
    timeout_s: float = DEFAULT_TIMEOUT_S


@contextmanager
def at_key(name: str) -> Iterator[None]:
    """Put the name of a key before what is wrong with it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def json_value(key: str, value: JsonValue) -> JsonValue:
    """A copy of a value of the state.

    Raises:
        ValueError: If it is no JSON value or too deep a one, or its key no text that UTF-8 has; names the key.
    """
    try:
        str.encode(key)
    except (TypeError, UnicodeEncodeError):
        raise ValueError(f"the key {key!r} of the state must be a text") from None
    try:
        copy = _JSON.validate_json(json.dumps(_JSON.validate_python(value), allow_nan=False))
    except (ValidationError, ValueError, RecursionError):
        raise ValueError(f"the state {key!r} must be a JSON value") from None
    if depth_of(copy) > MAX_STATE_DEPTH:
        raise ValueError(f"the state {key!r} is nested more than {MAX_STATE_DEPTH} times")
    return copy


def _copy(value: JsonValue) -> JsonValue:
    return value if not isinstance(value, dict | list) else _JSON.validate_python(value)
