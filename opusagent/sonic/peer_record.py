"""Everything that one stream of a `SonicPeer` received and did, with times, for tests to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from opusagent.models.session_state import Role, Turn
from opusagent.sonic import events as wire
from opusagent.sonic.peer_brain import ToolAnswer

__all__ = ["At", "Received", "StreamRecord"]


@dataclass(frozen=True, slots=True)
class At[T]:
    """Something and its time: seconds on the clock of whoever drives the peer."""

    at: float
    value: T


@dataclass(frozen=True, slots=True)
class Received:
    """One event of the client.

    Attributes:
        at: When it came.
        name: Its name on the wire; `"?"` if it could not be read.
        n_bytes: Size of its payload.
        audio_offset: For audio: where it begins in `StreamRecord.audio`.
        audio_bytes: For audio: how much it carried.
    """

    at: float
    name: str
    n_bytes: int
    audio_offset: int = 0
    audio_bytes: int = 0


@dataclass(slots=True)
class StreamRecord:
    """What happened on one stream.

    Attributes:
        opened_at: When the stream began.
        events: Every event of the client, in order.
        audio: All caller audio, joined; `events` say which part came when.
        history: The turns that were replayed, one a block.
        typed: Texts that were typed while the session ran.
        tool_results: Results by arrival.
        heard: Texts that were recognised in the audio.
        said: Sentences whose audio was sent completely.
        interruptions: When the caller's voice or a typed text cut the bot off.
        open_blocks: Names of blocks that the client has not ended.
        failure: The exception that ended the stream, as type and message without request id.
        audio_ended_at, prompt_ended_at, session_ended_at, input_ended_at: When the client closed
            what, or `None`.
        ended_at: When the output ended.
    """

    opened_at: float
    events: list[Received] = field(default_factory=list)
    session: wire.SessionStart | None = None
    prompt: wire.PromptStart | None = None
    system_prompt: str = ""
    history: list[Turn] = field(default_factory=list)
    typed: list[At[str]] = field(default_factory=list)
    tool_results: list[At[ToolAnswer]] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    audio_rate_hz: int = 0
    heard: list[At[str]] = field(default_factory=list)
    said: list[At[str]] = field(default_factory=list)
    interruptions: list[float] = field(default_factory=list)
    open_blocks: tuple[str, ...] = ()
    failure: tuple[str, str] | None = None
    audio_opened_at: float | None = None
    audio_ended_at: float | None = None
    prompt_ended_at: float | None = None
    session_ended_at: float | None = None
    input_ended_at: float | None = None
    ended_at: float | None = None

    @property
    def closed_properly(self) -> bool:
        """Whether the client ended audio, prompt, session and input, and no exception came first."""
        steps = (
            self.audio_ended_at,
            self.prompt_ended_at,
            self.session_ended_at,
            self.input_ended_at,
        )
        return self.failure is None and None not in steps and not self.open_blocks

    @property
    def audio_s(self) -> float:
        """Seconds of caller audio."""
        return len(self.audio) / 2 / self.audio_rate_hz if self.audio_rate_hz else 0.0

    def audio_gap_max_s(self, until: float | None = None) -> float:
        """Longest time without a piece of audio while the audio block was open.

        Args:
            until: The present, for a block that is open still; else its last event counts.
        """
        if self.audio_opened_at is None:
            return 0.0
        times = [self.audio_opened_at]
        times += [event.at for event in self.events if event.name == wire.AudioInput.wire_name]
        end = self.audio_ended_at if self.audio_ended_at is not None else until
        if end is not None:
            times.append(end)
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def audio_arrival(self, offset: int) -> float:
        """When the byte at this offset of `audio` came.

        Raises:
            IndexError: If there is no such byte.
        """
        for event in self.events:
            if event.audio_offset <= offset < event.audio_offset + event.audio_bytes:
                return event.at
        raise IndexError(offset)

    def assert_valid_session(self) -> None:
        """Fail unless the client kept every rule and closed the session in order."""
        assert self.failure is None, f"the service refused: {self.failure}"
        assert self.session is not None, "no sessionStart"
        assert self.prompt is not None, "no promptStart"
        assert not self.open_blocks, f"blocks left open: {self.open_blocks}"
        assert self.audio_ended_at is not None, "audio was never opened or never ended"
        assert self.prompt_ended_at is not None, "no promptEnd"
        assert self.session_ended_at is not None, "no sessionEnd"
        assert self.input_ended_at is not None, "the input was not ended"

    def assert_history(self, expected: Sequence[Turn | tuple[str, str]]) -> None:
        """Fail unless exactly these turns were replayed. A pair is role and text."""
        wanted = [
            turn if isinstance(turn, Turn) else Turn(role=Role(turn[0]), text=turn[1])
            for turn in expected
        ]
        assert self.history == wanted, f"history is {self.history}, not {wanted}"
