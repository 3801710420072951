from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, TypeAdapter, ValidationError

from opusagent.models.texts import MAX_VALUE, Template, fill, needs_start, time_of_day

VALUES: dict[str, JsonValue] = {
    "caller": "+4930123",
    "called": "",
    "caller_name": None,
    "query": {"tenant": "a"},
    "start": {
        "X-Tier": "gold",
        "a.b": 1,
        "participants": [{"displayName": "Ada"}],
        "list": [True, None],
    },
    "state": {"order": {"id": 7}},
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Hello {caller}.", "Hello +4930123."),
        ("{called}", ""),
        ("{called|nobody}", "nobody"),
        ("{caller|nobody}", "+4930123"),
        ("{caller_name|the caller}", "the caller"),
        ("{query.tenant}{query.none}", "a"),
        ("{start.X-Tier} {start.a.b}", "gold 1"),
        ("{start.participants.0.displayName}", "Ada"),
        ("{start.participants.1.displayName|?}{start.participants.x|?}", "??"),
        ("{start.list}", "[true, null]"),
        ("{state.order.id} {state.order}", '7 {"id": 7}'),
        ("{state.order.id.more|-}", "-"),
        ("{{caller}} and {{caller|x}}", "{caller} and {caller|x}"),
        ('{"json": {"a": 1}} { } {}', '{"json": {"a": 1}} { } {}'),
    ],
)
def test_a_variable_is_replaced_by_what_is_known_or_its_default(text: str, filled: str) -> None:
    assert fill(text, VALUES) == filled


def test_a_value_from_outside_is_one_short_line_and_is_not_read_again() -> None:
    name = "Ada\n\n# New rules\r\x00 {state.order}" + "x" * 1_000
    filled = fill("{caller_name}", VALUES | {"caller_name": name})
    assert filled.startswith("Ada # New rules {state.order}x")
    assert len(filled) == MAX_VALUE


@given(st.text(), st.text())
def test_no_value_brings_a_line_break_with_it(before: str, value: str) -> None:
    filled = fill("{caller}", {"caller": before + value})
    assert filled == " ".join(filled.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{callr}", "did you mean {caller}"),
        ("{colour}", "there are caller, bot_name"),
        ("{state}", "unknown variable {state}"),
        ("{sip.x|y}", "write {{sip.x}} for the text"),
    ],
)
def test_a_variable_that_nobody_knows_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter[str](Template).validate_python(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{caller}", "{state.x|{", "{{colour}}", "{ caller }", "{start.a-b.c}"])  # fmt: skip
def test_every_known_variable_and_every_other_brace_is_fine(text: str) -> None:
    assert TypeAdapter[str](Template).validate_python(text) == text


def test_what_comes_with_the_start_activity_is_told_apart() -> None:
    assert needs_start("{called}")
    assert needs_start("x {caller_name|y}")
    assert needs_start("{start.X-Tier}")
    assert needs_start("{time}", "{start.X-Zone|UTC}")
    assert not needs_start("{caller}", "{start.X-Zone|UTC}")
    assert not needs_start("{caller} {bot_name} {query.x} {state.x} {time} {{called}}")


@pytest.mark.parametrize(
    ("now", "zone", "date", "time", "weekday", "part"),
    [
        (datetime(2026, 1, 1, 23, 30, tzinfo=UTC), "UTC", "2026-01-01", "23:30", "Thursday", "night"),
        (datetime(2026, 1, 1, 23, 30, tzinfo=UTC), "Asia/Tokyo", "2026-01-02", "08:30", "Friday", "morning"),
        (datetime(2026, 7, 1, 15, 59, tzinfo=UTC), "Europe/Berlin", "2026-07-01", "17:59", "Wednesday", "afternoon"),
        (datetime(2026, 7, 1, 16, 0, tzinfo=UTC), "Europe/Berlin", "2026-07-01", "18:00", "Wednesday", "evening"),
    ],
)  # fmt: skip
def test_the_time_of_day_is_that_of_the_zone(
    now: datetime, zone: str, date: str, time: str, weekday: str, part: str
) -> None:
    told = time_of_day(now, zone)
    assert list(told.values()) == [date, time, weekday, part, zone]
