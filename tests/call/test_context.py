from __future__ import annotations

from datetime import UTC, datetime, timedelta

from opusagent.call.context import Past, as_past
from opusagent.models.session_state import ConversationItem, FunctionCall, ToolStatus

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def caller(text: str, at_s: float) -> ConversationItem:
    return ConversationItem(type="input", text=text, at=NOON + timedelta(seconds=at_s))


def bot(text: str, at_s: float) -> ConversationItem:
    return ConversationItem(type="output", text=text, at=NOON + timedelta(seconds=at_s))


def call(name: str, at_s: float) -> FunctionCall:
    return FunctionCall(
        tool_use_id=name, name=name, arguments="{}", started_at=NOON + timedelta(seconds=at_s)
    )


def lines(past: Past) -> list[tuple[str, str]]:
    return [(turn.role.value, turn.text) for turn in past.turns]


def test_calls_stand_where_they_were_made() -> None:
    past = as_past([caller("Hi.", 0), bot("Hello.", 1), bot("Done.", 3)], [call("look", 2)])
    assert lines(past) == [
        ("USER", "Hi."),
        ("ASSISTANT", "Hello."),
        ("ASSISTANT", "[called look with {}; no result yet]"),
        ("ASSISTANT", "Done."),
    ]


def test_what_will_be_typed_is_left_out_at_the_end() -> None:
    items = [caller("Hi.", 0), bot("Hello.", 1), caller("Where is it?", 2)]
    assert lines(as_past(items, [], owed=["Where is it?"])) == [
        ("USER", "Hi."),
        ("ASSISTANT", "Hello."),
    ]


def test_of_a_turn_that_was_told_in_parts_only_what_will_be_typed_is_left_out() -> None:
    items = [caller("My name is Ann. Where is it? Quick.", 0)]
    assert lines(as_past(items, [], owed=["Where is it?", "Quick."])) == [
        ("USER", "My name is Ann.")
    ]


def test_several_turns_that_will_be_typed_are_left_out() -> None:
    items = [bot("Hello.", 0), caller("One.", 1), caller("Two.", 2)]
    assert lines(as_past(items, [], owed=["One.", "Two."])) == [("ASSISTANT", "Hello.")]


def test_what_will_be_typed_is_left_out_though_the_bot_went_on_about_something_else() -> None:
    items = [bot("First,", 0), caller("Hi. One.", 1), bot("secondly.", 2)]
    assert lines(as_past(items, [], owed=["One."])) == [
        ("ASSISTANT", "First,"),
        ("USER", "Hi."),
        ("ASSISTANT", "secondly."),
    ]
    assert lines(as_past(items, [], owed=["Hi.", "One."])) == [
        ("ASSISTANT", "First,"),
        ("ASSISTANT", "secondly."),
    ]


def test_what_will_be_typed_is_left_out_though_an_old_stream_tells_something_later() -> None:
    items = [caller("One.", 0), bot("Yes?", 1), caller("Two. Three.", 2)]
    assert lines(as_past(items, [], owed=["Two."]))[-1] == ("USER", "Three.")
    assert lines(as_past(items, [], owed=["One."])) == [
        ("ASSISTANT", "Yes?"),
        ("USER", "Two. Three."),
    ]


def test_only_whole_words_are_left_out_and_the_newest_of_equal_ones() -> None:
    items = [caller("no. Piano.", 0), bot("Yes?", 1), caller("no. no.", 2), bot("So.", 3)]
    assert lines(as_past(items, [], owed=["no."]))[2] == ("USER", "no.")
    assert lines(as_past(items, [], owed=["no.", "no.", "no."]))[0] == ("USER", "Piano.")
    assert lines(as_past([caller("Piano.", 0)], [], owed=["no."])) == [("USER", "Piano.")]


def test_items_of_an_older_format_come_first() -> None:
    items = [ConversationItem(type="input", text="Old."), bot("New.", 0)]
    assert [turn.text for turn in as_past(items, [call("look", -1)]).turns] == [
        "Old.",
        "[called look with {}; no result yet]",
        "New.",
    ]


def test_what_came_before_a_turn_of_long_ago_is_settled() -> None:
    items = [caller("One.", 0), bot("Yes?", 1), caller("Two.", 10), bot("Well.", 11)]
    later = [*items, caller("Three.", 20)]
    assert settled(as_past(items, [], settled_at=at(9.9))) == []
    assert settled(as_past(items, [], settled_at=at(10))) == ["One.", "Yes?"]
    assert settled(as_past(later, [], settled_at=at(19))) == ["One.", "Yes?"]
    assert settled(as_past(later, [], settled_at=at(20))) == ["One.", "Yes?", "Two.", "Well."]
    assert settled(as_past(later, [], owed=["Three."], settled_at=at(20))) == ["One.", "Yes?"]


def test_what_comes_after_a_function_without_a_result_is_not_settled() -> None:
    items = [
        caller("One.", 0),
        bot("Yes?", 1),
        caller("Two.", 5),
        bot("Well.", 7),
        caller("So?", 8),
    ]
    look = call("look", 6)
    assert settled(as_past(items, [look], settled_at=at(60))) == ["One.", "Yes?"]
    done = look.model_copy(update={"status": ToolStatus.DONE, "result": {}})
    assert len(settled(as_past(items, [done], settled_at=at(60)))) == 5


def settled(past: Past) -> list[str]:
    return [turn.text for turn in past.settled]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_two_turns_of_the_callers_are_not_told_apart() -> None:
    items = [caller("One.", 0), bot("Yes?", 1), caller("Two.", 2), caller("Three.", 3)]
    assert settled(as_past(items, [], settled_at=at(60))) == ["One.", "Yes?"]


def test_what_has_no_words_is_left_out() -> None:
    items = [caller("One.", 0), bot(" ", 1), caller("Two.", 2), bot("Well.", 3), caller("So?", 4)]
    past = as_past(items, [], settled_at=at(60))
    assert [turn.text for turn in past.turns] == ["One.", "Two.", "Well.", "So?"]
    assert settled(past) == ["One.", "Two.", "Well."]
