"""What the service's events look like: ids, stages, usage, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from pydantic_core import to_json

from opusagent.models.session_state import Role
from opusagent.sonic import events as wire
from opusagent.sonic.peer_brain import ToolAsk
from opusagent.sonic.peer_faults import Fault
from opusagent.sonic.reader import Stage, StopReason
from opusagent.sonic.wire import AudioWriter, WireEvent, dump

__all__ = ["INTERRUPTED", "AudioBlock", "PeerWriter"]

INTERRUPTED: Final = '{ "interrupted" : true }'
"""The literal that stands for a text, spaces included (measured on a live service)."""


class UserSpeechEnd(WireEvent):
    """Nova 2.5 says when the caller has finished; its fields are not documented."""

    wire_name: ClassVar[str] = "userSpeechEnd"
    session_id: str
    prompt_name: str
    completion_id: str


class NovelEvent(WireEvent):
    """An event that no client knows."""

    wire_name: ClassVar[str] = "novelEvent"
    session_id: str
    prompt_name: str
    completion_id: str


@dataclass(slots=True)
class AudioBlock:
    """A block of bot audio that is being sent."""

    content_id: str
    write: AudioWriter
    held: bytes = b""


class _Ids:
    """The ids that every event of one session carries."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self.session_id = new_id()
        self.completion_id = new_id()
        self.prompt_name = ""
"""
