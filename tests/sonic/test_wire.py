from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from opusagent.errors import RemoteProtocolError
from opusagent.sonic import events as wire
from opusagent.sonic.wire import (
    AudioWriter,
    EventWriter,
    UnknownEvent,
    decode_audio,
    dump,
    encode_audio,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*wire.SERVICE_EVENTS, *wire.CLIENT_EVENTS, "novel"])
bodies = st.fixed_dictionaries({}, optional={"contentId": json_values, "content": json_values})
documents = st.builds(lambda name, body: {"event": {name: body}}, names, bodies | json_values)


@given(st.binary() | (documents | json_values).map(lambda value: json.dumps(value).encode()))
def test_the_parser_only_ever_raises_remote_protocol_error(junk: bytes) -> None:
    for parse in (wire.parse_service, wire.parse_client):
        with contextlib.suppress(RemoteProtocolError):
            parse(junk)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"{}", b'{"event":{}}', b'{"event":{"a":{},"b":{}}}', b'{"event":[]}'],
)
def test_what_is_not_exactly_one_event_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.parse_service(payload)


def test_an_error_names_the_field_and_not_its_content() -> None:
    payload = b'{"event":{"audioOutput":{"contentId":"c","content":{"secret":1}}}}'
    with pytest.raises(RemoteProtocolError) as caught:
        wire.parse_service(payload)
    assert "audioOutput" in str(caught.value)
    assert "content" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unknown_event_is_no_error() -> None:
    assert wire.parse_service(b'{"event":{"userSpeechEnd":{"x":1}}}') == UnknownEvent(
        "userSpeechEnd"
    )


def test_unknown_fields_are_dropped_when_reading_and_refused_when_writing() -> None:
    payload = b'{"event":{"textOutput":{"contentId":"c","content":"hi","new":{"a":1}}}}'
    assert wire.parse_service(payload) == wire.TextOutput(content_id="c", content="hi")
    with pytest.raises(ValidationError):
        wire.TextOutput.model_validate({"contentId": "c", "content": "hi", "new": 1})


def test_an_event_is_written_with_the_names_of_the_wire_and_without_empty_fields() -> None:
    event = wire.ClientContentStart(
        prompt_name="P",
        content_name="C",
        type="TEXT",
        role="SYSTEM",
        text_input_configuration=wire.MediaConfiguration(),
    )
    assert json.loads(dump(event)) == {
        "event": {
            "contentStart": {
                "promptName": "P",
                "contentName": "C",
                "type": "TEXT",
                "interactive": False,
                "role": "SYSTEM",
                "textInputConfiguration": {"mediaType": "text/plain"},
            }
        }
    }


@given(st.binary())
def test_the_prepared_writer_writes_what_the_model_writes(pcm: bytes) -> None:
    empty = wire.AudioInput(prompt_name="P", content_name="C", content="")
    full = empty.model_copy(update={"content": encode_audio(pcm).decode()})
    assert AudioWriter(empty)(pcm) == dump(full)


@given(st.text(), st.text())
def test_a_prepared_event_is_what_the_model_writes(name: str, text: str) -> None:
    blank = wire.TextInput(prompt_name="P", content_name="a name", content="a text")
    full = blank.model_copy(update={"content_name": name, "content": text})
    assert EventWriter(blank, "a name", "a text")(name, text) == dump(full)
    end = wire.ClientContentEnd(prompt_name="P", content_name="a name")
    assert EventWriter(end, "a name")(name) == dump(end.model_copy(update={"content_name": name}))


@given(st.binary())
def test_audio_survives_the_wire(pcm: bytes) -> None:
    assert decode_audio(encode_audio(pcm).decode()) == pcm


@pytest.mark.parametrize("content", ["AAA", "A A=", "é", "AA*A"])
def test_audio_that_is_no_base64_is_refused(content: str) -> None:
    with pytest.raises(RemoteProtocolError, match="base64"):
        decode_audio(content)
