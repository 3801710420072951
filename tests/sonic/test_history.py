from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.models.session_state import Role, Turn
from opusagent.sonic.history import MIN_BYTES, History, build, split_utf8

USER, BOT = Role.USER, Role.ASSISTANT

turns = st.lists(
    st.builds(
        Turn, role=st.sampled_from(Role), text=st.text(max_size=60) | st.text("é €𝄞", max_size=300)
    ),
    max_size=30,
)
limits = st.integers(MIN_BYTES, 2_000)


def turn(role: Role, text: str) -> Turn:
    return Turn(role=role, text=text)


def texts(history: History) -> list[tuple[Role, str]]:
    return [(one.role, one.text) for one in history.turns]


@given(turns, limits)
def test_a_history_alternates_begins_with_the_user_and_holds_no_blank(
    past: list[Turn], limit: int
) -> None:
    kept = build(past, max_bytes=limit).turns
    assert all(one.role is (BOT if i % 2 else USER) for i, one in enumerate(kept))
    assert all(one.text.strip() for one in kept)


@given(turns, limits)
def test_a_history_is_never_larger_than_allowed_and_says_its_size(
    past: list[Turn], limit: int
) -> None:
    history = build(past, max_bytes=limit)
    assert history.n_bytes == sum(len(one.text.encode()) for one in history.turns) <= limit


@given(turns, limits)
def test_building_a_history_from_a_history_changes_nothing(past: list[Turn], limit: int) -> None:
    once = build(past, max_bytes=limit).turns
    assert build(once, max_bytes=limit).turns == once


@given(turns)
def test_nothing_is_lost_where_there_is_room(past: list[Turn]) -> None:
    history = build(past, max_bytes=10_000_000)
    words = [word for one in past for word in one.text.split()]
    kept = [word for one in history.turns for word in one.text.split()]
    assert kept in (words, ["[call", "connected]", *words])
    assert history.dropped == 0


@given(turns, limits)
def test_the_newest_words_are_the_last_to_go(past: list[Turn], limit: int) -> None:
    words = [word for one in past for word in one.text.split()]
    kept = build(past, max_bytes=limit).turns
    if words:
        assert words[-1].endswith(kept[-1].text.split()[-1])


def test_neighbours_of_one_role_become_one_turn() -> None:
    past = [turn(USER, "I am"), turn(USER, "Ada"), turn(BOT, "Hi."), turn(BOT, "Well?")]
    assert texts(build(past)) == [(USER, "I am Ada"), (BOT, "Hi. Well?")]


def test_a_conversation_that_the_bot_began_is_put_behind_a_user_line() -> None:
    history = build([turn(BOT, "Hello, this is the bank."), turn(USER, "Hi")])
    assert texts(history)[:2] == [(USER, "[call connected]"), (BOT, "Hello, this is the bank.")]


def test_blank_turns_vanish_and_their_neighbours_meet() -> None:
    past = [turn(USER, "one"), turn(BOT, "  \n"), turn(USER, "two")]
    assert texts(build(past)) == [(USER, "one two")]


def test_an_empty_conversation_has_no_history() -> None:
    assert build([]) == build([turn(USER, " ")]) == History()


def test_the_oldest_turns_go_first_and_a_user_line_counts_them() -> None:
    past = [turn(BOT if i % 2 else USER, f"{i:03}" + "x" * 97) for i in range(10)]
    history = build(past, max_bytes=360)
    assert history.dropped == 7
    assert texts(history)[0] == (USER, "[7 earlier turns are not shown]")
    assert [text[:3] for _, text in texts(history)[1:]] == ["007", "008", "009"]


def test_the_count_of_missing_turns_is_the_first_line_of_a_user_turn() -> None:
    past = [turn(BOT if i % 2 else USER, "x" * 100) for i in range(9)]
    history = build(past, max_bytes=350)
    assert texts(history)[0] == (USER, "[6 earlier turns are not shown]\n" + "x" * 100)


def test_one_turn_that_is_too_large_keeps_its_end() -> None:
    history = build([turn(USER, "€" * 200 + " the end")], max_bytes=256)
    assert history.turns[0].text.endswith("€ the end")
    assert history.n_bytes <= 256


def test_the_parts_of_a_long_turn_are_counted() -> None:
    assert build([turn(USER, "é" * 501)], max_part_bytes=1_000).n_parts == 2


def test_a_limit_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="256"):
        build([], max_bytes=255)
    with pytest.raises(ValueError, match="opening"):
        build([], opening="x" * 100)


@given(st.text() | st.text("aé€𝄞"), st.integers(4, 50))
def test_parts_are_small_and_join_to_the_whole(text: str, limit: int) -> None:
    parts = split_utf8(text, limit)
    assert "".join(parts) == text
    assert all(0 < len(part.encode()) <= limit for part in parts)


def test_a_part_must_have_room_for_any_character() -> None:
    with pytest.raises(ValueError, match="4"):
        split_utf8("a", 3)
