from opusagent.bridges.planning import make_plan
from opusagent.call.plan import ContinuationPolicy
from opusagent.call.ring import ReplayRing
from opusagent.config import Settings
from opusagent.models.agent import Agent

AGENT = Agent(system_prompt="You answer the telephone.")


def test_the_settings_of_the_continuation_reach_the_call() -> None:
    settings = Settings(
        transition_threshold_seconds=20,
        audio_start_timeout_seconds=5,
        next_session_ready_timeout_seconds=4,
        session_limit_seconds=30,
        audio_buffer_duration_seconds=3,
        deaf_after_seconds=0,
        max_chat_history_bytes=204_800,
        max_single_message_bytes=500,
    )
    plan = make_plan(settings, "default", AGENT)
    assert plan.continuation == ContinuationPolicy(
        transition_threshold_s=20,
        audio_start_timeout_s=5,
        next_session_ready_timeout_s=4,
        limit_s=30,
    )
    assert plan.audio_buffer_s == 3
    assert plan.deaf_after_s == 0
    assert plan.max_history_bytes == 40_000
    assert plan.max_part_bytes == 500


def test_without_settings_a_call_continues_as_the_policy_does_by_itself() -> None:
    plan = make_plan(Settings(), "default", AGENT)
    assert plan.continuation == ContinuationPolicy()
    assert plan.deaf_after_s == 6


def test_sound_is_recorded_only_where_it_is_asked_for() -> None:
    assert not make_plan(Settings(), "default", AGENT).record
    assert make_plan(Settings(enable_session_recording=True), "default", AGENT).record


def test_settings_and_policy_agree_on_the_age_that_no_stream_passes() -> None:
    for limit in (480.0, 100.0, 99.0, 30.0, 5.0):
        settings = Settings(session_limit_seconds=limit, transition_threshold_seconds=1)
        plan = make_plan(settings, "default", AGENT)
        assert settings.oldest_stream_seconds == plan.continuation.last_s


def test_ten_seconds_of_a_caller_at_16_khz_take_320_kilobytes_and_no_more() -> None:
    ring = ReplayRing(2 * 16_000, make_plan(Settings(), "default", AGENT).audio_buffer_s)
    for _ in range(30 * 50):
        ring.add(bytes(640), speech=True, heard=False)
    assert sum(map(len, ring.uncommitted())) == 320_000
