from __future__ import annotations

import json
from datetime import UTC, datetime

from opusagent.call.events import Report
from opusagent.clock import FakeClock
from opusagent.facts import CallFacts, history, session_facts
from opusagent.models.session_state import ConversationItem, SessionState, SessionStatus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Watched:
    """The facts of a call whose reports the test makes up."""

    def __init__(self) -> None:
        self.clock = FakeClock(utcnow=NOW)
        self.passed_on: list[Report] = []
        self.facts = CallFacts(
            "c", agent="sales", tenant="acme", clock=self.clock, then=self.passed_on.append
        )

    def tell(self, event: str, stream: int = 0) -> None:
        self.facts.report(Report(event, {"stream": stream}))

    def shows(self) -> tuple[object, object]:
        """Age of the stream, switches."""
        shown = self.facts.as_json("talking")
        return shown["stream_age_s"], shown["switches"]


def test_a_call_is_known_by_its_id_agent_tenant_and_beginning() -> None:
    watched = Watched()
    assert watched.facts.as_json("starting") == {
        "id": "c",
        "agent": "sales",
        "tenant": "acme",
        "since": "2026-01-01T12:00:00+00:00",
        "state": "starting",
        "stream_age_s": None,
        "switches": 0,
    }


def test_every_report_is_passed_on() -> None:
    watched = Watched()
    watched.tell("stream opened", 1)
    watched.tell("barge-in")
    assert [report.event for report in watched.passed_on] == ["stream opened", "barge-in"]


def test_a_streams_age_counts_from_its_head_also_where_it_waited_its_turn() -> None:
    watched = Watched()
    watched.tell("stream opened", 1)
    watched.clock.advance(400)
    watched.tell("standby opened", 2)
    watched.clock.advance(5)
    assert watched.shows() == (405.0, 0)
    watched.tell("stream switched", 2)
    watched.tell("stream closed", 1)
    assert watched.shows() == (5.0, 1)


def test_a_call_without_a_stream_says_so() -> None:
    watched = Watched()
    watched.tell("stream opened", 1)
    watched.tell("stream lost", 1)
    assert watched.shows() == (None, 0)
    watched.tell("stream opened", 2)
    watched.clock.advance(470)
    watched.tell("closed first", 2)
    assert watched.shows() == (None, 1)
    watched.tell("stream opened", 3)
    assert watched.shows() == (0.0, 1)


SAID = SessionState(
    conversation_id="c",
    status=SessionStatus.ACTIVE,
    caller="+4930901820",
    created_at=NOW,
    last_activity=NOW,
    audio_buffer=[b"\0" * 320],
    metadata={"agent": "sales"},
    conversation_history=[
        ConversationItem(type="input", text="My name is Ada.", at=NOW),
        ConversationItem(type="output", text="Hello Ada."),
    ],
)


def test_the_facts_of_a_session_hold_no_word_and_no_number() -> None:
    facts = session_facts(SAID)
    assert facts["status"] == "active"
    assert facts["agent"] == "sales"
    assert facts["turns"] == 2
    assert facts["unanswered_audio_bytes"] == 320
    text = json.dumps(facts)
    assert "Ada" not in text
    assert "4930901820" not in text


def test_a_history_has_the_shape_of_the_recovery_guide() -> None:
    assert history(SAID) == [
        {"role": "user", "text": "My name is Ada.", "timestamp": "2026-01-01T12:00:00+00:00"},
        {"role": "assistant", "text": "Hello Ada.", "timestamp": None},
    ]
