"""The bot speaks first: typed text asks the model for a greeting, and asks again if it was swallowed."""

from __future__ import annotations

import enum

RETRY_S = 4.0
"""How long the model may take to begin. A typed text can be swallowed; its answers were measured to
begin after 0.6 to 1.3 s (field measurements of Nova 2 Sonic)."""

MAX_TRIES = 2


class _State(enum.Enum):
    NOT_YET = "not_yet"  # the call is not far enough
    ASKED = "asked"  # the text was typed; waiting for the model to begin
    DONE = "done"  # the model has begun, or somebody else has


class Greeting:
    """Decides when the greeting is typed. It never holds back what the caller says.

    Args:
        wanted: Whether the agent greets by typed text at all.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._state = _State.NOT_YET if wanted else _State.DONE
        self._tries = 0

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
