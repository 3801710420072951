from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.formats import MediaFormat
from opusagent.simulators.caller_playout import Hole, PlayOut

FORMAT = MediaFormat.LPCM16_16K


def audio(seconds: float) -> bytes:
    return b"\x01\x00" * round(seconds * FORMAT.sample_rate_hz)


def playing(seconds: float, *, now: float = 0.0) -> PlayOut:
    out = PlayOut()
    out.start("1", FORMAT, now)
    out.chunk(audio(seconds), now)
    return out


def test_audio_is_heard_in_real_time_from_the_moment_it_came() -> None:
    out = playing(1.0, now=5.0)
    out.chunk(audio(1.0), 5.5)

    assert [(s.at, s.ends_at) for s in out.heard] == [(5.0, 6.0), (6.0, 7.0)]
    assert out.audible(6.9)
    assert not out.audible(7.0)
    assert out.max_lead_s == pytest.approx(1.5)


def test_a_stop_flushes_nothing_and_the_end_is_reported_when_the_audio_is_over() -> None:
    out = playing(3.0)
    out.stop(1.0)

    assert out.audible(2.9)
    assert out.next_timer() == 3.0
    assert out.finished(2.9) == []
    (span,) = out.finished(3.0)
    assert span.heard_s == pytest.approx(3.0)
    assert out.finished(4.0) == []
    assert out.next_timer() is None


def test_a_stop_that_comes_after_the_audio_ends_the_stream_then() -> None:
    out = playing(1.0)
    assert out.finished(2.0) == []
    assert out.quiet_since() is None
    out.stop(2.5)

    assert out.quiet_since() == 2.5
    assert len(out.finished(2.5)) == 1
    assert out.spans[0].idle_s == pytest.approx(1.5)


def test_the_next_stream_waits_until_the_one_before_has_been_played() -> None:
    out = playing(2.0)
    out.stop(0.1)
    out.start("2", FORMAT, 0.2)
    out.chunk(audio(1.0), 0.2)

    assert out.spans[1].began_at == pytest.approx(2.0)
    assert out.spans[1].holes == []


def test_a_late_chunk_leaves_a_hole() -> None:
    out = playing(1.0)
    out.chunk(audio(1.0), 1.25)

    assert out.spans[0].holes == [Hole(1.0, 0.25)]
    assert out.spans[0].heard_s == pytest.approx(2.0)
    assert out.spans[0].ended_at == pytest.approx(2.25)


def test_a_cut_silences_what_is_buffered_and_what_still_comes() -> None:
    out = playing(2.0)

    assert out.cut(0.5)
    out.chunk(audio(1.0), 0.6)
    out.stop(0.7)

    assert not out.audible(0.5)
    (span,) = out.finished(0.7)
    assert span.cut_at == 0.5
    assert span.heard_s == pytest.approx(0.5)
    assert span.discarded_s == pytest.approx(1.0)
    assert sum(len(s.pcm) for s in out.heard) == len(audio(0.5))


def test_a_cut_reaches_streams_that_wait_behind_the_one_being_played() -> None:
    out = playing(2.0)
    out.stop(0.1)
    out.start("2", FORMAT, 0.2)
    out.chunk(audio(1.0), 0.2)
    out.stop(0.3)

    assert out.cut(1.0)

    first, second = out.finished(1.0)
    assert first.heard_s == pytest.approx(1.0)
    assert (second.heard_s, second.began_at) == (0.0, None)


def test_there_is_nothing_to_cut_in_silence() -> None:
    out = playing(1.0)
    out.stop(0.5)
    assert not out.cut(1.5)
    assert out.spans[0].cut_at is None


def test_after_a_cut_the_next_stream_is_heard_at_once() -> None:
    out = playing(2.0)
    out.cut(0.5)
    out.stop(0.5)
    out.start("2", FORMAT, 0.6)
    out.chunk(audio(1.0), 0.6)

    assert out.spans[1].began_at == pytest.approx(0.6)
    assert out.spans[1].heard_s == pytest.approx(1.0)


def test_what_was_to_be_silenced_in_vain_is_no_lead_of_the_next_stream() -> None:
    out = playing(0.3)
    out.forgive()
    out.stop(0.0)
    out.start("2", FORMAT, 0.1)
    out.chunk(audio(0.3), 0.1)

    assert out.max_lead_s == pytest.approx(0.3)


def test_a_lost_stream_plays_on_and_is_never_reported() -> None:
    out = playing(2.0)
    out.lose(1.0)

    assert out.spans[0].lost_at == 1.0
    assert out.audible(1.9)
    assert out.finished(9.0) == []
    assert out.chunk(audio(1.0), 0.5) == b""


def test_a_stream_without_audio_has_no_end_to_report() -> None:
    out = PlayOut()
    out.start("1", FORMAT, 0.0)
    out.stop(1.0)
    assert out.finished(2.0) == []
    assert out.next_timer() is None


def test_mu_law_is_as_long_as_it_sounds() -> None:
    out = PlayOut()
    out.start("1", MediaFormat.MULAW_8K, 0.0)
    pcm = out.chunk(bytes(320), 0.0)

    assert len(pcm) == 640
    assert out.ends_at == pytest.approx(0.04)


def test_without_keeping_audio_everything_is_still_measured() -> None:
    out = PlayOut(keep_audio=False)
    out.start("1", FORMAT, 0.0)
    out.chunk(audio(1.0), 0.0)
    out.cut(0.5)

    assert out.heard == []
    assert out.spans[0].heard_s == pytest.approx(0.5)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "chunk", "stop", "cut", "lose"]),
            st.floats(0, 2),
            st.floats(0.02, 2),
        ),
        max_size=40,
    )
)
def test_what_is_heard_never_overlaps_and_is_what_the_streams_say(
    acts: list[tuple[str, float, float]],
) -> None:
    out = PlayOut()
    names = itertools.count()
    now = 0.0
    for act, later, length in acts:
        now += later
        match act:
            case "start":
                out.start(str(next(names)), FORMAT, now)
            case "chunk":
                out.chunk(audio(length), now)
            case "stop":
                out.stop(now)
            case "cut":
                out.cut(now)
                assert not out.audible(now)
            case "lose":
                out.lose(now)
        out.finished(now)
        timer = out.next_timer()
        assert timer is None or timer > now
    for one, other in itertools.pairwise(out.heard):
        assert one.ends_at <= other.at + 1e-4
    heard_s = sum(len(s.pcm) for s in out.heard) / (2 * FORMAT.sample_rate_hz)
    assert heard_s == pytest.approx(sum(s.heard_s for s in out.spans), abs=1e-2)
    for span in out.spans:
        assert -1e-9 <= span.heard_s <= span.received_s - span.discarded_s + 1e-9
