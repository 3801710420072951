"""`bench --switches`: that the figures tell what went wrong, and that a few switches can be measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest
import uvloop

from opusagent.audio.speech import rms
from opusagent.bench.switches import report
from opusagent.bench.switches.cases import CASES, Case, ServiceHabits
from opusagent.bench.switches.facts import (
    Arrival,
    BridgeLine,
    BridgeLog,
    Reply,
    ServiceStream,
    Told,
    read_replies,
    read_streams,
)
from opusagent.bench.switches.figures import CaseFigures
from opusagent.bench.switches.frames import Frame, FrameReader, find, write
from opusagent.bench.switches.measure import measure
from opusagent.bench.switches.mind import (
    DATA,
    FINISH,
    NumberEars,
    NumberMind,
    answer_parts,
    as_keys,
    turn_text,
    turns_in,
)
from opusagent.bench.switches.phone import CallLog, Chunk, Turn, conversation_id
from opusagent.bench.switches.promises import promises
from opusagent.bench.switches.run import run_case
from opusagent.sonic.peer_brain import PeerContext, ToolAnswer
from opusagent.sonic.peer_brain import Reply as Spoken

# Frames and minds


def test_a_frame_tells_whose_it_is_however_the_audio_was_cut() -> None:
    frames = [Frame(3, turn, number, 10**12 + number) for number, turn in enumerate([0, 1, 1, 0])]
    pcm = b"".join(write(frame, 24_000) for frame in frames)
    assert find(pcm) == frames
    for size in (2, 30, 38, 40, 962):
        reader = FrameReader()
        pieces = [pcm[at : at + size] for at in range(0, len(pcm), size)]
        assert [frame for piece in pieces for frame in reader.feed(piece)] == frames


def test_a_frame_of_a_turn_counts_as_speech_and_one_of_silence_does_not() -> None:
    assert rms(write(Frame(65_535, 1, 2**32 - 1, 2**64 - 1), 16_000)) > 2000
    assert rms(write(Frame(65_535, 0, 2**32 - 1, 2**64 - 1), 16_000)) < 60


def test_ears_hear_the_turns_and_nothing_in_silence() -> None:
    pcm = b"".join(write(Frame(7, turn, 0, 0), 16_000) for turn in (0, 4, 4, 5, 0))
    heard = NumberEars().hear(pcm, 16_000).text
    assert turns_in(heard) == [(7, 4), (7, 5)]
    assert not NumberEars().hear(write(Frame(7, 0, 0, 0), 16_000), 16_000).text


def test_a_turn_is_recognised_as_words_as_keys_and_as_the_result_of_a_tool() -> None:
    keys = " ".join(as_keys(12, 3))
    assert turns_in(f"The caller pressed these keys on the telephone: {keys}") == [(12, 3)]
    assert turns_in('has returned {"turn": "12/3"}]') == [(12, 3)]
    assert turns_in(f"{turn_text(12, 3)}; {turn_text(12, 3)}") == [(12, 3)]


def test_a_mind_answers_each_turn_with_frames_that_name_it() -> None:
    begun: list[tuple[int, int]] = []
    mind = NumberMind(9, 1.0, replied=lambda call, turn: begun.append((call, turn)))
    reply = mind.reply(turn_text(2, 5), PeerContext())
    assert begun == [(2, 5)]
    assert [part for text in reply.sentences for part in answer_parts(text)] == [
        (2, 5, 1),
        (2, 5, 2),
    ]
    numbers = [f for text in reply.sentences for f in find(mind.speak(text, 24_000))]
    assert numbers == [Frame(2, 5, number, 9) for number in range(50)]


def test_a_mind_with_a_tool_asks_for_it_first_and_not_when_the_result_is_typed() -> None:
    mind = NumberMind(1, 0.5, tools=True)
    (ask,) = mind.reply(turn_text(2, 5), PeerContext()).tools
    assert ask.arguments == {"turn": "2/5"}
    answer = mind.after_tools([ToolAnswer("id", ask.name, {"turn": "2/5"})], PeerContext())
    assert answer.sentences
    assert mind.reply(f'{DATA}: x has returned {{"turn": "2/5"}}]', PeerContext()) == Spoken(
        answer.sentences
    )


# The measures. A call of two turns; the second stream takes over in the middle of the second one.

CASE = Case(name="test", service=ServiceHabits(answer_s=0.5))
T = 1000.0
SENT = [
    (T + number * 0.02, 1 if 10 <= number < 30 else 2 if 100 <= number < 200 else 0)
    for number in range(300)
]
SWITCH_AT = T + 3.0  # frame 150


def arrivals(numbers: Sequence[int], at: float | None = None) -> list[Arrival]:
    return [
        Arrival(
            SENT[n][0] + 0.005 if at is None else at, Frame(1, SENT[n][1], n, int(SENT[n][0] * 1e9))
        )
        for n in numbers
    ]


def answer(turn: int, mind: int, at: float, numbers: Sequence[int] = range(25)) -> list[Chunk]:
    """Handed over in pieces of a frame."""
    return [
        Chunk(at + k * 0.02, at + k * 0.02, at + (k + 1) * 0.02, 0.0, (Frame(1, turn, n, mind),))
        for k, n in enumerate(numbers)
    ]


FIRST = ServiceStream(
    number=1,
    call=1,
    mind=1,
    opened_at=T,
    struck_at=None,
    frames=arrivals(range(150)),
    known="",
    typed=[],
    heard=[Told(T + 1.2, turn_text(1, 1))],
    said=[Told(T + 1.5, "answer 1/1 part 1 of 1")],
    results=frozenset(),
)
SECOND = ServiceStream(
    number=2,
    call=1,
    mind=2,
    opened_at=SWITCH_AT,
    struck_at=None,
    frames=[*arrivals(range(100, 150), SWITCH_AT + 0.001), *arrivals(range(150, 300))],
    known="turn 1/1 answer 1/1 part 1 of 1",
    typed=[],
    heard=[Told(T + 4.6, turn_text(1, 2))],
    said=[Told(T + 4.9, "answer 1/2 part 1 of 1")],
    results=frozenset(),
)
REPLIES = [Reply(T + 1.3, 1, 1, 1), Reply(T + 4.7, 2, 1, 2)]
LOG = CallLog(
    call=1,
    began_at=T - 1,
    ended_at=T + 6,
    sent=SENT,
    turns=[Turn(1, keyed=False, began_at=T + 0.2), Turn(2, keyed=False, began_at=T + 2)],
    chunks=[*answer(1, 1, T + 1.4), *answer(2, 2, T + 4.8)],
)


def line(event: str, at: float, **fields: Any) -> BridgeLine:
    return BridgeLine(at, conversation_id(1), event, fields)


LINES = [
    line("threshold reached", T + 1),
    line("stream switched", SWITCH_AT - 0.004, reason="deadline"),
]


def measured(
    *,
    case: Case = CASE,
    log: CallLog = LOG,
    streams: Sequence[ServiceStream] = (FIRST, SECOND),
    replies: Sequence[Reply] = REPLIES,
    lines: Sequence[BridgeLine] = LINES,
) -> CaseFigures:
    return measure(case, [log], {1: list(streams)}, replies, lines)


def broken(**changes: Any) -> list[str]:
    """The promises that these figures break."""
    return [promise.words for promise in promises([measured(**changes)]) if promise.met is False]


def changed(stream: ServiceStream, **changes: Any) -> ServiceStream:
    return dataclasses.replace(stream, **changes)


def test_a_switch_as_it_should_be_breaks_no_promise() -> None:
    figures = measured()
    assert figures.wrong == []
    assert broken() == []
    assert figures.switches == 1
    assert figures.situations == {"caller": 1}
    assert figures.doubled_ms == [1000]
    assert figures.first_frame_ms == [9.0]
    assert (figures.thresholds, figures.switched) == (1, 1)
    assert (figures.bot_frames, figures.turns) == (50, 2)


def test_a_frame_that_reached_no_stream_is_lost_be_it_speech_or_silence() -> None:
    for number in (160, 250):
        second = changed(SECOND, frames=[a for a in SECOND.frames if a.frame.number != number])
        assert broken(streams=(FIRST, second))[0] == "caller audio on no stream"
        assert measured(streams=(FIRST, second)).lost_ms == 20


def test_speech_that_only_the_old_stream_heard_is_missed_by_the_one_that_answers() -> None:
    frames = [a for a in SECOND.frames if a.frame.number != 100]
    words = ["caller audio that the answering stream missed"]
    assert broken(streams=(FIRST, changed(SECOND, frames=frames))) == words
    typed = [Told(SWITCH_AT, turn_text(1, 2))]
    assert broken(streams=(FIRST, changed(SECOND, frames=frames, typed=typed))) == []


def test_silence_is_not_missed_where_a_stream_was_lost() -> None:
    second = changed(SECOND, frames=[a for a in SECOND.frames if a.frame.number != 250])
    case = dataclasses.replace(CASE, planned=False)
    assert broken(case=case, streams=(FIRST, second)) == []


def test_what_was_sent_while_the_caller_hung_up_is_not_missed() -> None:
    log = dataclasses.replace(LOG, ended_at=SENT[-1][0] + 0.1)
    assert broken(log=log, streams=(FIRST, changed(SECOND, frames=SECOND.frames[:-2]))) == []


def test_speech_that_was_understood_or_answered_may_not_be_given_again() -> None:
    words = "caller audio given twice though understood or answered"
    first = changed(FIRST, heard=[*FIRST.heard, Told(SWITCH_AT - 0.2, turn_text(1, 2))])
    assert words in broken(streams=(first, SECOND))
    assert words in broken(replies=[*REPLIES, Reply(SWITCH_AT - 0.2, 1, 1, 2)])


def test_what_a_stream_tells_once_it_was_closed_does_not_count_as_understood_either() -> None:
    first = changed(FIRST, heard=[*FIRST.heard, Told(SWITCH_AT - 0.2, turn_text(1, 2))])
    closed = line("closed first", SWITCH_AT - 0.3)
    opened = line("stream opened", SWITCH_AT - 0.004)
    words = "caller audio given twice though understood or answered"
    second = changed(SECOND, known=f"{SECOND.known} {turn_text(1, 2)}")
    assert words in broken(streams=(first, second), lines=[LINES[0], opened])
    assert words not in broken(streams=(first, second), lines=[LINES[0], closed, opened])


def test_what_crossed_the_hand_over_on_its_way_does_not_count_as_understood() -> None:
    first = changed(FIRST, heard=[*FIRST.heard, Told(SWITCH_AT - 0.01, turn_text(1, 2))])
    assert broken(streams=(first, SECOND)) == []


def test_a_frame_that_comes_late_or_twice_on_one_stream_is_out_of_order() -> None:
    for extra in (160, 40):
        second = changed(SECOND, frames=[*SECOND.frames, *arrivals([extra])])
        assert "caller audio out of order" in broken(streams=(FIRST, second))


def test_a_gap_counts_only_in_an_answer_across_the_switch() -> None:
    chunks = answer(2, 2, SWITCH_AT - 0.2)
    chunks[12] = dataclasses.replace(chunks[12], late_s=0.05)
    words = ["gap in an answer across a switch, beyond one without"]
    assert broken(log=dataclasses.replace(LOG, chunks=[*answer(1, 1, T + 1.4), *chunks])) == words
    chunks = answer(1, 1, T + 1.4)
    chunks[12] = dataclasses.replace(chunks[12], late_s=0.05)
    assert broken(log=dataclasses.replace(LOG, chunks=[*chunks, *answer(2, 2, T + 4.8)])) == []


def test_an_answer_that_is_doubled_or_cut_is_told() -> None:
    twice = [*LOG.chunks, *answer(2, 2, T + 5.4, [24])]
    assert broken(log=dataclasses.replace(LOG, chunks=twice)) == ["bot audio doubled"]
    short = [*answer(1, 1, T + 1.4), *answer(2, 2, T + 4.8, range(24))]
    assert broken(log=dataclasses.replace(LOG, chunks=short)) == ["bot audio cut"]


def test_of_a_stream_that_was_cut_only_what_it_had_said_is_expected() -> None:
    first = changed(FIRST, struck_at=T + 1.45, said=[])
    short = dataclasses.replace(LOG, chunks=[*answer(1, 1, T + 1.4, [0]), *answer(2, 2, T + 4.8)])
    second = changed(SECOND, known="turn 1/1")
    case = dataclasses.replace(CASE, planned=False)
    found = measured(case=case, log=short, streams=(first, second))
    assert found.bot_cut_ms == []
    assert found.after_cut_ms == [pytest.approx(1551.0)]


BROKEN = Told(T + 1.5, f'{FINISH} in the middle of your sentence "answer 1/1 part 1 of 1"]')


def finished(numbers: Sequence[int] = range(25), **changes: Any) -> CaseFigures:
    """The first answer breaks off after ten frames; the second stream says it once more."""
    first = changed(FIRST, struck_at=T + 1.6, said=[])
    second = changed(SECOND, known="turn 1/1 answer 1/1 part 1 of 1", typed=[BROKEN])
    chunks = [
        *answer(1, 1, T + 1.4, range(10)),
        *answer(1, 2, T + 3.4, numbers),
        *answer(2, 2, T + 4.8),
    ]
    log = dataclasses.replace(LOG, chunks=chunks, **changes)
    return measured(streams=(first, second), log=log)


def test_an_answer_that_broke_off_may_be_finished_by_another_stream() -> None:
    found = finished()
    assert (found.bot_doubled, found.twice, found.bot_cut_ms) == (0, 0, [])
    assert found.repeated_ms == [200]
    assert found.goes_on_ms == [pytest.approx(1800.0)]
    assert finished(range(20)).bot_cut_ms == [100]


def test_unless_the_caller_takes_the_word_meanwhile() -> None:
    assert finished(range(20), silenced_at=[T + 3.8]).bot_cut_ms == []


def test_a_mind_that_is_asked_to_finish_an_answer_says_the_rest_of_it() -> None:
    replied: list[tuple[int, int]] = []
    mind = NumberMind(1, 1.5, replied=lambda call, turn: replied.append((call, turn)))
    asked = f'{FINISH} in the middle of your sentence "answer 1/2 part 2 of 3"]'
    assert mind.reply(asked, PeerContext()).sentences == (
        "answer 1/2 part 2 of 3",
        "answer 1/2 part 3 of 3",
    )
    assert replied == []


def test_a_turn_is_answered_once() -> None:
    never = dataclasses.replace(LOG, chunks=answer(1, 1, T + 1.4))
    assert broken(log=never) == ["caller turns never answered"]
    both = dataclasses.replace(LOG, chunks=[*LOG.chunks, *answer(2, 1, T + 5.4)])
    assert "caller turns answered twice" in broken(log=both)


def test_what_the_next_stream_is_not_told_is_lost() -> None:
    words = ["history items lost"]
    assert broken(streams=(FIRST, changed(SECOND, known="turn 1/1"))) == words
    assert broken(streams=(FIRST, changed(SECOND, known="answer 1/1 part 1 of 1"))) == words


def test_a_turn_that_is_typed_instead_is_not_lost() -> None:
    typed = [Told(SWITCH_AT, turn_text(1, 1))]
    second = changed(SECOND, known="answer 1/1 part 1 of 1", typed=typed)
    assert broken(streams=(FIRST, second)) == []


def test_a_result_may_reach_the_next_stream_as_text() -> None:
    case = dataclasses.replace(CASE, service=ServiceHabits(answer_s=0.5, tools=True))
    first = changed(FIRST, results=frozenset({1}))
    assert broken(case=case, streams=(first, SECOND)) == ["tool results lost"]
    typed = [Told(T + 4.7, f'{DATA}: look_up, called before, has returned {{"turn": "1/2"}}]')]
    assert broken(case=case, streams=(first, changed(SECOND, typed=typed))) == []


def test_a_threshold_in_silence_that_leads_to_no_switch_is_told() -> None:
    figures = dataclasses.replace(measured(lines=LINES[:1]), name="neither (silence, hold)")
    assert [p.words for p in promises([figures]) if p.met is False] == [
        "switches in silence that succeed"
    ]


def slow(**changes: list[float]) -> list[str]:
    figures = dataclasses.replace(measured(), **changes)  # type: ignore[arg-type]
    return [promise.words for promise in promises([figures]) if promise.met is False]


def test_each_time_is_held_against_its_limit() -> None:
    assert slow(first_frame_ms=[21.0]) == ["decision to first live frame, standby ready, p50"]
    late = ["decision to first live frame, standby ready, p99"]
    assert slow(first_frame_ms=[5.0] * 9 + [50.0]) == late
    share = "share of a call in transition (p99 of it, every 360 s)"
    assert slow(first_frame_ms=[5.0] * 9 + [190.0]) == [*late, share]
    assert slow(after_cut_ms=[300.0]) == ["hard cut until the new stream hears the caller, p99"]
    assert slow(after_cut_ms=[299.0]) == []
    assert slow(goes_on_ms=[1500.0]) == ["an answer that broke off goes on, p99"]


def test_what_is_left_open_and_calls_that_break_off_are_told() -> None:
    figures = dataclasses.replace(measured(), left_open=1, failures=["call 1: no"])
    found = [promise.words for promise in promises([figures]) if promise.met is False]
    assert found == ["streams and connections left open", "calls that broke off"]


def test_figures_without_data_break_nothing_and_are_said_to_be_without() -> None:
    assert {promise.met for promise in promises([])} == {True, None}


# What the processes say


def test_the_lines_of_the_bridge_are_put_on_the_phones_clock_and_switches_are_counted() -> None:
    log = BridgeLog()

    def say(event: str, **fields: str) -> None:
        line = {"event": event, "timestamp": "2026-01-01T00:00:00.5Z", "level": "info", **fields}
        log.take(json.dumps(line))

    say("settings")
    for event in ("stream opened", "stream switched", "stream opened", "bot speaks"):
        say(event, conversation_id="switches-1")
    say("stream opened", conversation_id="switches-2")
    log.take("no json\n")
    assert len(log.lines) == 5
    assert log.n_switches == 2
    assert log.warnings == ["no json"]


def facts(**more: Any) -> dict[str, Any]:
    return {
        "number": 4,
        "mind": 2,
        "struck_at": None,
        "call": 1,
        "audio_opened_at": 5.0,
        "frames": [(5.1, 2, 7, 10**9)],
        "prompt": "p",
        "history": [{"role": "USER", "text": "turn 1/1"}],
        "typed": [(5.2, "turn 1/3")],
        "heard": [],
        "said": [],
        "results": [(5.3, {"turn": "1/3"})],
        **more,
    }


def test_the_streams_of_a_call_stand_in_the_order_in_which_they_took_over() -> None:
    unused = {"number": 5, "mind": 3, "struck_at": None}
    calls = read_streams({"streams": [facts(), unused, facts(number=1, audio_opened_at=1.0)]})
    assert [stream.number for stream in calls[1]] == [1, 4]
    stream = calls[1][1]
    assert stream.known_turns == {1, 2, 3}
    assert stream.results == {3}
    assert read_replies({"replies": [[1.0, 2, 3, 4]]}) == [Reply(1.0, 2, 3, 4)]


# On the wires


def small(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["neither (silence, hold)", "tool running"])
def test_a_few_switches_are_measured_and_told(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    figures = uvloop.run(run_case(small(name), per_case=2, at_once=2, progress=said.append))
    assert figures.switches >= 2
    assert figures.failures == []
    assert figures.lost_ms == figures.doubled_wrongly_ms == figures.left_open == 0
    assert figures.twice == figures.never == figures.history_lost == figures.results_lost == 0
    report.show_switches([figures])
    assert name.split(maxsplit=1)[0] in capsys.readouterr().out
    assert report.as_json([figures])["cases"][0]["switches"] == figures.switches


def test_what_a_stream_said_when_it_was_cut_need_not_have_reached_the_bridge() -> None:
    second = changed(SECOND, known="turn 1/1")
    for struck_at, lost in ((T + 1.52, 0), (T + 1.6, 1)):
        first = changed(FIRST, struck_at=struck_at)
        assert measured(streams=(first, second)).history_lost == lost
