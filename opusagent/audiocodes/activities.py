"""What the activities of VoiceAI Connect mean. Names are compared without regard to case."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

from opusagent.audiocodes.events import (
    ActivityReceived,
    CallStarted,
    DtmfPressed,
    HangupHint,
    NoUserInput,
    PlayFinished,
    TransferStatus,
)
from opusagent.audiocodes.messages import Activity, BotActivity, BrokenActivity

__all__ = ["names_caller", "read_activity", "timestamp", "write_event"]

_DIGITS: Final = re.compile(r"[0-9A-Da-d*#]{1,64}")

type ActivityEvent = (
    CallStarted
    | DtmfPressed
    | NoUserInput
    | PlayFinished
    | TransferStatus
    | HangupHint
    | ActivityReceived
    | BrokenActivity
)


def read_activity(activity: Activity | BrokenActivity, *, caller: str) -> ActivityEvent:
    """What one activity says. `caller` stands in where a `start` names none.

    Pressed keys that are not keys are broken; everything else is taken as it comes.
    """
    if isinstance(activity, BrokenActivity):
        return activity
    parameters = activity.parameters or {}
    if activity.type.lower() != "event":
        return ActivityReceived(activity.type.lower(), activity.text, parameters)
    value = activity.value
    match (activity.name or "").lower():
        case "start":
            named = _text(parameters.get("caller"))
            return CallStarted(parameters, named or caller, _text(parameters.get("callee")))
        case "dtmf" | "dtmfdigits":  # three spellings are in use
            keys = _keys(value)
            broken = BrokenActivity("DTMF without digits")
            return DtmfPressed(keys) if _DIGITS.fullmatch(keys) else broken
        case "nouserinput":
            count = _whole(value)
            return NoUserInput(1 if count is None else count)
        case "playfinished":
            played = value if isinstance(value, dict) else {}
            return PlayFinished(_whole(played.get("playedDurationMS")), _text(played.get("status")))
        case "transferstatus":
            told = value if isinstance(value, dict) else {}
            status, reason, code = (_text(told.get(k)) for k in ("status", "reason", "reasonCode"))
            return TransferStatus(status, reason, code)
        case "hangup":
            return HangupHint()
        case _:
            return ActivityReceived(activity.name or "", value, parameters)


def names_caller(started: CallStarted) -> bool:
    """Whether `start` lists a participant called `caller` (agent assist)."""
    listed = started.parameters.get("participants")
    return isinstance(listed, list) and any(
        isinstance(one, dict) and one.get("participant") == "caller" for one in listed
    )


def write_event(
    name: str,
    *,
    activity_id: str,
    now: datetime,
    value: JsonValue = None,
    activity_params: Mapping[str, JsonValue] | None = None,
    session_params: Mapping[str, JsonValue] | None = None,
) -> BotActivity:
    """An event of the bot with the id and the timestamp that the vendor asks for."""
    return BotActivity(
        type="event",
        name=name,
        id=activity_id,
        timestamp=timestamp(now),
        value=value,
        activity_params=None if activity_params is None else dict(activity_params),
        session_params=None if session_params is None else dict(session_params),
    )


def timestamp(now: datetime) -> str:
    """A time as activities carry it."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: JsonValue) -> int | None:
    match value:
        case bool():
            return None
        case int():
            return value
        case float() if math.isfinite(value):
            return round(value)
        case str() if len(value) <= 9 and value.isdecimal():
            return int(value)
        case _:
            return None


def _keys(value: JsonValue) -> str:
    """Keys, however they are put; of anything else a text that has more than keys in it."""
    match value:
        case list():
            return "".join(map(_keys, value))
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return "".join(str(value).split())
