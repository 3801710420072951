"""How the service's end speaks, and how it is interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from opusagent.sonic import reader as said
from opusagent.sonic.peer_brain import Reply, ToolAsk
from opusagent.sonic.profiles import Timing
from opusagent.sonic.reader import Stage, StopReason
from tests.sonic.duet import HELLO, STOP, Duet, silence, spoken

LONG = Reply(("One two three four.", "Five six seven eight."))


def answered(*replies: Reply, **options: Any) -> Duet:
    """A conversation up to the moment where the bot begins to answer."""
    one = Duet(*(replies or (LONG,)), **options).open().say(spoken(HELLO) + silence(1.5))
    return one.wait(0.5)


def finals(one: Duet) -> list[str]:
    return [
        event.text
        for event in one.events(said.TextHeard)
        if isinstance(event, said.TextHeard)
        and event.stage is Stage.FINAL
        and event.role == "ASSISTANT"
    ]


def audio_stops(one: Duet) -> list[StopReason | None]:
    ended = one.events(said.BotSpeechEnded)
    return [event.stop_reason for event in ended if isinstance(event, said.BotSpeechEnded)]


def sent_s(one: Duet) -> float:
    audio = one.events(said.BotAudio)
    return sum(len(event.pcm) for event in audio if isinstance(event, said.BotAudio)) / 48_000


@pytest.mark.parametrize(
    ("faults", "speed"), [((), 4.0), (("fast-audio",), 10), (("slow-audio",), 0.8)]
)
def test_audio_comes_at_its_own_speed(faults: tuple[str, ...], speed: float) -> None:
    one = answered(faults=faults)
    one.wait(0.5)
    assert sent_s(one) == pytest.approx(0.5 * speed, abs=0.3)


def test_the_last_audio_of_a_turn_ends_it() -> None:
    one = answered().wait(3)
    assert audio_stops(one) == [StopReason.PARTIAL_TURN, StopReason.END_TURN]
    assert [at.value for at in one.peer.record.said] == list(LONG.sentences)


def test_the_end_of_a_turn_can_be_withheld() -> None:
    one = answered(faults={"no-end-turn"}).wait(3)
    assert audio_stops(one) == [StopReason.PARTIAL_TURN] * 2


def test_a_turn_that_goes_on_with_a_tool_is_not_ended_by_its_audio() -> None:
    one = answered(Reply(("One moment.",), (ToolAsk("lookup", {}),))).wait(3)
    assert audio_stops(one) == [StopReason.PARTIAL_TURN]


def test_final_texts_follow_when_the_delay_is_over() -> None:
    one = answered(timing=Timing(final_delay_s=3)).wait(2 + 2.9)
    assert finals(one) == []
    one.wait(0.2)
    assert finals(one) == list(LONG.sentences)


@pytest.mark.parametrize("delay_s", [60, None])
def test_final_texts_come_at_the_latest_before_the_next_words_of_the_caller(
    delay_s: float | None,
) -> None:
    one = answered(timing=Timing(final_delay_s=delay_s)).wait(10)
    assert finals(one) == []
    one.say(spoken(STOP) + silence(1.6))
    texts = [
        event.text for event in one.events(said.TextHeard) if isinstance(event, said.TextHeard)
    ]
    assert texts[-3:] == [*LONG.sentences, "stop it please"]


def test_final_texts_can_be_missing() -> None:
    one = answered(faults={"no-final"}).wait(10).say(spoken(STOP) + silence(5)).close()
    assert finals(one) == []


def test_final_texts_can_wait_until_the_stream_closes() -> None:
    one = answered(faults={"late-final"}).wait(10).say(spoken(STOP) + silence(9))
    assert finals(one) == []
    one.close()
    assert finals(one)[:2] == list(LONG.sentences)


def test_an_interruption_ends_the_audio_confirms_what_was_spoken_and_says_so() -> None:
    one = answered().wait(1.4).burst(spoken(STOP, 0.1))
    tail = [
        event
        for event in one.events(said.BotSpeechEnded, said.TextHeard, said.Interrupted)
        if not (isinstance(event, said.TextHeard) and event.stage is Stage.SPECULATIVE)
    ]
    names = [type(event).__name__ for event in tail]
    assert names == [
        "TextHeard",  # the caller
        "BotSpeechEnded",  # the first sentence
        "BotSpeechEnded",
        "TextHeard",
        "TextHeard",
        "Interrupted",  # the literal
        "Interrupted",  # the end of its block
    ]
    assert finals(one) == ["One two three four.", "Five"]
    assert audio_stops(one)[-1] is StopReason.END_TURN
    assert one.peer.record.interruptions == [one.now]


def test_after_an_interruption_the_old_answer_is_over_and_the_new_one_comes() -> None:
    one = answered().wait(1.1).burst(spoken(STOP, 0.5))
    before = sent_s(one)
    one.wait(2)
    assert sent_s(one) == before
    one.burst(silence(1.6)).wait(4)
    assert one.brain.asked == ["hello there", "stop it please"]
    assert finals(one)[-1:] != []


def test_the_spoken_part_of_an_interrupted_turn_is_confirmed_in_words() -> None:
    one = answered().wait(0.6).burst(spoken(STOP, 0.1))
    assert finals(one) == ["One two"]
    assert one.peer.record.said == []


def test_who_speaks_after_the_audio_was_sent_is_answered_without_an_interruption() -> None:
    one = answered().wait(2.5).say(spoken(STOP) + silence(3))
    assert one.events(said.Interrupted) == []
    assert one.brain.asked == ["hello there", "stop it please"]
    assert finals(one)[:2] == list(LONG.sentences)


def test_playout_can_be_interrupted_too_and_confirms_what_was_played() -> None:
    one = answered(timing=Timing(interruptible_playout=True)).wait(5.2).burst(spoken(STOP, 0.1))
    assert len(one.events(said.Interrupted)) == 2
    assert finals(one) == ["One two three four.", "Five"]
    assert audio_stops(one)[-1] is StopReason.END_TURN


def test_playout_that_is_over_cannot_be_interrupted() -> None:
    one = answered(timing=Timing(interruptible_playout=True)).wait(8.1).burst(spoken(STOP, 0.1))
    assert one.events(said.Interrupted) == []


def test_an_interruption_can_be_silent() -> None:
    one = answered(faults={"no-interruption"}).wait(1.1).burst(spoken(STOP, 0.1))
    assert one.events(said.Interrupted) == []
    assert audio_stops(one)[-1] is StopReason.END_TURN
    assert finals(one)[0] == "One two three four."


def test_the_text_of_an_interruption_can_come_before_the_end_of_the_audio() -> None:
    one = answered(faults={"text-before-audio-end"}).wait(0.6).burst(spoken(STOP, 0.1))
    last = one.events(said.Interrupted, said.BotSpeechEnded)
    assert isinstance(last[-1], said.BotSpeechEnded)


def test_the_audio_can_end_interrupted() -> None:
    one = answered(faults={"audio-interrupted"}).wait(0.6).burst(spoken(STOP, 0.1))
    assert audio_stops(one) == [StopReason.INTERRUPTED]


def test_an_interruption_can_be_announced_twice() -> None:
    one = answered(faults={"double-interruption"}).wait(0.6).burst(spoken(STOP, 0.1))
    assert len(one.events(said.Interrupted)) == 4
    assert finals(one) == ["One two"]


@pytest.mark.parametrize("faults", [{"no-final"}, {"late-final"}])
def test_an_interruption_without_final_texts_still_says_so(faults: set[str]) -> None:
    one = answered(faults=faults).wait(1.1).burst(spoken(STOP, 0.1))
    assert finals(one) == []
    assert len(one.events(said.Interrupted)) == 2
