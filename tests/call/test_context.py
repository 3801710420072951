from __future__ import annotations

from datetime import UTC, datetime, timedelta

from opusagent.call.context import as_turns
from opusagent.models.session_state import ConversationItem, FunctionCall, Turn

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def caller(text: str, at_s: float) -> ConversationItem:
    return ConversationItem(type="input", text=text, at=NOON + timedelta(seconds=at_s))


def bot(text: str, at_s: float) -> ConversationItem:
    return ConversationItem(type="output", text=text, at=NOON + timedelta(seconds=at_s))


def call(name: str, at_s: float) -> FunctionCall:
    return FunctionCall(
        tool_use_id=name, name=name, arguments="{}", started_at=NOON + timedelta(seconds=at_s)
    )


def lines(turns: list[Turn]) -> list[tuple[str, str]]:
    return [(turn.role.value, turn.text) for turn in turns]


def test_calls_stand_where_they_were_made() -> None:
    turns = as_turns([caller("Hi.", 0), bot("Hello.", 1), bot("Done.", 3)], [call("look", 2)])
    assert lines(turns) == [
        ("USER", "Hi."),
        ("ASSISTANT", "Hello."),
        ("ASSISTANT", "[called look with {}; no result yet]"),
        ("ASSISTANT", "Done."),
    ]


def test_what_will_be_typed_is_left_out_at_the_end() -> None:
    items = [caller("Hi.", 0), bot("Hello.", 1), caller("Where is it?", 2)]
    assert lines(as_turns(items, [], owed=["Where is it?"])) == [
        ("USER", "Hi."),
        ("ASSISTANT", "Hello."),
    ]


def test_of_a_turn_that_was_told_in_parts_only_what_will_be_typed_is_left_out() -> None:
    items = [caller("My name is Ann. Where is it? Quick.", 0)]
    assert lines(as_turns(items, [], owed=["Where is it?", "Quick."])) == [
        ("USER", "My name is Ann.")
    ]


def test_several_turns_that_will_be_typed_are_left_out() -> None:
    items = [bot("Hello.", 0), caller("One.", 1), caller("Two.", 2)]
    assert lines(as_turns(items, [], owed=["One.", "Two."])) == [("ASSISTANT", "Hello.")]


def test_a_turn_that_the_bot_has_answered_is_not_left_out() -> None:
    items = [caller("One.", 0), bot("Yes?", 1)]
    assert len(as_turns(items, [], owed=["One."])) == 2


def test_items_of_an_older_format_come_first() -> None:
    items = [ConversationItem(type="input", text="Old."), bot("New.", 0)]
    assert [turn.text for turn in as_turns(items, [call("look", -1)])] == [
        "Old.",
        "[called look with {}; no result yet]",
        "New.",
    ]
