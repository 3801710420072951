"""The tools of the example agent `restaurant`: a book of reservations, for as long as the bridge runs."""

from __future__ import annotations

from datetime import date, time
from typing import Annotated, Final

from pydantic import Field, JsonValue

from opusagent.tools import ToolContext, ToolError, ToolRegistry

registry = ToolRegistry()

SEATS: Final = 20
"""At one time; a table is taken for the evening."""
OPENS: Final = time(17)
LAST_ARRIVAL: Final = time(22)

_book: dict[date, list[tuple[time, int, str]]] = {}

Guests = Annotated[int, Field(ge=1, le=12)]


@registry.tool(repeatable=True)
def find_table(day: date, guests: Guests) -> dict[str, str | int]:
    """Find out whether there is room on a day.

    Args:
        day: Like 2026-05-31.
        guests: How many people come.
    """
    free = _free(day)
    return {
        "free": "yes" if guests <= free else "no",
        "seats": free,
        "from": OPENS.isoformat("minutes"),
    }


@registry.tool()
async def book_table(  # async functions run one after the other: nobody books the same seats meanwhile
    day: date, at: time, guests: Guests, name: str, context: ToolContext
) -> dict[str, JsonValue]:
    """Book a table. Read day, time, number of guests and name back to the caller before.

    Args:
        day: Like 2026-05-31.
        at: When they come, like 19:30.
        guests: How many people come.
        name: Whose reservation it is.
    """
    if not OPENS <= at <= LAST_ARRIVAL:
        raise ToolError(f"guests may come from {OPENS:%H:%M} to {LAST_ARRIVAL:%H:%M}")
    booked = context.state.get("booked")
    if isinstance(booked, dict):
        raise ToolError("the caller has a reservation from this call already")
    if guests > _free(day):
        raise ToolError("there is no room for so many on that day")
    _book.setdefault(day, []).append((at, guests, name))
    reservation: dict[str, JsonValue] = {
        "day": day.isoformat(),
        "at": f"{at:%H:%M}",
        "guests": guests,
        "name": name,
    }
    context.state.set("booked", reservation)
    return reservation


def _free(day: date) -> int:
    return SEATS - sum(guests for _, guests, _ in _book.get(day, ()))
