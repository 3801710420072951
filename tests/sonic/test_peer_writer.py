"""Single events that are not as they should be, seen through the eyes of a client."""

from __future__ import annotations

import json
from typing import Any

from opusagent.models.session_state import Role
from opusagent.sonic import reader as said
from opusagent.sonic.peer_brain import Reply, ToolAsk
from opusagent.sonic.reader import Stage
from tests.sonic.duet import HELLO, Duet, silence, spoken

TOOLS = (ToolAsk("lookup", {"id": 1}), ToolAsk("weather", {"city": "Rome"}))


def turn(fault: str, reply: Reply = Reply(("One two.",)), seconds: float = 8) -> Duet:  # noqa: B008
    return Duet(reply, faults={fault}).open().say(spoken(HELLO) + silence(seconds))


def wire(one: Duet, name: str) -> list[dict[str, Any]]:
    events = [json.loads(payload)["event"] for payload in one.payloads]
    return [event[name] for event in events if name in event]


def heard(one: Duet) -> list[tuple[Role, Stage, str]]:
    found = one.events(said.TextHeard)
    return [(e.role, e.stage, e.text) for e in found if isinstance(e, said.TextHeard)]


ORDINARY = [
    (Role.USER, Stage.FINAL, "hello there"),
    (Role.ASSISTANT, Stage.SPECULATIVE, "One two."),
    (Role.ASSISTANT, Stage.FINAL, "One two."),
]


def audio(one: Duet) -> bytes:
    return b"".join(e.pcm for e in one.events(said.BotAudio) if isinstance(e, said.BotAudio))


def test_doubled_texts_are_heard_once() -> None:
    one = turn("duplicate-text")
    assert len(wire(one, "textOutput")) == 6
    assert heard(one) == ORDINARY


def test_empty_texts_are_not_heard() -> None:
    one = turn("empty-text")
    assert "" in [event["content"] for event in wire(one, "textOutput")]
    assert heard(one) == ORDINARY


def test_a_text_in_two_blocks_is_heard_in_two_parts() -> None:
    assert [text for role, _, text in heard(turn("split-text")) if role is Role.USER] == [
        "hello",
        "there",
    ]


def test_without_stages_the_bots_words_are_never_final() -> None:
    one = turn("no-stage")
    assert not any("additionalModelFields" in event for event in wire(one, "contentStart"))
    assert [stage for _, stage, _ in heard(one)] == [
        Stage.FINAL,
        Stage.SPECULATIVE,
        Stage.SPECULATIVE,
    ]


def test_stray_ends_and_unknown_events_change_nothing() -> None:
    for fault in ("stray-end", "unknown-event"):
        one = turn(fault)
        assert heard(one) == ORDINARY
        assert len(one.events(said.UnknownEventReceived)) == 4


def test_empty_and_odd_pieces_of_audio_are_the_same_audio() -> None:
    plain = audio(Duet(Reply(("One two.",))).open().say(spoken(HELLO) + silence(8)))
    assert audio(turn("empty-audio")) == audio(turn("odd-audio")) == plain
    sizes = {len(event["content"]) % 4 for event in wire(turn("odd-audio"), "audioOutput")}
    assert sizes == {0}


def test_odd_audio_really_cuts_samples_in_half() -> None:
    contents = [event["content"] for event in wire(turn("odd-audio"), "audioOutput")]
    odd = [content for content in contents if (len(content) * 3 // 4 - content.count("=")) % 2]
    assert odd


def tools(one: Duet) -> list[tuple[str, str]]:
    found = one.events(said.ToolRequested)
    return [(e.name, e.arguments) for e in found if isinstance(e, said.ToolRequested)]


def test_tools_may_overlap_and_end_in_the_opposite_order() -> None:
    one = turn("interleaved-tools", Reply(tools=TOOLS))
    assert tools(one) == [("weather", '{"city":"Rome"}'), ("lookup", '{"id":1}')]
    kinds = [type(e).__name__ for e in one.events(said.ToolAnnounced, said.ToolRequested)]
    assert kinds == ["ToolAnnounced"] * 2 + ["ToolRequested"] * 2


def test_a_tool_whose_block_does_not_end_can_be_released() -> None:
    one = turn("tool-without-end", Reply(tools=TOOLS[:1]))
    assert tools(one) == []
    (released,) = one.stream.release_tools()
    one.stream.tool_result(released.tool_use_id, {"state": "sent"})
    one.deliver().wait(3)
    assert len(one.brain.answers) == 1


def test_a_doubled_tool_use_is_one() -> None:
    one = turn("duplicate-tool", Reply(tools=TOOLS[:1]))
    assert len(wire(one, "toolUse")) == 2
    assert tools(one) == [("lookup", '{"id":1}')]


def test_arguments_may_be_encoded_twice_or_broken() -> None:
    assert tools(turn("twice-encoded-tool", Reply(tools=TOOLS[:1]))) == [("lookup", '{"id":1}')]
    assert tools(turn("broken-tool", Reply(tools=TOOLS[:1]))) == [("lookup", '{"id":1')]


def test_the_literal_of_an_interruption_is_written_as_the_service_writes_it() -> None:
    one = turn("audio-interrupted", Reply(("One two three four five.",)), 2.3)
    one.burst(spoken(HELLO, 0.2))
    contents = [event["content"] for event in wire(one, "textOutput")]
    assert '{ "interrupted" : true }' in contents
