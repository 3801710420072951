from __future__ import annotations

from itertools import groupby

from opusagent.audiocodes.peer_events import PeerEvent, PlayChunk, PlayStarted, PlayStopped
from opusagent.call.bot_voice import BotVoice
from tests.audiocodes.conftest import Wire
from tests.call.driver import bot_pcm

RATE = 48_000


def new_voice() -> tuple[BotVoice, Wire]:
    wire = Wire()
    wire.answer()
    return BotVoice(wire.bot, RATE, lead_s=0.3), wire


def told(wire: Wire) -> list[type[PeerEvent]]:
    """What VoiceAI Connect was told since the last time, chunks joined."""
    kinds = [type(event) for event in wire.to_peer()]
    return [kind for kind, _ in groupby(kinds)]


def run(voice: BotVoice, now: float, until: float) -> None:
    while (at := voice.next_timer()) is not None and at <= until:
        now = max(now, at)
        voice.pump(now)


def test_a_turn_is_started_with_its_first_audio_and_closed_when_it_was_handed_over() -> None:
    voice, wire = new_voice()
    assert voice.add(bot_pcm(1, 1.0), "a", 0.0)
    assert not voice.add(bot_pcm(1, 1.0), "b", 0.0)
    voice.complete_turn(0.0)
    assert told(wire) == [PlayStarted, PlayChunk]
    run(voice, 0.0, 1.69)
    assert told(wire) == [PlayChunk]
    run(voice, 1.69, 1.71)
    assert told(wire)[-1] is PlayStopped
    assert voice.next_timer() is None


def test_a_short_turn_is_over_at_once() -> None:
    voice, wire = new_voice()
    voice.add(bot_pcm(1, 0.2), "a", 0.0)
    voice.complete_turn(0.0)
    assert told(wire) == [PlayStarted, PlayChunk, PlayStopped]
    assert voice.audible(0.1)
    assert not voice.audible(0.21)


def test_a_turn_without_an_end_is_closed_a_second_after_it_ran_dry() -> None:
    voice, wire = new_voice()
    voice.add(bot_pcm(1, 0.2), "a", 0.0)
    assert voice.next_timer() == 1.2
    voice.pump(1.1)
    assert PlayStopped not in told(wire)
    voice.pump(1.2)
    assert told(wire) == [PlayStopped]


def test_turns_queue_up_and_are_told_apart() -> None:
    voice, wire = new_voice()
    begins = []
    for value in (1, 2, 3):
        begins.append(voice.add(bot_pcm(value, 1.0), str(value), 0.0))
        begins.append(voice.add(bot_pcm(value, 1.0), str(value), 0.0))
        voice.complete_turn(0.0)
    assert begins == [True, False] * 3
    assert voice.remaining_s(0.0) == 6.0
    run(voice, 0.0, 10.0)
    assert told(wire) == [PlayStarted, PlayChunk, PlayStopped] * 3


def test_a_turn_that_waits_may_still_grow() -> None:
    voice, wire = new_voice()
    voice.add(bot_pcm(1, 1.0), "a", 0.0)
    voice.complete_turn(0.0)
    voice.add(bot_pcm(2, 0.1), "b", 0.0)
    run(voice, 0.0, 0.8)
    voice.add(bot_pcm(2, 1.0), "b", 0.8)
    voice.complete_turn(0.8)
    run(voice, 0.8, 5.0)
    assert told(wire) == [PlayStarted, PlayChunk, PlayStopped] * 2


def test_an_interruption_drops_the_turns_that_wait_as_well() -> None:
    voice, wire = new_voice()
    voice.add(bot_pcm(1, 1.0), "a", 0.0)
    voice.complete_turn(0.0)
    voice.add(bot_pcm(2, 1.0), "b", 0.0)
    cut = voice.interrupt(0.1, flushed=True)
    assert cut.heard == {"a"}
    assert cut.unheard == {"b"}
    assert cut.dropped_s == 1.7
    assert told(wire) == [PlayStarted, PlayChunk, PlayStopped]
    assert not voice.audible(0.1)
    assert voice.next_timer() is None


def test_the_newest_play_stream_is_dated() -> None:
    voice, _ = new_voice()
    assert voice.began_at is None
    voice.add(bot_pcm(1, 1.0), "a", 2.0)
    voice.complete_turn(2.0)
    run(voice, 2.0, 2.5)
    voice.add(bot_pcm(1, 1.0), "b", 2.5)
    assert voice.began_at == 2.0
    run(voice, 2.5, 9.0)
    assert voice.began_at is not None
    assert 2.69 <= voice.began_at <= 2.75
