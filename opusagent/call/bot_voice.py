"""What the phone hears of the bot: one play stream a turn, paced, cut off at a barge-in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from opusagent.audiocodes.protocol import AudioCodesProtocol
from opusagent.call.events import Effect, Record, RecordSilence, Voice
from opusagent.call.playback import Cut, Playback

__all__ = ["BotVoice"]

IDLE_S = 1.0
"""A play stream that has run dry this long is closed: while it is open, VoiceAI Connect takes the bot
for speaking and, with barge-in off, withholds the caller's audio (live captures)."""


HELD_S = 60.0
"""How much of the bot's speech is kept for a caller whose line is gone; more than an answer's length."""


@dataclass(slots=True)
class _Turn:
    """A turn of the bot that waits for the one before it to be handed over."""

    source: int
    chunks: list[tuple[bytes, str]] = field(default_factory=list)
    n_bytes: int = 0
    complete: bool = False


class BotVoice:
    """Joins the pacing to the play streams of one websocket.

    Args:
        bytes_per_second: Of 16-bit PCM at the play rate.
        lead_s: How far audio may run ahead of the caller's ear, in seconds.
        out: Where the sound is noted for a recording; None where none is made.
    """

    def __init__(
        self,
        phone: AudioCodesProtocol,
        bytes_per_second: int,
        *,
        lead_s: float,
        out: list[Effect] | None = None,
    ) -> None:
        self._phone = phone
        self._out = out
        self._rate = bytes_per_second
        self._playback = Playback(bytes_per_second, lead_s=lead_s)
        self._held = False  # nobody is there to hand anything to
        self._open = False
        self._complete = True
        self._source = 0  # who speaks the turn that is open
        self._waiting: deque[_Turn] = deque()
        self.began_at: float | None = None
        """When the newest play stream began."""

    def add(self, pcm: bytes, content_id: str, now: float, *, source: int = 0) -> bool:
        """Play more of the bot's turn. True if this begins a turn.

        Args:
            pcm: 16-bit PCM at the play rate.
            content_id: Names its block of content.
            now: The present, in monotonic seconds.
            source: Who speaks: one that takes over waits until the turn before it has been heard.
        """
        if self._held and self.remaining_s(now) > HELD_S:
            return False
        if self._open and (self._complete or source != self._source):
            turn = self._waiting_of(source)
            begins = turn is None
            if turn is None:
                turn = _Turn(source)
                self._waiting.append(turn)
            turn.chunks.append((pcm, content_id))
            turn.n_bytes += len(pcm)
            return begins
        begins = not self._open
        if begins:
            self._begin(source, now)
        self._playback.add(pcm, content_id)
        self.pump(now)
        return begins

    def complete_turn(self, now: float, *, source: int = 0) -> None:
        """No more audio comes for this turn: its play stream closes once everything was handed over."""
        if (turn := self._waiting_of(source)) is not None:
            turn.complete = True
        elif source == self._source:
            self._complete = True
        self.pump(now)

    def pump(self, now: float) -> None:
        """Hand over what is due, close what is done, and go on with the next turn."""
        while not self._held:
            if pcm := self._playback.due(now):
                self._phone.play(pcm)
                if self._out is not None:
                    self._out.append(Record(Voice.BOT, pcm))
            if not self._open or not self._playback.empty:
                return
            if not self._complete and now < self._playback.ends_at + IDLE_S:
                return
            self._stop()
            if not self._waiting:
                return
            turn = self._waiting.popleft()
            self._begin(turn.source, now)
            self._complete = turn.complete
            for chunk, content_id in turn.chunks:
                self._playback.add(chunk, content_id)

    def hold(self, unsent: bytes) -> None:
        """The phone is gone: keep what it has not been given, to a bound. `unsent` was on its way there."""
        self._held = True
        if unsent:
            self._playback.put_back(unsent)
            self._open = True

    def resume(self, phone: AudioCodesProtocol, now: float) -> None:
        """Another websocket took its place: go on in a new play stream."""
        self._phone = phone
        self._held = False
        if self._open:
            phone.start_play()
            self.began_at = now
        self.pump(now)

    def interrupt(self, now: float, *, flushed: bool) -> Cut:
        """Silence the bot: drop what waits and close the play stream.

        Args:
            now: The present, in monotonic seconds.
            flushed: Whether VoiceAI Connect is told to drop what it has, too.
        """
        cut = self._playback.interrupt(now, flushed=flushed)
        if flushed and self._out is not None:
            self._out.append(RecordSilence())
        never = {content_id for turn in self._waiting for _, content_id in turn.chunks}
        waiting_s = self._waiting_s()
        self._waiting.clear()
        self._stop()
        return Cut(
            heard_s=cut.heard_s,
            heard=cut.heard,
            unheard=cut.unheard | (never - cut.heard),
            dropped_s=cut.dropped_s + waiting_s,
        )

    def begun(self) -> list[str]:
        """The blocks of content that the phone has got the first of, since this was asked last."""
        return self._playback.begun()

    def audible(self, now: float) -> bool:
        """Whether the caller still hears the bot, or is about to."""
        return bool(self._waiting) or self._playback.audible(now)

    def remaining_s(self, now: float) -> float:
        """Seconds until the phone has played all there is."""
        return self._playback.remaining_s(now) + self._waiting_s()

    def silent_from(self) -> float:
        """When the phone has played, or had played, all there is, in monotonic seconds."""
        return self._playback.all_played_at + self._waiting_s()

    @property
    def turn_s(self) -> float:
        """How much of the newest turn was handed over, in seconds."""
        return self._playback.given_s

    def next_timer(self) -> float | None:
        """When `pump` has something to do."""
        if self._held:
            return None
        if (due_at := self._playback.next_timer()) is not None:
            return due_at
        return self._playback.ends_at + IDLE_S if self._open else None

    def _waiting_of(self, source: int) -> _Turn | None:
        """The turn of this source that waits and is not complete."""
        turns = (turn for turn in self._waiting if turn.source == source and not turn.complete)
        return next(turns, None)

    def _begin(self, source: int, now: float) -> None:
        self._source = source
        self._phone.start_play()
        self._playback.begin()
        self._open = True
        self._complete = False
        self.began_at = now

    def _stop(self) -> None:
        self._complete = True
        if self._open:
            self._phone.stop_play()
            self._open = False

    def _waiting_s(self) -> float:
        return sum(turn.n_bytes for turn in self._waiting) / self._rate
