from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from opusagent.audio.convert import Decoder
from opusagent.audio.formats import MediaFormat
from opusagent.audio.riff import stream_header
from opusagent.audiocodes import peer_events as said
from opusagent.audiocodes.codec import ChunkWriter, parse_bot
from opusagent.audiocodes.events import (
    ActivityReceived,
    BrokenActivity,
    CallerAudio,
    CallerEvent,
    CallerHungUp,
    CallStarted,
    ConnectionValidated,
    DtmfPressed,
    HangupHint,
    NoUserInput,
    PlayFinished,
    ResumeRequested,
    SessionRequested,
    TransferStatus,
    UnknownMessage,
    UserStreamClosed,
    UserStreamOpened,
)
from opusagent.audiocodes.messages import PlayStreamChunk, PlayStreamStart, UserStreamChunk
from opusagent.audiocodes.protocol import AudioCodesProtocol, Phase
from opusagent.errors import LocalProtocolError, RemoteProtocolError
from tests.audiocodes.conftest import Wire, new_bot

if TYPE_CHECKING:
    from opusagent.audiocodes.peer_events import PeerEvent

KHZ16, KHZ24 = MediaFormat.LPCM16_16K, MediaFormat.LPCM16_24K


def to(bot: AudioCodesProtocol, message_type: str, **rest: JsonValue) -> list[CallerEvent]:
    return bot.receive(json.dumps({"type": message_type, "conversationId": "c-1", **rest}))


def sent(bot: AudioCodesProtocol) -> list[JsonValue]:
    return [json.loads(text) for text in bot.texts_to_send()]


def types_sent(bot: AudioCodesProtocol) -> list[str]:
    return [parse_bot(text).type for text in bot.texts_to_send()]


# Validation


def test_a_connection_is_validated_without_a_session(wire: Wire) -> None:
    wire.peer.validate()
    assert wire.to_bot() == [ConnectionValidated()]
    assert wire.to_peer() == [said.Validated()]
    assert wire.bot.phase is Phase.FRESH


def test_a_session_may_follow_a_validation_and_the_other_way_round(wire: Wire) -> None:
    wire.peer.validate()
    wire.to_bot()
    wire.answer()
    wire.peer.validate()
    assert wire.to_bot() == [ConnectionValidated()]
    assert wire.to_peer() == [said.Validated()]


# session.initiate


def test_a_new_call_asks_with_everything_it_said(wire: Wire) -> None:
    wire.peer.initiate("c-1", caller="+1555", bot_name="nova", formats=["raw/lpcm16"])
    assert wire.to_bot() == [SessionRequested("c-1", "+1555", "nova", ("raw/lpcm16",), True)]
    assert wire.to_peer() == []
    wire.bot.accept(KHZ16, KHZ16)
    assert wire.to_peer() == [said.Accepted(KHZ16)]


def test_the_formats_of_both_directions_are_independent(wire: Wire) -> None:
    wire.answer(MediaFormat.MULAW_8K, KHZ24)
    wire.bot.start_play()
    wire.bot.play(b"abcd")
    assert wire.peer.media_format is MediaFormat.MULAW_8K
    assert wire.to_peer()[0] == said.PlayStarted("1", KHZ24)


def test_a_text_only_tenant_is_told_apart(wire: Wire) -> None:
    wire.peer.initiate("c-1", formats=None, expect_audio=False)
    assert wire.to_bot() == [SessionRequested("c-1", "anonymous", "voice-bot", (), False)]


def test_a_request_that_says_nothing_of_audio_expects_it(wire: Wire) -> None:
    wire.peer.initiate("c-1", expect_audio=None)
    (asked,) = wire.to_bot()
    assert isinstance(asked, SessionRequested)
    assert asked.expects_audio


def test_a_refused_call_gets_the_reason(wire: Wire) -> None:
    wire.peer.initiate("c-1", formats=["alaw"])
    wire.to_bot()
    wire.bot.reject("no common media format")
    assert wire.to_peer() == [said.Refused("no common media format")]
    assert wire.bot.phase is Phase.REFUSED


def test_a_duplicate_request_before_the_answer_is_ignored(wire: Wire) -> None:
    wire.peer.initiate("c-1")
    wire.peer.initiate("c-1")
    assert len(wire.to_bot()) == 1
    wire.bot.accept(KHZ16, KHZ24)
    assert wire.to_peer() == [said.Accepted(KHZ16)]


def test_a_different_request_before_the_answer_is_refused(wire: Wire) -> None:
    wire.peer.initiate("c-1")
    wire.to_bot()
    wire.peer.initiate("c-1", formats=["raw/mulaw"])
    with pytest.raises(RemoteProtocolError, match="second, different"):
        wire.to_bot()


def test_a_duplicate_request_after_the_answer_gets_the_same_answer_again(call: Wire) -> None:
    call.peer.initiate("c-1")
    assert call.to_bot() == []
    assert call.to_peer() == [said.Accepted(KHZ16)]


@pytest.mark.parametrize("accepted", [False, True])
def test_a_second_call_on_the_same_websocket_is_refused(wire: Wire, *, accepted: bool) -> None:
    wire.peer.initiate("c-1")
    wire.to_bot()
    if accepted:
        wire.bot.accept(KHZ16, KHZ24)
    for kind in ("session.initiate", "session.resume"):
        with pytest.raises(RemoteProtocolError, match="another conversation"):
            to(wire.bot, kind, conversationId="c-2")
    assert wire.bot.phase is (Phase.ACCEPTED if accepted else Phase.ASKED)


def test_an_answer_that_was_not_asked_for_is_our_bug(wire: Wire) -> None:
    with pytest.raises(LocalProtocolError, match="accept in phase fresh"):
        wire.bot.accept(KHZ16, KHZ24)
    wire.answer()
    with pytest.raises(LocalProtocolError, match="accept in phase accepted"):
        wire.bot.accept(KHZ16, KHZ24)


@pytest.mark.parametrize(("heard", "played"), [(KHZ24, KHZ16), (KHZ16, KHZ24)])
def test_accepting_a_format_that_was_not_offered_is_our_bug(
    wire: Wire, heard: MediaFormat, played: MediaFormat
) -> None:
    wire.peer.initiate("c-1", formats=["raw/lpcm16"])
    wire.to_bot()
    with pytest.raises(LocalProtocolError, match="not offered"):
        wire.bot.accept(heard, played)
    assert wire.to_peer() == []


# session.resume


def test_a_resumed_call_goes_on_with_the_next_play_id(call: Wire) -> None:
    call.bot.start_play()
    call.bot.play(b"abcd")
    call.to_peer()
    call.reconnect()
    assert call.to_bot() == [ResumeRequested("c-1", ())]
    call.bot.accept(KHZ16, KHZ24)
    assert call.to_peer() == [said.Accepted(KHZ16)]
    assert call.bot.start_play() == "2"
    call.bot.play(b"abcd")
    assert call.to_peer()[0] == said.PlayStarted("2", KHZ24)


def test_a_resume_that_offers_formats_is_held_to_them(wire: Wire) -> None:
    wire.peer.resume("c-1", ["raw/mulaw"])
    assert wire.to_bot() == [ResumeRequested("c-1", ("raw/mulaw",))]
    with pytest.raises(LocalProtocolError, match="not offered"):
        wire.bot.accept(KHZ16, KHZ24)


def test_a_resume_of_an_unknown_call_is_refused(wire: Wire) -> None:
    wire.peer.resume("gone")
    wire.to_bot()
    wire.bot.reject("unknown session")
    assert wire.to_peer() == [said.Refused("unknown session")]


def test_a_resume_on_the_websocket_of_the_call_gets_the_same_answer_again(call: Wire) -> None:
    assert to(call.bot, "session.resume") == []
    assert sent(call.bot) == [{"type": "session.accepted", "mediaFormat": "raw/lpcm16"}]


def test_audio_after_a_resume_may_come_with_or_without_a_new_start(call: Wire) -> None:
    for with_start in (True, False):
        call.reconnect()
        call.to_bot()
        call.bot.accept(KHZ16, KHZ24)
        if with_start:
            call.peer.start_user_stream()
        call.peer.chunk(b"ab")
        assert call.to_bot() == [UserStreamOpened(), CallerAudio(b"ab")]


# Activities


def test_the_start_of_a_call_comes_once_however_often_it_is_said(call: Wire) -> None:
    call.peer.start({"caller": "+1555", "callee": "bot"})
    call.peer.start({"caller": "+1555", "callee": "bot"})
    assert call.to_bot() == [
        CallStarted({"caller": "+1555", "callee": "bot"}, caller="+1555", callee="bot")
    ]


def test_a_start_without_a_caller_has_the_caller_of_the_request(wire: Wire) -> None:
    wire.peer.initiate("c-1", caller="+1555")
    wire.peer.start({"callee": "bot"})
    assert wire.to_bot()[1] == CallStarted({"callee": "bot"}, caller="+1555", callee="bot")


def test_a_start_may_come_before_our_acceptance(wire: Wire) -> None:
    wire.peer.initiate("c-1")
    wire.to_bot()
    wire.peer.start({})
    assert wire.to_bot() == [CallStarted({}, caller="anonymous", callee="")]


@pytest.mark.parametrize(
    ("speak", "event"),
    [
        (lambda peer: peer.dtmf("5"), DtmfPressed("5")),
        (lambda peer: peer.dtmf("12#", "dtmf"), DtmfPressed("12#")),
        (lambda peer: peer.dtmf("0", "DTMFDigits"), DtmfPressed("0")),
        (lambda peer: peer.no_user_input(2), NoUserInput(2)),
        (lambda peer: peer.play_finished(3384), PlayFinished(3384, "finished")),
        (lambda peer: peer.activity("hangup"), HangupHint()),
        (
            lambda peer: peer.activity("transferStatus", value={"status": "answered"}),
            TransferStatus("answered", ""),
        ),
        (
            lambda peer: peer.activity("playUrlFailed", value={"reason": "404"}),
            ActivityReceived("playUrlFailed", {"reason": "404"}, {}),
        ),
    ],
)
def test_every_activity_becomes_its_event(
    call: Wire, speak: Callable[[object], None], event: CallerEvent
) -> None:
    speak(call.peer)
    assert call.to_bot() == [event]
    assert call.to_peer() == []


def test_several_activities_in_one_message_keep_their_order(call: Wire) -> None:
    events = to(
        call.bot,
        "activities",
        activities=[
            {"type": "event", "name": "DTMF", "value": "1"},
            {"type": "event", "name": "start", "parameters": None},
            {"type": "Event", "name": "dtmf", "value": "2"},
        ],
    )
    assert events == [DtmfPressed("1"), CallStarted({}, "anonymous", ""), DtmfPressed("2")]


def test_of_a_message_with_one_broken_activity_the_others_count(call: Wire) -> None:
    assert to(
        call.bot,
        "activities",
        activities=[
            {"type": "event", "name": "start"},
            {"type": "event", "name": "DTMF"},
            {"type": "event", "name": 7},
            {"type": "event", "name": "DTMF", "value": "5"},
        ],
    ) == [
        CallStarted({}, "anonymous", ""),
        BrokenActivity("DTMF without digits"),
        BrokenActivity("activities.name: string_type"),
        DtmfPressed("5"),
    ]


# The caller's audio


def test_a_user_stream_is_acknowledged_at_both_ends(call: Wire) -> None:
    call.peer.start_user_stream()
    assert call.to_bot() == [UserStreamOpened()]
    assert call.to_peer() == [said.UserStreamStarted()]
    call.peer.chunk(b"abcd")
    assert call.to_bot() == [CallerAudio(b"abcd")]
    assert call.to_peer() == []
    call.peer.stop_user_stream()
    assert call.to_bot() == [UserStreamClosed()]
    assert call.to_peer() == [said.UserStreamStopped()]


def test_user_streams_come_and_go_many_times_in_a_call(call: Wire) -> None:
    for _ in range(5):
        call.peer.start_user_stream()
        call.peer.chunk(b"abcd")
        call.peer.stop_user_stream()
        assert call.to_bot() == [UserStreamOpened(), CallerAudio(b"abcd"), UserStreamClosed()]
        assert call.to_peer() == [said.UserStreamStarted(), said.UserStreamStopped()]


def test_a_start_without_a_stop_before_is_acknowledged_again_and_is_no_new_opening(
    call: Wire,
) -> None:
    call.peer.start_user_stream()
    call.peer.start_user_stream()
    assert call.to_bot() == [UserStreamOpened()]
    assert call.to_peer() == [said.UserStreamStarted(), said.UserStreamStarted()]


def test_a_stop_without_a_start_is_acknowledged_and_closes_nothing(call: Wire) -> None:
    call.peer.stop_user_stream()
    assert call.to_bot() == []
    assert call.to_peer() == [said.UserStreamStopped()]


def test_a_chunk_before_any_start_opens_the_stream(call: Wire) -> None:
    call.peer.chunk(b"ab")
    assert call.to_bot() == [UserStreamOpened(), CallerAudio(b"ab")]
    assert call.to_peer() == []
    call.peer.start_user_stream()
    assert call.to_bot() == []
    assert call.to_peer() == [said.UserStreamStarted()]


def test_a_chunk_after_a_stop_opens_the_stream_again(call: Wire) -> None:
    call.peer.start_user_stream()
    call.peer.stop_user_stream()
    call.peer.chunk(b"ab")
    assert call.to_bot()[2:] == [UserStreamOpened(), CallerAudio(b"ab")]


def test_a_participant_is_echoed_and_two_are_not_mixed(call: Wire) -> None:
    call.peer.start({"participants": [{"participant": "caller"}, {"participant": "agent"}]})
    call.peer.start_user_stream("agent")
    call.peer.start_user_stream("caller")
    call.peer.chunk(b"no", "agent")
    call.peer.chunk(b"ye", "caller")
    call.peer.stop_user_stream("agent")
    assert call.to_bot()[1:] == [UserStreamOpened(), CallerAudio(b"ye")]
    assert call.to_peer() == [
        said.UserStreamStarted("agent"),
        said.UserStreamStarted("caller"),
        said.UserStreamStopped("agent"),
    ]
    call.bot.speech_started()
    assert sent(call.bot) == [{"type": "userStream.speech.started", "participant": "caller"}]


def test_an_empty_chunk_is_no_event_and_no_error(call: Wire) -> None:
    assert to(call.bot, "userStream.chunk", audioChunk="") == []


def test_an_odd_number_of_bytes_is_carried_to_the_next_chunk(call: Wire) -> None:
    for chunk in (b"a", b"bc", b"def"):
        call.peer.chunk(chunk)
    assert call.to_bot() == [UserStreamOpened(), CallerAudio(b"ab"), CallerAudio(b"cdef")]


def test_mulaw_arrives_as_pcm(wire: Wire) -> None:
    wire.answer(MediaFormat.MULAW_8K)
    wire.peer.chunk(b"\xff\xfe\x7e")
    assert wire.to_bot()[1:] == [CallerAudio(b"\x00\x00\x08\x00\xf8\xff")]


def test_a_wav_header_is_no_audio_in_any_user_stream(wire: Wire) -> None:
    wire.answer(MediaFormat.WAV_LPCM16_16K)
    header = stream_header(MediaFormat.WAV_LPCM16_16K)
    for _ in range(2):
        wire.peer.start_user_stream()
        wire.peer.chunk(header[:30])
        wire.peer.chunk(header[30:] + b"ab")
        wire.peer.stop_user_stream()
        assert wire.to_bot() == [UserStreamOpened(), CallerAudio(b"ab"), UserStreamClosed()]


def test_a_burst_of_chunks_arrives_whole_and_in_order(call: Wire) -> None:
    call.peer.start_user_stream()
    chunks = [bytes([n]) * 5_120 for n in range(50)]
    for chunk in chunks:
        call.peer.chunk(chunk)
    assert call.to_bot()[1:] == [CallerAudio(chunk) for chunk in chunks]


@pytest.mark.parametrize(
    "message_type", ["userStream.start", "userStream.chunk", "userStream.stop"]
)
def test_a_user_stream_before_our_acceptance_is_refused(wire: Wire, message_type: str) -> None:
    wire.peer.initiate("c-1")
    wire.to_bot()
    with pytest.raises(RemoteProtocolError, match="before acceptance"):
        to(wire.bot, message_type, audioChunk="AAAA")


# Broken messages


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("hello", id="not JSON"),
        pytest.param("[]", id="not an object"),
        pytest.param("{}", id="no type"),
        pytest.param(b"\x00\x01", id="a binary frame"),
        pytest.param('{"type":"userStream.chunk","audioChunk":"A"}', id="invalid base64"),
        pytest.param('{"type":"userStream.chunk","audio":"AAAA"}', id="no audio"),
        pytest.param('{"type":"userStream.chunk","audioChunk":5}', id="audio of a number"),
        pytest.param('{"type":"userStream.start","participant":5}', id="participant of a number"),
        pytest.param('{"type":"activities"}', id="no activities"),
        pytest.param(
            ChunkWriter(UserStreamChunk(audio_chunk=b""))(bytes(480_001)), id="a huge chunk"
        ),
        pytest.param(
            '{"type":"userStream.chunk","conversationId":"c-2","audioChunk":"AAAA"}',
            id="audio of another call",
        ),
        pytest.param('{"type":"session.end","conversationId":"c-2"}', id="end of another call"),
    ],
)
def test_after_a_broken_message_nothing_has_changed_and_the_next_one_works(
    call: Wire, text: str | bytes
) -> None:
    call.peer.start_user_stream()
    call.peer.chunk(b"abc")
    call.to_bot()
    call.to_peer()
    with pytest.raises(RemoteProtocolError):
        call.bot.receive(text)
    assert call.bot.texts_to_send() == []
    assert call.bot.phase is Phase.ACCEPTED
    call.peer.chunk(b"def")
    assert call.to_bot() == [CallerAudio(b"cdef")]


@pytest.mark.parametrize(
    "message_type",
    ["userStream.start", "userStream.chunk", "userStream.stop", "activities", "session.end"],
)
def test_nothing_but_a_request_or_a_validation_may_come_first(
    wire: Wire, message_type: str
) -> None:
    with pytest.raises(RemoteProtocolError, match="before any session"):
        to(
            wire.bot,
            message_type,
            audioChunk="AAAA",
            activities=[{"type": "event", "name": "start"}],
        )
    wire.answer()
    assert wire.bot.phase is Phase.ACCEPTED


@pytest.mark.parametrize(
    "message_type", ["session.resumed", "playStream.mark.reached", "session.accepted", "new.thing"]
)
def test_an_unknown_message_is_reported_by_its_type_and_changes_nothing(
    call: Wire, message_type: str
) -> None:
    assert to(call.bot, message_type, anything={"a": 1}) == [UnknownMessage(message_type)]
    assert call.bot.texts_to_send() == []
    call.peer.start_user_stream()
    assert call.to_bot() == [UserStreamOpened()]


def test_an_unknown_message_may_come_before_any_session(wire: Wire) -> None:
    assert wire.bot.receive('{"type":"hello"}') == [UnknownMessage("hello")]


# What the bot says


def test_a_play_is_started_with_its_first_audio_and_stopped_after_its_last(call: Wire) -> None:
    assert call.bot.start_play("hello") == "1"
    assert call.bot.texts_to_send() == []
    call.bot.play(b"abcd")
    call.bot.play(b"ef")
    call.bot.stop_play()
    texts = call.bot.texts_to_send()
    assert parse_bot(texts[0]) == PlayStreamStart(
        stream_id="1", media_format="raw/lpcm16_24", alt_text="hello"
    )
    assert parse_bot(texts[1]) == PlayStreamChunk(stream_id="1", audio_chunk=b"abcd")
    assert [event for text in texts for event in call.peer.receive(text)] == [
        said.PlayStarted("1", KHZ24),
        said.PlayChunk("1", b"abcd"),
        said.PlayChunk("1", b"ef"),
        said.PlayStopped("1"),
    ]


def test_a_play_without_audio_is_never_heard_of(call: Wire) -> None:
    call.bot.start_play()
    call.bot.play(b"")
    call.bot.play(b"x")  # half a sample
    assert call.bot.playing
    call.bot.stop_play()
    assert not call.bot.playing
    assert call.bot.texts_to_send() == []


def test_every_play_has_an_id_of_its_own(call: Wire) -> None:
    ids = []
    for n in range(5):
        ids.append(call.bot.start_play())
        if n != 2:
            call.bot.play(b"ab")
        call.bot.stop_play()
    assert ids == ["1", "2", "3", "4", "5"]
    started = [event for event in call.to_peer() if isinstance(event, said.PlayStarted)]
    assert [event.stream_id for event in started] == ["1", "2", "4", "5"]


def test_two_plays_at_once_are_our_bug(call: Wire) -> None:
    call.bot.start_play()
    with pytest.raises(LocalProtocolError, match="start_play while playing"):
        call.bot.start_play()


def test_playing_without_a_play_is_our_bug(call: Wire) -> None:
    with pytest.raises(LocalProtocolError, match="play without start_play"):
        call.bot.play(b"ab")


def test_stopping_nothing_says_nothing(call: Wire) -> None:
    call.bot.stop_play()
    assert call.bot.texts_to_send() == []


def test_after_a_barge_in_no_chunk_of_the_old_play_follows_and_the_new_one_has_a_new_id(
    call: Wire,
) -> None:
    call.bot.start_play()
    call.bot.play(b"ab")
    call.bot.speech_started()
    call.bot.stop_play()
    call.bot.abort_prompts()
    with pytest.raises(LocalProtocolError):
        call.bot.play(b"late audio")
    call.bot.start_play()
    call.bot.play(b"cd")
    assert call.to_peer() == [
        said.PlayStarted("1", KHZ24),
        said.PlayChunk("1", b"ab"),
        said.Speech(said.SpeechKind.STARTED),
        said.PlayStopped("1"),
        said.PromptsAborted(),
        said.PlayStarted("2", KHZ24),
        said.PlayChunk("2", b"cd"),
    ]


def test_audio_may_be_played_before_any_user_stream(call: Wire) -> None:
    call.bot.start_play()
    call.bot.play(b"ab")
    assert call.to_peer() == [said.PlayStarted("1", KHZ24), said.PlayChunk("1", b"ab")]


@pytest.mark.parametrize("play_format", MediaFormat)
@given(chunks=st.lists(st.binary(max_size=40)))
def test_what_the_bot_plays_arrives_in_the_format_it_named(
    play_format: MediaFormat, chunks: list[bytes]
) -> None:
    wire = Wire()
    wire.answer(KHZ16, play_format)
    wire.bot.start_play()
    for chunk in chunks:
        wire.bot.play(chunk)
    wire.bot.stop_play()
    events = wire.to_peer()
    data = b"".join(event.data for event in events if isinstance(event, said.PlayChunk))
    n_samples = sum(map(len, chunks)) // 2
    header = len(stream_header(play_format)) if play_format.is_wav and n_samples else 0
    width = 1 if "mulaw" in play_format else 2
    assert len(data) == header + width * n_samples


@pytest.mark.parametrize(
    ("speak", "event", "wire_text"),
    [
        (
            lambda bot: bot.speech_started(),
            said.Speech(said.SpeechKind.STARTED),
            {"type": "userStream.speech.started"},
        ),
        (
            lambda bot: bot.speech_stopped(),
            said.Speech(said.SpeechKind.STOPPED),
            {"type": "userStream.speech.stopped"},
        ),
        (
            lambda bot: bot.speech_committed(),
            said.Speech(said.SpeechKind.COMMITTED),
            {"type": "userStream.speech.committed"},
        ),
        (
            lambda bot: bot.speech_hypothesis("hel"),
            said.Speech(said.SpeechKind.HYPOTHESIS, "hel"),
            {"type": "userStream.speech.hypothesis", "alternatives": [{"text": "hel"}]},
        ),
        (
            lambda bot: bot.speech_recognised("hello", 0.83),
            said.Speech(said.SpeechKind.RECOGNITION, "hello"),
            {
                "type": "userStream.speech.recognition",
                "alternatives": [{"text": "hello", "confidence": 0.83}],
            },
        ),
    ],
)
def test_every_word_about_the_callers_speech_is_written_as_documented(
    call: Wire,
    speak: Callable[[AudioCodesProtocol], None],
    event: PeerEvent,
    wire_text: JsonValue,
) -> None:
    speak(call.bot)
    (text,) = call.bot.texts_to_send()
    assert json.loads(text) == wire_text
    assert call.peer.receive(text) == [event]


@pytest.mark.parametrize(
    ("speak", "event", "wire_fields"),
    [
        (
            lambda bot: bot.configure({"bargeIn": True}),
            said.Configured({"bargeIn": True}),
            {"name": "config", "sessionParams": {"bargeIn": True}},
        ),
        (lambda bot: bot.abort_prompts(), said.PromptsAborted(), {"name": "abortPrompts"}),
        (
            lambda bot: bot.hang_up("goodbye"),
            said.HangupRequested("goodbye"),
            {"name": "hangup", "activityParams": {"hangupReason": "goodbye"}},
        ),
        (lambda bot: bot.hang_up(""), said.HangupRequested(""), {"name": "hangup"}),
        (
            lambda bot: bot.send_activity(
                "transfer", activity_params={"transferTarget": "tel:+1555"}
            ),
            said.Activity("transfer", {"transferTarget": "tel:+1555"}),
            {"name": "transfer", "activityParams": {"transferTarget": "tel:+1555"}},
        ),
        (
            lambda bot: bot.send_activity("sendMetaData", value={"a": None}),
            said.Activity("sendMetaData", {}, {"a": None}),
            {"name": "sendMetaData", "value": {"a": None}},
        ),
        (
            lambda bot: bot.send_activity("sendDtmf", activity_params={"dtmfDigits": "1#"}),
            said.Activity("sendDtmf", {"dtmfDigits": "1#"}),
            {"name": "sendDtmf", "activityParams": {"dtmfDigits": "1#"}},
        ),
    ],
)
def test_every_event_of_the_bot_carries_an_id_and_a_time(
    call: Wire,
    speak: Callable[[AudioCodesProtocol], None],
    event: PeerEvent,
    wire_fields: dict[str, JsonValue],
) -> None:
    speak(call.bot)
    (text,) = call.bot.texts_to_send()
    stamp = {"type": "event", "id": "bot-1", "timestamp": "2025-12-18T18:01:41.668Z"}
    assert json.loads(text) == {"type": "activities", "activities": [stamp | wire_fields]}
    assert call.peer.receive(text) == [event]


# The end


def test_a_caller_who_hangs_up_ends_everything(call: Wire) -> None:
    call.bot.start_play()
    call.bot.play(b"ab")
    call.to_peer()
    call.peer.end("client-disconnected", "Client Side")
    assert call.to_bot() == [CallerHungUp("client-disconnected", "Client Side")]
    assert call.bot.phase is Phase.ENDED
    assert not call.bot.playing


def test_an_end_without_reasons_is_an_end(call: Wire) -> None:
    assert to(call.bot, "session.end") == [CallerHungUp("", "")]


def test_a_caller_may_hang_up_before_the_call_is_accepted(wire: Wire) -> None:
    wire.peer.initiate("c-1")
    wire.peer.end()
    assert isinstance(wire.to_bot()[1], CallerHungUp)
    wire.bot.accept(KHZ16, KHZ24)
    assert wire.bot.texts_to_send() == []


def test_messages_after_the_end_are_refused(call: Wire) -> None:
    to(call.bot, "session.end")
    for message_type in ("session.end", "session.initiate", "userStream.start"):
        with pytest.raises(RemoteProtocolError, match=r"after session\.end"):
            to(call.bot, message_type)
    assert call.bot.texts_to_send() == []


def every_order(bot: AudioCodesProtocol) -> None:
    bot.accept(KHZ16, KHZ24)
    bot.start_play()
    bot.play(b"ab")
    bot.stop_play()
    bot.speech_started()
    bot.speech_stopped()
    bot.speech_committed()
    bot.speech_hypothesis("a")
    bot.speech_recognised("a")
    bot.abort_prompts()
    bot.configure({"bargeIn": True})
    bot.send_activity("transfer")
    bot.hang_up("again")
    bot.reject("again")


def test_nothing_is_sent_on_a_session_that_the_caller_ended(call: Wire) -> None:
    to(call.bot, "session.end")
    every_order(call.bot)
    assert call.bot.texts_to_send() == []


def test_nothing_is_sent_after_session_error(call: Wire) -> None:
    call.bot.start_play()
    call.bot.play(b"ab")
    call.bot.reject("the model is away")
    every_order(call.bot)
    assert types_sent(call.bot) == ["playStream.start", "playStream.chunk", "session.error"]


def test_what_crosses_our_session_error_is_ignored_but_the_end_is_not(call: Wire) -> None:
    call.bot.reject("the model is away")
    call.bot.texts_to_send()
    call.peer.start_user_stream()
    call.peer.chunk(b"ab")
    call.peer.dtmf("1")
    call.peer.validate()
    call.peer.initiate("c-1")
    assert call.to_bot() == []
    assert call.bot.texts_to_send() == []
    call.peer.end("error")
    assert call.to_bot() == [CallerHungUp("error", "Client Side")]


def test_hanging_up_twice_is_hanging_up_once(call: Wire) -> None:
    call.bot.hang_up("goodbye")
    call.bot.hang_up("really")
    assert call.to_peer() == [said.HangupRequested("goodbye")]
    call.peer.end("bot-disconnected")
    assert call.to_bot() == [CallerHungUp("bot-disconnected", "Client Side")]


def test_the_end_of_the_session_may_cross_our_hangup(call: Wire) -> None:
    call.peer.end()
    call.bot.hang_up("goodbye")
    assert call.to_bot() == [CallerHungUp("client-disconnected", "Client Side")]
    assert call.to_peer() == [said.HangupRequested("goodbye")]


def test_user_streams_are_still_acknowledged_while_we_leave(call: Wire) -> None:
    call.bot.hang_up("goodbye")
    call.peer.start_user_stream()
    call.peer.chunk(b"ab")
    assert call.to_bot() == [UserStreamOpened(), CallerAudio(b"ab")]
    assert types_sent(call.bot) == ["activities", "userStream.started"]


@pytest.mark.parametrize("asked", [False, True])
def test_hanging_up_before_acceptance_is_a_refusal(wire: Wire, *, asked: bool) -> None:
    if asked:
        wire.peer.initiate("c-1")
        wire.to_bot()
    wire.bot.hang_up("no model")
    assert wire.to_peer() == [said.Refused("no model")]


@pytest.mark.parametrize(
    "order",
    [
        lambda bot: bot.start_play(),
        lambda bot: bot.play(b"ab"),
        lambda bot: bot.speech_started(),
        lambda bot: bot.configure({}),
        lambda bot: bot.abort_prompts(),
        lambda bot: bot.send_activity("transfer"),
    ],
)
def test_an_order_before_acceptance_is_our_bug(
    wire: Wire, order: Callable[[AudioCodesProtocol], object]
) -> None:
    wire.peer.initiate("c-1")
    wire.to_bot()
    with pytest.raises(LocalProtocolError, match="in phase asked"):
        order(wire.bot)
    assert wire.bot.texts_to_send() == []


# Laws


@given(st.lists(st.binary(max_size=50)), st.sampled_from(list(MediaFormat)))
def test_every_byte_of_the_caller_arrives_in_order(
    chunks: list[bytes], media_format: MediaFormat
) -> None:
    wire = Wire()
    wire.answer(media_format)
    if media_format.is_wav:
        chunks = [stream_header(media_format), *(b"" if c[:1] == b"R" else c for c in chunks)]
    for chunk in chunks:
        wire.peer.chunk(chunk)
    pcm = b"".join(event.pcm for event in wire.to_bot() if isinstance(event, CallerAudio))
    once = Wire()
    once.answer(media_format)
    once.peer.chunk(b"".join(chunks))
    assert pcm == b"".join(event.pcm for event in once.to_bot() if isinstance(event, CallerAudio))


any_text = st.one_of(
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(
        lambda message_type, key, rest: json.dumps(
            {"type": message_type, "conversationId": key, **rest}
        ),
        st.sampled_from(
            [
                "connection.validate",
                "session.initiate",
                "session.resume",
                "session.end",
                "activities",
                "userStream.start",
                "userStream.chunk",
                "userStream.stop",
                "playStream.mark.reached",
                "unheard.of",
            ]
        ),
        st.sampled_from(["c-1", "c-1", "c-1", "c-2", None]),
        st.fixed_dictionaries(
            {"audioChunk": st.sampled_from(["AAAA", "AA==", "", "A"])},
            optional={
                "participant": st.sampled_from(["caller", "agent", 5]),
                "activities": st.lists(
                    st.fixed_dictionaries(
                        {
                            "type": st.sampled_from(["event", "message"]),
                            "name": st.sampled_from(["start", "DTMF", "hangup", "x"]),
                        },
                        optional={"value": st.sampled_from(["1", None, {}])},
                    ),
                    max_size=3,
                ),
            },
        ),
    ),
)
orders = st.sampled_from(
    [
        lambda bot: bot.accept(KHZ16, KHZ24),
        lambda bot: bot.reject("no"),
        lambda bot: bot.hang_up("bye"),
        lambda bot: bot.start_play(),
        lambda bot: bot.play(b"abc"),
        lambda bot: bot.play(b"a"),
        lambda bot: bot.stop_play(),
        lambda bot: bot.speech_started(),
        lambda bot: bot.speech_recognised("a"),
        lambda bot: bot.configure({"bargeIn": True}),
    ]
)


@given(st.lists(any_text | orders, max_size=40))
def test_whatever_happens_vaic_is_never_told_what_it_would_refuse(
    steps: list[str | bytes | Callable[[AudioCodesProtocol], object]],
) -> None:
    """Any messages and any orders: only our own errors, and the peer takes every text."""
    wire = Wire()
    wire.peer.initiate("c-1")
    wire.to_bot()
    for step in steps:
        try:
            if callable(step):
                step(wire.bot)
            else:
                wire.bot.receive(step)
        except (RemoteProtocolError, LocalProtocolError):
            continue
    for text in wire.bot.texts_to_send():
        message = parse_bot(text)
        # The peer asked for nothing: answers are all it may find out of place.
        match message.type:
            case "connection.validated":
                wire.peer.validate()
            case "session.accepted":
                wire.peer.initiate("c-1")
            case "userStream.started":
                wire.peer.start_user_stream(getattr(message, "participant", None))
            case "userStream.stopped":
                wire.peer.stop_user_stream(getattr(message, "participant", None))
        wire.peer.receive(text)


@given(st.lists(any_text, max_size=20))
def test_a_message_that_is_refused_leaves_no_trace(texts: list[str | bytes]) -> None:
    """A bot that saw the refused messages behaves like one that did not."""
    every, good = new_bot(), new_bot()
    for text in texts:
        try:
            events = every.receive(text)
        except RemoteProtocolError:
            continue
        assert good.receive(text) == events
        if any(isinstance(e, SessionRequested | ResumeRequested) for e in events):
            every.accept(KHZ16, KHZ24)
            good.accept(KHZ16, KHZ24)
        assert every.texts_to_send() == good.texts_to_send()
        assert every.phase is good.phase


@pytest.mark.parametrize("play_format", list(MediaFormat))
def test_bot_audio_can_be_read_back_from_what_was_written(play_format: MediaFormat) -> None:
    pcm = Decoder(MediaFormat.MULAW_8K).feed(bytes(range(256)))  # no format loses any of it
    bot = new_bot()
    bot.receive('{"type":"session.initiate","conversationId":"c"}')
    bot.accept(MediaFormat.LPCM16_16K, play_format)
    bot.start_play()
    for start in range(0, len(pcm), 100):
        bot.play(pcm[start : start + 100])
    bot.stop_play()
    assert bot.audio_in(bot.texts_to_send()) == pcm
