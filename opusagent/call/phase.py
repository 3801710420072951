"""How far a call has come, and what its end makes of the session."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from opusagent.call.events import EndedBy
from opusagent.models.session_state import SessionStatus

__all__ = ["Phase", "status_after"]


class Phase(enum.Enum):
    """How far the call has come."""

    WAITING = "waiting"  # nothing has been asked for
    STARTING = "starting"  # a session was asked for and is not accepted yet
    TALKING = "talking"  # accepted
    DETACHED = "detached"  # the websocket is gone; the caller may come back on another
    LEAVING = "leaving"  # we want to hang up and the goodbye is being played
    ENDING = "ending"  # the hang-up was sent; the session's end is awaited
    OVER = "over"


_STATUS: Final[Mapping[EndedBy, SessionStatus]] = {
    EndedBy.FAILURE: SessionStatus.ERROR,
    EndedBy.REFUSED: SessionStatus.ERROR,
    EndedBy.SHUTDOWN: SessionStatus.PAUSED,
    EndedBy.SOCKET: SessionStatus.PAUSED,
}


def status_after(by: EndedBy) -> SessionStatus:
    """The status of a session whose call ended like this; `PAUSED` if another process may go on."""
    return _STATUS.get(by, SessionStatus.ENDED)
