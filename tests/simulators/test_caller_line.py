from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from opusagent.audio.formats import MediaFormat
from opusagent.audio.tones import tone
from opusagent.audiocodes.events import CallerAudio, CallerEvent, CallStarted, UserStreamOpened
from opusagent.audiocodes.protocol import AudioCodesProtocol
from opusagent.simulators.caller_line import CallerLine, CallPhase
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import CallerPlan

PLAN = CallerPlan(barge_in=True)


class Duet:
    """A line and a bot that talk without a loop; time moves from timer to timer."""

    def __init__(self, plan: CallerPlan = PLAN) -> None:
        def new_id() -> Callable[[], str]:
            ids = itertools.count()
            return lambda: f"id-{next(ids)}"

        def today() -> datetime:
            return datetime(2026, 1, 1, tzinfo=UTC)

        self.record = CallRecord(began_at=0.0)
        self.line = CallerLine(
            plan,
            self.record,
            conversation_id="c-1",
            new_id=new_id(),
            utcnow=today,
            note=lambda *_: None,
        )
        self.bot = AudioCodesProtocol(new_id=new_id(), utcnow=today)
        self.now = 0.0
        self.heard: list[CallerEvent] = []

    def exchange(self) -> None:
        """Deliver everything that is under way."""
        moved = True
        while moved:
            to_bot, to_line = self.line.texts_to_send(self.now), self.bot.texts_to_send()
            moved = bool(to_bot or to_line)
            for text in to_bot:
                self.heard += self.bot.receive(text)
            for text in to_line:
                self.line.receive(text, self.now)

    def run_until(self, when: float) -> None:
        self.exchange()
        while (at := self.line.next_timer()) is not None and at <= when:
            assert at >= self.now - 1e-9, "a timer lies in the past"
            self.now = max(self.now, at)
            self.line.handle_timer(self.now)
            self.exchange()
        self.now = when

    def answered(self) -> Duet:
        self.line.initiate(self.now)
        self.exchange()
        self.bot.accept(MediaFormat.LPCM16_16K, MediaFormat.LPCM16_24K)
        self.exchange()
        return self

    def audio(self) -> bytes:
        return b"".join(event.pcm for event in self.heard if isinstance(event, CallerAudio))


def test_the_call_starts_after_it_was_accepted() -> None:
    duet = Duet().answered()
    assert not duet.line.started
    duet.run_until(1.0)
    assert duet.line.started
    assert [type(e) for e in duet.heard[1:3]] == [CallStarted, UserStreamOpened]


def test_what_is_said_goes_out_sample_by_sample() -> None:
    duet = Duet().answered()
    duet.run_until(2.0)
    words = tone(440, 1.0, 16_000)
    phrase = duet.line.say(words, "words", duet.now)
    duet.run_until(duet.line.said_until() + 0.001)

    assert phrase is not None
    assert duet.record.sent_share(phrase) == 1.0
    assert words in duet.audio()


def test_late_timers_are_made_up_for_in_one_burst() -> None:
    duet = Duet().answered()
    duet.run_until(2.0)
    chunks = duet.record.caller_chunks
    duet.now = 3.6
    duet.line.handle_timer(duet.now)
    duet.exchange()
    assert duet.record.caller_chunks == chunks + 10


def test_nothing_can_be_said_before_the_bot_listens_in_a_format() -> None:
    duet = Duet()
    duet.line.initiate(0.0)
    assert duet.line.say(b"\x01\x00", "early", 0.0) is None


def test_bot_audio_is_heard_at_once_and_reported_when_it_is_over() -> None:
    duet = Duet().answered()
    duet.run_until(1.0)
    duet.bot.start_play()
    duet.bot.play(bytes(48_000))
    duet.bot.stop_play()
    duet.exchange()

    assert duet.line.playout.audible(1.9)
    duet.run_until(5.0)
    assert [m.at for m in duet.record.messages if m.name == "playFinished"] == [pytest.approx(2.0)]
    assert duet.record.max_lead_s == pytest.approx(1.0)


def test_the_end_of_playing_is_not_reported_where_the_administrator_did_not_ask_for_it() -> None:
    duet = Duet(CallerPlan(play_finished=False)).answered()
    duet.bot.start_play()
    duet.bot.play(bytes(48_000))
    duet.bot.stop_play()
    duet.run_until(5.0)
    assert not [m for m in duet.record.messages if m.name == "playFinished"]


def test_a_transfer_takes_the_call_from_the_bot() -> None:
    duet = Duet().answered()
    duet.bot.send_activity("transfer", activity_params={"transferTarget": "tel:+1"})
    duet.exchange()
    assert duet.line.phase is CallPhase.OVER
    assert duet.record.end_reason == "transferred"


def test_hanging_up_twice_is_hanging_up_once() -> None:
    duet = Duet().answered()
    duet.line.hang_up("client-disconnected", "", 3.0)
    duet.line.hang_up("error", "", 4.0)
    assert duet.record.ended_at == 3.0
    assert duet.line.next_timer() is None


def test_a_line_that_is_over_does_not_come_back() -> None:
    duet = Duet().answered()
    duet.line.vanish(3.0)
    duet.line.resume(4.0)
    duet.line.fail("late", 5.0)
    assert duet.line.phase is CallPhase.OVER
    assert duet.record.failure is None
    assert duet.line.texts_to_send(5.0) == []


def test_bot_audio_goes_silent_when_the_call_ends() -> None:
    duet = Duet().answered()
    duet.bot.start_play()
    duet.bot.play(bytes(96_000))
    duet.exchange()
    duet.line.hang_up("client-disconnected", "", 0.5)
    assert duet.record.played[0].heard_s == pytest.approx(0.5)
