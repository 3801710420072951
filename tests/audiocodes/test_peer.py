from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pydantic import JsonValue

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes.events import CallerAudio, CallStarted, PlayFinished, UserStreamOpened
from opusagent.audiocodes.peer import AudioCodesPeer
from opusagent.audiocodes.peer_events import (
    Accepted,
    Activity,
    PlayChunk,
    PlayStarted,
    PlayStopped,
    Refused,
    Speech,
    SpeechKind,
    UserStreamStarted,
    Validated,
)
from opusagent.errors import RemoteProtocolError
from tests.audiocodes.conftest import Wire

STAMP: dict[str, JsonValue] = {"id": "a-1", "timestamp": "2025-12-18T18:01:41.668Z"}


def say(peer: AudioCodesPeer, message_type: str, **rest: JsonValue) -> object:
    return peer.receive(json.dumps({"type": message_type, **rest}))


def start_play(peer: AudioCodesPeer, stream_id: str = "1", name: str = "raw/lpcm16") -> object:
    return say(peer, "playStream.start", streamId=stream_id, mediaFormat=name)


def chunk(peer: AudioCodesPeer, stream_id: str = "1", data: str = "AAAA") -> object:
    return say(peer, "playStream.chunk", streamId=stream_id, audioChunk=data)


def stop_play(peer: AudioCodesPeer, stream_id: str = "1") -> object:
    return say(peer, "playStream.stop", streamId=stream_id)


def play(peer: AudioCodesPeer) -> object:
    return [start_play(peer), chunk(peer), stop_play(peer)]


def test_a_call_as_it_was_seen_on_live_hub(wire: Wire) -> None:
    """The timeline of a real call with barge-in off, message by message."""
    bot, peer = wire.bot, wire.peer
    peer.initiate("c-1", formats=["raw/lpcm16", "raw/lpcm16_8", "raw/mulaw"])
    wire.to_bot()
    bot.accept(MediaFormat.MULAW_8K, MediaFormat.MULAW_8K)
    assert wire.to_peer() == [Accepted(MediaFormat.MULAW_8K)]
    peer.start({"locale": "any-CI", "callee": "LiveHub", "caller": "anonymous"})
    assert isinstance(wire.to_bot()[0], CallStarted)
    bot.start_play()
    for _ in range(85):
        bot.play(bytes(640))
    bot.stop_play()
    played = wire.to_peer()
    assert played[0] == PlayStarted("1", MediaFormat.MULAW_8K)
    assert played[1:-1] == [PlayChunk("1", b"\xff" * 320)] * 85
    assert played[-1] == PlayStopped("1")
    peer.play_finished(3_384)
    assert wire.to_bot() == [PlayFinished(3_384, "finished")]
    peer.start_user_stream()
    assert wire.to_bot() == [UserStreamOpened()]
    assert wire.to_peer() == [UserStreamStarted()]
    for _ in range(10):
        peer.chunk(b"\xff" * 1_280)
    assert wire.to_bot() == [CallerAudio(bytes(2_560))] * 10
    peer.end()
    assert len(wire.to_bot()) == 1


@pytest.mark.parametrize(
    ("violate", "words"),
    [
        (chunk, "chunk outside its stream"),
        (stop_play, "stop outside its stream"),
        (lambda peer: (play(peer), chunk(peer)), "chunk outside its stream"),
        (lambda peer: (play(peer), stop_play(peer)), "stop outside its stream"),
        (lambda peer: (play(peer), start_play(peer)), "used before"),
        (lambda peer: (start_play(peer), start_play(peer, "2")), "another is open"),
        (lambda peer: (start_play(peer), stop_play(peer)), "without audio"),
        (lambda peer: (start_play(peer), chunk(peer, data="")), "without audio"),
        (lambda peer: (start_play(peer), chunk(peer, "2")), "outside its stream"),
        (lambda peer: (start_play(peer), chunk(peer, data="A")), "invalid_encoding"),
        (lambda peer: start_play(peer, name="raw/mulaw"), "not offered"),
        (lambda peer: start_play(peer, name="alaw"), "unknown format"),
        (lambda peer: say(peer, "playStream.start", streamId="1"), "missing"),
        (
            lambda peer: say(peer, "playStream.start", streamId=1, mediaFormat="raw/lpcm16"),
            "string_type",
        ),
        (lambda peer: say(peer, "userStream.started"), "nobody asked"),
        (lambda peer: say(peer, "userStream.stopped"), "nobody asked"),
        (lambda peer: say(peer, "connection.validated", success=True), "nobody asked"),
        (lambda peer: say(peer, "session.accepted", mediaFormat="raw/lpcm16"), "nobody asked"),
        (lambda peer: say(peer, "session.resumed"), "unknown message session.resumed"),
        (lambda peer: say(peer, "session.end"), "unknown message session.end"),
        (
            lambda peer: say(peer, "userStream.speech.recognition", text="hello", confidence=1),
            "alternatives: missing",
        ),
        (
            lambda peer: say(
                peer,
                "activities",
                activities=[{"type": "event", "name": "hangup"} | STAMP | {"id": None}],
            ),
            "without id or timestamp",
        ),
        (
            lambda peer: say(
                peer, "activities", activities=[{"type": "event", "name": "hangup", "id": "a"}]
            ),
            "without id or timestamp",
        ),
        (lambda peer: peer.receive("{"), "json_invalid"),
        (lambda peer: peer.receive(b"{}"), "binary frame"),
    ],
)
def test_what_a_bot_may_not_say_is_refused_and_the_call_goes_on(
    wire: Wire, violate: Callable[[AudioCodesPeer], object], words: str
) -> None:
    peer = wire.peer
    peer.initiate("c-1", formats=["raw/lpcm16"])
    say(peer, "session.accepted", mediaFormat="raw/lpcm16")
    with pytest.raises(RemoteProtocolError, match=words):
        violate(peer)
    assert say(peer, "userStream.speech.started") == [Speech(SpeechKind.STARTED)]


@pytest.mark.parametrize(
    "message_type",
    ["userStream.started", "userStream.speech.started", "playStream.mark.set"],
)
def test_a_bot_that_has_not_accepted_may_not_speak(wire: Wire, message_type: str) -> None:
    wire.peer.initiate("c-1")
    wire.peer.start_user_stream()
    with pytest.raises(RemoteProtocolError, match=r"before session\.accepted"):
        say(wire.peer, message_type)
    with pytest.raises(RemoteProtocolError, match=r"before session\.accepted"):
        start_play(wire.peer)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "without a format"),
        ({"mediaFormat": "raw/mulaw"}, "not offered"),
        ({"mediaFormat": "pcm16"}, "unknown format"),
    ],
)
def test_an_acceptance_must_name_an_offered_format(
    wire: Wire, fields: dict[str, JsonValue], words: str
) -> None:
    wire.peer.initiate("c-1", formats=["raw/lpcm16"])
    with pytest.raises(RemoteProtocolError, match=words):
        say(wire.peer, "session.accepted", **fields)
    assert say(wire.peer, "session.accepted", mediaFormat="raw/lpcm16") == [
        Accepted(MediaFormat.LPCM16_16K)
    ]


def test_a_second_acceptance_may_not_change_the_format(wire: Wire) -> None:
    wire.answer()
    wire.peer.initiate("c-1")
    with pytest.raises(RemoteProtocolError, match="another format"):
        say(wire.peer, "session.accepted", mediaFormat="raw/mulaw")


def test_nothing_may_follow_session_error(wire: Wire) -> None:
    wire.answer()
    assert say(wire.peer, "session.error", reason="no") == [Refused("no")]
    for message_type in ("session.error", "userStream.speech.started"):
        with pytest.raises(RemoteProtocolError, match=r"after session\.error"):
            say(wire.peer, message_type, reason="no")


def test_an_acceptance_of_a_resume_may_leave_the_format_out(call: Wire) -> None:
    call.peer.resume("c-1")
    assert say(call.peer, "session.accepted") == [Accepted(MediaFormat.LPCM16_16K)]


def test_a_bot_may_not_go_on_with_the_play_of_the_lost_websocket(call: Wire) -> None:
    start_play(call.peer)
    chunk(call.peer)
    call.peer.resume("c-1")
    say(call.peer, "session.accepted", mediaFormat="raw/lpcm16")
    assert call.peer.play is None
    with pytest.raises(RemoteProtocolError, match="outside its stream"):
        chunk(call.peer)
    with pytest.raises(RemoteProtocolError, match="used before"):
        start_play(call.peer)
    assert start_play(call.peer, "2") == [PlayStarted("2", MediaFormat.LPCM16_16K)]


def test_what_waited_for_the_lost_websocket_is_lost(call: Wire) -> None:
    call.peer.start_user_stream()
    call.peer.resume("c-1")
    assert len(call.peer.texts_to_send()) == 1
    say(call.peer, "session.accepted")
    with pytest.raises(RemoteProtocolError, match="nobody asked"):
        say(call.peer, "userStream.started")


def test_an_answer_is_owed_to_the_participant_that_was_named(call: Wire) -> None:
    call.peer.start_user_stream("caller")
    with pytest.raises(RemoteProtocolError, match="nobody asked"):
        say(call.peer, "userStream.started")
    assert say(call.peer, "userStream.started", participant="caller") == [
        UserStreamStarted("caller")
    ]


def test_fields_that_are_not_needed_are_tolerated(call: Wire) -> None:
    call.peer.validate()
    assert say(call.peer, "connection.validated", success=True, x=1) == [Validated()]
    assert say(call.peer, "userStream.speech.stopped", conversationId="c-1", text="a") == [
        Speech(SpeechKind.STOPPED)
    ]


def test_an_unconfirmed_mark_is_neither_an_event_nor_an_error(call: Wire) -> None:
    assert say(call.peer, "playStream.mark.set", mark="m") == []


def test_several_activities_come_in_order(call: Wire) -> None:
    activities: list[JsonValue] = [
        {**STAMP, "type": "event", "name": "startRecognition", "activityParams": {"a": 1}},
        {**STAMP, "type": "message", "text": "hello"},
    ]
    assert say(call.peer, "activities", activities=activities) == [
        Activity("startRecognition", {"a": 1}),
        Activity("message", {}),
    ]


def test_a_resume_brings_the_audio_of_the_resumed_conversation(call: Wire) -> None:
    call.peer.chunk(b"ab")
    call.peer.resume("c-2")
    call.peer.texts_to_send()
    call.peer.chunk(b"ab")
    assert [json.loads(text)["conversationId"] for text in call.peer.texts_to_send()] == ["c-2"]
