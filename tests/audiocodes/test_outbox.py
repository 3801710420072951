"""What waits for a slow reader, and in which order it leaves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes.outbox import Outbox
from opusagent.audiocodes.protocol import AudioCodesProtocol

INITIATE = '{"type":"session.initiate","conversationId":"c"}'
AUDIO = bytes(480)

type Order = Callable[[AudioCodesProtocol], object]


def silence(wire: AudioCodesProtocol) -> None:
    wire.speech_started()
    wire.stop_play()
    wire.abort_prompts()


def said(*steps: list[Order]) -> list[list[str]]:
    """What a bot in a call says, by steps."""
    wire = AudioCodesProtocol(new_id=lambda: "i", utcnow=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    wire.receive(INITIATE)
    wire.accept(MediaFormat.LPCM16_16K, MediaFormat.LPCM16_24K)
    wire.texts_to_send()
    told = []
    for step in steps:
        for order in step:
            order(wire)
        told.append(wire.texts_to_send())
    return told


def begin(wire: AudioCodesProtocol) -> None:
    wire.start_play()
    wire.play(AUDIO)


def more(wire: AudioCodesProtocol) -> None:
    wire.play(AUDIO)


def stop(wire: AudioCodesProtocol) -> None:
    wire.stop_play()


def abort(wire: AudioCodesProtocol) -> None:
    wire.stop_play()
    wire.abort_prompts()


def interrupt(wire: AudioCodesProtocol) -> None:
    wire.speech_started()
    wire.stop_play()


def hear(wire: AudioCodesProtocol) -> None:
    wire.receive('{"type":"userStream.start","conversationId":"c"}')


def hang_up(wire: AudioCodesProtocol) -> None:
    wire.hang_up("bye")


def names(outbox: Outbox) -> list[str]:
    """What is sent from now on; an activity by its name."""
    found = []
    while (text := outbox.take()) is not None:
        key = '"name":"' if '"name":"' in text else '"type":"'
        found.append(text.partition(key)[2].partition('"')[0])
    assert outbox.size == 0
    return found


def filled(*steps: list[Order], taken: int = 0) -> Outbox:
    """An outbox after these steps, of which `taken` texts were sent after the first step."""
    outbox = Outbox()
    first, *rest = said(*steps)
    outbox.put(first)
    for _ in range(taken):
        outbox.take()
    for texts in rest:
        outbox.put(texts)
    return outbox


def test_an_answer_that_has_been_said_and_not_been_read_is_taken_back_as_well() -> None:
    def cut(wire: AudioCodesProtocol) -> None:
        wire.speech_started()
        wire.stop_play()  # nothing is open any more: says nothing
        wire.abort_prompts()

    outbox = filled([begin], [more], [stop], [cut], taken=2)
    assert names(outbox) == ["playStream.stop", "userStream.speech.started", "abortPrompts"]


@given(st.lists(st.sampled_from([begin, hear, hang_up]), max_size=4, unique=True))
def test_what_one_step_says_leaves_in_its_order(orders: list[Order]) -> None:
    (texts,) = said(orders)
    outbox = Outbox()
    outbox.put(texts)
    assert outbox.size == sum(map(len, texts))
    assert [outbox.take() for _ in texts] == texts
    assert outbox.take() is None


def test_an_answer_leaves_before_audio_that_waits_and_a_hang_up_after_it() -> None:
    outbox = filled([begin], [more, stop], [hear], [hang_up])
    assert names(outbox) == [
        "userStream.started",
        "playStream.start",
        "playStream.chunk",
        "playStream.chunk",
        "playStream.stop",
        "hangup",
    ]


@pytest.mark.parametrize("how", [silence, abort, interrupt])
def test_an_interruption_takes_back_what_was_not_sent_of_the_answer(how: Order) -> None:
    outbox = filled([begin], [more], [more], [how], taken=2)
    left = names(outbox)
    assert "playStream.chunk" not in left
    assert left.count("playStream.stop") == 1


@pytest.mark.parametrize("how", [silence, abort, interrupt])
def test_of_an_answer_that_was_not_begun_nothing_is_sent(how: Order) -> None:
    outbox = filled([begin, more, stop], [begin], [more], [how], taken=2)
    left = names(outbox)
    assert [name for name in left if name.startswith("playStream.")] == ["playStream.stop"]


def test_an_ordinary_end_takes_nothing_back() -> None:
    outbox = filled([begin], [more], [stop], taken=1)
    assert names(outbox) == ["playStream.chunk", "playStream.chunk", "playStream.stop"]


def test_an_answer_after_an_interruption_is_sent_whole() -> None:
    outbox = filled([begin], [more], [silence], [begin], [more], [stop], taken=2)
    left = names(outbox)
    at = left.index("abortPrompts") + 1
    chunks = ["playStream.chunk"] * 2
    assert left[at:] == ["playStream.start", *chunks, "playStream.stop"]


def test_what_is_forgotten_weighs_nothing() -> None:
    outbox = filled([begin, hear])
    assert len(outbox.clear()) == 1
    assert (outbox.take(), outbox.size) == (None, 0)
