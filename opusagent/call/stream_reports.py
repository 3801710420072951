"""What is reported of streams that are lost and replaced."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from opusagent.call.events import Report
from opusagent.call.legs import Leg
from opusagent.sonic.failures import Failure
from opusagent.sonic.history import History

__all__ = ["history_figures", "lost_report", "standby_lost_report", "switch_report"]


def history_figures(ahead: History, rest: History) -> dict[str, JsonValue]:
    """What a stream was told: before it was used, and when it was."""
    return {
        "history_items": len(ahead.turns) + len(rest.turns),
        "history_bytes": ahead.n_bytes + rest.n_bytes,
        "history_trimmed": ahead.dropped + rest.dropped,
        "history_ahead": len(ahead.turns),
    }


def lost_report(leg: Leg, failure: Failure, now: float) -> Report:
    """The stream that had the caller's ear, or should have got it, is gone."""
    age_s = leg.age_s(now)
    return _of_failure(
        "stream lost", leg, failure, age_s=None if age_s is None else round(age_s, 3)
    )


def standby_lost_report(leg: Leg, failure: Failure) -> Report:
    """The stream that was to take over one day cannot be had, or broke."""
    return _of_failure("standby lost", leg, failure)


def _of_failure(event: str, leg: Leg, failure: Failure, **more: JsonValue) -> Report:
    fields: dict[str, JsonValue] = {
        "stream": leg.id,
        "code": failure.code,
        "remedy": failure.remedy.value,
        **more,
    }
    if failure.may_be_shown:
        return Report(event, {**fields, "message": failure.message})
    return Report(event, fields, {"message": failure.message})


def switch_report(
    old: Leg, new: Leg, reason: str, figures: Mapping[str, JsonValue], now: float
) -> Report:
    """Another stream has taken over. `figures`: what was given to it, and how long nobody heard her."""
    fields: dict[str, JsonValue] = {
        "from_stream": old.id,
        "stream": new.id,
        "reason": reason,
        "age_s": round(old.age_s(now) or 0.0, 3),
        "standby_age_s": round(new.age_s(now) or 0.0, 3),
    }
    return Report("stream switched", {**fields, **figures})
