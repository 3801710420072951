"""Sound from end to end: nothing lost, nothing doubled, nothing out of order."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

import pytest

from opusagent.audio.formats import MediaFormat
from opusagent.simulators.caller_script import Hold, Pause, SendNumbers, SendText, Stall, WaitForBot
from opusagent.simulators.numbered import NumberedAudio
from tests.end_to_end.rig import PLAN, Line, NumberBrain, run, say

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("chunk_ms", [20, 160])
def test_every_frame_of_either_side_arrives_once_and_in_order(chunk_ms: int) -> None:
    brain = NumberBrain(first=1000, count=40)

    async def main(line: Line) -> None:
        plan = replace(PLAN, chunk_ms=chunk_ms, numbered_ms=20)
        record = await line.call(SendNumbers(count=50), WaitForBot(quiet_s=0.1), plan=plan)
        assert record.in_vain == []
        assert line.numbers(1, range(50)).ok
        assert record.numbers(brain.expected).ok
        assert record.max_lead_s <= 0.4
        assert line.stream(1).audio_rate_hz == 16_000
        assert record.played[0].media_format is MediaFormat.LPCM16_24K

    run(main, brain=lambda: brain)


OFFERS = [["raw/mulaw"], ["wav/mulaw"], ["wav/lpcm16", "wav/lpcm16_24"], ["raw/lpcm16_8"]]


def test_the_frames_arrive_in_whatever_format_voiceai_connect_offers() -> None:
    brain = NumberBrain(first=500, count=25)

    async def main(line: Line) -> None:
        plans = [
            replace(PLAN, media_formats=offer, chunk_ms=160, numbered_ms=20) for offer in OFFERS
        ]
        numbers = SendNumbers(count=40)
        records = await line.calls(
            [line.call(numbers, WaitForBot(quiet_s=0.1), plan=plan) for plan in plans]
        )
        for n, (offer, record) in enumerate(zip(OFFERS, records, strict=True), start=1):
            assert record.in_vain == [], offer
            assert line.numbers(n, range(40)).ok, offer
            assert record.numbers(brain.expected).ok, offer
            assert line.stream(n).audio_rate_hz == MediaFormat(offer[0]).sample_rate_hz
            prompt = line.stream(n).prompt
            assert prompt is not None
            play_hz = MediaFormat(offer[-1]).sample_rate_hz
            assert prompt.audio_output_configuration.sample_rate_hertz == play_hz

    run(main, brain=lambda: brain)


def test_seven_chunks_at_once_after_a_stall_of_the_network_are_all_forwarded() -> None:
    async def main(line: Line) -> None:
        plan = replace(PLAN, chunk_ms=160)
        await line.call(Stall(7 * 0.16), SendNumbers(count=70), WaitForBot(quiet_s=0.1), plan=plan)
        heard = line.stream(1)
        assert line.numbers(1, range(70)).ok
        # The backlog is gone with the burst: silence and speech together are no longer than the call.
        assert heard.audio_s < heard.events[-1].at - heard.opened_at + 0.4

    run(main)


def test_a_chunk_of_five_seconds_in_one_message_is_forwarded_whole() -> None:
    async def main(line: Line) -> None:
        audio = base64.b64encode(NumberedAudio(20, 16_000).frames(0, 250)).decode()
        chunk = {"type": "userStream.chunk", "conversationId": "c", "audioChunk": audio}
        caller = line.caller(conversation_id="c")
        await caller.run([Pause(0.2), SendText(json.dumps(chunk)), WaitForBot(quiet_s=0.1)])
        assert line.numbers(1, range(250)).ok

    run(main)


def test_the_model_hears_silence_while_the_caller_is_on_hold() -> None:
    async def main(line: Line) -> None:
        plan = replace(PLAN, chunk_ms=160, listen_delay_s=0.5, stream_startup_s=0.38)
        record = await line.call(
            say(),
            WaitForBot(quiet_s=0.1),
            Hold(0.6),
            Pause(0.6),
            say(),
            WaitForBot(quiet_s=0.1),
            plan=plan,
        )
        assert record.in_vain == []
        names = [message.name for message in record.messages]
        assert names.count("userStream.start") == 2
        assert line.stream(1).audio_gap_max_s() <= 0.3
        assert len(line.stream(1).heard) == 2

    run(main)


def test_five_calls_at_once_do_not_hear_each_other() -> None:
    async def main(line: Line) -> None:

        async with asyncio.TaskGroup() as tasks:
            for n in range(5):
                numbers = SendNumbers(first=1000 * n, count=50)
                tasks.create_task(line.call(numbers, WaitForBot(quiet_s=0.1)))
        sent = {range(1000 * n, 1000 * n + 50) for n in range(5)}
        for number in range(1, 6):
            (own,) = (numbers for numbers in sent if line.numbers(number, numbers).ok)
            sent.remove(own)

    run(main)
