"""The telephone's functions: what VoiceAI Connect gets, and what the model learns of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from opusagent.audiocodes.peer_events import Activity, PlayStopped
from opusagent.call.call import Phase
from opusagent.call.events import CallOutcome, Drain, EndedBy, KeepState, StateChanged, ToCaller
from opusagent.call.tool_calls import UNKNOWN_OUTCOME
from opusagent.call.variables import MAX_STATE_DEPTH
from opusagent.models.agent import Agent
from opusagent.models.session_state import SessionStatus, ToolStatus
from opusagent.models.telephone import Sound, Target, TelephoneFunction, TelephoneTools
from opusagent.sonic.reader import StopReason
from tests.call.driver import LOOKUP, PLAN, CallDriver

SECTION = TelephoneTools(
    type="telephone",
    functions=tuple(TelephoneFunction),
    targets={
        "support": Target(
            to="tel:+15551234",
            description="people who know about orders",
            referred_by="sip:bot@example.com",
            headers={"X-Topic": "orders", "X-Level": "2"},
        ),
        "boss": Target(to="sip:boss@example.com"),
    },
    sounds={"jingle": Sound(url="https://example.com/jingle.wav", description="our jingle")},
)
AGENT = Agent(system_prompt="You answer the telephone.", tools=(SECTION,))
TELEPHONE_PLAN = replace(PLAN, agent=AGENT, resume_grace_s=30.0)


@pytest.fixture
def call() -> CallDriver:
    """A call whose model may use every function of the telephone."""
    driver = CallDriver(plan=TELEPHONE_PLAN)
    driver.answer()
    driver.quiet(0.1)
    return driver


def ask(call: CallDriver, name: str, arguments: JsonValue, tool_use_id: str = "t-1") -> None:
    call.live.ask(tool_use_id, name, arguments)
    call.deliver()


def result(call: CallDriver, tool_use_id: str = "t-1") -> Any:
    """What the model got."""
    (text,) = [said for asked, said in call.live.results if asked == tool_use_id]
    return json.loads(text)


def activities(call: CallDriver) -> list[dict[str, Any]]:
    """The activities that went over the wire but for `config`, without ids and times."""
    messages = [json.loads(e.text) for _, e in call.ran if isinstance(e, ToCaller)]
    found = [one for m in messages if m["type"] == "activities" for one in m["activities"]]
    for one in found:
        assert one.pop("id")
        assert one.pop("timestamp").endswith("Z")
    return [one for one in found if one["name"] != "config"]


def status(call: CallDriver, **value: JsonValue) -> None:
    call.phone.activity("transferStatus", value=value)
    call.flush()


# What the model is told


def test_a_transfer_that_was_ordered_of_a_dying_line_is_not_waited_for(call: CallDriver) -> None:
    ask(call, "transfer_call", {"target": "support"})
    call.quiet(0.5)
    assert [one["name"] for one in activities(call)] == ["transfer"]
    call.lose_socket()
    call.advance(4.0)
    call.attach()
    call.quiet(0.1)
    assert result(call) == {"error": "the line was lost, and the caller is still here: ask again"}
    ask(call, "transfer_call", {"target": "support"}, "t-2")
    call.quiet(0.5)
    status(call, status="answered")
    assert result(call, "t-2") == {"status": "the caller has been transferred"}


def test_a_transfer_that_rings_goes_on_ringing_though_the_line_is_lost(call: CallDriver) -> None:
    ask(call, "transfer_call", {"target": "support"})
    call.quiet(30.0)
    call.lose_socket()
    call.advance(4.0)
    call.attach()
    call.quiet(5.0)
    assert call.live.results == []
    status(call, status="failed", reasonCode="busy")
    assert "busy" in result(call)["error"]


def test_a_transfer_waits_for_what_was_kept_for_a_caller_who_was_long_away(
    call: CallDriver,
) -> None:
    call.says("I connect you. Your ticket is 1234.", 1, 5.0)
    ask(call, "transfer_call", {"target": "support"})
    call.advance(1.0)
    call.lose_socket()
    call.advance(20.0)
    call.attach()
    call.quiet(3.7)
    assert activities(call) == []
    call.quiet(1.0)
    assert [one["name"] for one in activities(call)] == ["transfer"]
    assert sum(play[1] for play in call.plays()) == 5.0


def test_the_model_is_told_of_the_functions_after_the_other_tools(call: CallDriver) -> None:
    _, tools, _ = call.live.prompt_start
    told = {tool.tool_spec.name: tool.tool_spec for tool in tools.tools}  # type: ignore[attr-defined]
    assert list(told) == [LOOKUP.name, *TelephoneFunction]
    schema = json.loads(told["transfer_call"].input_schema.text)
    assert schema["properties"]["target"]["enum"] == ["support", "boss"]
    assert "people who know about orders" in schema["properties"]["target"]["description"]
    assert "tel:" not in json.dumps(schema)
    assert schema["required"] == ["target"]
    for spec in told.values():
        assert "$ref" not in spec.input_schema.text, (
            "a part of a schema stands for nothing elsewhere"
        )


def test_a_function_that_the_agent_was_not_given_does_not_exist() -> None:
    section = SECTION.model_copy(update={"functions": (TelephoneFunction.HANG_UP,)})
    agent = AGENT.model_copy(update={"tools": (section,)})
    call = CallDriver(plan=replace(PLAN, agent=agent))
    call.answer()
    ask(call, "transfer_call", {"target": "support"})
    assert result(call) == {"error": "there is no tool named transfer_call"}
    assert activities(call) == []


# At the wire


@pytest.mark.parametrize(
    ("name", "arguments", "wire", "told"),
    [
        (
            "send_dtmf",
            {"digits": "12*#"},
            {"type": "event", "name": "sendDtmf", "activityParams": {"dtmfDigits": "12*#"}},
            {"status": "sent"},
        ),
        (
            "send_metadata",
            {"data": {"order": 7, "tags": ["a"]}},
            {"type": "event", "name": "sendMetaData", "value": {"order": 7, "tags": ["a"]}},
            {"status": "sent"},
        ),
        (
            "start_recording",
            {},
            {"type": "event", "name": "startCallRecording"},
            {"status": "recording"},
        ),
        (
            "stop_recording",
            {},
            {"type": "event", "name": "stopCallRecording"},
            {"status": "stopped"},
        ),
        (
            "pause_recording",
            {},
            {"type": "event", "name": "pauseCallRecording"},
            {"status": "paused"},
        ),
        (
            "resume_recording",
            {},
            {"type": "event", "name": "resumeCallRecording"},
            {"status": "recording"},
        ),
    ],
)
def test_what_can_be_done_at_once_goes_over_the_wire_at_once(
    call: CallDriver,
    name: str,
    arguments: JsonValue,
    wire: dict[str, Any],
    told: dict[str, Any],
) -> None:
    ask(call, name, arguments)
    assert activities(call) == [wire]
    assert result(call) == told
    assert call.tools == []  # no shell runs it


def test_a_transfer_names_target_reason_referrer_and_headers(call: CallDriver) -> None:
    ask(call, "transfer_call", {"target": "support", "reason": "an order is lost"})
    call.advance(0.1)
    assert activities(call) == [
        {
            "type": "event",
            "name": "transfer",
            "activityParams": {
                "transferTarget": "tel:+15551234",
                "handoverReason": "an order is lost",
                "transferReferredByURL": "sip:bot@example.com",
                "transferSipHeaders": [
                    {"name": "X-Topic", "value": "orders"},
                    {"name": "X-Level", "value": "2"},
                ],
            },
        }
    ]


def test_a_transfer_to_a_bare_target_names_only_that(call: CallDriver) -> None:
    ask(call, "transfer_call", {"target": "boss"})
    call.advance(0.1)
    (transfer,) = activities(call)
    assert transfer["activityParams"] == {"transferTarget": "sip:boss@example.com"}


def test_a_sound_is_played_from_its_url(call: CallDriver) -> None:
    ask(call, "play_url", {"sound": "jingle"})
    call.advance(0.1)
    assert activities(call) == [
        {
            "type": "event",
            "name": "playUrl",
            "activityParams": {
                "playUrlUrl": "https://example.com/jingle.wav",
                "playUrlMediaFormat": "wav/lpcm16",
                "playUrlAltText": "our jingle",
                "playUrlCaching": True,
                "playUrlFailureHandling": "notify-bot",
            },
        }
    ]
    assert result(call) == {"status": "playing"}


def test_a_sound_that_cannot_be_played_is_told_to_the_model(call: CallDriver) -> None:
    ask(call, "play_url", {"sound": "jingle"})
    call.advance(0.1)
    call.phone.activity("playUrlFailed", value={"reason": "404", "playUrlUrl": "x"})
    call.flush()
    assert "play_url" in call.live.typed[-1]


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("send_dtmf", {"digits": "12a"}, "digits"),
        ("send_dtmf", {"digits": "1" * 21}, "digits"),
        ("send_dtmf", {}, "digits"),
        ("send_metadata", {"data": [1]}, "data"),
        ("send_metadata", {"data": {"x": "y" * 5_000}}, "data"),
        ("transfer_call", {"target": "tel:+4900"}, "target: one of support, boss"),
        ("play_url", {"sound": "https://evil.example/"}, "sound: one of jingle"),
        ("hang_up", {"why": 1}, "why"),
        ("collect_digits", {"count": -1}, "count"),
        ("collect_digits", {"input": "pin"}, "input"),
        ("set_state", {"key": ""}, "key"),
        ("start_recording", {"name": "x"}, "name"),
        ("get_state", "not an object", "arguments"),
    ],
)
def test_bad_arguments_give_an_error_that_can_be_spoken_about(
    call: CallDriver, name: str, arguments: JsonValue, problem: str
) -> None:
    ask(call, name, arguments)
    assert problem in result(call)["error"]
    assert activities(call) == []
    assert call.saves[-1].function_calls[0].status is ToolStatus.FAILED


@pytest.mark.parametrize("name", ["hang_up", "transfer_call"])
def test_a_reason_is_one_line_of_a_header_whatever_the_model_writes(
    call: CallDriver, name: str
) -> None:
    reason = "all said\r\nRefer-To: <sip:x@evil.example>\x00\u2028" + "x" * 5_000
    more = {} if name == "hang_up" else {"target": "boss"}
    ask(call, name, {"reason": reason, **more})
    call.advance(10.0)
    (done,) = activities(call)
    sent = done["activityParams"].get("hangupReason") or done["activityParams"]["handoverReason"]
    assert sent.startswith("all said Refer-To: <sip:x@evil.example> xxx")
    assert len(sent) == 200


# Hanging up


def test_the_goodbye_is_heard_before_the_call_is_hung_up(call: CallDriver) -> None:
    call.says("Goodbye!", 1, 2.0, StopReason.PARTIAL_TURN)
    ask(call, "hang_up", {"reason": "all said"})
    call.advance(1.9)
    assert call.hung_up is None
    call.advance(4.0)
    assert activities(call) == [
        {"type": "event", "name": "hangup", "activityParams": {"hangupReason": "all said"}}
    ]
    (stopped,) = call.times(PlayStopped)
    assert stopped < call.now
    assert call.plays() == [{1: 2.0}]
    assert call.saves[-1].function_calls[0].result == {"status": "the call has ended"}
    call.phone.end("bot-disconnected")
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.BOT
    call.assert_lawful_end()


def test_a_model_that_hangs_up_without_a_goodbye_is_asked_for_one(call: CallDriver) -> None:
    ask(call, "hang_up", {})
    assert "say goodbye" in result(call)["status"]
    call.advance(1.0)
    call.says("Goodbye!", 1, 1.0)
    call.advance(0.9)
    assert call.hung_up is None
    call.advance(1.5)
    assert call.hung_up == ""


def test_why_the_model_hangs_up_is_not_told_to_the_log(call: CallDriver) -> None:
    call.says("Goodbye!", 1, 1.0, StopReason.PARTIAL_TURN)
    ask(call, "hang_up", {"reason": "Ann has paid"})
    call.advance(10.0)
    assert call.hung_up == "Ann has paid"
    assert call.outcome is not None
    assert call.outcome.reason == "session.end did not come"


def test_nor_is_it_told_where_audiocodes_gives_it_back(call: CallDriver) -> None:
    call.says("Goodbye!", 1, 1.0, StopReason.PARTIAL_TURN)
    ask(call, "hang_up", {"reason": "Ann has paid"})
    call.advance(4.0)
    call.phone.end("bot-disconnected", call.hung_up or "")
    call.flush()
    assert call.outcome == CallOutcome(EndedBy.BOT, "bot-disconnected", words="Ann has paid")
    assert call.saves[-1].metadata["end_reason"] == "bot-disconnected"


def test_a_goodbye_that_was_just_said_is_not_asked_for_again(call: CallDriver) -> None:
    call.says("Goodbye!", 1, 1.0)
    call.quiet(2.5)
    ask(call, "hang_up", {"reason": "bye"})
    assert call.live.results == []
    call.quiet(0.5)
    assert call.hung_up == "bye"


def test_a_goodbye_that_never_comes_is_not_waited_for_for_ever(call: CallDriver) -> None:
    ask(call, "hang_up", {"reason": "bye"})
    call.advance(4.9)
    assert call.hung_up is None
    call.advance(0.3)
    assert call.hung_up == "bye"


def test_a_caller_who_interrupts_the_goodbye_keeps_the_call(call: CallDriver) -> None:
    call.says("Goodbye and thank you for calling!", 1, 4.0, StopReason.PARTIAL_TURN)
    ask(call, "hang_up", {})
    call.live.writer.start_audio()
    call.talk(0.5)
    call.interrupts()
    assert "the caller began to speak" in result(call)["error"]
    call.advance(20.0)
    assert call.hung_up is None
    assert call.call.phase is Phase.TALKING


def test_a_caller_who_speaks_before_the_goodbye_keeps_the_call(call: CallDriver) -> None:
    ask(call, "hang_up", {})
    call.hears("Wait, one more thing.")
    call.advance(20.0)
    assert call.hung_up is None


def test_a_caller_who_enters_something_before_the_goodbye_keeps_the_call(call: CallDriver) -> None:
    call.quiet(3.0)
    ask(call, "hang_up", {"reason": "done"})
    call.phone.dtmf("5")
    call.flush()
    call.quiet(1.5)
    call.says("Do you want five of them?", 1, 1.0)
    call.quiet(20.0)
    assert call.hung_up is None
    assert call.call.phase is Phase.TALKING


def test_a_hang_up_while_the_line_is_lost_is_done_when_the_caller_is_back(
    call: CallDriver,
) -> None:
    call.says("Goodbye!", 1, 1.0, StopReason.PARTIAL_TURN)
    ask(call, "hang_up", {"reason": "bye"})
    call.lose_socket()
    call.advance(20.0)
    assert call.hung_up is None
    call.attach()
    call.advance(3.0)
    assert call.hung_up == "bye"


def test_a_process_that_is_killed_in_its_goodbye_has_the_next_one_hang_up(call: CallDriver) -> None:
    call.says("Goodbye!", 1, 3.0, StopReason.PARTIAL_TURN)
    ask(call, "hang_up", {"reason": "all said"})
    call.advance(1.0)
    other = call.elsewhere()
    other.come_back()
    other.advance(1.0)
    assert other.hung_up == "all said"
    assert other.services == {}
    other.phone.end("bot-disconnected")
    other.flush()
    assert other.outcome is not None
    assert other.outcome.by is EndedBy.BOT
    assert [item.text for item in other.saves[-1].conversation_history] == ["Goodbye!"]


def test_a_goodbye_that_nobody_has_heard_is_said_by_the_next_process(call: CallDriver) -> None:
    call.talk(1.0)
    call.hears("That was all.")
    ask(call, "hang_up", {"reason": "all said"})
    other = call.elsewhere()
    other.come_back()
    other.advance(1.0)
    assert other.hung_up is None
    assert any("say goodbye" in text for text in other.live.typed)
    other.says("Goodbye!", 1, 1.0)
    other.advance(3.0)
    again = other.elsewhere()
    again.come_back()
    again.advance(1.0)
    assert again.hung_up == "all said"


def test_a_caller_who_spoke_after_the_goodbye_keeps_the_call_elsewhere_too(
    call: CallDriver,
) -> None:
    ask(call, "hang_up", {})
    call.says("Goodbye!", 1, 4.0)
    call.talk(1.0)
    call.hears("Wait, one more thing.")
    other = call.elsewhere()
    other.come_back()
    other.advance(1.0)
    assert other.hung_up is None
    assert other.live.typed == ["Wait, one more thing."]


def test_a_caller_who_cut_the_goodbye_off_keeps_the_call_elsewhere_too(call: CallDriver) -> None:
    ask(call, "hang_up", {})
    call.says("Goodbye and thank you for calling!", 1, 4.0)
    call.live.writer.start_audio()
    call.talk(0.5)
    call.interrupts()
    assert call.saves[-1].conversation_history[-1].interrupted
    other = call.elsewhere()
    other.come_back()
    other.advance(1.0)
    assert other.hung_up is None


def test_a_hang_up_is_done_though_the_model_is_lost(call: CallDriver) -> None:
    call.says("Goodbye!", 1, 3.0, StopReason.PARTIAL_TURN)
    ask(call, "hang_up", {"reason": "bye"})
    call.breaks("AccessDeniedException")
    call.advance(5.0)
    assert call.refused is None
    assert call.hung_up == "bye"


def test_the_announcement_is_heard_before_the_transfer(call: CallDriver) -> None:
    call.says("I put you through.", 1, 2.0, StopReason.PARTIAL_TURN)
    ask(call, "transfer_call", {"target": "support"})
    call.advance(1.9)
    assert activities(call) == []
    call.advance(2.0)
    assert [one["name"] for one in activities(call)] == ["transfer"]


@pytest.mark.parametrize("code", ["busy", "no-answer", "declined", "error"])
def test_after_a_transfer_that_failed_the_conversation_goes_on(call: CallDriver, code: str) -> None:
    ask(call, "transfer_call", {"target": "support"})
    call.advance(5.0)
    assert call.live.results == []
    status(call, status="failed", reasonCode=code, reason="x")
    assert code in result(call)["error"]
    call.says("Nobody is there.", 1, 1.0)
    call.quiet(1.5)
    call.hears("Try again.")
    ask(call, "transfer_call", {"target": "boss"}, "t-2")
    call.advance(0.1)
    assert len(activities(call)) == 2


def test_a_transfer_that_was_answered_ends_the_call(call: CallDriver) -> None:
    call.hears("A person, please.")
    ask(call, "transfer_call", {"target": "support"})
    call.advance(5.0)
    call.phone.end("transferred")
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.TRANSFERRED
    assert call.saves[-1].status is SessionStatus.ENDED
    assert call.saves[-1].function_calls[0].result == {"status": "the caller has been transferred"}
    call.assert_lawful_end()


@pytest.mark.parametrize("word", ["answered", "Answered"])
def test_a_transfer_that_is_said_to_be_answered_has_succeeded(call: CallDriver, word: str) -> None:
    ask(call, "transfer_call", {"target": "support"})
    call.advance(5.0)
    status(call, status=word)
    assert result(call) == {"status": "the caller has been transferred"}


def test_a_caller_who_hangs_up_while_it_rings_was_not_transferred(call: CallDriver) -> None:
    ask(call, "transfer_call", {"target": "support"})
    call.advance(5.0)
    call.phone.end("client-disconnected")
    call.flush()
    assert call.outcome is not None
    assert call.outcome.by is EndedBy.CALLER
    assert call.saves[-1].function_calls[0].status is ToolStatus.RUNNING


def test_a_caller_who_interrupts_the_bot_while_it_rings_stops_no_transfer(call: CallDriver) -> None:
    ask(call, "transfer_call", {"target": "support"})
    call.advance(0.5)
    call.says("It rings, please wait a moment.", 1, 4.0)
    call.live.writer.start_audio()
    call.talk(0.5)
    call.interrupts()
    assert len(call.report("barge-in")) == 1
    assert call.live.results == []
    status(call, status="failed", reasonCode="busy")
    assert "busy" in result(call)["error"]


def test_a_transfer_of_which_nothing_is_told_is_of_unknown_outcome(call: CallDriver) -> None:
    ask(call, "transfer_call", {"target": "support"})
    call.quiet(89.0)
    assert call.live.results == []
    call.quiet(2.0)
    assert "nobody knows" in str(call.saves[-1].function_calls[0].result)


def test_one_thing_is_done_after_the_other(call: CallDriver) -> None:
    ask(call, "transfer_call", {"target": "support"})
    ask(call, "hang_up", {}, "t-2")
    assert "under way" in result(call, "t-2")["error"]


def test_a_transfer_status_that_nobody_waits_for_changes_nothing(call: CallDriver) -> None:
    status(call, status="failed", reasonCode="busy")
    assert call.live.typed == []
    assert call.call.phase is Phase.TALKING


def test_a_transfer_in_flight_is_not_made_again_in_another_process(call: CallDriver) -> None:
    call.hears("A person, please.")
    ask(call, "transfer_call", {"target": "support"})
    call.advance(1.0)
    other = call.elsewhere()
    other.come_back()
    other.advance(5.0)
    assert UNKNOWN_OUTCOME in other.live.typed[-1]
    assert not [e for _, e in other.heard if isinstance(e, Activity)]


def test_a_transfer_while_the_line_is_lost_is_made_when_the_caller_is_back(
    call: CallDriver,
) -> None:
    call.says("I put you through.", 1, 1.0, StopReason.PARTIAL_TURN)
    ask(call, "transfer_call", {"target": "support"})
    call.lose_socket()
    call.advance(20.0)
    assert activities(call) == []
    call.attach()
    call.advance(3.0)
    assert [one["name"] for one in activities(call)] == ["transfer"]


@pytest.mark.parametrize(
    ("name", "arguments"), [("send_dtmf", {"digits": "1"}), ("pause_recording", {})]
)
def test_what_needs_the_line_says_so_while_it_is_lost(
    call: CallDriver, name: str, arguments: JsonValue
) -> None:
    call.lose_socket()
    ask(call, name, arguments)
    assert "line to the caller is lost" in result(call)["error"]


# State


def test_what_the_model_keeps_it_gets_back_and_it_is_saved(call: CallDriver) -> None:
    ask(call, "set_state", {"key": "size", "value": {"people": 4}})
    assert result(call) == {"status": "kept"}
    assert call.saves[-1].variables == {"size": {"people": 4}}
    ask(call, "get_state", {"key": "size"}, "t-2")
    assert result(call, "t-2") == {"value": {"people": 4}}
    ask(call, "get_state", {"key": "other"}, "t-3")
    assert result(call, "t-3") == {"value": None}
    ask(call, "get_state", "", "t-4")
    assert result(call, "t-4") == {"state": {"size": {"people": 4}}}


def test_tools_are_told_what_the_model_keeps(call: CallDriver) -> None:
    ask(call, "set_state", {"key": "a", "value": 1})
    assert [e for _, e in call.ran if isinstance(e, KeepState)] == [KeepState("a", 1)]


def test_what_tools_keep_is_saved_and_the_model_gets_it(call: CallDriver) -> None:
    ask(call, "set_state", {"key": "a", "value": 1})
    call.handle(StateChanged("b", [2]))
    assert call.saves[-1].variables == {"a": 1, "b": [2]}
    ask(call, "get_state", {}, "t-2")
    assert result(call, "t-2") == {"state": {"a": 1, "b": [2]}}


def test_a_state_that_was_saved_does_not_change_later(call: CallDriver) -> None:
    call.handle(StateChanged("a", 1))
    saved = call.saves[-1]
    call.handle(StateChanged("a", 2))
    assert saved.variables == {"a": 1}


def test_state_is_bounded(call: CallDriver) -> None:
    ask(call, "set_state", {"key": "a", "value": "x" * 19_000})
    ask(call, "set_state", {"key": "b", "value": "x" * 2_000}, "t-2")
    assert "does not fit" in result(call, "t-2")["error"]
    call.handle(StateChanged("c", "x" * 2_000))
    assert list(call.saves[-1].variables) == ["a"]


def test_a_state_is_not_nested_so_deeply_that_nobody_could_read_it_back(call: CallDriver) -> None:
    value: JsonValue = 1
    for _ in range(MAX_STATE_DEPTH):
        value = [value]
    ask(call, "set_state", {"key": "a", "value": value})
    assert list(call.saves[-1].variables) == ["a"]
    ask(call, "set_state", {"key": "b", "value": [value]}, "t-2")
    assert "nested" in result(call, "t-2")["error"]
    call.handle(StateChanged("c", [value]))
    assert list(call.saves[-1].variables) == ["a"]


@pytest.mark.parametrize(
    ("key", "value"), [("caf\udce9", 1), ("a", "caf\udce9"), (4527, 1), ("a", {4527: 1})]
)
def test_what_cannot_be_stored_is_not_kept_and_the_call_goes_on(
    call: CallDriver, key: Any, value: Any
) -> None:
    call.handle(StateChanged(key, value))
    call.handle(StateChanged("b", 2))
    assert call.saves[-1].variables == {"b": 2}


@pytest.mark.parametrize("said", ["", "Hello."])
def test_state_is_restored_in_another_process(call: CallDriver, said: str) -> None:
    if said:
        call.hears(said)
    call.handle(StateChanged("account", 7))
    call.handle(Drain())
    other = call.elsewhere()
    other.come_back()
    other.advance(0.2)
    other.handle(StateChanged("steps", 1))
    ask(other, "get_state", {}, "t-2")
    assert result(other, "t-2") == {"state": {"account": 7, "steps": 1}}
    assert other.saves[-1].variables == {"account": 7, "steps": 1}
