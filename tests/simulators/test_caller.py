from __future__ import annotations

import asyncio
import itertools

import pytest

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes.events import (
    CallerAudio,
    CallerHungUp,
    CallStarted,
    DtmfPressed,
    PlayFinished,
    ResumeRequested,
    SessionRequested,
    UserStreamClosed,
    UserStreamOpened,
)
from opusagent.errors import TransportError
from opusagent.simulators.caller import SimulatedCaller
from opusagent.simulators.caller_record import CallRecord, check_numbers
from opusagent.simulators.caller_script import (
    CallerPlan,
    CutSocket,
    HangUp,
    Hold,
    LoseBot,
    Pause,
    Press,
    Say,
    SendNumbers,
    SendText,
    Stall,
    Step,
    WaitForBot,
    WaitForBotToSpeak,
)
from opusagent.simulators.verdict import judge
from opusagent.transports.memory import MemoryCaller, caller_pair
from tests import virtual_time
from tests.simulators.caller_rig import Habits, call, numbers_in, speech

LIMIT = CallerPlan(limit_s=300)


def sent(record: CallRecord, name: str) -> list[float]:
    return [m.at for m in record.messages if not m.by_bot and m.name == name]


def heard(record: CallRecord, name: str) -> list[float]:
    return [m.at for m in record.messages if m.by_bot and m.name == name]


def test_a_call_follows_the_timeline_of_a_live_one() -> None:
    record, bot = call([WaitForBot(), Pause(2)], Habits(barge_in=False))

    assert record.accept_s == pytest.approx(0.2)
    assert sent(record, "start") == pytest.approx([0.26])
    (finished,) = sent(record, "playFinished")
    assert finished == pytest.approx(2.26)
    assert sent(record, "userStream.start") == pytest.approx([finished + 0.5])
    # 160 ms of sound and the start-up before the first chunk.
    first, second, *_ = bot.times_of(CallerAudio)
    assert first == pytest.approx(finished + 0.5 + 0.54)
    assert second - first == pytest.approx(0.16)
    assert judge(record).findings == ()


def test_the_end_of_playing_is_reported_when_the_audio_has_been_heard_not_when_it_was_sent() -> (
    None
):
    record, bot = call([WaitForBot()], Habits(greeting_s=3.0, lead_s=2.0))

    (finished,) = [e for e in bot.all(PlayFinished) if isinstance(e, PlayFinished)]
    assert finished == PlayFinished(3000, "finished")
    (stopped,) = heard(record, "playStream.stop")
    assert sent(record, "playFinished")[0] == pytest.approx(stopped + 2.1)


def test_with_barge_in_off_no_caller_audio_goes_out_while_the_bot_plays() -> None:
    steps: list[Step] = [WaitForBot(), Say(sound=speech(1.0)), WaitForBot(), Pause(1)]
    record, bot = call(steps, Habits(barge_in=False))

    plays = [(s.began_at, s.ended_at) for s in record.played]
    assert len(plays) == 2
    for at in bot.times_of(CallerAudio):
        assert not any(began and ended and began < at < ended for began, ended in plays)
    assert len(bot.all(UserStreamOpened)) == 2
    assert len(bot.all(UserStreamClosed)) == 1
    assert len(record.acks) == 3
    assert judge(record).ok


def test_with_barge_in_off_the_bot_that_does_not_speak_is_listened_out_for_ten_seconds() -> None:
    record, _ = call([Pause(15)], Habits(barge_in=False, greeting_s=0.0))

    assert sent(record, "userStream.start") == pytest.approx([0.26 + 10])


def test_with_barge_in_off_a_recognition_gives_the_word_to_the_bot() -> None:
    steps: list[Step] = [WaitForBot(), Say(sound=speech(1.0)), Pause(15)]
    habits = Habits(barge_in=False, says_recognition=True, answer_s=0.0)
    record, _ = call(steps, habits)

    (stopped,) = sent(record, "userStream.stop")
    assert heard(record, "userStream.speech.recognition") == pytest.approx([stopped])
    assert sent(record, "userStream.start")[1] == pytest.approx(stopped + 10)


def test_with_barge_in_on_audio_flows_all_the_time() -> None:
    record, bot = call([WaitForBot(), Say(sound=speech(1.0)), WaitForBot()])

    times = bot.times_of(CallerAudio)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert max(gaps) == pytest.approx(0.16)
    assert sent(record, "userStream.stop") == []
    assert record.barge_in


def test_speech_over_the_bot_silences_it_and_the_reaction_is_measured() -> None:
    steps: list[Step] = [
        WaitForBotToSpeak(seconds=1.0),
        Say(sound=speech(1.0), label="wait", over_bot=True),
        WaitForBot(),
    ]
    record, bot = call(steps, Habits(greeting_s=10.0))

    (over,) = record.interruptions()
    assert over.cut
    assert over.phrase.began_at == pytest.approx(1.26, abs=0.02)
    # The bot hears of it with the chunk that it begins in, or the next one.
    assert 0 < over.silent_after_s < 0.33
    assert over.told_after_s == over.silent_after_s
    assert over.flushed_after_s == 0
    (answer,) = record.answers()
    assert answer.seconds == pytest.approx(0.5 + 0.4, abs=0.2)
    interrupted, finished = (e for e in bot.all(PlayFinished) if isinstance(e, PlayFinished))
    assert interrupted.status == "interrupted"
    assert interrupted.played_ms == pytest.approx(
        1000 * (over.phrase.began_at + over.silent_after_s - 0.26), abs=1
    )
    assert finished == PlayFinished(3000, "finished")
    assert judge(record).ok


def test_a_voice_ai_connect_that_flushes_nothing_plays_out_what_it_has() -> None:
    plan = CallerPlan(cuts_on_speech=False, cuts_on_abort=False, limit_s=300)
    steps: list[Step] = [
        WaitForBotToSpeak(seconds=1.0),
        Say(sound=speech(1.0), over_bot=True),
        WaitForBot(),
    ]
    record, _ = call(steps, Habits(greeting_s=10.0, lead_s=0.3), plan)

    (over,) = record.interruptions()
    assert not over.cut
    assert over.flushed_after_s == pytest.approx(0.3, abs=0.11)
    assert record.max_lead_s == pytest.approx(0.4, abs=0.01)


def test_words_are_said_when_voice_ai_connect_listens_and_go_out_whole() -> None:
    steps: list[Step] = [Say(sound=speech(2.0), label="long"), WaitForBot()]
    record, bot = call(steps, Habits(greeting_s=0.0))

    (phrase,) = record.phrases
    assert record.sent_share(phrase) == 1.0
    assert speech(2.0)(16_000) in bytes(bot.heard)


def test_words_that_nobody_listens_to_are_lost_and_the_record_says_so() -> None:
    steps: list[Step] = [
        WaitForBotToSpeak(seconds=0.5),
        Say(sound=speech(1.0), label="unheard", over_bot=True, expects_answer=False),
        WaitForBot(),
    ]
    record, bot = call(steps, Habits(barge_in=False, greeting_s=4.0))

    assert record.sent_share(record.phrases[0]) == 0.0
    assert not any(bot.heard)
    assert [f.words for f in judge(record).findings if "unheard" in f.words]
    assert judge(record).ok


@pytest.mark.parametrize("spelling", ["DTMF", "dtmf", "DTMFDigits"])
def test_keys_are_sent_in_any_spelling_one_event_each(spelling: str) -> None:
    record, bot = call([Press(digits="12#", spelling=spelling)])

    assert bot.all(DtmfPressed) == [DtmfPressed("1"), DtmfPressed("2"), DtmfPressed("#")]
    first, second, third = bot.times_of(DtmfPressed)
    assert second - first == pytest.approx(0.2)
    assert third - second == pytest.approx(0.2)
    assert judge(record).ok


def test_collected_keys_are_one_event() -> None:
    _, bot = call([Press(digits="4527", together=True)])
    assert bot.all(DtmfPressed) == [DtmfPressed("4527")]


def test_a_hang_up_of_the_bot_is_answered_and_ends_the_call() -> None:
    record, bot = call([Pause(60)], Habits(hangs_up_after_s=3.0))

    (end,) = bot.all(CallerHungUp)
    assert isinstance(end, CallerHungUp)
    assert end.reason_code == "bot-disconnected"
    assert record.hangup_reason == "goodbye"
    assert record.ended_at == pytest.approx(3.26)
    assert bot.closed == 1
    assert judge(record).ok


def test_a_hang_up_of_the_caller_reaches_the_bot_and_closes_the_socket() -> None:
    record, bot = call([Pause(1), HangUp(reason_code="client-disconnected"), Pause(99)])

    (end,) = bot.all(CallerHungUp)
    assert isinstance(end, CallerHungUp)
    assert end.reason_code == record.end_reason == "client-disconnected"
    assert bot.closed == 1


def test_a_stall_holds_everything_back_and_ends_in_a_burst() -> None:
    steps: list[Step] = [WaitForBot(), Stall(2.0), SendNumbers(count=200), Pause(0.5)]
    record, bot = call(steps, Habits(answer_s=0.0))

    assert numbers_in(bot) == list(range(200))
    times = bot.times_of(CallerAudio)
    gap, at = max((b - a, b) for a, b in itertools.pairwise(times))
    assert gap == pytest.approx(2.0, abs=0.17)
    assert times.count(at) >= 12
    assert judge(record).ok


def test_a_call_that_ends_during_a_stall_still_says_goodbye() -> None:
    _, bot = call([Pause(1), Stall(60), HangUp()])
    assert len(bot.all(CallerHungUp)) == 1


def test_on_hold_the_user_stream_is_stopped_and_started_again() -> None:
    record, bot = call([WaitForBot(), Hold(3.0), Pause(5)])

    (closed,) = bot.times_of(UserStreamClosed)
    _, reopened = bot.times_of(UserStreamOpened)
    assert reopened - closed == pytest.approx(3.0)
    assert not any(closed < at < reopened for at in bot.times_of(CallerAudio))
    assert judge(record).ok


def test_a_lost_socket_is_resumed_on_a_new_one() -> None:
    steps: list[Step] = [
        WaitForBot(),
        CutSocket(resume_after_s=0.5),
        Say(sound=speech(1.0), label="still there?"),
        WaitForBot(),
    ]
    record, bot = call(steps)

    assert bot.sockets == 2
    assert len(bot.all(ResumeRequested)) == 1
    assert len(bot.all(SessionRequested)) == 1
    assert len(bot.all(CallStarted)) == 1
    (loss,) = record.losses
    assert loss.resumed_at == pytest.approx(loss.at + 0.5)
    assert record.resumed_after_s == pytest.approx([0.0])
    assert record.answers()[0].seconds is not None
    assert judge(record).ok


def test_a_socket_may_be_cut_right_behind_a_chunk_of_the_bots() -> None:
    steps: list[Step] = [
        WaitForBot(),
        Say(sound=speech(1.0)),
        WaitForBotToSpeak(seconds=1.03),
        CutSocket(behind_chunk=True),
        Pause(1),
    ]
    record, _ = call(steps)

    chunks = heard(record, "playStream.chunk")
    (loss,) = record.losses
    assert loss.at in chunks
    assert record.played[1].lost_at == loss.at
    assert judge(record).ok


def test_a_cut_behind_a_chunk_does_not_wait_for_a_bot_that_says_nothing_more() -> None:
    steps: list[Step] = [WaitForBot(), CutSocket(behind_chunk=True), Pause(1)]
    record, _ = call(steps)

    (finished,) = sent(record, "playFinished")
    assert record.losses[0].at == pytest.approx(finished + 1.0)
    assert record.played[0].lost_at is None


def test_what_the_caller_waits_for_after_a_cut_is_what_the_bot_says_then() -> None:
    steps: list[Step] = [WaitForBot(), CutSocket(), WaitForBot(timeout_s=2.0)]
    record, _ = call(steps)

    assert record.in_vain == ["the bot to say something and finish"]


def test_after_a_resume_chunks_may_come_without_a_new_start() -> None:
    plan = CallerPlan(new_stream_on_resume=False, limit_s=300)
    record, bot = call([WaitForBot(), CutSocket(), Pause(2)], Habits(), plan)

    (resumed,) = bot.times_of(ResumeRequested)
    assert [at for at in bot.times_of(CallerAudio) if at > resumed]
    assert len(sent(record, "userStream.start")) == 1


def test_a_half_open_socket_stays_while_the_call_goes_on_elsewhere() -> None:
    steps: list[Step] = [WaitForBot(), CutSocket(half_open=True), Pause(3), HangUp()]
    record, bot = call(steps)

    assert bot.sockets == 2
    assert bot.closed == 2  # both, but only at the end
    assert len(bot.all(CallerHungUp)) == 1
    assert judge(record).ok


def test_a_caller_that_vanishes_says_nothing() -> None:
    record, bot = call([WaitForBot(), CutSocket(resume_after_s=None)])

    assert bot.closed == 1
    assert bot.all(CallerHungUp) == []
    assert record.end_reason == "vanished"
    assert judge(record).ok


def test_a_bot_that_closes_the_socket_has_not_hung_up() -> None:
    record, _ = call([Pause(60)], Habits(closes_after_s=3.0))

    assert record.failure == "the bot closed the socket without a hang-up"
    assert not judge(record).ok


def test_a_socket_that_the_bot_closes_is_resumed_where_the_plan_says_so() -> None:
    plan = CallerPlan(resume_after_s=0.3, limit_s=300)
    record, bot = call([Pause(10)], Habits(closes_after_s=3.0), plan)

    assert bot.sockets == 2
    assert len(record.resumed_after_s) == 1
    assert record.end_reason == "client-disconnected"
    assert judge(record).ok


def test_a_bot_that_is_killed_is_come_back_to_and_the_script_goes_on() -> None:
    sockets: list[MemoryCaller] = []

    async def main() -> CallRecord:
        async with asyncio.TaskGroup() as tasks:

            async def connect() -> MemoryCaller:
                here, there = caller_pair()
                sockets.append(there)
                tasks.create_task(accept(there))
                return here

            async def accept(there: MemoryCaller) -> None:
                await there.recv()
                await there.send('{"type":"session.accepted","mediaFormat":"raw/lpcm16"}')

            def kill_bot() -> None:
                sockets[-1].abort()

            kill = LoseBot(kill=kill_bot, resume_after_s=0.3)
            return await SimulatedCaller(LIMIT, connect).run([Pause(1), kill, Pause(1)])

    record = virtual_time.run(main())
    assert len(sockets) == 2
    (loss,) = record.losses
    assert loss.resumed_at == pytest.approx(loss.at + 0.3)
    assert record.end_reason == "client-disconnected"
    assert record.ended_at == pytest.approx(loss.at + 1.3)


def test_a_resume_that_is_refused_ends_the_call() -> None:
    record, bot = call([WaitForBot(), CutSocket(), Pause(60)], Habits(resumes=False))

    assert record.refused == "unknown conversation"
    assert bot.closed == 2
    assert not judge(record).ok


def test_a_bot_that_cannot_be_reached_again_is_tried_for_a_while() -> None:
    bot_is_away = CallerPlan(resume_window_s=2.0, limit_s=300)

    async def main() -> CallRecord:
        here, there = caller_pair()
        first = [here]

        async def connect() -> MemoryCaller:
            if first:
                return first.pop()
            raise TransportError("ConnectionLost", "nobody there")

        async with asyncio.TaskGroup() as tasks:

            async def accept() -> None:
                await there.recv()
                await there.send('{"type":"session.accepted","mediaFormat":"raw/lpcm16"}')

            tasks.create_task(accept())
            return await SimulatedCaller(bot_is_away, connect).run([CutSocket(resume_after_s=0.5)])

    record = virtual_time.run(main())
    assert record.failure == "no resume: ConnectionLost: nobody there"
    assert record.ended_at == pytest.approx(2.56, abs=0.6)


@pytest.mark.parametrize("chunk_ms", [20, 160])
def test_numbered_frames_go_out_once_and_in_order_in_real_time(chunk_ms: int) -> None:
    plan = CallerPlan(chunk_ms=chunk_ms, limit_s=300)
    steps: list[Step] = [WaitForBot(), SendNumbers(count=500, first=1000), Pause(0.2)]
    record, bot = call(steps, Habits(answer_s=0.0), plan)

    assert numbers_in(bot) == list(record.numbers_sent) == list(range(1000, 1500))
    assert record.sent_share(record.phrases[0]) == 1.0


def test_numbered_frames_go_out_as_fast_as_the_socket_takes_them() -> None:
    steps: list[Step] = [WaitForBot(), SendNumbers(count=5000, fast=True), Pause(0.2)]
    record, bot = call(steps, Habits(answer_s=0.0))

    assert numbers_in(bot) == list(range(5000))
    assert record.ended_at is not None
    assert record.ended_at < 10


def test_numbered_frames_that_the_bot_plays_are_counted() -> None:
    plan = CallerPlan(numbered_ms=20, limit_s=300, media_formats=[MediaFormat.LPCM16_16K])
    steps: list[Step] = [Pause(2), SendNumbers(count=100, first=7), Pause(1)]
    record, _ = call(steps, Habits(greeting_s=0.0, echoes=True), plan)

    assert record.numbers(range(7, 107)).ok
    assert record.numbers() == check_numbers(record.numbers_heard, range(7, 107))


@pytest.mark.parametrize("media_format", list(MediaFormat))
def test_every_format_carries_the_callers_words(media_format: MediaFormat) -> None:
    plan = CallerPlan(media_formats=[media_format], limit_s=300)
    record, bot = call([WaitForBot(), SendNumbers(count=50), WaitForBot()], Habits(), plan)

    assert record.caller_format is media_format
    assert numbers_in(bot) == list(range(50))
    assert record.played[0].heard_s == pytest.approx(2.0)
    assert judge(record).ok


def test_a_bot_that_is_not_there_is_in_the_record() -> None:
    record, _ = call([Pause(5)], refused_connections=1)

    assert record.failure == "ConnectionLost: nobody there"
    assert not judge(record).ok


def test_a_refusal_is_in_the_record() -> None:
    record, bot = call([Pause(5)], Habits(refuses="all lines are busy"))

    assert record.refused == "all lines are busy"
    assert record.accepted_at is None
    assert bot.closed == 1
    assert "all lines are busy" in judge(record).findings[0].words


def test_a_bot_that_does_not_answer_is_given_up_after_ten_seconds() -> None:
    record, _ = call([Pause(5)], Habits(never_accepts=True))

    assert record.ended_at == pytest.approx(10.0)
    assert record.failure is not None


def test_what_the_bot_may_not_say_is_noted_and_the_call_goes_on() -> None:
    async def main() -> CallRecord:
        here, there = caller_pair()

        async def connect() -> MemoryCaller:
            return here

        async def bot() -> None:
            await there.recv()
            await there.send('{"type":"session.accepted","mediaFormat":"raw/lpcm16"}')
            await there.send('{"type":"playStream.chunk","streamId":"9","audioChunk":"AAAA"}')
            await there.send("no JSON")
            while await there.recv() is not None:
                pass

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bot())
            return await SimulatedCaller(LIMIT, connect).run([Pause(3)])

    record = virtual_time.run(main())
    assert len(record.violations) == 2
    assert record.end_reason == "client-disconnected"
    findings = judge(record).findings
    assert [f.rule for f in findings].count(findings[0].rule) == 2
    assert {ack.name for ack in record.acks if ack.answered_at is None} == set()


def test_a_script_that_takes_too_long_is_ended() -> None:
    record, bot = call([Pause(999)], Habits(), CallerPlan(limit_s=20))

    assert record.in_vain == ["the end of the script"]
    assert record.ended_at == pytest.approx(20)
    assert len(bot.all(CallerHungUp)) == 1


def test_any_text_can_be_sent_even_what_voice_ai_connect_would_not() -> None:
    record, _ = call([SendText('{"type":"connection.validate"}'), Pause(1)])

    assert [v.what for v in record.violations] == ["connection.validated that nobody asked for"]


def test_whoever_watches_is_told_what_happens() -> None:
    told: list[tuple[float, str, str]] = []

    async def main() -> None:
        async def connect() -> MemoryCaller:
            here, there = caller_pair()
            await there.send('{"type":"session.error","reason":"busy"}')
            return here

        caller = SimulatedCaller(LIMIT, connect, progress=lambda *what: told.append(what))
        await caller.run([])

    virtual_time.run(main())
    assert told[0][1] == "-> session.initiate"
    assert told[1][1:] == ("<- session.error", "busy")


def test_a_call_that_is_cancelled_leaves_nothing_behind() -> None:
    async def main() -> bool:
        here, there = caller_pair()

        async def connect() -> MemoryCaller:
            return here

        async def bot() -> None:
            await there.recv()
            await there.send('{"type":"session.accepted","mediaFormat":"raw/lpcm16"}')
            while await there.recv() is not None:
                pass

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bot())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await SimulatedCaller(LIMIT, connect).run([Pause(60)])
        return there.closed_with is not None

    assert virtual_time.run(main())
