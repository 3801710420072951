from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from opusagent.session_storage.envelope import Envelope, Watchers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("activity", [None, "", "yesterday", 5, NOW])
def test_a_document_without_a_time_counts_from_now(activity: object) -> None:
    assert Envelope.of({"last_activity": activity}, NOW).active_at == NOW


def test_a_time_without_a_zone_is_taken_for_utc() -> None:
    envelope = Envelope.of({"last_activity": "2025-12-31T12:00:00"}, NOW)
    assert envelope.active_at == NOW - timedelta(hours=12)


def test_an_epoch_that_is_no_number_is_none() -> None:
    assert Envelope.of({"owner_epoch": "many"}, NOW).owner_epoch == 0


def test_a_sign_of_life_never_makes_a_session_older() -> None:
    ahead = NOW + timedelta(seconds=5)  # the clock of the process that wrote it
    envelope = Envelope.of({"last_activity": ahead.isoformat()}, NOW)
    assert envelope.touched(NOW).active_at == ahead


def test_a_hand_over_reaches_those_who_watch_that_session_only() -> None:
    watchers = Watchers()
    heard: list[int] = []
    stop = watchers.add("a:b", heard.append)
    watchers.tell_message(b"handover:a:b", b"3")
    watchers.tell_message(b"handover:a", b"4")
    watchers.tell_message(b"handover:a:b", b"junk")
    stop()
    watchers.tell_message(b"handover:a:b", b"5")
    assert heard == [3]


def test_a_watcher_may_go_while_it_is_told() -> None:
    watchers = Watchers()
    heard: list[str] = []

    def first(_: int) -> None:
        heard.append("first")
        stop()

    stop = watchers.add("c", first)
    watchers.add("c", lambda _: heard.append("second"))
    watchers.tell("c", 1)
    watchers.tell("c", 2)
    assert heard == ["first", "second", "second"]
