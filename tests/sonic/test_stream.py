from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.errors import LocalProtocolError
from opusagent.models.agent import Inference
from opusagent.models.session_state import Role, ToolSpec, Turn
from opusagent.sonic.reader import ToolAnnounced, ToolRequested
from opusagent.sonic.stream import SonicConfig, SonicStream
from opusagent.sonic.wire import decode_audio
from tests.sonic.duet import ids
from tests.sonic.test_reader import end, start, tool

WEATHER = ToolSpec(name="weather", description="Tells it.", input_schema={"type": "object"})


def stream(**config: Any) -> SonicStream:
    return SonicStream(SonicConfig(**{"system_prompt": "Be brief.", **config}), new_id=ids("id"))


def talking(**config: Any) -> SonicStream:
    one = stream(**config)
    one.open()
    one.start_audio()
    one.payloads_to_send()
    return one


def sent(one: SonicStream) -> list[tuple[str, dict[str, Any]]]:
    events = [json.loads(payload)["event"] for payload in one.payloads_to_send()]
    return [next(iter(event.items())) for event in events]


def names(one: SonicStream) -> list[str]:
    return [name for name, _ in sent(one)]


BLOCK = ["contentStart", "textInput", "contentEnd"]


def test_a_stream_opens_with_session_prompt_and_system_text() -> None:
    one = stream()
    one.open()
    events = sent(one)
    assert [name for name, _ in events] == ["sessionStart", "promptStart", *BLOCK]
    block = events[2][1]
    assert (block["role"], block["interactive"]) == ("SYSTEM", False)
    assert events[3][1]["content"] == "Be brief."


def test_one_prompt_name_runs_through_all_events_and_every_block_has_its_own_name() -> None:
    one = stream()
    one.open()
    one.start_audio([Turn(role=Role.USER, text="Hi"), Turn(role=Role.ASSISTANT, text="Ho")])
    one.type_text("5")
    one.close()
    events = sent(one)
    assert len({body["promptName"] for _, body in events if "promptName" in body}) == 1
    blocks = [body["contentName"] for name, body in events if name == "contentStart"]
    assert len(set(blocks)) == len(blocks) == 5


def test_the_configuration_is_what_the_session_starts_with() -> None:
    one = stream(
        voice="amy",
        input_rate_hz=8000,
        output_rate_hz=16000,
        inference=Inference(max_tokens=5, top_p=0.1, temperature=0.2),
        endpointing="LOW",
        tools=(WEATHER,),
    )
    one.open()
    one.start_audio()
    (_, session), (_, prompt), *_, (_, audio) = sent(one)
    assert session["inferenceConfiguration"] == {"maxTokens": 5, "topP": 0.1, "temperature": 0.2}
    assert session["turnDetectionConfiguration"] == {"endpointingSensitivity": "LOW"}
    assert prompt["audioOutputConfiguration"]["voiceId"] == "amy"
    assert prompt["audioOutputConfiguration"]["sampleRateHertz"] == 16000
    assert audio["audioInputConfiguration"]["sampleRateHertz"] == 8000
    schema = prompt["toolConfiguration"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
    assert json.loads(schema) == {"type": "object"}
    assert "toolChoice" not in prompt["toolConfiguration"]


def test_nothing_is_said_of_tools_where_there_are_none() -> None:
    one = stream()
    one.open()
    prompt = sent(one)[1][1]
    assert "toolConfiguration" not in prompt
    assert "toolUseOutputConfiguration" not in prompt


@pytest.mark.parametrize(
    ("model_id", "endpointing", "present"),
    [
        ("amazon.nova-2-sonic-v1:0", "HIGH", True),
        ("us.amazon.nova-2-sonic-v1:0", "HIGH", True),
        ("amazon.nova-2-sonic-v1:0", None, False),
        ("amazon.nova-sonic-v1:0", "HIGH", False),
        ("us.amazon.nova-sonic-v1:0", "HIGH", False),
    ],
)
def test_turn_detection_is_only_sent_to_models_that_know_it(
    model_id: str, endpointing: str | None, *, present: bool
) -> None:
    one = stream(model_id=model_id, endpointing=endpointing)
    one.open()
    assert ("turnDetectionConfiguration" in sent(one)[0][1]) is present


def test_a_blank_system_prompt_opens_no_block() -> None:
    one = stream(system_prompt=" ")
    one.open()
    assert names(one) == ["sessionStart", "promptStart"]


def test_history_goes_out_block_by_block_before_the_audio_opens() -> None:
    one = stream()
    one.open()
    one.payloads_to_send()
    one.start_audio([Turn(role=Role.USER, text="Hi"), Turn(role=Role.ASSISTANT, text="Ho")])
    events = sent(one)
    assert [name for name, _ in events] == [*BLOCK, *BLOCK, "contentStart"]
    assert [events[i][1]["role"] for i in (0, 3)] == ["USER", "ASSISTANT"]
    assert not any(events[i][1]["interactive"] for i in (0, 3))
    assert (events[6][1]["type"], events[6][1]["interactive"]) == ("AUDIO", True)


def test_history_may_go_out_in_pieces_that_alternate_together() -> None:
    one = stream()
    one.open()
    one.tell([Turn(role=Role.USER, text="Hi")])
    one.tell([])
    with pytest.raises(LocalProtocolError):
        one.tell([Turn(role=Role.USER, text="Hi again")])
    one.payloads_to_send()
    one.start_audio([Turn(role=Role.ASSISTANT, text="Ho")])
    events = sent(one)
    assert [name for name, _ in events] == [*BLOCK, "contentStart"]
    assert events[0][1]["role"] == "ASSISTANT"
    with pytest.raises(LocalProtocolError):
        one.tell([Turn(role=Role.USER, text="Hi")])


@given(st.text(min_size=1).filter(lambda text: bool(text.strip())))
def test_a_long_text_travels_in_parts_that_join_to_it(text: str) -> None:
    one = stream(max_part_bytes=10)
    one.open()
    one.payloads_to_send()
    one.start_audio([Turn(role=Role.USER, text=text)])
    parts = [body["content"] for name, body in sent(one) if name == "textInput"]
    assert "".join(parts) == text
    assert all(len(part.encode()) <= 10 for part in parts)


@pytest.mark.parametrize(
    "history",
    [
        [Turn(role=Role.ASSISTANT, text="Hello")],
        [Turn(role=Role.USER, text="a"), Turn(role=Role.USER, text="b")],
        [Turn(role=Role.USER, text=" ")],
    ],
)
def test_a_history_that_the_service_would_refuse_is_our_mistake(history: list[Turn]) -> None:
    one = stream()
    one.open()
    with pytest.raises(LocalProtocolError):
        one.start_audio(history)


def test_audio_is_encoded_for_the_one_audio_block() -> None:
    one = stream()
    one.open()
    one.start_audio()
    opened = sent(one)[-1][1]["contentName"]
    body = json.loads(one.encode_audio(b"\1\2\3\4"))["event"]["audioInput"]
    assert body["contentName"] == opened
    assert decode_audio(body["content"]) == b"\1\2\3\4"


def test_half_a_sample_is_never_sent() -> None:
    with pytest.raises(LocalProtocolError):
        talking().encode_audio(b"\1")


def test_a_typed_text_is_an_interactive_block_of_the_user() -> None:
    one = talking()
    one.type_text("Press 5")
    (_, begin), (_, body), (name, _) = sent(one)
    assert (begin["role"], begin["interactive"], body["content"]) == ("USER", True, "Press 5")
    assert name == "contentEnd"


def test_a_tool_result_is_one_object_in_a_block_of_its_own() -> None:
    one = talking(tools=(WEATHER,))
    for payload in (start("t", "TOOL"), tool("t", "U", "{}"), end("t", "TOOL_USE")):
        one.receive(payload)
    one.tool_result("U", {"sky": "blü", "bad": float("nan")})
    (_, begin), (_, body), _ = sent(one)
    assert begin["toolResultInputConfiguration"]["toolUseId"] == "U"
    assert begin["toolResultInputConfiguration"]["textInputConfiguration"] == {
        "mediaType": "text/plain"
    }
    assert (begin["role"], begin["interactive"], begin["type"]) == ("TOOL", False, "TOOL")
    assert json.loads(body["content"]) == {"sky": "blü", "bad": None}
    assert one.pending_tools == ()


def test_a_tool_use_has_exactly_one_result() -> None:
    one = talking()
    one.receive(tool("t", "U", "{}"))
    assert one.pending_tools == ("U",)
    one.tool_result("U", {})
    with pytest.raises(LocalProtocolError):
        one.tool_result("U", {})


def test_a_result_that_nobody_asked_for_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        talking().tool_result("U", {})


def test_a_stream_that_heard_the_caller_closes_in_order() -> None:
    one = talking()
    one.encode_audio(b"\0\0")
    one.close()
    assert names(one) == ["contentEnd", "promptEnd", "sessionEnd"]


def test_a_stream_that_heard_nothing_gets_a_silent_frame_before_it_closes() -> None:
    one = talking(input_rate_hz=8000)
    one.close()
    events = sent(one)
    assert [name for name, _ in events] == ["audioInput", "contentEnd", "promptEnd", "sessionEnd"]
    assert decode_audio(events[0][1]["content"]) == bytes(320)


def test_no_silent_frame_is_added_where_audio_went_out_by_another_way() -> None:
    one = talking()
    one.note_audio_sent()
    one.close()
    assert "audioInput" not in names(one)


def test_a_standby_that_never_opened_audio_closes_in_order() -> None:
    one = stream()
    one.open()
    one.payloads_to_send()
    one.close()
    expected = ["contentStart", "audioInput", "contentEnd", "promptEnd", "sessionEnd"]
    assert names(one) == expected


def test_closing_is_idempotent_and_needs_no_opening() -> None:
    one = talking()
    one.close()
    one.payloads_to_send()
    one.close()
    assert one.payloads_to_send() == []
    fresh = stream()
    fresh.close()
    assert fresh.closed
    assert fresh.payloads_to_send() == []


def test_audio_that_waited_in_a_queue_can_be_encoded_after_the_close() -> None:
    one = talking()
    one.close()
    assert b"audioInput" in one.encode_audio(b"\0\0")


@pytest.mark.parametrize(
    "act",
    [
        lambda one: one.open(),
        lambda one: one.start_audio(),
        lambda one: one.type_text("hi"),
        lambda one: one.tool_result("U", {}),
    ],
)
def test_a_closed_stream_takes_nothing_more(act: Any) -> None:
    one = talking()
    one.receive(tool("t", "U", "{}"))
    one.close()
    with pytest.raises(LocalProtocolError):
        act(one)


@pytest.mark.parametrize(
    "act",
    [
        lambda one: one.start_audio(),
        lambda one: one.encode_audio(b"\0\0"),
        lambda one: one.type_text("hi"),
    ],
)
def test_nothing_is_said_on_a_stream_that_is_not_open(act: Any) -> None:
    with pytest.raises(LocalProtocolError):
        act(stream())


def test_a_blank_typed_text_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        talking().type_text(" ")


def test_a_closed_stream_still_hears_what_comes_late() -> None:
    one = talking()
    one.close()
    assert one.receive(tool("t", "U", "{}")) == [ToolAnnounced("t", "lookup")]
    assert one.release_tools() == [ToolRequested("U", "lookup", "{}")]


def test_audio_open_says_whether_text_may_be_typed() -> None:
    one = stream()
    assert not one.audio_open
    one.open()
    assert not one.audio_open
    one.start_audio()
    assert one.audio_open
    one.close()
    assert not one.audio_open
