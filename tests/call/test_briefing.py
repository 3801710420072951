"""What a stream is told of the conversation, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from opusagent.call.briefing import Briefing
from opusagent.call.context import Past
from opusagent.call.recovery import Recovery
from opusagent.models.session_state import Role, Turn
from opusagent.sonic.failures import classify
from tests.call.driver import PLAN

DIED = classify("modelStreamErrorException")


def turns(*texts: str) -> list[Turn]:
    """The caller and the bot in turn."""
    roles = (Role.USER, Role.ASSISTANT)
    return [Turn(role=roles[n % 2], text=text) for n, text in enumerate(texts)]


class Talk:
    """A conversation that can be changed."""

    def __init__(self, *texts: str, n_settled: int = 0, max_bytes: int = 4_096) -> None:
        self.past = Past(turns(*texts), n_settled)
        self.recovery = Recovery(lambda: 0.0)
        plan = replace(PLAN, max_history_bytes=max_bytes)
        self.briefing = Briefing(plan, self._context)

    def _context(self, owed: Sequence[str]) -> Past:
        turns = [turn for turn in self.past.turns if turn.text not in owed]
        return replace(self.past, turns=turns)

    def goes_on(self, *texts: str) -> None:
        self.past = replace(self.past, turns=[*self.past.turns, *turns(*texts)])


def test_what_is_settled_and_the_rest_are_the_whole() -> None:
    talk = Talk("One", "Yes", "Two", "Well", n_settled=2)
    told = talk.briefing.ahead(talk.recovery)
    assert told is not None
    assert list(told.ahead.turns) == turns("One", "Yes")
    talk.goes_on("Three", "So")
    rest = talk.briefing.rest(told, talk.recovery)
    assert list(rest.turns) == turns("Two", "Well", "Three", "So")


def test_words_that_were_said_twice_are_told_twice() -> None:
    talk = Talk("One", "Yes", "One", "Yes", n_settled=2)
    told = talk.briefing.ahead(talk.recovery)
    assert list(talk.briefing.rest(told, talk.recovery).turns) == turns("One", "Yes")


def test_where_a_sentence_is_worded_anew_nothing_else_is_told_again_or_left_out() -> None:
    talk = Talk("One", "Yes", "One", "Yes", "One", "Yes", n_settled=4)
    told = talk.briefing.ahead(talk.recovery)
    talk.past = Past(turns("One", "Yes indeed", "One", "Yes", "One", "Yes"), 4)
    rest = talk.briefing.rest(told, talk.recovery)
    assert [turn.text for turn in rest.turns] == ["[the call goes on]", "Yes indeed", "One", "Yes"]


def test_what_is_hidden_later_is_not_told_again_for_that() -> None:
    talk = Talk("It is 4711", "Is it 4711", "Two", "Well 4711", n_settled=2)
    told = talk.briefing.ahead(talk.recovery)
    masked = [Turn(role=t.role, text=t.text.replace("4711", "****")) for t in talk.past.turns]
    talk.past = Past(masked, 2, lambda text: text.replace("4711", "****"))
    assert list(talk.briefing.rest(told, talk.recovery).turns) == turns("Two", "Well ****")


def test_both_together_keep_to_the_limit() -> None:
    talk = Talk(*(f"{n} " + "word " * 30 for n in range(40)), n_settled=38)
    told = talk.briefing.ahead(talk.recovery)
    assert told is not None
    assert 3_000 < told.ahead.n_bytes <= 4_096 - 512
    talk.goes_on(*(f"{n} " + "news " * 30 for n in range(8)))
    rest = talk.briefing.rest(told, talk.recovery)
    assert 3_800 < told.ahead.n_bytes + rest.n_bytes <= 4_096
    assert rest.turns[-1].text.startswith("7 news")


def test_what_fits_is_not_shortened_and_told_ahead_up_to_a_turn_of_the_callers() -> None:
    talk = Talk(*(f"{n} " + "word " * 30 for n in range(26)), n_settled=24)
    told = talk.briefing.ahead(talk.recovery)
    assert told is not None
    assert 3_000 < told.ahead.n_bytes <= 4_096 - 512
    assert told.ahead.turns[-1].role is Role.ASSISTANT
    rest = talk.briefing.rest(told, talk.recovery)
    assert told.ahead.dropped == rest.dropped == 0
    assert [*told.ahead.turns, *rest.turns] == [
        turn.model_copy(update={"text": turn.text.strip()}) for turn in talk.past.turns
    ]


def test_where_the_service_takes_less_there_is_less_ahead() -> None:
    talk = Talk(*(f"{n} " + "word " * 30 for n in range(40)), n_settled=38, max_bytes=8_192)
    talk.recovery.history_share = 0.5
    told = talk.briefing.ahead(talk.recovery)
    assert told is not None
    assert told.share == 0.5
    assert told.ahead.n_bytes <= 4_096 - 512
    talk.recovery.history_share = 0.0
    assert talk.briefing.ahead(talk.recovery) is None


def test_a_summary_stands_in_the_prompt_and_what_came_after_it_is_told() -> None:
    talk = Talk("One", "Yes")
    prompt, told = talk.briefing.prompt("You answer.", 0.0)
    assert prompt == (
        "You answer.\n\nThe conversation so far, shortened:\nUSER: One\nASSISTANT: Yes"
    )
    talk.goes_on("Two", "Well")
    for _ in range(2):
        talk.recovery.after(DIED, lived_s=0.1, had_history=True)
    assert talk.recovery.history_share == 0.0
    assert list(talk.briefing.rest(told, talk.recovery).turns) == turns("Two", "Well")
    assert talk.briefing.prompt("You answer.", 1.0) == ("You answer.", None)


def test_what_the_bot_went_on_to_say_stands_in_the_summary_and_is_not_told_again() -> None:
    talk = Talk("One", "Yes", "Two", "Well")
    for _ in range(2):
        talk.recovery.after(DIED, lived_s=0.1, had_history=True)
    talk.briefing.owe("Two", shown="Two")
    prompt, told = talk.briefing.prompt("You answer.", 0.0)
    assert prompt.endswith("USER: One\nASSISTANT: Yes Well")
    talk.briefing.answered()
    talk.goes_on("Three", "So")
    news = talk.briefing.rest(told, talk.recovery).turns
    assert [turn.text for turn in news] == ["Two Three", "So"]
