"""The example agents of `config/agents`, each in a call, as a user would test hers."""

from __future__ import annotations

from pathlib import Path

import pytest

from opusagent.testing import Calls, Listens, Outcome, Presses, Says, Told, play

AGENTS = Path(__file__).parents[2] / "config" / "agents"
PIN = "2948"

NUMBER = ("Your customer number, please.", Calls("collect_digits", input="customer_number"))
SECRET = ("And your PIN.", Calls("collect_digits", input="pin"))


def bank(*more: str | Presses | Says | Listens, model: list[object], pin: str = PIN) -> Outcome:
    return play(
        AGENTS / "bank.toml",
        caller=["What is my balance?", Presses("452711"), Presses(pin), *more],
        model=["Opus Bank, hello.", NUMBER, SECRET, *model],  # type: ignore[list-item]
    )


def test_a_customer_identifies_herself_with_keys_and_hears_her_balance() -> None:
    outcome = bank(
        model=[Calls("get_balance"), "It is {balance}."],
    )
    assert outcome.said_by_bot[-1] == "It is two hundred and twelve dollars."
    assert [use.name for use in outcome.tool_calls] == [
        "collect_digits",
        "collect_digits",
        "get_balance",
    ]


def test_the_pin_is_kept_nowhere_and_told_to_nobody() -> None:
    outcome = bank(model=[Told("Alice Miller", "Thank you.")])
    stored = outcome.state.model_dump_json()
    assert PIN not in stored
    assert " ".join(PIN) not in stored
    assert "452711" in stored
    assert not [told for told in outcome.told if PIN in told or " ".join(PIN) in told]


def test_nothing_is_told_before_the_caller_is_identified() -> None:
    outcome = play(
        AGENTS / "bank.toml",
        caller=["What is my balance?"],
        model=["Hello.", Calls("get_balance"), Told("not identified", "I need your number.")],
    )
    assert outcome.tool_calls[0].failed


def test_a_wrong_pin_opens_nothing() -> None:
    outcome = bank(
        pin="0000",
        model=[
            Told("PIN is wrong", Calls("get_balance")),
            Told("not identified", "That is not right."),
        ],
    )
    assert all(use.failed for use in outcome.tool_calls[1:])


def test_a_slow_archive_is_bridged_by_a_sign_of_life() -> None:
    outcome = bank(
        "Which payments were there?",
        model=[
            Calls("get_balance"),
            "It is {balance}.",
            Calls("list_payments"),
            Told("still working", "One moment, I am still looking."),
            "There were {count}: {payments}.",
        ],
    )
    assert outcome.said_by_bot[-2:] == [
        "One moment, I am still looking.",
        "There were 2: forty dollars to the bakery, and twelve dollars to the railway.",
    ]


def test_a_caller_who_wants_a_person_is_put_through() -> None:
    outcome = play(
        AGENTS / "bank.toml",
        caller=["I want to speak to a person."],
        model=["Hello.", ("I will put you through.", Calls("transfer_call", target="advisor"))],
    )
    (transfer,) = outcome.events("transfer")
    assert transfer["activityParams"] == {"transferTarget": "tel:+15550100"}
    assert outcome.hung_up_by == "bot"


def test_the_restaurant_books_a_table_once_and_hangs_up() -> None:
    booking = Calls("book_table", day="2026-05-31", at="19:30", guests=4, name="Alice")
    outcome = play(
        AGENTS / "restaurant.toml",
        caller=["A table for four tomorrow, please.", "At half past seven, for Alice.", "Goodbye."],
        model=[
            "The Blue Door, hello.",
            Calls("find_table", day="2026-05-31", guests=4),
            "There is room. At what time, and for whom?",
            (booking, booking),
            "A table for {guests} at {at}.",
            ("Goodbye.", Calls("hang_up")),
        ],
    )
    booked = [use.failed for use in outcome.tool_calls if use.name == "book_table"]
    assert sorted(booked) == [False, True]
    assert outcome.hung_up_by == "bot"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"day": "2026-06-01", "at": "16:00", "guests": 2, "name": "A"}, "from 17:00 to 22:00"),
        ({"day": "2026-06-01", "at": "19:00", "guests": 40, "name": "A"}, "less than or equal"),
        ({"day": "tomorrow", "at": "19:00", "guests": 2, "name": "A"}, "day: "),
    ],
)
def test_the_restaurant_says_why_it_cannot_book(
    arguments: dict[str, str | int], words: str
) -> None:
    outcome = play(
        AGENTS / "restaurant.toml",
        caller=["Please book."],
        model=["Hello.", Calls("book_table", dict(arguments)), "I am sorry: {error}."],
    )
    assert words in outcome.said_by_bot[-1]
