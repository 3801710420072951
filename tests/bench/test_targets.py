import dataclasses

from opusagent.bench.run import Figures
from opusagent.bench.targets import targets

GOOD = Figures(
    calls=25,
    frame_ms=20,
    seconds=10.0,
    caller_frames_sent=12_500,
    caller_frames_lost=0,
    caller_frames_doubled=0,
    caller_frames_disordered=0,
    to_model_p50_ms=1.0,
    to_model_p99_ms=19.9,
    bot_frames_arrived=12_500,
    bot_frames_lost=0,
    bot_frames_doubled=0,
    bot_frames_disordered=0,
    to_caller_p50_ms=1.0,
    to_caller_p99_ms=5.0,
    core_percent_per_call=3.0,
    bridge_core_percent=75.0,
    service_core_percent=30.0,
    callers_core_percent=20.0,
    others_core_percent=0.0,
    memory_mb=85.0,
    proportional_memory_mb=70.0,
    anonymous_memory_mb=60.0,
    idle_memory_mb=75.0,
    idle_anonymous_memory_mb=55.0,
    memory_mb_per_call=0.4,
    accept_p99_ms=40.0,
)


def missed(**changes: float) -> list[str]:
    figures = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]
    return [target.words for target in targets(figures) if not target.met]


def test_a_standard_load_within_its_limits_meets_every_target() -> None:
    assert len(targets(GOOD)) == 6
    assert missed() == []


def test_a_latency_at_its_limit_is_missed() -> None:
    assert missed(to_model_p99_ms=20.0) == ["to the model, p99"]
    assert missed(to_caller_p99_ms=20.0) == ["to the caller, p99"]


def test_one_frame_lost_or_doubled_in_either_direction_is_missed() -> None:
    assert missed(caller_frames_lost=1) == missed(bot_frames_lost=1) == ["frames lost"]
    assert missed(caller_frames_doubled=1) == missed(bot_frames_doubled=1) == ["frames doubled"]


def test_memory_is_allowed_to_grow_with_the_calls() -> None:
    assert missed(memory_mb=85.1) == ["resident memory"]
    assert missed(calls=50, frame_ms=160, core_percent_per_call=1.0, memory_mb=110.0) == []


def test_long_frames_are_held_to_less_of_a_core() -> None:
    assert missed(calls=50, frame_ms=160, core_percent_per_call=1.1) == ["of a core per call"]


def test_any_other_load_has_no_target() -> None:
    assert targets(dataclasses.replace(GOOD, calls=10)) == []
