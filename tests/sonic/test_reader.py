from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.errors import RemoteProtocolError
from opusagent.models.session_state import Role
from opusagent.sonic import reader as said
from opusagent.sonic.reader import Stage, StopReason, StreamReader
from opusagent.sonic.wire import encode_audio


def event(name: str, **fields: Any) -> bytes:
    return json.dumps({"event": {name: fields}}).encode()


def start(content_id: str, kind: str = "TEXT", role: str = "ASSISTANT", **fields: Any) -> bytes:
    return event("contentStart", contentId=content_id, type=kind, role=role, **fields)


def stage(value: str) -> dict[str, str]:
    return {"additionalModelFields": json.dumps({"generationStage": value})}


def text(content_id: str, content: str) -> bytes:
    return event("textOutput", contentId=content_id, content=content)


def audio(content_id: str, pcm: bytes) -> bytes:
    return event("audioOutput", contentId=content_id, content=encode_audio(pcm).decode())


def tool(content_id: str, use: str, content: Any, name: str = "lookup") -> bytes:
    return event("toolUse", contentId=content_id, toolUseId=use, toolName=name, content=content)


def end(content_id: str, stop: str = "PARTIAL_TURN") -> bytes:
    return event("contentEnd", contentId=content_id, stopReason=stop)


def read(*payloads: bytes) -> list[said.SonicEvent]:
    reader = StreamReader()
    return [one for payload in payloads for one in reader.receive(payload)]


def test_what_the_caller_said_and_what_the_bot_plans_and_said_are_kept_apart() -> None:
    assert read(
        start("u", role="USER", **stage("FINAL")),
        text("u", "Hello?"),
        end("u"),
        start("p", **stage("SPECULATIVE")),
        text("p", "Hi."),
        end("p"),
        start("f", **stage("FINAL")),
        text("f", "Hi."),
        end("f", "END_TURN"),
    ) == [
        said.TextHeard(Role.USER, "Hello?", Stage.FINAL, "u"),
        said.TextEnded(Role.USER, Stage.FINAL, "u", StopReason.PARTIAL_TURN),
        said.TextHeard(Role.ASSISTANT, "Hi.", Stage.SPECULATIVE, "p"),
        said.TextEnded(Role.ASSISTANT, Stage.SPECULATIVE, "p", StopReason.PARTIAL_TURN),
        said.TextHeard(Role.ASSISTANT, "Hi.", Stage.FINAL, "f"),
        said.TextEnded(Role.ASSISTANT, Stage.FINAL, "f", StopReason.END_TURN),
    ]


def test_bot_audio_has_a_beginning_and_an_end() -> None:
    assert read(start("a", "AUDIO"), audio("a", b"\1\0\2\0"), end("a", "END_TURN")) == [
        said.BotSpeechStarted("a"),
        said.BotAudio("a", b"\1\0\2\0"),
        said.BotSpeechEnded("a", StopReason.END_TURN),
    ]


def test_blocks_that_overlap_are_told_apart_by_their_ids() -> None:
    found = read(
        start("a", "AUDIO"),
        start("p", **stage("SPECULATIVE")),
        audio("a", b"\1\0"),
        text("p", "Next."),
        end("a"),
        end("p"),
    )
    assert said.BotAudio("a", b"\1\0") in found
    assert said.TextHeard(Role.ASSISTANT, "Next.", Stage.SPECULATIVE, "p") in found


@given(st.binary(min_size=2), st.lists(st.integers(0, 5)))
def test_odd_pieces_of_audio_join_to_the_same_samples(pcm: bytes, sizes: list[int]) -> None:
    pieces, rest = [], pcm
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    found = read(start("a", "AUDIO"), *(audio("a", piece) for piece in [*pieces, rest]))
    chunks = [one.pcm for one in found if isinstance(one, said.BotAudio)]
    assert b"".join(chunks) == pcm[: len(pcm) // 2 * 2]
    assert all(chunk and len(chunk) % 2 == 0 for chunk in chunks)


def test_half_a_sample_does_not_spill_into_the_next_block() -> None:
    found = read(
        start("a", "AUDIO"), audio("a", b"\1"), end("a"), start("b", "AUDIO"), audio("b", b"\2\2")
    )
    assert found[-1] == said.BotAudio("b", b"\2\2")


def test_an_empty_audio_event_is_nothing() -> None:
    assert read(start("a", "AUDIO"), audio("a", b"")) == [said.BotSpeechStarted("a")]


@pytest.mark.parametrize(
    "literal", ['{ "interrupted" : true }', '{"interrupted":true}', ' {"interrupted": true}\n']
)
def test_the_interrupted_literal_is_never_a_text(literal: str) -> None:
    assert read(start("i", **stage("FINAL")), text("i", literal)) == [said.Interrupted()]


@pytest.mark.parametrize(
    "content", ['{"interrupted": false}', "{ interrupted }", '["interrupted"]']
)
def test_a_text_that_only_looks_like_the_literal_stays_a_text(content: str) -> None:
    (found,) = read(start("i"), text("i", content))
    assert isinstance(found, said.TextHeard)


@pytest.mark.parametrize("kind", ["TEXT", "AUDIO"])
def test_a_block_that_ends_interrupted_reports_it(kind: str) -> None:
    found = read(start("i", kind), end("i", "INTERRUPTED"))
    assert found.count(said.Interrupted()) == 1
    assert isinstance(found[-1], said.TextEnded | said.BotSpeechEnded)
    assert found[-1].stop_reason is StopReason.INTERRUPTED


@pytest.mark.parametrize("fields", [{}, {"additionalModelFields": "{"}, stage("NEW"), stage("")])
def test_without_a_stage_the_caller_is_final_and_the_bot_is_not(fields: dict[str, str]) -> None:
    found = read(
        start("u", role="USER", **fields), text("u", "a"), start("b", **fields), text("b", "b")
    )
    assert [one.stage for one in found if isinstance(one, said.TextHeard)] == [
        Stage.FINAL,
        Stage.SPECULATIVE,
    ]


def test_empty_and_doubled_texts_are_skipped() -> None:
    found = read(start("u"), text("u", " \n"), text("u", "Hi."), text("u", "Hi."), text("u", "So."))
    assert [one.text for one in found if isinstance(one, said.TextHeard)] == ["Hi.", "So."]


def test_an_unknown_stop_reason_is_no_reason() -> None:
    assert read(start("a", "AUDIO"), end("a", "SOMETHING"))[-1] == said.BotSpeechEnded("a", None)


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (event("userSpeechEnd"), "userSpeechEnd"),
        (end("gone"), "contentEnd"),
        (text("gone", "x"), "textOutput"),
        (audio("gone", b"\0\0"), "audioOutput"),
        (start("v", "VIDEO"), "contentStart"),
        (start("v", role="SYSTEM"), "contentStart"),
    ],
)
def test_what_means_nothing_here_is_counted_and_no_more(payload: bytes, name: str) -> None:
    assert read(payload) == [said.UnknownEventReceived(name)]


def test_a_block_ends_once() -> None:
    assert read(start("a", "AUDIO"), end("a"), end("a"))[-1] == said.UnknownEventReceived(
        "contentEnd"
    )


def test_a_tool_is_announced_at_once_and_requested_at_the_end_of_its_block() -> None:
    reader = StreamReader()
    reader.receive(start("t", "TOOL", "TOOL"))
    assert reader.receive(tool("t", "U", '{"id":"A12"}')) == [said.ToolAnnounced("t", "lookup")]
    assert reader.pending_tools == ("U",)
    assert reader.receive(end("t", "TOOL_USE")) == [
        said.ToolRequested("U", "lookup", '{"id":"A12"}')
    ]
    assert reader.pending_tools == ("U",)


def test_two_tools_that_overlap_are_each_requested_with_their_own_arguments() -> None:
    found = read(
        start("t1", "TOOL"),
        start("t2", "TOOL"),
        tool("t1", "U1", '{"n":1}'),
        tool("t2", "U2", '{"n":2}'),
        end("t2", "TOOL_USE"),
        end("t1", "TOOL_USE"),
    )
    assert [one for one in found if isinstance(one, said.ToolRequested)] == [
        said.ToolRequested("U2", "lookup", '{"n":2}'),
        said.ToolRequested("U1", "lookup", '{"n":1}'),
    ]


def test_a_tool_use_that_comes_twice_is_requested_once() -> None:
    found = read(
        start("t", "TOOL"),
        tool("t", "U", "{}"),
        tool("t", "U", "{}"),
        end("t"),
        start("t", "TOOL"),
        tool("t", "U", "{}"),
        end("t"),
    )
    assert sum(isinstance(one, said.ToolRequested) for one in found) == 1


def test_a_tool_whose_block_never_ends_is_released_once() -> None:
    reader = StreamReader()
    reader.receive(start("t", "TOOL"))
    reader.receive(tool("t", "U", "{}"))
    assert reader.release_tools() == [said.ToolRequested("U", "lookup", "{}")]
    assert reader.release_tools() == []
    assert reader.receive(end("t", "TOOL_USE")) == []


def test_a_tool_without_a_block_is_released_too() -> None:
    reader = StreamReader()
    reader.receive(tool("none", "U", "{}"))
    assert reader.release_tools() == [said.ToolRequested("U", "lookup", "{}")]


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        ('{"id":1}', '{"id":1}'),
        (json.dumps('{"id":1}'), '{"id":1}'),
        (json.dumps(json.dumps('{"id":1}')), '{"id":1}'),
        ({"id": 1}, '{"id":1}'),
        ('{"id":', '{"id":'),
        ("", ""),
        ("[1]", "[1]"),
    ],
)
def test_arguments_are_decoded_until_they_are_an_object(content: Any, arguments: str) -> None:
    found = read(start("t", "TOOL"), tool("t", "U", content), end("t", "TOOL_USE"))
    assert found[-1] == said.ToolRequested("U", "lookup", arguments)


def test_a_tool_is_answered_once() -> None:
    reader = StreamReader()
    reader.receive(tool("t", "U", "{}"))
    assert not reader.answer("other")
    assert reader.answer("U")
    assert not reader.answer("U")
    assert reader.pending_tools == ()
    assert reader.release_tools() == []


def test_usage_is_reported_as_totals_of_the_stream() -> None:
    details = {
        "total": {
            "input": {"speechTokens": 1, "textTokens": 2},
            "output": {"speechTokens": 3, "textTokens": 4},
        }
    }
    assert read(event("usageEvent", details=details, totalInputTokens=3, totalOutputTokens=7)) == [
        said.UsageReported(3, 7, 1, 2, 3, 4)
    ]


def test_a_usage_event_without_details_counts_nothing() -> None:
    assert read(event("usageEvent")) == [said.UsageReported(0, 0, 0, 0, 0, 0)]


def test_the_first_and_the_last_sign_of_life_are_reported() -> None:
    assert read(event("completionStart"), event("completionEnd")) == [
        said.ResponseStarted(),
        said.ResponseCompleted(),
    ]


def test_audio_that_is_no_base64_is_refused_and_the_stream_goes_on() -> None:
    reader = StreamReader()
    reader.receive(start("a", "AUDIO"))
    with pytest.raises(RemoteProtocolError):
        reader.receive(event("audioOutput", contentId="a", content="?"))
    assert reader.receive(audio("a", b"\1\0")) == [said.BotAudio("a", b"\1\0")]


block_ids = st.sampled_from(["a", "b", "c"])
service_events = st.one_of(
    st.builds(
        start,
        block_ids,
        st.sampled_from(["TEXT", "AUDIO", "TOOL", "X"]),
        st.sampled_from(["USER", "ASSISTANT", ""]),
    ),
    st.builds(text, block_ids, st.text(max_size=5) | st.just('{"interrupted":true}')),
    st.builds(audio, block_ids, st.binary(max_size=5)),
    st.builds(tool, block_ids, st.sampled_from(["U", "V"]), st.text(max_size=5)),
    st.builds(end, block_ids, st.sampled_from(["END_TURN", "INTERRUPTED", "TOOL_USE", "?"])),
)


@given(st.lists(service_events, max_size=30))
def test_any_order_of_events_is_survived_and_no_tool_is_requested_twice(
    payloads: list[bytes],
) -> None:
    reader = StreamReader()
    found = [one for payload in payloads for one in reader.receive(payload)]
    requested = [one for one in found if isinstance(one, said.ToolRequested)]
    requested += reader.release_tools()
    assert len({one.tool_use_id for one in requested}) == len(requested)
    texts = [one.text for one in found if isinstance(one, said.TextHeard)]
    assert all(one.strip() and "interrupted" not in one for one in texts)
