"""Turns, interruptions, keys and tools, with models that behave and models that do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect as ws_connect

from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import (
    CutSocket,
    HangUp,
    Pause,
    Press,
    SendNumbers,
    SendText,
    Step,
    WaitForBot,
    WaitForBotToSpeak,
)
from opusagent.sonic.peer_brain import ToolAsk
from opusagent.sonic.peer_faults import Fault
from opusagent.sonic.profiles import Timing
from tests.end_to_end.rig import PLAN, QUICK, Line, ToldEars, ToneBrain, run, say
from tests.waiting import eventually

pytestmark = pytest.mark.integration

# Interruptions

INTERRUPTIBLE = replace(QUICK, interruptible_playout=True)
LONG = ToneBrain("A long answer that will not be heard to its end.", seconds=3.0)


async def interrupted(line: Line, n_calls: int, cause: str) -> None:
    """Callers who speak over a long answer, and hear the next one."""
    steps: list[Step] = [
        say(),
        WaitForBotToSpeak(seconds=0.6),
        say(0.5, over_bot=True),
        WaitForBotToSpeak(seconds=0.1),
    ]
    for record in await line.calls([line.call(*steps) for _ in range(n_calls)]):
        assert record.in_vain == []
        (interruption,) = record.interruptions()
        assert interruption.cut
        assert interruption.silent_after_s < 1.5
        assert interruption.flushed_after_s is not None
        assert interruption.flushed_after_s < 0.2
        ids = [span.stream_id for span in record.played]
        assert len(ids) == len(set(ids)) == 2
        spoke_at = interruption.phrase.began_at
        said = [m.name for m in record.messages if m.by_bot and m.at >= spoke_at]
        begin = said.index("userStream.speech.started")
        order = ["userStream.speech.started", "playStream.stop", "abortPrompts"]
        assert said[begin : begin + 3] == order
    assert [entry["cause"] for entry in line.logged("barge-in")] == [cause] * n_calls


def test_the_caller_silences_the_bot_however_the_model_says_so() -> None:
    faults = ["double-interruption", "text-before-audio-end", "audio-interrupted", "no-final"]

    async def main(line: Line) -> None:
        await interrupted(line, 1 + len(faults), "model")

    told = [f"{fault}:stream={n}" for n, fault in enumerate(faults, start=2)]
    run(main, *told, timing=INTERRUPTIBLE, brain=lambda: LONG)


@pytest.mark.parametrize("timing", [replace(QUICK, speed=50.0), INTERRUPTIBLE])
def test_the_caller_silences_a_bot_whose_model_does_not_say_so(timing: Timing) -> None:
    async def main(line: Line) -> None:
        await interrupted(line, 1, "transcript")

    run(main, "no-interruption", timing=timing, brain=lambda: LONG)


def test_a_cough_does_not_silence_the_bot() -> None:
    async def main(line: Line) -> None:
        record = await line.call(
            say(), WaitForBotToSpeak(seconds=0.3), say(0.02, over_bot=True), Pause(1.5)
        )
        assert not record.interruptions()[0].cut
        assert line.logged("barge-in") == []

    run(main, timing=INTERRUPTIBLE, brain=lambda: ToneBrain(seconds=1.5))


# Barge-in off


@pytest.mark.parametrize("play_finished", [True, False])
def test_a_call_works_with_voiceai_connects_own_default_of_no_barge_in(
    *, play_finished: bool
) -> None:
    async def main(line: Line) -> None:
        plan = replace(
            PLAN,
            chunk_ms=160,
            listen_delay_s=0.5,
            stream_startup_s=0.38,
            play_finished=play_finished,
        )
        record = await line.call(
            say(), WaitForBot(quiet_s=0.1), say(), WaitForBot(quiet_s=0.1), plan=plan
        )
        assert record.in_vain == []
        assert not record.barge_in
        names = [message.name for message in record.messages]
        assert names.count("userStream.start") >= 2
        assert names.count("userStream.stop") >= 2
        assert not {"userStream.speech.recognition", "userStream.speech.committed"} & set(names)
        assert all(ack.answered_at is not None for ack in record.acks[:-1])
        assert len(record.played) == 2
        heard = line.stream(1)
        assert len(heard.heard) == 2
        assert heard.audio_gap_max_s() <= 0.3

    run(main, barge_in=False, brain=lambda: ToneBrain(seconds=0.5))


# Keys


def test_keys_reach_the_model_as_one_text_and_never_as_sound() -> None:
    async def main(line: Line) -> None:
        keys = Press(digits="12", gap_s=0.05), Press(digits="3#", spelling="dtmf", together=True)
        record = await line.call(Pause(0.2), *keys, WaitForBot(quiet_s=0.1))
        assert record.in_vain == []
        heard = line.stream(1)
        (typed,) = heard.typed
        assert "1 2 3 #" in typed.value
        assert not any(heard.audio)
        assert heard.heard == []

    run(main, dtmf_pause_seconds=0.3)


def test_a_key_silences_the_bot() -> None:
    async def main(line: Line) -> None:
        record = await line.call(
            say(),
            WaitForBotToSpeak(seconds=0.4),
            Press(digits="5", gap_s=0),
            WaitForBotToSpeak(seconds=0.1),
        )
        assert record.in_vain == []
        assert record.played[0].cut_at is not None
        assert record.played[0].heard_s < 1.5
        assert len(line.stream(1).typed) == 1

    run(main, timing=INTERRUPTIBLE, brain=lambda: LONG, dtmf_pause_seconds=0.1)


def test_keys_wait_for_the_end_of_the_answer_where_they_must_not_silence_it() -> None:
    async def main(line: Line) -> None:
        record = await line.call(
            say(),
            WaitForBotToSpeak(seconds=0.2),
            Press(digits="5", gap_s=0),
            Pause(0.2),
            WaitForBot(quiet_s=0.4),
        )
        assert record.in_vain == []
        assert [span.cut_at for span in record.played] == [None, None]
        assert len(line.stream(1).typed) == 1

    run(
        main,
        timing=INTERRUPTIBLE,
        brain=lambda: ToneBrain(seconds=0.6),
        dtmf_pause_seconds=0.1,
        barge_in_on_dtmf=False,
    )


# Tools


def test_an_unknown_tool_is_answered_exactly_once_with_an_error_however_it_is_asked_for() -> None:
    faults = ["interleaved-tools", "duplicate-tool", "tool-without-end", "twice-encoded-tool"]
    faults.append("broken-tool")

    async def main(line: Line) -> None:
        calls = [
            line.call(say(), WaitForBot(quiet_s=0.1, timeout_s=6)) for _ in range(1 + len(faults))
        ]
        for n, record in enumerate(await line.calls(calls), start=1):
            assert record.in_vain == []
            results = [result.value for result in line.stream(n).tool_results]
            assert sorted(result.name for result in results) == ["look_up", "open_door"]
            assert len({result.tool_use_id for result in results}) == 2
            assert all("no tool named" in str(result.result["error"]) for result in results)
            assert len(record.played) == 1  # asking for a tool is no turn to be heard

    tools = (ToolAsk("look_up", {"id": "7"}), ToolAsk("open_door", {}))
    told = [f"{fault}:stream={n}" for n, fault in enumerate(faults, start=2)]
    run(main, *told, brain=lambda: ToneBrain(tools=tools))


def test_the_next_stream_learns_which_tool_was_called() -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(
                line.call(say(), WaitForBot(quiet_s=0.5), say(), WaitForBot(quiet_s=0.1))
            )
            assert await eventually(
                lambda: bool(line.stream(1).said) if line.service.streams else False, 6
            )
            assert await eventually(lambda: line.logged("bot speaks") != [])
            line.strike("reset")
        assert call.result().in_vain == []
        told = " ".join(turn.text for turn in line.stream(2).history)
        assert "look_up" in told

    run(main, brain=lambda: ToneBrain(tools=(ToolAsk("look_up", {"id": "7"}),)))


# Models that misbehave without an error

STRANGE = sorted(
    set(Fault)
    - {Fault.ZOMBIE, Fault.PREMATURE_CLOSE, Fault.DIES_AFTER_REPLAY, Fault.SWALLOWED_TEXT}
)
"""Those that must not be noticed. They go on at once, or the test would take minutes."""


def test_models_that_misbehave_are_talked_to_all_the_same() -> None:
    async def two_turns(line: Line) -> CallRecord:
        return await line.call(
            say(), WaitForBot(quiet_s=0.1), say(), WaitForBot(quiet_s=0.1, timeout_s=6)
        )

    async def main(line: Line) -> None:
        records = await line.calls([two_turns(line) for _ in STRANGE])
        assert len(line.service.streams) == len(STRANGE)
        for n, (fault, record) in enumerate(zip(STRANGE, records, strict=True), start=1):
            assert record.in_vain == [], fault
            assert len(record.played) == 2, fault
            assert len(line.stream(n).heard) == 2, fault
            assert 0.15 < sum(span.heard_s for span in record.played) / 2 < 0.3, fault

    faults = [f"{fault}:stream={n}" for n, fault in enumerate(STRANGE, start=1)]
    run(main, *faults, ears=ToldEars("Hello you."), session_max_concurrent=50)


# Ends


def test_a_caller_may_hang_up_while_the_bot_speaks() -> None:
    async def main(line: Line) -> None:
        record = await line.call(say(), WaitForBotToSpeak(seconds=0.2), HangUp())
        assert record.end_reason == "client-disconnected"
        await line.over()
        line.stream(1).assert_valid_session()
        assert line.logged("call ended")[0]["by"] == "caller"

    run(main, brain=lambda: LONG)


def test_a_socket_that_is_cut_without_a_word_ends_the_call() -> None:
    async def main(line: Line) -> None:
        await line.call(say(), WaitForBotToSpeak(seconds=0.2), CutSocket(resume_after_s=None))
        await line.over()
        line.stream(1).assert_valid_session()
        assert line.logged("call ended")[0]["by"] == "socket"

    run(main, brain=lambda: LONG)


# Messages that are none


NONSENSE: list[str] = [
    "",
    "no JSON {",
    "[1, 2]",
    "null",
    '{"no":"type"}',
    '{"type":7}',
    '{"type":"userStream.chunk","conversationId":"c","audioChunk":"%%%"}',
    '{"type":"userStream.chunk","conversationId":"c"}',
    '{"type":"activities","conversationId":"c","activities":"none"}',
    '{"type":"activities","conversationId":"c","activities":[{"type":"event"}]}',
    '{"type":"session.initiate","conversationId":"another"}',
    '{"type":"session.resume","conversationId":"c"}',
    '{"type":"somethingNew","conversationId":"c","x":{"y":[1]}}',
    '{"type":"playStream.mark.reached","conversationId":"c"}',
    '{"type":"activities","conversationId":"c","activities":[{"type":"event","name":"novel"}]}',
    (
        '{"type":"activities","conversationId":"c","activities":'
        '[{"type":"event","name":"noUserInput","value":1}]}'
    ),
    '{"type":"connection.validate"}',
]


def test_broken_and_unknown_messages_in_mid_call_change_nothing() -> None:
    async def main(line: Line) -> None:
        nonsense = [SendText(text) for text in NONSENSE * 2]
        caller = line.caller(conversation_id="c")
        record = await caller.run(
            [
                Pause(0.1),
                *nonsense,
                SendNumbers(count=25),
                *nonsense,
                SendNumbers(count=25, first=25),
                WaitForBot(quiet_s=0.1),
            ]
        )
        caller.record.violations.clear()  # an answer to `connection.validate` is none of this call's
        assert record.in_vain == []
        assert line.numbers(1, range(50)).ok
        assert len(line.service.streams) == 1
        unknown = [entry["type"] for entry in line.logged("unknown message")]
        assert unknown.count("somethingNew") == 1  # once a call, however often it comes

    run(main)


def test_a_binary_message_in_mid_call_is_passed_over() -> None:
    async def main(line: Line) -> None:
        async with ws_connect(line.url, proxy=None) as socket:
            initiate: Mapping[str, Any] = {
                "type": "session.initiate",
                "conversationId": "c",
                "supportedMediaFormats": ["raw/lpcm16"],
            }
            await socket.send(json.dumps(initiate))
            assert json.loads(await socket.recv())["type"] == "session.accepted"
            await socket.send(b"\x00\xff\x00 raw audio?")
            await socket.send('{"type":"userStream.start","conversationId":"c"}')
            while json.loads(await socket.recv())["type"] != "userStream.started":
                pass
            await socket.send('{"type":"session.end","conversationId":"c"}')
        assert line.metrics.registry.get_sample_value(
            "opusagent_broken_messages_total", {"wire": "audiocodes"}
        )

    run(main)


DIGITS = "987654321098"
"""So many that no time and no id in a log has them by chance."""


def test_nothing_a_caller_said_or_pressed_is_in_the_log() -> None:
    async def main(line: Line) -> None:
        plan = replace(PLAN, caller="+4930901820")
        record = await line.call(
            say(),
            WaitForBot(quiet_s=0.2),
            Press(digits=DIGITS, together=True, gap_s=0),
            WaitForBot(quiet_s=0.1),
            plan=plan,
        )
        assert record.in_vain == []
        assert [turn.value for turn in line.stream(1).heard] == ["My name is Ada."]
        text = line.log.getvalue()
        for private in ("Ada", "4930901820", DIGITS, " ".join(DIGITS), "Glad to", "secret"):
            assert private not in text

    run(
        main,
        ears=ToldEars("My name is Ada."),
        brain=lambda: ToneBrain("Glad to meet you."),
        dtmf_pause_seconds=0.1,
    )
