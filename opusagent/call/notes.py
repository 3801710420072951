"""What nobody acts on but is worth a line in the log and a count."""

from __future__ import annotations

from typing import assert_never

from opusagent.audiocodes.codec import UnknownMessage
from opusagent.audiocodes.events import (
    ActivityReceived,
    BrokenActivity,
    ConnectionValidated,
    HangupHint,
    NoUserInput,
    PlayFinished,
    TransferStatus,
)
from opusagent.call.events import Report
from opusagent.models.session_state import SessionState

__all__ = ["differs", "note_of", "transcript_of"]

type Noted = (
    ActivityReceived
    | BrokenActivity
    | ConnectionValidated
    | HangupHint
    | NoUserInput
    | PlayFinished
    | TransferStatus
    | UnknownMessage
)


def note_of(event: Noted) -> Report:
    """The report about an event that changes nothing in the call."""
    match event:
        case PlayFinished(played_ms=played_ms, status=status):
            return Report("play finished", {"ms": played_ms, "status": status})
        case ConnectionValidated():
            return Report("connection validated")
        case NoUserInput(count=count):
            return Report("no user input", {"count": count})
        case TransferStatus(status=status):
            return Report("transfer status", {"status": status})
        case ActivityReceived(name=name) if name.lower() == "playurlfailed":
            return Report("sound failed")
        case ActivityReceived(name=name):
            return Report("activity ignored", {"name": name[:64]})
        case HangupHint():
            return Report("activity ignored", {"name": "hangup"})
        case BrokenActivity(got=got):
            return Report("broken message", {"wire": "audiocodes", "got": got})
        case UnknownMessage(type=kind):
            return Report("unknown message", {"wire": "audiocodes", "type": kind})
        case _:
            assert_never(event)


def transcript_of(state: SessionState) -> Report:
    """How many turns a call had; what was said in them is private."""
    turns = state.conversation_history
    of_caller = sum(turn.type == "input" for turn in turns)
    return Report(
        "transcript",
        {"caller_turns": of_caller, "bot_turns": len(turns) - of_caller},
        {"turns": [turn.model_dump(mode="json") for turn in turns]},
    )


def differs(state: SessionState, saved: SessionState | None) -> bool:
    """Whether there is more to be stored than that some time has passed."""
    return saved is None or saved != state.model_copy(update={"last_activity": saved.last_activity})
