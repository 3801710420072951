"""When the greeting is played or typed: once call and stream are ready, and not into what the caller says."""

from __future__ import annotations

from opusagent.call.chronicle import Chronicle
from opusagent.call.greeting import GREETING, LOOK_AGAIN_S, PATIENCE_S, RETRY_S, Greeting
from opusagent.call.model_side import ModelSide
from opusagent.call.phone_side import PhoneSide

__all__ = ["Welcome"]


class Welcome:
    """Gives the greeting its moment."""

    def __init__(
        self, greeting: Greeting, phone: PhoneSide, model: ModelSide, chronicle: Chronicle
    ) -> None:
        self._greeting = greeting
        self._phone = phone
        self._model = model
        self._chronicle = chronicle
        self._begun = False
        self._by = 0.0  # then it waits no longer for a caller who speaks
        self._look_at: float | None = None

    def begin(self, text: str, now: float) -> bool:
        """The call is up: the bot speaks first, if the agent is made so. True if a recording does.

        Args:
            text: As it is to be typed, or what the recording says.
            now: The present, in monotonic seconds.
        """
        self._begun = True
        self._by = now + PATIENCE_S
        self._greeting.reword(text)
        sound = self._greeting.sound_at(self._phone.play_format.sample_rate_hz)
        if sound:
            self._phone.play(sound, GREETING, now)
            self._phone.complete_turn(now)
            self._chronicle.transcript.bot_recorded(
                self._greeting.text, content_id=GREETING, at=self._chronicle.at()
            )
        self.look(now)
        return bool(sound)

    def look(self, now: float) -> None:
        """Type the greeting if it is time; look again later."""
        if not self._greeting.pending or not self._begun or self._model.live is None:
            return
        wait_s = LOOK_AGAIN_S
        if not self._phone.caller_speaks or now >= self._by:
            wait_s = RETRY_S
            self._by = now + RETRY_S + PATIENCE_S
            if self._greeting.ask():
                self._model.prompt(self._greeting.text, now)
        self._look_at = now + wait_s

    def announced(self, now: float) -> None:
        """The model is about to speak: it is not asked again before that, too, can have come to nothing."""
        if self._look_at is not None:
            self._look_at = now + RETRY_S

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._look_at

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if self._look_at is not None and now >= self._look_at:
            self._look_at = None
            self.look(now)
