"""Each way to break the protocol, and the words of the service."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opusagent.sonic.peer import SonicPeer
from opusagent.sonic.peer_brain import Reply, ToolAsk
from opusagent.sonic.profiles import PROFILES
from opusagent.sonic.reader import ToolRequested
from opusagent.sonic.wire import encode_audio
from tests.sonic.duet import HELLO, Duet, EchoBrain, WaveEars, ids, silence, spoken

INVALID = "Invalid input request, please fix your input and try again."
UNPARSABLE = "Unable to parse input chunk. Please check input format contains correct format."
HISTORY_FIRST = "Chat history should be sent completely before streaming audio."
OVER_LIMIT = "Chat history is over max limit. Trim chat history and try again."

type Event = tuple[str, dict[str, Any]]

VOICE = {"sampleRateHertz": 8000, "voiceId": "tiffany"}
SESSION: Event = ("sessionStart", {"inferenceConfiguration": {}})
PROMPT: Event = ("promptStart", {"promptName": "P", "audioOutputConfiguration": VOICE})
SETUP = (SESSION, PROMPT)
PROMPT_END: Event = ("promptEnd", {"promptName": "P"})
SESSION_END: Event = ("sessionEnd", {})


def start(name: str, kind: str, role: str, **fields: Any) -> Event:
    named = {"promptName": "P", "contentName": name, "type": kind, "role": role}
    return ("contentStart", {**named, **fields})


def text(name: str, role: str = "USER", *, interactive: bool = False) -> Event:
    return start(name, "TEXT", role, interactive=interactive, textInputConfiguration={})


def audio(name: str = "A") -> Event:
    return start(name, "AUDIO", "USER", audioInputConfiguration={"sampleRateHertz": 16000})


def tool(name: str, use: str, media_type: str = "text/plain") -> Event:
    answers = {"toolUseId": use, "textInputConfiguration": {"mediaType": media_type}}
    return start(name, "TOOL", "TOOL", toolResultInputConfiguration=answers)


def said(name: str, content: str = "words") -> Event:
    return ("textInput", {"promptName": "P", "contentName": name, "content": content})


def heard(name: str = "A", content: str = "AAAA") -> Event:
    return ("audioInput", {"promptName": "P", "contentName": name, "content": content})


def result(name: str, content: str = "{}") -> Event:
    return ("toolResult", {"promptName": "P", "contentName": name, "content": content})


def end(name: str) -> Event:
    return ("contentEnd", {"promptName": "P", "contentName": name})


def block(
    name: str, role: str, content: str = "words", *, interactive: bool = False
) -> tuple[Event, ...]:
    return (text(name, role, interactive=interactive), said(name, content), end(name))


def peer(profile: str = "nova-2", **options: Any) -> SonicPeer:
    return SonicPeer(
        EchoBrain(), WaveEars(), now=0.0, new_id=ids("s"), profile=PROFILES[profile], **options
    )


def send(one: SonicPeer, *events: Event) -> str | None:
    """The words of the exception that these events end in, or None."""
    for number, (name, body) in enumerate(events):
        assert not one.over, f"over before event {number}: {one.failure}"
        one.receive(json.dumps({"event": {name: body}}).encode(), now=0.0)
    if one.failure is None:
        return None
    assert one.failure[0] in ("validationException", "internalServerException")
    if one.failure[0] == "validationException":
        assert one.failure[1].startswith("RequestId=")
    return one.record.failure[1] if one.record.failure else None


def refused(*events: Event) -> str | None:
    return send(peer(), *events)


def test_a_whole_session_in_order_is_accepted() -> None:
    assert (
        refused(
            *SETUP,
            *block("S", "SYSTEM"),
            *block("H1", "USER"),
            *block("H2", "ASSISTANT"),
            audio(),
            heard(),
            *block("T", "USER", interactive=True),
            heard(),
            end("A"),
            PROMPT_END,
            SESSION_END,
        )
        is None
    )


@pytest.mark.parametrize(
    "events",
    [
        (PROMPT,),
        (SESSION, SESSION),
        (*SETUP, PROMPT),
        (SESSION, text("S", "SYSTEM")),
        (*SETUP, SESSION_END),
        (*SETUP, audio(), heard(), end("A"), PROMPT_END, PROMPT_END),
        (*SETUP, audio(), heard(), end("A"), PROMPT_END, audio("B")),
        (*SETUP, audio(), heard(), end("A"), PROMPT_END, SESSION_END, SESSION_END),
        (*SETUP, *block("H", "USER"), text("S", "SYSTEM")),
        (*SETUP, audio(), text("S", "SYSTEM")),
        (*SETUP, audio(), text("H", "USER")),
        (*SETUP, text("S", "SYSTEM"), text("H", "USER")),
        (*SETUP, text("X", "TOOL")),
    ],
)
def test_a_wrong_order_is_an_invalid_request(events: tuple[Event, ...]) -> None:
    assert refused(*events) == INVALID


def test_the_callers_audio_is_the_users() -> None:
    rate = {"sampleRateHertz": 16000}
    wrong = start("A", "AUDIO", "ASSISTANT", audioInputConfiguration=rate)
    assert refused(*SETUP, wrong) == INVALID


@pytest.mark.parametrize(
    "event", [said("gone"), heard("gone"), result("gone"), end("gone"), said("A"), result("A")]
)
def test_content_for_an_unknown_or_other_block_is_an_invalid_request(event: Event) -> None:
    assert refused(*SETUP, audio(), event) == INVALID


def test_audio_for_a_text_block_is_refused_like_audio_during_history() -> None:
    assert refused(*SETUP, text("H"), heard("H")) == HISTORY_FIRST


def test_a_content_name_is_used_once() -> None:
    assert refused(*SETUP, *block("S", "SYSTEM"), text("S", "USER")) == INVALID


@pytest.mark.parametrize("event", [text("S", "SYSTEM"), PROMPT_END, said("H"), end("H")])
def test_another_prompt_name_is_an_invalid_request(event: Event) -> None:
    other = (event[0], event[1] | {"promptName": "Q"})
    before = (text("H"), said("H")) if "H" in event[1].values() else ()
    assert refused(*SETUP, *before, other) == INVALID


def test_a_history_must_not_begin_with_the_assistant() -> None:
    assert refused(*SETUP, *block("S", "SYSTEM"), text("H", "ASSISTANT")) == INVALID


@pytest.mark.parametrize("role", ["USER", "ASSISTANT"])
def test_a_history_must_alternate(role: str) -> None:
    before = [*block("H1", "USER")]
    if role == "ASSISTANT":
        before += block("H2", "ASSISTANT")
    assert refused(*SETUP, *before, text("H3", role)) == INVALID


def test_audio_inside_an_open_text_block_is_refused() -> None:
    opened = (*SETUP, audio(), heard(), text("T", "USER", interactive=True))
    assert refused(*opened, heard()) == HISTORY_FIRST
    assert refused(*opened, said("T"), heard()) == HISTORY_FIRST
    assert refused(*SETUP, text("H", "USER"), audio()) == HISTORY_FIRST


def test_a_history_line_is_at_most_a_kilobyte() -> None:
    assert refused(*SETUP, text("H"), said("H", "é" * 512)) is None
    assert refused(*SETUP, text("H"), said("H", "é" * 512 + "x")) == OVER_LIMIT


def test_a_history_is_at_most_forty_kilobytes() -> None:
    parts = [said("H", "x" * 1024)] * 40
    assert refused(*SETUP, text("H"), *parts) is None
    assert refused(*SETUP, text("H"), *parts, said("H", "x")) == OVER_LIMIT


def test_the_system_prompt_is_no_part_of_the_history() -> None:
    assert refused(*SETUP, *block("S", "SYSTEM", "x" * 50_000)) is None


def test_the_first_generation_takes_forty_lines_of_history() -> None:
    lines = [event for i in range(40) for event in block(f"H{i}", "ASSISTANT" if i % 2 else "USER")]
    assert send(peer("v1"), *SETUP, *lines) is None
    assert send(peer("v1"), *SETUP, *lines, text("H")) == OVER_LIMIT
    assert send(peer(), *SETUP, *lines, *block("H", "USER")) is None


def test_a_second_system_block_is_refused_at_any_time() -> None:
    words = "Duplicate SYSTEM content. SYSTEM content can only be provided once per prompt"
    assert refused(*SETUP, *block("S", "SYSTEM"), text("S2", "SYSTEM")) == words
    assert refused(*SETUP, *block("S", "SYSTEM"), audio(), heard(), text("S2", "SYSTEM")) == words


def test_a_style_block_may_stand_beside_the_system_block() -> None:
    style = block("Y", "SYSTEM_SPEECH")
    assert refused(*SETUP, *block("S", "SYSTEM"), *style, *block("H", "USER")) is None
    assert refused(*SETUP, *style, text("Z", "SYSTEM_SPEECH")) == INVALID
    assert send(peer("v1"), *SETUP, text("Y", "SYSTEM_SPEECH")) == INVALID


def test_a_prompt_does_not_end_with_a_block_open() -> None:
    words = "All contents must be closed before ending prompt"
    assert refused(*SETUP, audio(), heard(), PROMPT_END) == words


@pytest.mark.parametrize("begin", [text("B"), audio("B")])
def test_a_block_does_not_end_without_data(begin: Event) -> None:
    words = "Cannot end content [B] as no content data was received"
    assert refused(*SETUP, begin, end("B")) == words


def test_an_empty_text_is_no_data() -> None:
    words = "Cannot end content [B] as no content data was received"
    assert refused(*SETUP, text("B"), said("B", ""), end("B")) == words


def test_a_prompt_has_at_least_one_audio_block() -> None:
    assert "must have at least one audio content" in str(
        refused(*SETUP, *block("S", "SYSTEM"), PROMPT_END)
    )


def test_a_second_audio_block_beside_the_first_breaks_the_service() -> None:
    one = peer()
    words = send(one, *SETUP, audio(), heard(), audio("B"))
    assert str(words).startswith("The system encountered an unexpected error during processing")
    assert one.failure is not None
    assert one.failure[0] == "internalServerException"


def test_audio_that_is_closed_and_opened_again_stalls_the_conversation_without_an_error() -> None:
    one = Duet().open().say(silence(0.2))
    one.peer.receive(
        json.dumps({"event": {"contentEnd": {"promptName": "c1", "contentName": "c2"}}}).encode(),
        one.now,
    )
    again = {"promptName": "c1", "contentName": "again"}
    opened = {
        **again,
        "type": "AUDIO",
        "role": "USER",
        "audioInputConfiguration": {"sampleRateHertz": 16000},
    }
    one.peer.receive(json.dumps({"event": {"contentStart": opened}}).encode(), one.now)
    content = encode_audio(spoken(HELLO) + silence(3)).decode()
    one.peer.receive(
        json.dumps({"event": {"audioInput": {**again, "content": content}}}).encode(), one.now
    )
    one.wait(20)
    assert one.peer.failure is None
    assert one.events() == []


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b'{"event":{"sessionStart":{}}}',
        b'{"event":{"connectionEnd":{}}}',
        b'{"event":{"sessionStart":{"inferenceConfiguration":{}},"sessionEnd":{}}}',
    ],
)
def test_what_cannot_be_read_is_refused(payload: bytes) -> None:
    one = peer()
    one.receive(payload, 0.0)
    assert one.record.failure == ("validationException", UNPARSABLE)


@pytest.mark.parametrize("schema", [{"type": "object"}, "no json", "[]", '{"a":'])
def test_an_input_schema_is_a_string_that_holds_a_json_object(schema: Any) -> None:
    spec = {"name": "t", "description": "d", "inputSchema": {"json": schema}}
    tools = {"toolConfiguration": {"tools": [{"toolSpec": spec}]}}
    assert refused(SESSION, ("promptStart", PROMPT[1] | tools)) == UNPARSABLE


@pytest.mark.parametrize(
    ("reference", "failure"),
    [
        ("#", None),
        ("#/$defs/Size", None),
        ("#/$defs/Colour", UNPARSABLE),
        ("#/$defs/Size/a/b", UNPARSABLE),
        ("size.json", UNPARSABLE),
    ],
)
def test_what_a_schema_refers_to_stands_in_it(reference: str, failure: str | None) -> None:
    sizes = {"type": "array", "items": [{"$ref": reference}]}
    schema = {"type": "object", "properties": {"sizes": sizes}, "$defs": {"Size": {"a": 1}}}
    spec = {"name": "t", "description": "d", "inputSchema": {"json": json.dumps(schema)}}
    tools = {"toolConfiguration": {"tools": [{"toolSpec": spec}]}}
    assert refused(SESSION, ("promptStart", PROMPT[1] | tools)) == failure


@pytest.mark.parametrize("content", ["***", "AAA", "AA AA"])
def test_audio_that_is_no_base64_is_refused(content: str) -> None:
    assert refused(*SETUP, audio(), heard(content=content)) == UNPARSABLE


def test_half_a_sample_passes_unless_the_peer_is_told_to_mind() -> None:
    assert refused(*SETUP, audio(), heard(content="AA==")) is None
    assert send(peer(strict_samples=True), *SETUP, audio(), heard(content="AA==")) == INVALID


@pytest.mark.parametrize(
    ("voice", "words"),
    [
        ("", "Received invalid voiceId: value must not be empty"),
        ("greta", "Received invalid voiceId: greta"),
    ],
)
def test_a_voice_must_be_known_to_the_model(voice: str, words: str) -> None:
    prompt = PROMPT[1] | {"audioOutputConfiguration": VOICE | {"voiceId": voice}}
    assert refused(SESSION, ("promptStart", prompt)) == words


def test_the_flat_endpointing_field_is_refused_since_the_second_generation() -> None:
    flat = ("sessionStart", SESSION[1] | {"endpointingSensitivity": "HIGH"})
    assert refused(flat) == INVALID
    assert send(peer("v1"), flat, PROMPT) is None


@pytest.mark.parametrize(
    "event",
    [
        start("B", "TEXT", "USER"),
        start("B", "AUDIO", "USER"),
        start("B", "TOOL", "TOOL"),
        start("B", "VIDEO", "USER"),
    ],
)
def test_a_block_without_its_configuration_cannot_be_parsed(event: Event) -> None:
    assert refused(*SETUP, event) == UNPARSABLE


def with_tool_use() -> tuple[Duet, str]:
    """A conversation in which the model waits for a tool."""
    one = Duet(Reply(tools=(ToolAsk("lookup", {}),))).open().say(spoken(HELLO) + silence(3))
    (request,) = one.events(ToolRequested)
    assert isinstance(request, ToolRequested)
    return one, request.tool_use_id


def answer(one: Duet, *events: Event) -> str | None:
    for name, body in events:
        mine = body | {"promptName": "c1"}
        one.peer.receive(json.dumps({"event": {name: mine}}).encode(), one.now)
    return one.peer.record.failure[1] if one.peer.record.failure else None


def test_a_result_for_an_unknown_tool_use_is_an_invalid_request() -> None:
    one, _ = with_tool_use()
    assert answer(one, tool("R", "unknown")) == INVALID


def test_a_tool_use_takes_exactly_one_result() -> None:
    one, use = with_tool_use()
    assert answer(one, tool("R", use), result("R"), end("R")) is None
    assert answer(one, tool("R2", use)) == INVALID


def test_two_open_results_for_one_tool_use_are_refused() -> None:
    one, use = with_tool_use()
    assert answer(one, tool("R", use), tool("R2", use)) == INVALID


def test_a_result_block_takes_one_result() -> None:
    one, use = with_tool_use()
    assert answer(one, tool("R", use), result("R"), result("R")) == INVALID


@pytest.mark.parametrize("content", ['"text"', "[1]", "plain", ""])
def test_a_result_must_be_a_json_object(content: str) -> None:
    one, use = with_tool_use()
    assert answer(one, tool("R", use), result("R", content)) == "Tool Response parsing error"


def test_a_result_must_be_plain_text() -> None:
    one, use = with_tool_use()
    words = "Tool result media type must be one of: [text/plain]"
    assert answer(one, tool("R", use, "application/json")) == words


def test_the_assistant_may_be_quoted_in_the_middle_of_a_session_and_is_ignored() -> None:
    one = Duet().open().say(silence(0.1))
    assert answer(one, *block("Q", "ASSISTANT")) is None
    one.wait(10)
    assert one.events() == []


def test_audio_during_a_tool_use_can_be_refused() -> None:
    one = Duet(
        Reply(tools=(ToolAsk("lookup", {}),)),
        profile=PROFILES["nova-2"].__replace__(audio_during_tool=False),
    )
    one.open().say(spoken(HELLO)).burst(silence(2)).wait(1)
    one.burst(silence(0.1))
    assert one.message == INVALID


def test_a_refused_stream_takes_no_more_notice_of_anything() -> None:
    one = peer()
    send(one, PROMPT)
    before = one.failure
    one.receive(b"{", 1.0)
    one.end_input(2.0)
    assert one.failure == before
    assert one.next_timer() is None
    assert not one.ended
    assert len(one.record.events) == 2


every_event = st.sampled_from(
    [
        SESSION,
        PROMPT,
        PROMPT_END,
        SESSION_END,
        *(audio(name) for name in "AB"),
        *(
            text(name, role, interactive=yes)
            for name in "TU"
            for role in ("USER", "SYSTEM", "ASSISTANT")
            for yes in (True, False)
        ),
        *(make(name) for make in (said, heard, result, end) for name in "ATU"),
        tool("R", "use"),
    ]
)


@settings(max_examples=200)
@given(events=st.lists(every_event, max_size=12), set_up=st.booleans())
def test_any_events_end_in_a_session_or_in_one_refusal(
    events: list[Event], *, set_up: bool
) -> None:
    one = peer()
    now = 0.0
    for name, body in [*(SETUP if set_up else ()), *events]:
        now += 0.1
        one.receive(json.dumps({"event": {name: body}}).encode(), now)
        one.events_to_send()
    one.end_input(now)
    assert one.over
    assert one.next_timer() is None
    assert one.ended is (one.failure is None)
