"""A call whose streams fare as a test says: slow, refused, short-lived, broken at any moment.

What a stream is to the call is told from its wire alone: a standby has heard nothing, the live one is
the last that began to hear the caller, and one before it that is still open finishes its answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from opusagent.bridges.sonic_pipe import CLOSE_S
from opusagent.call.events import (
    AudioToSonic,
    CallInput,
    CloseReason,
    Effect,
    OpenStream,
    StreamId,
    StreamLost,
    StreamOpened,
)
from opusagent.sonic.failures import classify
from tests.call.driver import FRAME_S, CallDriver, Service, caller_frame


@dataclass(frozen=True)
class Fate:
    """What becomes of the streams that are opened from now on.

    Attributes:
        head_s: How long the head takes, or the refusal; None: neither ever comes.
        refused: The code by which it is refused.
        dies_after_s: How long after its head it breaks.
        lives_s: How long after its head its credentials expire.
    """

    head_s: float | None = 0.1
    refused: str = ""
    dies_after_s: float | None = None
    lives_s: float | None = None


@dataclass
class Life:
    """What is known of one stream from the outside."""

    service: Service
    asked_at: float
    expires_s: float | None
    head_at: float | None = None
    live_at: float | None = None
    fed_at: float = 0.0
    n_typed: int = 0
    gone_at: float = math.inf


@dataclass
class FatedCall(CallDriver):
    """Opens and loses streams by itself.

    Attributes:
        grain: How many frames of the caller come as one message.
        switched: The streams that have heard the caller, in order.
    """

    fate: Fate = field(default_factory=Fate)
    grain: int = 1
    lives: dict[StreamId, Life] = field(default_factory=dict)
    switched: list[StreamId] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.head_s = None
        super().__post_init__()
        self.open: dict[StreamId, Life] = {}
        self.loud: list[int] = []
        """For each frame of the caller, how many loud ones came in a row, with it."""
        self.listening = False
        """Whether the phone passes on what the caller says."""
        self.flowing = False
        """Whether it has done so since it began to listen."""
        self.withheld_at = 0.0
        self._fates: list[tuple[float, StreamOpened | StreamLost]] = []

    # What becomes of streams

    def handle(self, event: CallInput) -> None:
        if isinstance(event, StreamOpened):
            life = self.lives[event.stream]
            life.head_at = self.now
            if life.expires_s is not None:
                event = replace(event, expires_at=self.now + life.expires_s)
        super().handle(event)

    def loses(self, stream: StreamId, code: str = "ConnectionLost", message: str = "") -> None:
        """A stream breaks, whatever it is to the call."""
        self.handle(StreamLost(stream, classify(code, message)))

    def _next_due(self) -> float | None:
        times = [at for at, _ in self._fates]
        if (at := super()._next_due()) is not None:
            times.append(at)
        return min(times, default=None)

    def _do_due(self) -> None:
        for fate in [one for one in self._fates if one[0] <= self.now]:
            self._fates.remove(fate)
            match fate[1]:
                case StreamLost(stream, failure):
                    self.loses(stream, failure.code, failure.message)
                case StreamOpened(stream) if self.services[stream].closed is None:
                    self.handle(fate[1])
        super()._do_due()

    def _will_fare(self, stream: StreamId) -> None:
        fate = self.fate
        if fate.head_s is None:
            return
        at = self.now + fate.head_s
        if fate.refused:
            self._fates.append((at, StreamLost(stream, classify(fate.refused))))
            return
        self._fates.append((at, StreamOpened(stream)))
        if fate.dies_after_s is not None:
            lost = StreamLost(stream, classify("ConnectionLost"))
            self._fates.append((at + fate.dies_after_s, lost))

    # What a stream is, seen from outside

    @property
    def live_id(self) -> StreamId | None:
        """The stream that hears the caller."""
        if self.switched and self.switched[-1] in self.open:
            return self.switched[-1]
        return None

    @property
    def live(self) -> Service:
        """The stream that hears the caller, or heard her last."""
        return self.services[self.switched[-1]] if self.switched else self.newest

    @property
    def draining(self) -> Service | None:
        """The stream that was replaced and is still open."""
        return next(
            (life.service for life in self.hearing if life.service.id != self.live_id), None
        )

    @property
    def waiting(self) -> Service | None:
        """The stream that has been told nothing yet: a standby, or the next one."""
        told_nothing = (life for life in self.open.values() if life.live_at is None)
        return next((life.service for life in told_nothing), None)

    @property
    def deadline_in_s(self) -> float:
        """How long the live stream may still wait for a good moment; its credentials apart."""
        head_at = None if self.live_id is None else self.lives[self.live_id].head_at
        if head_at is None:
            return 0.0
        policy = self.plan.continuation
        threshold_s = policy.transition_threshold_s
        spread_s = self.random() * 0.1 * min(policy.limit_s - threshold_s, threshold_s)
        forced_s = policy.transition_threshold_s + spread_s + policy.audio_start_timeout_s
        return head_at + min(forced_s, policy.last_s) - self.now

    def past(self, age: int) -> Service | None:
        """A stream that was replaced and may still have something to say."""
        lives = [self.lives[stream] for stream in self.switched[:-1]]
        past = [life.service for life in lives if self.now <= life.gone_at]
        past = [service for service in past if service.closed in (None, CloseReason.REPLACED)]
        return past[-1 - age] if age < len(past) else None

    @property
    def current(self) -> StreamId | None:
        """The stream that hears the caller, or else the one that will."""
        if self.live_id is not None:
            return self.live_id
        return None if self.waiting is None else self.waiting.id

    @property
    def hearing(self) -> list[Life]:
        """The live stream and the draining one."""
        return [life for life in self.open.values() if life.live_at is not None]

    # The caller

    def listens(self) -> None:
        """The phone passes on what the caller says."""
        self.phone.start_user_stream()
        self.listening = True
        self.flush()

    def withholds(self) -> None:
        """It does not any more."""
        self.phone.stop_user_stream()
        self.listening = self.flowing = False
        self.withheld_at = self.now
        self.flush()

    def start(self) -> None:
        self.phone.start()
        self.listens()

    def frame(self, *, loud: bool) -> int:
        return self.frames(1, loud=loud)

    def frames(self, n: int, *, loud: bool) -> int:
        """Frames that come as one message; returns the number of the last."""
        before = self.loud[-1] if self.loud else 0
        self.loud += range(before + 1, before + n + 1) if loud else [0] * n
        self.flowing = True
        heard_by = self.live_id
        numbers = range(self._next_frame, self._next_frame + n)
        self._next_frame += n
        self.phone.chunk(b"".join(caller_frame(number, loud=loud) for number in numbers))
        self.flush()
        if heard_by is not None:
            heard = self.services[heard_by].frames[-n:]
            assert heard == list(numbers), "the live stream missed a frame"
        return numbers[-1]

    def speaks_up(self, frames: int, quiet: int = 0) -> None:
        """The caller speaks, long enough to be speech, and is quiet: in messages of `grain` frames."""
        for loud, n in ((True, frames), (False, quiet)):
            for _ in range(-(-n // self.grain)):
                self.advance(self.grain * FRAME_S)
                if self.finished:
                    return
                self.frames(self.grain, loud=loud)

    # Every step

    def _run(self, effects: list[Effect]) -> None:
        super()._run(effects)
        self.ran.clear()  # an hour is long
        went_live = None
        for stream, life in list(self.open.items()):
            if life.service.closed is not None:
                del self.open[stream]
                life.gone_at = self.now + CLOSE_S
                self.stream_closed(life)
            elif life.live_at is None and life.service.audio:
                assert went_live is None
                life.live_at = self.withheld_at = self.now  # the old one hears her no more
                went_live = life
        if went_live is not None:
            self.switched.append(went_live.service.id)
            self.went_live(went_live)
        self.step_done()

    def _run_one(self, effect: Effect) -> None:
        super()._run_one(effect)
        match effect:
            case OpenStream(stream):
                life = Life(self.services[stream], self.now, self.fate.lives_s)
                self.lives[stream] = self.open[stream] = life
                self._will_fare(stream)
            case AudioToSonic(stream):
                self.lives[stream].fed_at = self.now

    def stream_closed(self, life: Life) -> None:
        """A step has closed this stream."""

    def went_live(self, life: Life) -> None:
        """A step has made this stream the one that hears the caller."""

    def step_done(self) -> None:
        """A step has been taken."""
