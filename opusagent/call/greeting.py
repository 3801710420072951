"""The bot speaks first: typed text asks the model for a greeting, and asks again if it was swallowed."""

from __future__ import annotations

import enum

from opusagent.call.plan import Recording

__all__ = ["GREETING", "Greeting"]

GREETING = "greeting"
"""Names a recorded greeting among the blocks of content that are played."""

RETRY_S = 4.0
"""How long the model may take to begin. A typed text can be swallowed; its answers were measured to
begin after 0.6 to 1.3 s (field measurements of Nova 2 Sonic)."""

LOOK_AGAIN_S = 0.5
"""While the caller speaks, the greeting waits; her words may make it needless."""

PATIENCE_S = 3.0
"""How long the greeting waits for a caller who speaks, or for a line that is never quiet."""

MAX_TRIES = 2


class _State(enum.Enum):
    NOT_YET = "not_yet"  # the call is not far enough
    ASKED = "asked"  # the text was typed; waiting for the model to begin
    DONE = "done"  # the model has begun, or somebody else has


class Greeting:
    """Decides when the greeting is typed. It never holds back what the caller says.

    Args:
        text: What is typed to the model; without it nothing is.
        recording: Played instead, if there is one; the text is then what it says.
    """

    def __init__(self, text: str, recording: Recording) -> None:
        self.text = text.strip()
        self._recording = recording
        typed = bool(self.text) and not recording.by_rate
        self._state = _State.NOT_YET if typed else _State.DONE
        self._tries = 0

    def reword(self, text: str) -> None:
        """Take the text as it is to be typed; nothing is, where nothing is left of it."""
        self.text = text.strip()
        if not self.text and self._state is _State.NOT_YET:
            self._state = _State.DONE

    def sound_at(self, rate_hz: int) -> bytes:
        """The recording at a play rate; empty where there is none."""
        return self._recording.at(rate_hz)

    @property
    def pending(self) -> bool:
        """Whether the model has still to greet."""
        return self._state is not _State.DONE

    def ask(self) -> bool:
        """The line is ready, or a deadline has passed. True if the text is to be typed now."""
        if self._state is _State.DONE or self._tries >= MAX_TRIES:
            self._state = _State.DONE
            return False
        self._state = _State.ASKED
        self._tries += 1
        return True

    def stream_lost(self) -> None:
        """What was typed on the old stream is gone: the next one has to be asked again."""
        if self._state is _State.ASKED:
            self._state = _State.NOT_YET
            self._tries = 0

    def done(self) -> None:
        """The model speaks, or has understood the caller: no greeting is owed any more."""
        self._state = _State.DONE
