"""VoiceAI Connect's play-out buffer: when the caller hears what the bot has sent.

Audio is played in real time from the moment it arrives, one play stream after another.
`playStream.stop` says that no more comes and flushes nothing (measured on a live capture); what is
buffered falls silent only by `cut`. No clock: every method takes `now` in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from opusagent.audio.convert import Decoder
from opusagent.audio.formats import MediaFormat

__all__ = ["Hole", "PlayOut", "PlaySpan", "Sound"]

_HOLE_S: Final = 0.001
"""Less than this between two chunks is arithmetic, not a hole."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Something that was heard or said: PCM16 at `rate_hz`, from `at` on."""

    at: float
    pcm: bytes
    rate_hz: int

    @property
    def ends_at(self) -> float:
        """When its last sample is over."""
        return self.at + len(self.pcm) / (2 * self.rate_hz)


@dataclass(frozen=True, slots=True)
class Hole:
    """Silence inside a play stream, because the next chunk came late."""

    at: float
    seconds: float


@dataclass(slots=True, kw_only=True)
class PlaySpan:
    """One play stream as the caller heard it.

    Attributes:
        stream_id: The bot's name for it.
        media_format: What it was sent in.
        opened_at: When `playStream.start` came.
        closed_at: When `playStream.stop` came.
        lost_at: When its socket or the call was gone, if no `playStream.stop` had come by then.
        began_at: When its first sample was heard.
        ended_at: When its last sample is, or was, heard.
        received_s: How much audio came for it.
        heard_s: How much of that is, or was, heard.
        cut_at: When it was silenced.
        discarded_s: How much audio came for it after that.
        idle_s: Longest time that it stood open with nothing to play after its audio had begun.
        holes: Where it was interrupted by late chunks.
        reported: Whether its end was given out by `finished`.
    """

    stream_id: str
    media_format: MediaFormat
    opened_at: float
    closed_at: float | None = None
    lost_at: float | None = None
    began_at: float | None = None
    ended_at: float | None = None
    received_s: float = 0.0
    heard_s: float = 0.0
    cut_at: float | None = None
    discarded_s: float = 0.0
    idle_s: float = 0.0
    holes: list[Hole] = field(default_factory=list)
    reported: bool = False


class PlayOut:
    """Everything the bot plays in one call.

    Args:
        keep_audio: Whether `heard` is filled; without it long calls cost no memory.
    """

    def __init__(self, *, keep_audio: bool = True) -> None:
        self._keep_audio = keep_audio
        self._open: PlaySpan | None = None
        self._decoder: Decoder | None = None
        self._forgiven_until = float("-inf")
        self.spans: list[PlaySpan] = []
        self.heard: list[Sound] = []
        self.ends_at = float("-inf")
        """When the last sample that is known now is over."""
        self.max_lead_s = 0.0
        """The most audio that waited here, counted when a chunk had come."""

    @property
    def open(self) -> PlaySpan | None:
        """The play stream that more audio may come for."""
        return self._open

    def audible(self, now: float) -> bool:
        """Whether the caller hears the bot."""
        return now < self.ends_at

    def quiet_since(self) -> float | None:
        """From when on there is nothing to play; may lie ahead. None while a play stream is open."""
        if self._open is not None:
            return None
        closed = self.spans[-1].closed_at if self.spans else None
        return self.ends_at if closed is None else max(closed, self.ends_at)

    def start(self, stream_id: str, media_format: MediaFormat, now: float) -> None:
        """Open a play stream; one that was left open counts as lost."""
        self.lose(now)
        self._open = PlaySpan(stream_id=stream_id, media_format=media_format, opened_at=now)
        self._decoder = Decoder(media_format)
        self.spans.append(self._open)

    def chunk(self, data: bytes, now: float) -> bytes:
        """Take audio for the open stream; returns it as PCM16. Without one it goes unheard."""
        span, decoder = self._open, self._decoder
        if span is None or decoder is None:
            return b""
        pcm = decoder.feed(data)
        rate = span.media_format.sample_rate_hz
        seconds = len(pcm) / (2 * rate)
        span.received_s += seconds
        if span.cut_at is not None:
            span.discarded_s += seconds
            return pcm
        begins = max(now, self.ends_at)
        if span.began_at is None:
            span.began_at = begins
        elif (late_s := now - self.ends_at) > _HOLE_S:
            span.holes.append(Hole(self.ends_at, late_s))
            span.idle_s = max(span.idle_s, late_s)
        if self._keep_audio and pcm:
            self.heard.append(Sound(begins, pcm, rate))
        self.ends_at = span.ended_at = begins + seconds
        span.heard_s += seconds
        self.max_lead_s = max(self.max_lead_s, self.ends_at - max(now, self._forgiven_until))
        return pcm

    def stop(self, now: float) -> None:
        """Close the open stream: what is buffered plays on."""
        span, self._open = self._open, None
        if span is not None:
            span.closed_at = now
            if span.ended_at is not None and span.cut_at is None:
                span.idle_s = max(span.idle_s, now - span.ended_at)

    def lose(self, now: float) -> None:
        """No more will come for the open stream and nobody says so: the socket is gone."""
        if self._open is not None:
            self._open.lost_at = now
            self._open.reported = True
            self._open = None

    def cut(self, at: float) -> bool:
        """Silence everything from `at` on, and what still comes for the open stream.

        Returns:
            Whether there was anything to silence.
        """
        cut_any = False
        for span in reversed(self.spans):
            over = span.ended_at is not None and span.ended_at <= at
            if span.cut_at is not None or (over and span is not self._open):
                break
            span.cut_at = at
            cut_any = cut_any or not over
            self._shorten(span, at)
        while self.heard and self.heard[-1].at >= at:
            self.heard.pop()
        if self.heard and self.heard[-1].ends_at > at:
            last = self.heard.pop()
            n_bytes = 2 * round((at - last.at) * last.rate_hz)
            self.heard.append(Sound(last.at, last.pcm[:n_bytes], last.rate_hz))
        self.ends_at = min(self.ends_at, at)
        return cut_any

    def forgive(self) -> None:
        """Do not count what waits now as lead: the bot has asked in vain for it to be silenced."""
        self._forgiven_until = self.ends_at

    def finished(self, now: float) -> list[PlaySpan]:
        """The streams whose playing is over by `now`, each once; streams without audio never."""
        done = [span for span in self.spans if not span.reported and _over(span, now)]
        for span in done:
            span.reported = True
        return [span for span in done if span.received_s]

    def next_timer(self) -> float | None:
        """When `finished` has something to give."""
        waiting = (s for s in self.spans[-4:] if not s.reported and s.closed_at is not None)
        return min((_end(span) for span in waiting), default=None)

    @staticmethod
    def _shorten(span: PlaySpan, at: float) -> None:
        if span.began_at is None or span.ended_at is None or span.ended_at <= at:
            return
        if span.began_at >= at:
            span.heard_s, span.began_at, span.ended_at = 0.0, None, None
            return
        span.heard_s -= span.ended_at - at
        span.ended_at = at


def _end(span: PlaySpan) -> float:
    return max(span.closed_at or span.opened_at, span.ended_at or span.opened_at)


def _over(span: PlaySpan, now: float) -> bool:
    if span.cut_at is not None:
        return span.cut_at <= now
    return span.closed_at is not None and _end(span) <= now
