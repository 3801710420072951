from __future__ import annotations

import pytest

from opusagent.models.session_state import Role, Turn
from opusagent.sonic.peer_record import StreamRecord
from tests.sonic.duet import FRAME, HELLO, Duet, silence, spoken


def test_every_byte_of_audio_is_kept_with_the_time_at_which_it_came() -> None:
    first, second = spoken(HELLO, 0.1), silence(0.1)
    one = Duet().open().burst(first).wait(3).burst(second)
    record = one.peer.record
    assert bytes(record.audio) == first + second
    assert record.audio_s == pytest.approx(0.2)
    assert record.audio_arrival(0) == record.audio_arrival(len(first) - 1) == 100
    assert record.audio_arrival(len(first)) == 103
    with pytest.raises(IndexError):
        record.audio_arrival(len(record.audio))


def test_the_longest_gap_between_pieces_of_audio_is_measured() -> None:
    one = Duet().open().wait(0.1).burst(bytes(FRAME)).wait(2).burst(bytes(FRAME)).wait(1)
    assert one.peer.record.audio_gap_max_s() == pytest.approx(2)
    assert one.peer.record.audio_gap_max_s(until=one.now + 9) == pytest.approx(10)
    one.close()
    assert one.peer.record.audio_gap_max_s(until=999) == pytest.approx(2)


def test_a_record_without_audio_has_no_gap_and_no_length() -> None:
    record = StreamRecord(opened_at=0)
    assert record.audio_gap_max_s() == record.audio_s == 0


def test_every_event_is_recorded_also_those_that_are_refused() -> None:
    one = Duet()
    one.stream.open()
    one.deliver()
    one.peer.receive(b"{", 101)
    one.peer.receive(b'{"event":{"novelty":{}}}', 102)
    names = [event.name for event in one.peer.record.events]
    assert names[:2] == ["sessionStart", "promptStart"]
    assert names[-2:] == ["?", "novelty"]
    assert one.peer.record.events[-1].at == 102


def test_open_blocks_are_known_by_name() -> None:
    one = Duet().open()
    assert len(one.peer.record.open_blocks) == 1
    one.say(silence(0.1)).close()
    assert not one.peer.record.open_blocks


def test_a_record_can_say_what_is_wrong_with_a_session() -> None:
    one = Duet().open().say(silence(0.1))
    with pytest.raises(AssertionError, match="left open"):
        one.peer.record.assert_valid_session()
    one.peer.fail("throttlingException", "Too many", one.now)
    with pytest.raises(AssertionError, match="Too many"):
        one.peer.record.assert_valid_session()


def test_a_record_compares_histories_with_turns_or_pairs() -> None:
    history = [Turn(role=Role.USER, text="Hi"), Turn(role=Role.ASSISTANT, text="Ho")]
    record = Duet().open(history).peer.record
    record.assert_history(history)
    record.assert_history([("USER", "Hi"), ("ASSISTANT", "Ho")])
    with pytest.raises(AssertionError):
        record.assert_history([("USER", "Hi")])
