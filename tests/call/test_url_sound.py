"""Sounds that VoiceAI Connect plays from a URL are heard to their end, as far as it can be known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from opusagent.audiocodes.peer_events import PromptsAborted, Speech, SpeechKind
from opusagent.call.call import Phase
from opusagent.call.functions import GOODBYE_TO_COME
from opusagent.call.plan import Recording
from opusagent.models.agent import Agent
from opusagent.models.telephone import Filler, Silence, Sound, Target, TelephoneFunction
from opusagent.models.telephone import TelephoneTools as Telephone
from tests.call.driver import PLAN, CallDriver, bot_pcm
from tests.call.test_telephone import activities, ask, result

PROMPT = "Ask whether she is there."
SECTION = Telephone(
    type="telephone",
    functions=tuple(TelephoneFunction),
    targets={"support": Target(to="tel:+15551234")},
    sounds={
        "song": Sound(url="https://example.com/song.wav"),
        "jingle": Sound(url="https://example.com/jingle.wav", max_s=5.0),
    },
)


def a_call(
    *,
    silence: Silence | None = None,
    filler: Filler | None = None,
    ends_are_told: bool = True,
    **plan: Any,
) -> CallDriver:
    agent = Agent(system_prompt="x", tools=(SECTION,), silence=silence, filler=filler or Filler())
    call = CallDriver(plan=replace(PLAN, agent=agent, **plan))
    call.answer()
    call.quiet(0.1)
    call.hears("Hello.")
    if ends_are_told:
        finished(call, 1.0)  # what VoiceAI Connect has played before the bot spoke
    return call


def play(call: CallDriver, sound: str = "song") -> None:
    """VoiceAI Connect plays a sound, of which the model knows."""
    ask(call, "play_url", {"sound": sound}, f"play-{sound}")
    call.quiet(0.2)
    assert result(call, f"play-{sound}") == {"status": "playing"}


def finished(call: CallDriver, seconds: float) -> None:
    call.phone.play_finished(round(seconds * 1000))
    call.flush()


def names(call: CallDriver) -> list[str]:
    return [one["name"] for one in activities(call)]


# Silence


def test_who_listens_to_a_sound_is_not_silent() -> None:
    call = a_call(silence=Silence(after_s=10.0, prompt=PROMPT, prompts=2))
    play(call)
    call.says("Enjoy.", 1, 0.5)
    call.quiet(40.0)
    call.phone.no_user_input(1)
    call.flush()
    assert call.live.typed == []
    finished(call, 40.0)
    call.quiet(9.0)
    assert call.live.typed == []
    call.quiet(2.0)
    assert call.live.typed == [PROMPT]


@pytest.mark.parametrize(("sound", "max_s"), [("song", 60.0), ("jingle", 5.0)])
def test_a_sound_whose_end_is_not_told_counts_as_over_after_its_longest_time(
    sound: str, max_s: float
) -> None:
    call = a_call(silence=Silence(after_s=10.0, prompt=PROMPT), ends_are_told=False)
    play(call, sound)
    call.says("Enjoy.", 1, 0.5)
    call.quiet(max_s + 9.0)
    assert call.live.typed == []
    call.quiet(2.0)
    assert call.live.typed == [PROMPT]


def test_a_sound_that_fails_is_over() -> None:
    call = a_call(silence=Silence(after_s=10.0, prompt=PROMPT))
    play(call)
    call.phone.activity("playUrlFailed", value={"reason": "404"})
    call.flush()
    call.says("That does not work.", 1, 1.0)
    call.quiet(12.0)
    assert call.live.typed[1:] == [PROMPT]


def test_a_filler_is_not_said_into_a_sound() -> None:
    call = a_call(filler=Filler(after_s=1.0, text="Say that it takes."))
    play(call)
    ask(call, "lookup", {}, "t-2")
    call.quiet(5.0)
    assert call.live.typed == []
    finished(call, 5.2)
    call.quiet(0.5)
    assert call.live.typed == ["Say that it takes."]


def test_who_is_asked_for_digits_by_a_sound_hears_it_before_the_wait_begins() -> None:
    call = a_call()
    play(call)
    ask(call, "collect_digits", {"count": 2}, "t-2")
    call.quiet(20.0)
    finished(call, 20.0)
    call.quiet(9.0)
    call.phone.dtmf("12")
    call.flush()
    assert result(call, "t-2") == {"digits": "12"}


# What waits for it


@pytest.mark.parametrize(
    ("name", "arguments", "wire"),
    [
        ("hang_up", {}, "hangup"),
        ("transfer_call", {"target": "support"}, "transfer"),
        ("play_url", {"sound": "jingle"}, "playUrl"),
    ],
)
def test_a_sound_is_heard_before_what_would_cut_it_off(
    name: str, arguments: dict[str, Any], wire: str
) -> None:
    call = a_call()
    play(call)
    ask(call, name, arguments, "t-2")
    call.quiet(20.0)
    assert names(call) == ["playUrl"]
    finished(call, 20.0)
    call.quiet(0.5)
    assert names(call) == ["playUrl", wire]


@pytest.mark.parametrize(("sound", "max_s"), [("song", 15.0), ("jingle", 5.0)])
@pytest.mark.parametrize(
    ("name", "arguments", "wire"),
    [("hang_up", {}, "hangup"), ("transfer_call", {"target": "support"}, "transfer")],
)
def test_a_sound_whose_end_is_not_told_holds_a_hang_up_or_a_transfer_for_a_while(
    sound: str, max_s: float, name: str, arguments: dict[str, Any], wire: str
) -> None:
    call = a_call(ends_are_told=False)
    play(call, sound)
    call.says("Goodbye.", 1, 1.0)
    ask(call, name, arguments, "t-2")
    call.quiet(max_s - 0.5)
    assert names(call) == ["playUrl"]
    call.quiet(1.0)
    assert names(call) == ["playUrl", wire]


def test_a_sound_whose_end_is_told_holds_a_hang_up_for_as_long_as_it_may_play() -> None:
    call = a_call()
    play(call)
    ask(call, "hang_up", {}, "t-2")
    call.quiet(59.0)
    assert call.hung_up is None
    call.quiet(1.5)
    assert call.hung_up == ""


def test_a_sound_that_may_have_ended_is_not_taken_for_the_goodbye() -> None:
    call = a_call(ends_are_told=False)
    play(call)
    call.quiet(10.0)
    ask(call, "hang_up", {}, "t-2")
    assert result(call, "t-2") == GOODBYE_TO_COME
    call.says("Goodbye.", 1, 1.0)
    call.quiet(6.0)
    assert call.hung_up == ""


def test_a_sound_that_surely_plays_may_be_the_goodbye() -> None:
    call = a_call()
    play(call)
    ask(call, "hang_up", {}, "t-2")
    assert "t-2" not in dict(call.live.results)
    finished(call, 0.2)
    call.quiet(0.5)
    assert call.hung_up == ""


def test_who_says_goodbye_after_a_sound_that_may_have_ended_is_hung_up() -> None:
    call = a_call(ends_are_told=False)
    play(call)
    call.quiet(5.0)
    call.says("Goodbye.", 1, 1.0)
    call.quiet(1.5)
    ask(call, "hang_up", {"reason": "all said"}, "t-2")
    call.talk(0.4)
    call.quiet(0.5)
    assert call.hung_up == "all said"


@pytest.mark.parametrize("ends_are_told", [True, False])
def test_an_apology_does_not_wait_for_a_sound(*, ends_are_told: bool) -> None:
    sorry = Recording({24_000: bot_pcm(9, 2.0)})
    call = a_call(ends_are_told=ends_are_told, failure_audio=sorry)
    play(call)
    call.quiet(1.0)
    call.breaks("AccessDeniedException")
    call.advance(1.9)
    assert call.refused is None
    call.advance(1.0)
    assert call.refused is not None


def test_what_the_bot_says_after_a_sound_is_heard_before_the_transfer() -> None:
    call = a_call()
    play(call)
    ask(call, "transfer_call", {"target": "support"}, "t-2")
    call.quiet(30.0)
    call.says("I put you through.", 1, 3.0)
    finished(call, 30.0)
    call.quiet(2.8)
    assert names(call) == ["playUrl"]
    call.quiet(1.0)
    assert names(call) == ["playUrl", "transfer"]


def test_the_end_of_what_the_bot_has_said_is_not_the_end_of_the_sound() -> None:
    call = a_call()
    call.says("I play you something.", 1, 2.0)
    ask(call, "play_url", {"sound": "song"})
    call.quiet(2.6)
    assert names(call) == ["playUrl"]
    call.says("Enjoy.", 1, 0.8)
    finished(call, 2.0)  # late: it began before the sound
    call.quiet(3.0)
    finished(call, 0.81)
    ask(call, "hang_up", {}, "t-2")
    call.quiet(10.0)
    assert call.hung_up is None
    call.phone.activity("playFinished", value={"status": "finished"})
    call.flush()
    call.quiet(0.5)
    assert call.hung_up == ""


def test_a_sound_that_is_as_long_as_a_turn_that_has_ended_is_over_when_that_is_told() -> None:
    call = a_call()
    call.says("I play you something.", 1, 3.38)
    call.quiet(4.0)
    finished(call, 3.384)
    play(call)
    ask(call, "hang_up", {}, "t-2")
    call.quiet(3.3)
    assert call.hung_up is None
    finished(call, 3.4)
    call.quiet(0.5)
    assert call.hung_up == ""


def test_the_end_of_a_turn_is_not_the_end_of_the_sound_though_the_turn_before_was_as_long() -> None:
    call = a_call()
    call.says("I play you something.", 1, 1.0)
    call.quiet(1.6)
    finished(call, 1.0)
    play(call)
    call.says("Enjoy the music.", 1, 1.0)
    call.quiet(1.2)
    finished(call, 1.0)
    ask(call, "hang_up", {}, "t-2")
    call.quiet(5.0)
    assert call.hung_up is None


# Cutting it off


def test_a_caller_who_speaks_over_a_sound_keeps_the_call() -> None:
    call = a_call()
    play(call)
    ask(call, "hang_up", {}, "t-2")
    call.quiet(1.0)
    call.talk(0.5)
    assert "the caller began to speak" in result(call, "t-2")["error"]
    call.quiet(20.0)
    assert call.hung_up is None
    assert call.call.phase is Phase.TALKING


def test_a_caller_who_has_cut_a_sound_off_may_be_silent_after_it() -> None:
    call = a_call(silence=Silence(after_s=10.0, prompt=PROMPT))
    play(call)
    call.talk(0.5)
    call.quiet(0.5)
    call.hears("Stop it.")
    call.says("All right.", 1, 1.0)
    call.quiet(12.0)
    assert call.live.typed == [PROMPT]


def test_a_sound_goes_on_where_callers_cannot_interrupt() -> None:
    call = a_call(barge_in=False, abort_prompts=False)
    play(call)
    ask(call, "hang_up", {}, "t-2")
    call.talk(0.5)
    call.quiet(10.0)
    assert names(call)[1:] == []
    finished(call, 10.5)
    call.quiet(0.5)
    assert call.hung_up == ""


@pytest.mark.parametrize("barge_in", [True, False])
def test_a_key_ends_a_sound_as_it_silences_the_bot(*, barge_in: bool) -> None:
    call = a_call(barge_in=barge_in)
    play(call)
    ask(call, "transfer_call", {"target": "support"}, "t-2")
    before = call.now
    call.phone.dtmf("1")
    call.flush()
    told = call.since(before)
    assert any(isinstance(one, PromptsAborted) for one in told)
    kinds = [one.kind for one in told if isinstance(one, Speech)]
    assert (SpeechKind.STARTED in kinds) is barge_in
    call.quiet(0.5)
    assert "the caller began to speak" in result(call, "t-2")["error"]
    call.assert_lawful()


def test_a_key_leaves_a_sound_alone_where_it_does_not_silence_the_bot() -> None:
    call = a_call(barge_in_on_dtmf=False)
    play(call)
    before = call.now
    call.phone.dtmf("1")
    call.flush()
    assert call.since(before) == []
