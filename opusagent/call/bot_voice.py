"""What the phone hears of the bot: one play stream a turn, paced, cut off at a barge-in."""

from __future__ import annotations

from opusagent.audiocodes.protocol import AudioCodesProtocol
from opusagent.call.playback import Cut, Playback

IDLE_S = 1.0
"""A play stream that has run dry this long is closed: while it is open, VoiceAI Connect takes the bot
for speaking and, with barge-in off, withholds the caller's audio (live captures)."""


class BotVoice:
    """Joins the pacing to the play streams of one websocket."""

    def __init__(self, phone: AudioCodesProtocol, playback: Playback) -> None:
        self._phone = phone
        self._playback = playback
        self._turn_complete = True
        self.started_at: float | None = None
        """When the play stream under way began; None between two of them."""

    def add(self, pcm: bytes, content_id: str, now: float) -> bool:
        """Play more of the bot's turn. True if this begins a play stream."""
        begins = self.started_at is None
        if begins:
            self._phone.start_play()
            self._playback.begin()
            self.started_at = now
        self._turn_complete = False
        self._playback.add(pcm, content_id)
        self.pump(now)
        return begins

    def complete_turn(self, now: float) -> None:
        """No more audio comes for this turn: the play stream closes once everything was handed over."""
        self._turn_complete = True
        self.pump(now)

    def pump(self, now: float) -> None:
        """Hand over what is due, and close what is done."""
        if pcm := self._playback.due(now):
            self._phone.play(pcm)
        if self.started_at is None or not self._playback.empty:
            return
        if self._turn_complete or now >= self._playback.ends_at + IDLE_S:
            self._stop()

    def interrupt(self, now: float) -> Cut:
        """Silence the bot: drop what waits and close the play stream. The caller sends the rest of 4.3."""
        cut = self._playback.interrupt(now)
        self._turn_complete = True
        self._stop()
        return cut

    def audible(self, now: float) -> bool:
        """Whether the caller still hears the bot, or is about to."""
        return self._playback.audible(now)

    def remaining_s(self, now: float) -> float:
        """Seconds until the phone has played all there is."""
        return self._playback.remaining_s(now)

    @property
    def ends_at(self) -> float:
        """When the phone will have played what it was given, in monotonic seconds."""
        return self._playback.ends_at

    def next_timer(self) -> float | None:
        """When `pump` has something to do."""
        if (due := self._playback.next_timer()) is not None:
            return due
        return None if self.started_at is None else self._playback.ends_at + IDLE_S

    def _stop(self) -> None:
        if self.started_at is not None:
            self._phone.stop_play()
            self.started_at = None
