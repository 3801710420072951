from __future__ import annotations

import enum
import itertools
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, computed_field, field_serializer
from pydantic.dataclasses import dataclass as pydantic_dataclass

from opusagent.tools.results import MAX_RESULT_BYTES, SHORTENED, as_error, as_object
from tests.tools.test_arguments import JSON


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@dataclass
class Order:
    id: str
    lines: tuple[int, ...]


class Customer(BaseModel):
    name: str
    orders: list[Order]


class Account(BaseModel):
    iban: str
    pin: str = Field(exclude=True)

    @field_serializer("iban")
    def _end_of(self, iban: str) -> str:
        return f"ends with {iban[-4:]}"

    @computed_field
    def country(self) -> str:
        return self.iban[:2]


@pydantic_dataclass
class Card:
    number: str
    pin: str = Field(exclude=True)


class Lines(RootModel[list[int]]):
    pass


class Rude:
    def __str__(self) -> str:
        raise RuntimeError


def test_a_model_shows_what_its_serialisation_shows() -> None:
    account = Account(iban="DE0012344711", pin="2948")
    told = {"iban": "ends with 4711", "country": "DE"}
    assert as_object(account) == told
    assert as_object([account]) == {"result": [told]}
    card = Card(number="4711", pin="2948")
    assert as_object({"cards": [card]}) == {"cards": [{"number": "4711"}]}
    assert as_object(Lines([1, 2])) == {"result": [1, 2]}


def size(result: object) -> int:
    return len(json.dumps(result, ensure_ascii=False, allow_nan=False).encode())


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ({"a": 1}, {"a": 1}),
        ({}, {}),
        (None, {"result": None}),
        ("text", {"result": "text"}),
        ([1, "a"], {"result": [1, "a"]}),
        (True, {"result": True}),
        (float("nan"), {"result": None}),
        ({"x": float("inf")}, {"x": None}),
        ({1: 2, None: 3}, {"1": 2, "None": 3}),
        (b"abc\xff", {"result": "abc\ufffd"}),
        ("half \ud83d", {"result": "half ?"}),
        (Colour.RED, {"result": "red"}),
        (Number.ONE, {"result": 1}),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), {"result": "2026-01-02T03:00:00+00:00"}),
        (date(2026, 1, 2), {"result": "2026-01-02"}),
        (Decimal("12.50"), {"result": "12.50"}),
        (Path("a/b"), {"result": "a/b"}),
        (Order("A", (1, 2)), {"id": "A", "lines": [1, 2]}),
        (
            Customer(name="Ann", orders=[Order("A", ())]),
            {"name": "Ann", "orders": [{"id": "A", "lines": []}]},
        ),
        ({1}, {"result": [1]}),
        (iter("ab"), {"result": ["a", "b"]}),
        (Rude(), {"result": "<Rude>"}),
        (2**63, {"result": 2**63}),
        (2**70, {"result": str(2**70)}),
        ([10**5_000], {"result": ["<int>"]}),
        (Order, {"result": str(Order)}),
    ],
)
def test_whatever_a_tool_returns_becomes_a_json_object(value: object, result: object) -> None:
    assert as_object(value) == result


def cycle() -> list[object]:
    me: list[object] = []
    me += [me, me]
    return me


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000_000,
        "\0" * 10_000_000,
        "😀" * 1_000_000,
        '"' * 30_000,
        b"x" * 10_000_000,
        ["line"] * 1_000_000,
        dict.fromkeys(range(1_000_000), 1.5),
        {"k" * 1_000_000: 1},
        {"a": "x" * 30_000, "b": "y" * 30_000},
        itertools.count(),
        cycle(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_result_that_is_too_long_is_cut_and_says_so(value: object) -> None:
    result = as_object(value)
    assert size(result) <= MAX_RESULT_BYTES
    assert "beginning of a longer result" in str(result[SHORTENED])


def test_the_beginning_of_a_long_text_is_what_is_kept() -> None:
    result = as_object("é" * 50_000)
    assert set(str(result["result"])) == {"é"}
    assert size(result) > MAX_RESULT_BYTES - 50


def test_a_result_that_just_fits_is_whole() -> None:
    text = "x" * (MAX_RESULT_BYTES - 200)
    assert as_object({"a": text}) == {"a": text}


def test_a_nest_without_an_end_is_cut() -> None:
    nest: object = 1
    for _ in range(10_000):
        nest = [nest]
    assert SHORTENED in as_object(nest)


@given(
    st.recursive(
        JSON | st.binary() | st.dates() | st.decimals() | st.integers(10**18, 10**40),
        lambda inner: st.tuples(inner, inner) | st.dictionaries(st.integers() | st.text(), inner),
    ),
    st.integers(160, 400),
)
def test_every_result_is_an_object_that_fits(value: object, max_bytes: int) -> None:
    result = as_object(value, max_bytes)
    assert isinstance(result, dict)
    assert size(result) <= max_bytes


@given(st.dictionaries(st.text(), st.integers(-(2**63), 2**63) | st.booleans() | st.none()))
def test_an_object_of_json_that_fits_is_not_changed(value: dict[str, object]) -> None:
    encodable = {k.encode(errors="replace").decode(): v for k, v in value.items()}
    assert as_object(value, 10**6) == encodable


def test_an_error_is_short_and_can_be_encoded() -> None:
    assert as_error("no\ud83d") == {"error": "no?"}
    assert size(as_error("é" * 10_000)) < 1_100
