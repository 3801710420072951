"""Every event of the documents, as the documents print it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opusagent.errors import RemoteProtocolError
from opusagent.sonic import events as wire
from opusagent.sonic.wire import WireEvent, dump

IDS = {"sessionId": "S", "promptName": "P", "completionId": "K"}
AUDIO = {
    "mediaType": "audio/lpcm",
    "sampleRateHertz": 8000,
    "sampleSizeBits": 16,
    "channelCount": 1,
    "encoding": "base64",
}
TEXT = {"mediaType": "text/plain"}
TOKENS = {
    "input": {"speechTokens": 1, "textTokens": 2},
    "output": {"speechTokens": 3, "textTokens": 4},
}

CLIENT: list[tuple[str, dict[str, Any]]] = [
    (
        "sessionStart",
        {
            "inferenceConfiguration": {"maxTokens": 1024, "topP": 0.9, "temperature": 0.7},
            "turnDetectionConfiguration": {"endpointingSensitivity": "MEDIUM"},
        },
    ),
    (
        "promptStart",
        {
            "promptName": "P",
            "textOutputConfiguration": TEXT,
            "audioOutputConfiguration": {**AUDIO, "voiceId": "tiffany", "audioType": "SPEECH"},
            "toolUseOutputConfiguration": {"mediaType": "application/json"},
            "toolConfiguration": {
                "tools": [
                    {
                        "toolSpec": {
                            "name": "lookup_order",
                            "description": "finds it",
                            "inputSchema": {"json": '{"type":"object"}'},
                        }
                    }
                ],
                "toolChoice": {"auto": {}},
            },
        },
    ),
    (
        "contentStart",
        {
            "promptName": "P",
            "contentName": "C1",
            "type": "TEXT",
            "interactive": False,
            "role": "SYSTEM",
            "textInputConfiguration": TEXT,
        },
    ),
    (
        "contentStart",
        {
            "promptName": "P",
            "contentName": "A",
            "type": "AUDIO",
            "interactive": True,
            "role": "USER",
            "audioInputConfiguration": {**AUDIO, "audioType": "SPEECH"},
        },
    ),
    (
        "contentStart",
        {
            "promptName": "P",
            "contentName": "T1",
            "interactive": False,
            "type": "TOOL",
            "role": "TOOL",
            "toolResultInputConfiguration": {
                "toolUseId": "U",
                "type": "TEXT",
                "textInputConfiguration": TEXT,
            },
        },
    ),
    ("textInput", {"promptName": "P", "contentName": "C1", "content": "plain text"}),
    ("audioInput", {"promptName": "P", "contentName": "A", "content": "AAA="}),
    ("toolResult", {"promptName": "P", "contentName": "T1", "content": '{"status":"shipped"}'}),
    ("contentEnd", {"promptName": "P", "contentName": "C1"}),
    ("promptEnd", {"promptName": "P"}),
    ("sessionEnd", {}),
]
SERVICE: list[tuple[str, dict[str, Any]]] = [
    ("completionStart", IDS),
    (
        "contentStart",
        {
            **IDS,
            "contentId": "c1",
            "type": "TEXT",
            "role": "ASSISTANT",
            "additionalModelFields": '{"generationStage":"SPECULATIVE"}',
            "textOutputConfiguration": TEXT,
        },
    ),
    (
        "contentStart",
        {
            **IDS,
            "contentId": "a1",
            "type": "AUDIO",
            "role": "ASSISTANT",
            "audioOutputConfiguration": {**AUDIO, "audioType": "SPEECH"},
        },
    ),
    (
        "contentStart",
        {
            **IDS,
            "contentId": "t1",
            "type": "TOOL",
            "role": "TOOL",
            "toolUseOutputConfiguration": {"mediaType": "application/json"},
        },
    ),
    ("textOutput", {**IDS, "contentId": "c1", "content": "Hello.", "role": "ASSISTANT"}),
    ("audioOutput", {**IDS, "contentId": "a1", "content": "AAA="}),
    (
        "toolUse",
        {
            **IDS,
            "contentId": "t1",
            "content": '{"id":"A12"}',
            "toolName": "lookup_order",
            "toolUseId": "U",
            "role": "TOOL",
        },
    ),
    ("contentEnd", {**IDS, "contentId": "c1", "stopReason": "PARTIAL_TURN", "type": "TEXT"}),
    (
        "usageEvent",
        {
            **IDS,
            "details": {"delta": TOKENS, "total": TOKENS},
            "totalInputTokens": 3,
            "totalOutputTokens": 7,
            "totalTokens": 10,
        },
    ),
    ("completionEnd", {**IDS, "stopReason": "END_TURN"}),
]


def payload(name: str, body: Any) -> bytes:
    return json.dumps({"event": {name: body}}).encode()


@pytest.mark.parametrize(("name", "body"), CLIENT)
def test_a_client_event_reads_and_writes_as_documented(name: str, body: dict[str, Any]) -> None:
    event = wire.parse_client(payload(name, body))
    assert isinstance(event, WireEvent)
    assert json.loads(dump(event)) == {"event": {name: body}}


@pytest.mark.parametrize(("name", "body"), SERVICE)
def test_a_service_event_reads_and_writes_as_documented(name: str, body: dict[str, Any]) -> None:
    event = wire.parse_service(payload(name, body))
    assert isinstance(event, WireEvent)
    assert json.loads(dump(event)) == {"event": {name: body}}


def test_every_event_of_the_documents_has_a_model() -> None:
    assert {name for name, _ in CLIENT} == set(wire.CLIENT_EVENTS)
    assert {name for name, _ in SERVICE} == set(wire.SERVICE_EVENTS)


@pytest.mark.parametrize("name", ["completionStart", "usageEvent", "completionEnd"])
def test_a_service_event_without_its_ids_is_read_all_the_same(name: str) -> None:
    assert isinstance(wire.parse_service(payload(name, {})), wire.SERVICE_EVENTS[name])


def test_an_input_schema_must_be_a_string_of_json() -> None:
    body = json.loads(json.dumps(CLIENT[1][1]))
    body["toolConfiguration"]["tools"][0]["toolSpec"]["inputSchema"] = {"json": {"type": "object"}}
    with pytest.raises(RemoteProtocolError):
        wire.parse_client(payload("promptStart", body))


@pytest.mark.parametrize("rate", [11025, 44100, "8000"])
def test_only_three_sample_rates_exist(rate: Any) -> None:
    body = {**CLIENT[3][1], "audioInputConfiguration": {**AUDIO, "sampleRateHertz": rate}}
    with pytest.raises(RemoteProtocolError):
        wire.parse_client(payload("contentStart", body))
