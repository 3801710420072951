"""Each promise of a demo is broken by what it is about, and by nothing in a call that went well."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opusagent.audio.formats import MediaFormat
from opusagent.demo.comebacks import Comeback
from opusagent.demo.promises import broken_promises
from opusagent.demo.result import DemoResult, HeardPhrase
from opusagent.demo.switches import Switch
from opusagent.models.session_state import ConversationItem, Role, Turn
from opusagent.simulators.caller_playout import Hole, PlaySpan
from opusagent.simulators.caller_record import CallRecord, Phrase
from opusagent.simulators.hearing import Heard
from opusagent.simulators.scenario import load_scenario
from opusagent.simulators.stream_report import Spoken, StreamReport
from opusagent.simulators.verdict import Finding, Rule, Verdict

SCENARIO = """
name = "two-streams"
description = "A stream is cut while the caller tells her name."
[setup]
limit_s = 20
faults = ["reset:stream=1:after=3"]
[[phrase]]
id = "name"
text = "I am Ann."
facts = { who = "Ann" }
answer = ["Hello, {who}."]
[[phrase]]
id = "goodbye"
text = "Goodbye."
answer = ["Goodbye."]
[[step]]
do = "say"
phrase = "name"
[[step]]
do = "wait"
answer_contains = ["Hello, Ann"]
[[step]]
do = "say"
phrase = "goodbye"
[[step]]
do = "hang_up"
[[switch]]
reason = "lost"
during = "name"
"""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def phrase(label: str, began_at: float, ended_at: float, *, expects_answer: bool) -> Phrase:
    return Phrase(
        label=label,
        began_at=began_at,
        ended_at=ended_at,
        over_bot=False,
        expects_answer=expects_answer,
        first_sample=0,
        end_sample=0,
    )


def item(kind: str, text: str, seconds: float) -> ConversationItem:
    return ConversationItem.model_validate({"type": kind, "text": text, "at": at(seconds)})


def stream(number: int, opened: float, ended: float, **more: object) -> StreamReport:
    return StreamReport.model_validate(
        {
            "stream": number,
            "model_id": "any",
            "asked_at": at(opened),
            "head_at": at(opened),
            "ended_at": at(ended),
            "closed_at": at(ended),
            **more,
        }
    )


def whole(text: str) -> Heard:
    return Heard(text=text, words=text, phrase_id=text, score=1.0, begins_ms=0, ends_ms=900)


@pytest.fixture
def result(tmp_path: Path) -> DemoResult:
    """A call in which every promise was kept."""
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    answer = PlaySpan(
        stream_id="1",
        media_format=MediaFormat.LPCM16_24K,
        opened_at=6.0,
        closed_at=6.8,
        began_at=6.0,
        ended_at=7.0,
    )
    record = CallRecord(began_at=0.0, ended_at=9.0, played=[answer])
    record.phrases = [
        phrase("I am Ann.", 2.0, 4.0, expects_answer=True),
        phrase("Goodbye.", 8.0, 9.0, expects_answer=False),
    ]
    past = (Turn(role=Role.USER, text="[call connected]"),)
    return DemoResult(
        scenario=load_scenario(path),
        record=record,
        verdict=Verdict(()),
        transcript=[item("input", "I am Ann.", 5.5), item("output", "Hello, Ann.", 6.0)],
        heard=[
            HeardPhrase(
                phrase="name",
                text="I am Ann.",
                score=1.0,
                whole=True,
                missing_ms=0,
                repeated_ms=0,
            )
        ],
        at_phone=[(whole("Hello, Ann."),)],
        streams=[
            stream(1, 0.0, 3.0, cut="reset"),
            stream(2, 3.1, 9.0, history=past, said=(Spoken(at=at(6.2), text="Hello, Ann."),)),
        ],
        switches=[
            Switch(
                old=1,
                new=2,
                reason="lost",
                at_s=3.1,
                age_s=3.0,
                history_items=1,
                history_bytes=16,
                replayed_ms=1500,
                lost_ms=0,
                gap_ms=100,
                first_frame_ms=20,
            )
        ],
        log=[{"event": "call ended", "level": "info", "at_s": 9.0}],
        began=BEGAN,
    )


def change_stream(result: DemoResult, number: int, **changes: object) -> None:
    streams = {one.stream: one for one in result.streams}
    streams[number] = streams[number].model_copy(update=changes)
    result.streams = list(streams.values())


def change_switch(result: DemoResult, **changes: object) -> None:
    result.switches = [replace(result.switches[0], **changes)]  # type: ignore[arg-type]


def answer_again(result: DemoResult) -> None:
    change_stream(result, 1, said=(Spoken(at=at(5.9), text="Hello, Ann."),))


def test_a_call_that_went_well_breaks_no_promise(result: DemoResult) -> None:
    assert broken_promises(result) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda r: setattr(
                r, "verdict", Verdict((Finding(rule=Rule.ACCEPT, words="took 9 s"),))
            ),
            "took 9 s",
        ),
        (
            lambda r: setattr(r, "transcript", [r.transcript[0]]),
            "lacks 'Hello, Ann'",
        ),
        (
            lambda r: setattr(r, "heard", [replace(r.heard[0], whole=False)]),
            "as a whole 0 times, not 1",
        ),
        (lambda r: r.heard.append(r.heard[0]), "as a whole 2 times, not 1"),
        (
            lambda r: r.transcript.insert(0, r.transcript[0]),
            "the transcript has 'I am Ann.' 2 times",
        ),
        (answer_again, "the service said 'Hello, Ann.' 2 times, not 1"),
        (
            lambda r: setattr(r, "at_phone", [(replace(whole("Hello, Ann."), holes_ms=90),)]),
            "with 90 ms missing",
        ),
        (
            lambda r: setattr(r, "at_phone", [(replace(whole("Hello, Ann."), repeated_ms=90),)]),
            "90 ms doubled",
        ),
        (lambda r: setattr(r, "at_phone", [()]), "said 1 times and heard 0 times"),
        (
            lambda r: setattr(r, "at_phone", [(whole("Hello, Ann."), whole("Hello, Ann."))]),
            "said 1 times and heard 2 times",
        ),
        (
            lambda r: r.record.played[0].holes.append(Hole(6.5, 0.041)),
            "silent for 41 ms at 6.50 s, 0.50 s into",
        ),
        (lambda r: r.switches.clear(), "none and lost"),
        (lambda r: change_switch(r, reason="deadline"), "deadline and lost"),
        (lambda r: change_switch(r, at_s=5.0), r"the caller said \[\], not \['I am Ann.'\]"),
        (lambda r: change_switch(r, lost_ms=160), "160 ms of the caller reached no stream"),
        (
            lambda r: r.log.append({"event": "audio dropped", "ms": 20, "where": "outbox"}),
            r"20 ms of audio were dropped \(outbox\)",
        ),
        (lambda r: change_stream(r, 2, cut="ValidationException"), "stream 2 was ended by"),
        (lambda r: change_stream(r, 2, closed_at=None), "stream 2 was left open"),
        (lambda r: change_stream(r, 2, ended_at=at(23.2)), "stream 2 lived for 20.1 s"),
        (
            lambda r: change_stream(r, 2, history=(Turn(role=Role.ASSISTANT, text="Hi."),)),
            "the history of stream 2 begins with",
        ),
        (lambda r: change_switch(r, history_items=2), "did not get the 2 turns"),
        (
            lambda r: r.log.append({"event": "call failed", "level": "error"}),
            "the bridge logged an error: call failed",
        ),
    ],
)
def test_a_promise_is_broken_by_what_it_is_about(
    result: DemoResult, spoil: Callable[[DemoResult], object], words: str
) -> None:
    spoil(result)
    broken = broken_promises(result)
    assert any(re.search(words, one) for one in broken), broken


def test_an_answer_that_the_caller_cut_off_need_not_be_whole(result: DemoResult) -> None:
    result.record.played[0].cut_at = 6.5
    result.at_phone = [(replace(whole("Hello, Ann."), missing_end_ms=400),)]
    assert broken_promises(result) == []
    result.at_phone = [()]
    assert broken_promises(result) == []


def test_what_the_caller_says_while_she_hangs_up_need_not_be_heard(result: DemoResult) -> None:
    result.record.phrases[1] = replace(result.record.phrases[1], expects_answer=True)
    (broken,) = broken_promises(result)[:1]
    assert "'Goodbye.' as a whole 0 times, not 1" in broken


KILLED = """
name = "killed"
description = "The bridge is killed while the bot answers."
[setup]
bridges = 2
store = true
[[typed]]
pattern = "greet"
answer = ["Ann's bank."]
[[phrase]]
id = "name"
text = "I am Ann."
facts = { who = "Ann" }
answer = ["Hello, {who}.", "I see."]
[[step]]
do = "say"
phrase = "name"
[[step]]
do = "kill_bridge"
after_s = 1.0
[[step]]
do = "wait"
answer_contains = ["Hello, Ann", "I see"]
[[step]]
do = "hang_up"
"""


def spoken(*texts: tuple[str, float]) -> tuple[Spoken, ...]:
    return tuple(Spoken(at=at(seconds), text=text) for text, seconds in texts)


def play(name: str, began: float, ended: float, *, lost: float | None = None) -> PlaySpan:
    return PlaySpan(
        stream_id=name,
        media_format=MediaFormat.LPCM16_24K,
        opened_at=began,
        closed_at=None if lost else ended,
        lost_at=lost,
        began_at=began,
        ended_at=ended,
        heard_s=ended - began,
    )


@pytest.fixture
def killed(tmp_path: Path) -> DemoResult:
    """A call that went on at another bridge, with every promise kept.

    The first bridge has said one sentence and begun another; the next one says both.
    """
    path = tmp_path / "killed.toml"
    path.write_text(KILLED)
    plays = [play("1", 0.2, 1.0), play("2", 6.0, 7.5, lost=7.2), play("3", 8.5, 10.5)]
    record = CallRecord(began_at=0.0, ended_at=12.0, played=plays)
    record.phrases = [phrase("I am Ann.", 2.0, 4.0, expects_answer=True)]
    part = replace(whole("I see."), words="I …", missing_end_ms=300)
    hello, see, greeting = whole("Hello, Ann."), whole("I see."), whole("Ann's bank.")
    past = (Turn(role=Role.USER, text="[call connected]"),)
    return DemoResult(
        scenario=load_scenario(path),
        record=record,
        verdict=Verdict(()),
        transcript=[
            item("output", "Ann's bank.", 0.2),
            item("input", "I am Ann.", 5.5),
            item("output", "Hello, Ann. I see.", 8.5),
        ],
        heard=[
            HeardPhrase(
                phrase="name",
                text="I am Ann.",
                score=1.0,
                whole=True,
                missing_ms=0,
                repeated_ms=0,
            )
        ],
        at_phone=[(greeting,), (hello, part), (hello, see)],
        streams=[
            stream(
                1,
                0.0,
                7.2,
                typed=spoken(("Please greet the caller.", 0.1)),
                heard=spoken(("I am Ann.", 5.5)),
                said=spoken(("Ann's bank.", 0.3), ("Hello, Ann.", 6.1)),
            ),
            stream(
                2,
                8.0,
                12.0,
                history=past,
                typed=spoken(("I am Ann.", 8.1)),
                said=spoken(("Hello, Ann.", 8.6), ("I see.", 8.7)),
            ),
        ],
        switches=[],
        comebacks=[
            Comeback(
                old=1,
                new=2,
                killed=True,
                at_s=7.2,
                resume_ms=600,
                accepted_ms=20,
                frame_sent_ms=1200,
                frame_ms=5,
                bot_ms=1300,
                stream=2,
                history=past,
            )
        ],
        log=[],
        began=BEGAN,
    )


def change_comeback(result: DemoResult, **changes: object) -> None:
    result.comebacks = [replace(result.comebacks[0], **changes)]  # type: ignore[arg-type]


def greet_again(result: DemoResult) -> None:
    again = spoken(("Ann's bank.", 8.5))
    change_stream(result, 2, said=(*again, *result.streams[1].said))


def test_a_call_that_went_on_at_another_bridge_breaks_no_promise(killed: DemoResult) -> None:
    assert broken_promises(killed) == []
    assert killed.turns_lost == []
    assert [killed.bridge_of(one) for one in killed.streams] == [1, 2]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: r.record.in_vain.append("the bot to speak"), "in vain for the bot to speak"),
        (greet_again, r"greeted 2 times with \"Ann's bank.\""),
        (lambda r: r.comebacks.clear(), "the websocket was lost 0 times, not 1"),
        (lambda r: change_comeback(r, accepted_ms=None), "session.resume was not taken"),
        (lambda r: change_comeback(r, accepted_ms=501), "session.resume took 501 ms"),
        (lambda r: change_comeback(r, frame_ms=None), "no frame of the caller reached the model"),
        (lambda r: r.transcript.pop(1), "'I am Ann.' was heard and is not in the transcript"),
        (lambda r: r.transcript.pop(0), 'bank." was heard and is not in the transcript'),
        (
            lambda r: setattr(
                r, "at_phone", [r.at_phone[0], *(sentences[1:] for sentences in r.at_phone[1:])]
            ),
            "'Hello, Ann.' is in the transcript and nobody has heard it",
        ),
        (lambda r: change_stream(r, 2, typed=()), "stream 2 was not told 'I am Ann.'"),
        (lambda r: change_comeback(r, stream=None), "no stream was opened for the caller"),
        (lambda r: change_comeback(r, killed=False), "'I see.' was heard at the phone with 300 ms"),
        (lambda r: change_comeback(r, killed=False), "said 'Hello, Ann.' 2 times, not 1"),
    ],
)
def test_a_promise_about_callers_who_come_back_is_broken_by_what_it_is_about(
    killed: DemoResult, spoil: Callable[[DemoResult], object], words: str
) -> None:
    spoil(killed)
    broken = broken_promises(killed)
    assert any(re.search(words, one) for one in broken), broken


def test_what_the_model_understood_at_the_moment_of_the_kill_need_not_be_stored(
    killed: DemoResult,
) -> None:
    change_stream(killed, 1, heard=spoken(("I am Ann.", 7.15)))
    change_stream(killed, 2, typed=())
    assert not any("was not told" in one for one in broken_promises(killed))


def test_a_sentence_over_two_websockets_is_shared_out_by_its_words(killed: DemoResult) -> None:
    long = replace(whole("one two three four"), begins_ms=500, ends_ms=2_500)
    killed.at_phone = [(), (replace(whole("Well."), ends_ms=450), long), (whole("And so on."),)]
    assert killed.words_at_phone == ["", "Well. one two …", "… three four And so on."]
