"""The caller's audio on one websocket: whose it is, whether it flows, and as PCM."""

from __future__ import annotations

from opusagent.audio.convert import Decoder
from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes.events import CallerAudio, CallerEvent, UserStreamClosed, UserStreamOpened

__all__ = ["CallerStream"]

_CALLER = "caller"


class CallerStream:
    """Follows one participant, `caller` if there is one, else the first; never mixes two.

    An ordinary call names no participant. Source: AudioCodes Bot API, agent assist.
    """

    def __init__(self, media_format: MediaFormat) -> None:
        self._media_format = media_format
        self._decoder = Decoder(media_format)
        self._followed: str | None = None
        self._open = False

    @property
    def participant(self) -> str | None:
        """Whose audio is heard, if the stream names participants."""
        return self._followed or None

    def use(self, media_format: MediaFormat) -> None:
        """The format is agreed."""
        self._media_format = media_format
        self._decoder = Decoder(media_format)

    def expect_caller(self) -> None:
        """`caller` will take part: whoever else speaks first is not followed."""
        if self._followed is None:
            self._followed = _CALLER

    def start(self, participant: str | None) -> list[CallerEvent]:
        """A stream starts, perhaps again."""
        if not self._follow(participant):
            return []
        self._decoder = Decoder(self._media_format)  # a new stream begins on a whole sample
        return self._opened()

    def stop(self, participant: str | None) -> list[CallerEvent]:
        """A stream stops; it need not have been started."""
        if not self._open or (participant and participant != self._followed):
            return []
        self._open = False
        return [UserStreamClosed()]

    def chunk(self, data: bytes, participant: str | None = None) -> list[CallerEvent]:
        """Audio came. Without a start before it, it counts as one: so it may be after a resume."""
        if not self._follow(participant) or not (pcm := self._decoder.feed(data)):
            return []
        if self._open:
            return [CallerAudio(pcm)]
        return [*self._opened(), CallerAudio(pcm)]

    def _opened(self) -> list[CallerEvent]:
        if self._open:
            return []
        self._open = True
        return [UserStreamOpened()]

    def _follow(self, participant: str | None) -> bool:
        name = participant or ""
        if name == self._followed:
            return True
        if self._followed is None or name == _CALLER:
            self._followed = name
            self._decoder = Decoder(self._media_format)
            return True
        return not name
