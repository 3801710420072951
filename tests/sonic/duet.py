"""Both ends of a stream in memory: `SonicStream` against `SonicPeer`, with time as a number."""

from __future__ import annotations

import array
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from opusagent.models.session_state import Turn
from opusagent.sonic.peer import SonicPeer
from opusagent.sonic.peer_brain import Heard, PeerContext, Reply, ToolAnswer
from opusagent.sonic.profiles import Timing
from opusagent.sonic.reader import SonicEvent
from opusagent.sonic.stream import SonicConfig, SonicStream

RATE_HZ = 16_000
FRAME = 640
PERIODS = {8: "hello there", 20: "my name is Ada", 40: "stop it please"}
"""What the ears make of a square wave, by its period in samples."""
HELLO, ADA, STOP = PERIODS


def ids(prefix: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers)}"


def spoken(period: int, seconds: float = 1.0) -> bytes:
    """A phrase: a square wave that the ears know."""
    n = round(seconds * RATE_HZ)
    wave = (2000 if i // (period // 2) % 2 else -2000 for i in range(n))
    return array.array("h", wave).tobytes()


def noise(seconds: float) -> bytes:
    """Loud, and no phrase."""
    return spoken(2, seconds)


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE_HZ))


class WaveEars:
    """Knows the phrases of `PERIODS` by the distance of their sign changes."""

    def hear(self, pcm: bytes, rate_hz: int) -> Heard:
        samples = [sample for sample in array.array("h", pcm) if sample]
        changes = sum(1 for a, b in itertools.pairwise(samples) if (a < 0) != (b < 0))
        period = round(2 * len(samples) / changes) if changes else 0
        return Heard(PERIODS.get(period, ""))


class EchoBrain:
    """Says what it heard; replies can be prepared instead. Speaks in ramps, 0.1 s a letter group."""

    def __init__(self, *replies: Reply, after_tools: Sequence[Reply] = ()) -> None:
        self.replies = list(replies)
        self.continuations = list(after_tools)
        self.asked: list[str] = []
        self.answers: list[tuple[ToolAnswer, ...]] = []
        self.contexts: list[PeerContext] = []

    def reply(self, heard: str, context: PeerContext) -> Reply:
        self.asked.append(heard)
        self.contexts.append(context)
        return self.replies.pop(0) if self.replies else Reply((f"You said {heard}.",))

    def after_tools(self, answers: Sequence[ToolAnswer], context: PeerContext) -> Reply:
        self.answers.append(tuple(answers))
        self.contexts.append(context)
        return self.continuations.pop(0) if self.continuations else Reply(("It is done.",))

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        """A second a word."""
        n = rate_hz * len(sentence.split())
        return array.array("h", (i % 30_000 for i in range(n))).tobytes()


class Duet:
    """A stream and its peer, and the clock of both."""

    def __init__(
        self,
        *replies: Reply,
        timing: Timing | None = None,
        faults: Collection[str] = (),
        config: SonicConfig | None = None,
        after_tools: Sequence[Reply] = (),
        **peer: Any,
    ) -> None:
        self.now = 100.0
        self.brain = EchoBrain(*replies, after_tools=after_tools)
        self.peer = SonicPeer(
            self.brain,
            WaveEars(),
            now=self.now,
            new_id=ids("s"),
            timing=timing or Timing(),
            faults=faults,
            **peer,
        )
        self.stream = SonicStream(
            config or SonicConfig(system_prompt="Be brief.", endpointing="HIGH"), new_id=ids("c")
        )
        self.heard: list[tuple[float, SonicEvent]] = []
        self.payloads: list[bytes] = []

    def open(self, history: Sequence[Turn] = ()) -> Duet:
        """Open the stream and its audio."""
        self.stream.open()
        self.stream.start_audio(history)
        return self.deliver()

    def deliver(self) -> Duet:
        """Carry everything that waits, both ways, without time."""
        for payload in self.stream.payloads_to_send():
            self.peer.receive(payload, self.now)
        self.collect()
        return self

    def collect(self) -> None:
        for payload in self.peer.events_to_send():
            self.payloads.append(payload)
            self.heard += [(self.now, event) for event in self.stream.receive(payload)]

    def wait(self, seconds: float) -> Duet:
        """Let time pass without audio, stopping at each timer of the peer."""
        until = self.now + seconds
        while (due := self.peer.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.peer.handle_timer(self.now)
            self.collect()
        self.now = until
        return self

    def say(self, pcm: bytes) -> Duet:
        """Send audio in frames of 20 ms, in real time."""
        for start in range(0, len(pcm), FRAME):
            frame = pcm[start : start + FRAME]
            self.burst(frame).wait(len(frame) / 2 / RATE_HZ)
        return self

    def burst(self, pcm: bytes) -> Duet:
        """Send audio at once, as one event."""
        self.peer.receive(self.stream.encode_audio(pcm), self.now)
        self.collect()
        return self

    def type_text(self, text: str) -> Duet:
        self.stream.type_text(text)
        return self.deliver()

    def close(self) -> Duet:
        """Close the stream and its input, and read to the end."""
        self.stream.close()
        self.deliver()
        self.peer.end_input(self.now)
        self.collect()
        return self

    def events(self, *kinds: type) -> list[SonicEvent]:
        """What the stream reported, of these kinds if there are any."""
        return [event for _, event in self.heard if not kinds or isinstance(event, kinds)]

    def time_of(self, kind: type) -> float:
        return next(at for at, event in self.heard if isinstance(event, kind))

    @property
    def message(self) -> str:
        """The words of the peer's exception, without the request id."""
        assert self.peer.record.failure is not None
        return self.peer.record.failure[1]
