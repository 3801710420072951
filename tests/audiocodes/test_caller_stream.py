from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes.caller_stream import CallerStream
from opusagent.audiocodes.events import CallerAudio, UserStreamClosed, UserStreamOpened


def new_stream(media_format: MediaFormat = MediaFormat.LPCM16_16K) -> CallerStream:
    return CallerStream(media_format)


def test_an_ordinary_call_names_nobody_and_everything_is_heard() -> None:
    stream = new_stream()
    assert stream.start(None) == [UserStreamOpened()]
    assert stream.chunk(b"ab") == [CallerAudio(b"ab")]
    assert stream.stop(None) == [UserStreamClosed()]
    assert stream.participant is None


def test_the_first_participant_is_followed_and_the_others_are_not_heard() -> None:
    stream = new_stream()
    assert stream.start("agent") == [UserStreamOpened()]
    assert stream.start("supervisor") == []
    assert stream.chunk(b"no", "supervisor") == []
    assert stream.chunk(b"ye", "agent") == [CallerAudio(b"ye")]
    assert stream.stop("supervisor") == []
    assert stream.stop("agent") == [UserStreamClosed()]
    assert stream.participant == "agent"


def test_the_caller_is_followed_even_if_somebody_else_came_first() -> None:
    stream = new_stream()
    stream.start("agent")
    assert stream.start("caller") == []
    assert stream.participant == "caller"
    assert stream.chunk(b"no", "agent") == []
    assert stream.chunk(b"ye", "caller") == [CallerAudio(b"ye")]
    assert stream.stop("agent") == []


def test_nobody_else_is_followed_once_the_caller_is_expected() -> None:
    stream = new_stream()
    stream.expect_caller()
    assert stream.start("agent") == []
    assert stream.chunk(b"no", "agent") == []
    assert stream.start("caller") == [UserStreamOpened()]


def test_a_stop_from_somebody_unknown_does_not_make_him_the_one_to_follow() -> None:
    stream = new_stream()
    assert stream.stop("agent") == []
    assert stream.start("customer") == [UserStreamOpened()]
    assert stream.participant == "customer"


def test_half_a_sample_of_one_stream_is_not_joined_to_the_next_stream() -> None:
    stream = new_stream()
    stream.start(None)
    assert stream.chunk(b"abc") == [CallerAudio(b"ab")]
    stream.stop(None)
    stream.start(None)
    assert stream.chunk(b"de") == [CallerAudio(b"de")]


def test_half_a_sample_of_one_participant_is_not_joined_to_another() -> None:
    stream = new_stream()
    stream.chunk(b"abc", "agent")
    assert stream.chunk(b"de", "caller") == [CallerAudio(b"de")]


def test_the_agreed_format_decodes_what_comes() -> None:
    stream = new_stream()
    stream.expect_caller()
    stream.use(MediaFormat.MULAW_8K)
    assert stream.participant == "caller"
    assert stream.chunk(b"\xff\xfe", "caller") == [
        UserStreamOpened(),
        CallerAudio(b"\x00\x00\x08\x00"),
    ]


steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "stop", "chunk"]),
        st.sampled_from([None, "caller", "agent", "supervisor"]),
        st.binary(max_size=7),
    )
)


@given(steps)
def test_openings_and_closings_take_turns_and_audio_comes_only_between_them(
    steps: list[tuple[str, str | None, bytes]],
) -> None:
    stream, is_open = new_stream(), False
    for step, participant, data in steps:
        if step == "start":
            events = stream.start(participant)
        elif step == "stop":
            events = stream.stop(participant)
        else:
            events = stream.chunk(data, participant)
        for event in events:
            if isinstance(event, CallerAudio):
                assert is_open
                assert event.pcm
                assert len(event.pcm) % 2 == 0
            else:
                assert isinstance(event, UserStreamClosed if is_open else UserStreamOpened)
                is_open = not is_open


@given(st.lists(st.tuples(st.sampled_from(["caller", "agent"]), st.integers(0, 9)), min_size=1))
def test_the_audio_of_two_participants_is_never_mixed(said: list[tuple[str, int]]) -> None:
    """Every participant has numbers of his own; what is heard after `caller` is his alone."""
    stream = new_stream()
    stream.expect_caller()
    heard = b""
    for who, number in said:
        sample = bytes([number + (100 if who == "agent" else 0), 0])
        for event in stream.chunk(sample, who):
            heard += event.pcm if isinstance(event, CallerAudio) else b""
    assert list(heard[::2]) == [number for who, number in said if who == "caller"]
