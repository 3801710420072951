from __future__ import annotations

import base64
import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from opusagent.audiocodes import messages
from opusagent.audiocodes.codec import ChunkWriter, UnknownMessage, dump, parse, parse_bot
from opusagent.errors import RemoteProtocolError

ID: Final = "b6307015-5e14-41ae-ba4e-49f2ea2401ce"
OFFER: Final = ["raw/lpcm16", "wav/lpcm16", "raw/lpcm16_8", "raw/lpcm16_24", "raw/mulaw"]

# Every message of VoiceAI Connect, as on the wire, and what it is.
FROM_VAIC: Final[list[tuple[str, messages.ToBot]]] = [
    ('{"type":"connection.validate"}', messages.ConnectionValidate()),
    (
        json.dumps(
            {
                "type": "session.initiate",
                "conversationId": ID,
                "caller": "anonymous",
                "botName": "9a77ba86-df3b-40d6-bd59-f50cc2132625",
                "expectAudioMessages": True,
                "supportedMediaFormats": OFFER,
            }
        ),
        messages.SessionInitiate(
            conversation_id=ID,
            caller="anonymous",
            bot_name="9a77ba86-df3b-40d6-bd59-f50cc2132625",
            expect_audio_messages=True,
            supported_media_formats=tuple(OFFER),
        ),
    ),
    (
        json.dumps({"conversationId": ID, "type": "session.resume"}),
        messages.SessionResume(conversation_id=ID),
    ),
    (
        json.dumps(
            {
                "conversationId": ID,
                "type": "session.end",
                "reasonCode": "client-disconnected",
                "reason": "Client Side",
            }
        ),
        messages.SessionEnd(
            conversation_id=ID, reason_code="client-disconnected", reason="Client Side"
        ),
    ),
    (
        json.dumps(
            {
                "conversationId": ID,
                "type": "activities",
                "activities": [
                    {
                        "id": "fd724700",
                        "timestamp": "2025-12-18T18:01:47.676Z",
                        "language": "any-CI",
                        "type": "event",
                        "name": "playFinished",
                        "value": {"playedDurationMS": 3384, "status": "finished"},
                    }
                ],
            }
        ),
        messages.Activities(
            conversation_id=ID,
            activities=(
                messages.Activity(
                    id="fd724700",
                    timestamp="2025-12-18T18:01:47.676Z",
                    language="any-CI",
                    type="event",
                    name="playFinished",
                    value={"playedDurationMS": 3384, "status": "finished"},
                ),
            ),
        ),
    ),
    (
        json.dumps({"type": "userStream.start", "conversationId": ID, "participant": "caller"}),
        messages.UserStreamStart(conversation_id=ID, participant="caller"),
    ),
    (
        json.dumps({"type": "userStream.chunk", "conversationId": ID, "audioChunk": "AP/+/w=="}),
        messages.UserStreamChunk(conversation_id=ID, audio_chunk=b"\x00\xff\xfe\xff"),
    ),
    (
        json.dumps({"type": "userStream.stop", "conversationId": ID}),
        messages.UserStreamStop(conversation_id=ID),
    ),
    (
        json.dumps({"type": "playStream.mark.reached", "conversationId": ID, "mark": 3}),
        messages.PlayStreamMarkReached(conversation_id=ID),
    ),
]

# Every message of the bot, and the exact text of it.
FROM_BOT: Final[list[tuple[messages.FromBot, object]]] = [
    (messages.ConnectionValidated(), {"type": "connection.validated", "success": True}),
    (
        messages.SessionAccepted(media_format="raw/lpcm16"),
        {"type": "session.accepted", "mediaFormat": "raw/lpcm16"},
    ),
    (messages.SessionError(reason="busy"), {"type": "session.error", "reason": "busy"}),
    (messages.UserStreamStarted(), {"type": "userStream.started"}),
    (
        messages.UserStreamStopped(participant="caller"),
        {"type": "userStream.stopped", "participant": "caller"},
    ),
    (messages.UserStreamSpeechStarted(), {"type": "userStream.speech.started"}),
    (messages.UserStreamSpeechStopped(), {"type": "userStream.speech.stopped"}),
    (messages.UserStreamSpeechCommitted(), {"type": "userStream.speech.committed"}),
    (
        messages.UserStreamSpeechHypothesis(alternatives=(messages.Hypothesis(text="hel"),)),
        {"type": "userStream.speech.hypothesis", "alternatives": [{"text": "hel"}]},
    ),
    (
        messages.UserStreamSpeechRecognition(
            alternatives=(messages.Recognition(text="hello", confidence=0.83),)
        ),
        {
            "type": "userStream.speech.recognition",
            "alternatives": [{"text": "hello", "confidence": 0.83}],
        },
    ),
    (
        messages.PlayStreamStart(stream_id="1", media_format="raw/lpcm16_24", alt_text="hello"),
        {
            "type": "playStream.start",
            "streamId": "1",
            "mediaFormat": "raw/lpcm16_24",
            "altText": "hello",
        },
    ),
    (
        messages.PlayStreamChunk(stream_id="1", audio_chunk=b"\x00\xff\xfe\xff"),
        {"type": "playStream.chunk", "streamId": "1", "audioChunk": "AP/+/w=="},
    ),
    (messages.PlayStreamStop(stream_id="1"), {"type": "playStream.stop", "streamId": "1"}),
    (
        messages.BotActivities(
            activities=(
                messages.BotActivity(
                    type="event",
                    name="config",
                    id="a-1",
                    timestamp="2025-12-18T18:01:41.668Z",
                    session_params={"bargeIn": True, "userNoInputUrl": None},
                ),
            )
        ),
        {
            "type": "activities",
            "activities": [
                {
                    "type": "event",
                    "name": "config",
                    "id": "a-1",
                    "timestamp": "2025-12-18T18:01:41.668Z",
                    "sessionParams": {"bargeIn": True, "userNoInputUrl": None},
                }
            ],
        },
    ),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [
        "type",
        "conversationId",
        "participant",
        "audioChunk",
        "activities",
        "supportedMediaFormats",
        "reason",
        "streamId",
        "mediaFormat",
        "alternatives",
        "expectAudioMessages",
    ]
)
types = st.sampled_from(
    [message.type for _, message in FROM_VAIC] + [message.type for message, _ in FROM_BOT]
)
nearly_messages = st.builds(
    lambda message_type, rest: json.dumps({**rest, "type": message_type}),
    types,
    st.dictionaries(fields, json_values),
)


@pytest.mark.parametrize(("text", "message"), FROM_VAIC, ids=lambda one: getattr(one, "type", ""))
def test_every_message_to_the_bot_is_read(text: str, message: messages.ToBot) -> None:
    assert parse(text) == message


@pytest.mark.parametrize(("text", "message"), FROM_VAIC, ids=lambda one: getattr(one, "type", ""))
def test_every_message_to_the_bot_survives_writing_and_reading(
    text: str, message: messages.ToBot
) -> None:
    assert parse(dump(message)) == message
    assert json.loads(dump(message)).items() <= json.loads(text).items()


@pytest.mark.parametrize(("message", "wire"), FROM_BOT, ids=lambda one: getattr(one, "type", ""))
def test_every_message_of_the_bot_is_written_as_documented_and_read_back(
    message: messages.FromBot, wire: object
) -> None:
    assert json.loads(dump(message)) == wire
    assert parse_bot(dump(message)) == message


def test_fields_that_nobody_knows_are_passed_over_when_reading() -> None:
    text = (
        '{"type":"userStream.stop","conversationId":"c","x":{"y":1},'
        '"conversation_id":"ours","audioChunk":7}'
    )
    assert parse(text) == messages.UserStreamStop(conversation_id="c")
    assert parse_bot('{"type":"session.error","reason":"r","y":0}') == messages.SessionError(
        reason="r"
    )


def test_a_field_that_nobody_knows_cannot_be_written() -> None:
    with pytest.raises(ValidationError):
        messages.SessionError.model_validate({"reason": "r", "reasonCode": "x"})


@pytest.mark.parametrize("key", ["conversationId", "conversation"])
def test_the_conversation_is_read_under_either_key(key: str) -> None:
    message = parse(json.dumps({"type": "session.resume", key: "c"}))
    assert message == messages.SessionResume(conversation_id="c")


@pytest.mark.parametrize("key", ["participant", "participantId"])
def test_a_participant_is_read_under_either_key(key: str) -> None:
    message = parse(json.dumps({"type": "userStream.start", key: "agent"}))
    assert message == messages.UserStreamStart(participant="agent")


def test_a_confidence_in_quotes_is_a_number() -> None:
    text = (
        '{"type":"userStream.speech.recognition",'
        '"alternatives":[{"text":"a","confidence":"0.95"},{"text":"b"}]}'
    )
    message = parse_bot(text)
    assert isinstance(message, messages.UserStreamSpeechRecognition)
    assert [one.confidence for one in message.alternatives] == [0.95, None]


def test_a_session_initiate_needs_no_more_than_its_id() -> None:
    message = parse('{"type":"session.initiate","conversationId":"c","caller":null}')
    assert message == messages.SessionInitiate(conversation_id="c")


@pytest.mark.parametrize(
    "caller", ["anonymous", "+15551234567", "sip:müller@example.com", "李小龍 <tel:1>", ""]
)
def test_the_caller_is_an_opaque_string(caller: str) -> None:
    message = parse(
        json.dumps({"type": "session.initiate", "conversationId": "c", "caller": caller})
    )
    assert isinstance(message, messages.SessionInitiate)
    assert message.caller == caller


def test_a_caller_that_comes_as_a_number_is_its_digits() -> None:
    message = parse('{"type":"session.initiate","conversationId":"c","caller":15551234567}')
    assert isinstance(message, messages.SessionInitiate)
    assert message.caller == "15551234567"


@pytest.mark.parametrize(
    "odd",
    [
        {"id": 7},
        {"timestamp": 1_734_544_901_668},
        {"language": ["de"]},
        {"text": 5},
        {"delay": "now"},
        {"activityParams": []},
        {"parameters": []},
        {"parameters": "none"},
        {"type": None},
    ],
)
def test_a_field_that_nobody_reads_spoils_no_activity(odd: dict[str, object]) -> None:
    key = {"type": "event", "name": "DTMF", "value": "5"} | odd
    message = parse(json.dumps({"type": "activities", "activities": [key]}))
    assert isinstance(message, messages.Activities)
    (activity,) = message.activities
    assert isinstance(activity, messages.Activity)
    assert (activity.type, activity.name, activity.value) == ("event", "DTMF", "5")
    assert activity.parameters is None


def test_an_activity_without_a_type_is_an_event() -> None:
    message = parse('{"type":"activities","activities":[{"name":"start"}]}')
    assert message == messages.Activities(activities=(messages.Activity(name="start"),))


def test_a_broken_activity_spoils_no_other() -> None:
    key = {"name": "DTMF", "value": "5"}
    broken = [7, {"type": 3}, {"name": {"s3cret": 1}}]
    message = parse(json.dumps({"type": "activities", "activities": [*broken, key]}))
    assert message == messages.Activities(
        activities=(
            messages.BrokenActivity("activities: model_type"),
            messages.BrokenActivity("activities.type: string_type"),
            messages.BrokenActivity("activities.name: string_type"),
            messages.Activity(name="DTMF", value="5"),
        )
    )


def test_a_broken_activity_of_the_bot_is_refused_with_its_message() -> None:
    with pytest.raises(RemoteProtocolError, match="timestamp: string_type"):
        parse_bot('{"type":"activities","activities":[{"type":"event","timestamp":5}]}')


@pytest.mark.parametrize(
    ("text", "got"),
    [
        pytest.param("", "json_invalid", id="nothing"),
        pytest.param("hello", "json_invalid", id="text that is not JSON"),
        pytest.param('{"type":"session.resume"', "json_invalid", id="JSON cut off"),
        pytest.param("[" * 100_000, "json_invalid", id="JSON too deep"),
        pytest.param("[]", "model_type", id="an array"),
        pytest.param("7", "model_type", id="a number"),
        pytest.param("null", "model_type", id="null"),
        pytest.param("{}", "type: missing", id="no type"),
        pytest.param('{"type":7}', "type: string_type", id="a type that is a number"),
        pytest.param(b'{"type":"connection.validate"}', "a binary frame", id="a binary frame"),
        pytest.param(b"\x00\x01", "a binary frame", id="binary audio"),
        pytest.param(
            '{"type":"session.initiate"}', "session.initiate.conversationId: missing", id="no id"
        ),
        pytest.param(
            '{"type":"session.resume","conversationId":5}', "string_type", id="an id of a number"
        ),
        pytest.param(
            '{"type":"session.resume","conversationId":""}', "too_short", id="an empty id"
        ),
        pytest.param('{"type":"activities","activities":[]}', "too_short", id="no activity"),
        pytest.param('{"type":"activities","activities":7}', "tuple_type", id="activities of 7"),
        pytest.param(
            '{"type":"userStream.chunk","audio":"AAAA"}',
            "userStream.chunk.audioChunk: missing",
            id="audio under another key",
        ),
        pytest.param(
            '{"type":"userStream.chunk","audioChunk":"A"}', "invalid_encoding", id="bad base64"
        ),
        pytest.param(
            '{"type":"userStream.chunk","audioChunk":"AA AA"}', "invalid_encoding", id="a space"
        ),
        pytest.param(
            '{"type":"userStream.chunk","audioChunk":null}', "bytes_type", id="null for audio"
        ),
    ],
)
def test_a_broken_message_is_refused_with_its_kind(text: str | bytes, got: str) -> None:
    with pytest.raises(RemoteProtocolError, match=got) as refusal:
        parse(text)
    assert refusal.value.wire == "audiocodes"


def test_a_refusal_never_shows_what_was_in_the_message() -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        parse('{"type":"userStream.chunk","audioChunk":"s3cret!","conversationId":"s3cret"}')
    assert "s3cret" not in str(refusal.value)


def test_ten_seconds_of_audio_in_one_message_are_read_and_more_are_refused() -> None:
    write = ChunkWriter(messages.UserStreamChunk(audio_chunk=b""))
    message = parse(write(bytes(messages.MAX_CHUNK_BYTES)))
    assert isinstance(message, messages.UserStreamChunk)
    assert len(message.audio_chunk) == 480_000
    with pytest.raises(RemoteProtocolError, match="bytes_too_long"):
        parse(write(bytes(messages.MAX_CHUNK_BYTES + 1)))


@pytest.mark.parametrize("message_type", ["session.resumed", "playStream.chunk", "x", ""])
def test_a_type_that_vaic_does_not_send_is_unknown_to_the_bot(message_type: str) -> None:
    assert parse(json.dumps({"type": message_type, "a": []})) == UnknownMessage(message_type)


def test_the_name_of_an_unknown_type_is_bounded() -> None:
    assert parse(json.dumps({"type": "x" * 1_000})) == UnknownMessage("x" * 64)


@given(st.text() | st.binary() | nearly_messages | json_values.map(json.dumps))
def test_the_parser_only_ever_raises_remote_protocol_error(junk: str | bytes) -> None:
    for read in (parse, parse_bot):
        try:
            message = read(junk)
        except RemoteProtocolError:
            continue
        assert message.type == json.loads(junk)["type"][:64]


@given(st.binary(max_size=3_000), st.text(min_size=1, max_size=40), st.none() | st.text())
def test_a_prepared_caller_chunk_is_what_the_model_would_write(
    audio: bytes, conversation_id: str, participant: str | None
) -> None:
    message = messages.UserStreamChunk(
        conversation_id=conversation_id, participant=participant, audio_chunk=audio
    )
    text = ChunkWriter(message)(audio)
    assert parse(text) == message
    assert json.loads(text) == json.loads(dump(message))
    assert json.loads(text)["audioChunk"] == base64.b64encode(audio).decode()


@given(st.binary(max_size=3_000), st.text(min_size=1, max_size=40))
def test_a_prepared_bot_chunk_is_what_the_model_would_write(audio: bytes, stream_id: str) -> None:
    message = messages.PlayStreamChunk(stream_id=stream_id, audio_chunk=audio)
    text = ChunkWriter(message)(audio)
    assert parse_bot(text) == message
    assert json.loads(text) == json.loads(dump(message))
