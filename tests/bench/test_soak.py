import asyncio
import dataclasses

import pytest

from opusagent.bench.soak import Moment, SoakResult, run_soak

BEFORE = Moment("before", memory_mb=80.0, anonymous_mb=55.0, threads=8, files=20, tasks=6)


def problems(**changes: float) -> list[str]:
    later = dataclasses.replace(BEFORE, when="later", **changes)  # type: ignore[arg-type]
    return SoakResult(moments=[BEFORE, later], calls=3).problems()


def test_a_process_that_holds_what_it_held_has_no_problem() -> None:
    assert problems() == []
    assert problems(files=19, memory_mb=90.0) == []


def test_each_thing_that_does_not_return_is_named() -> None:
    assert problems(files=21) == ["later: files 20 -> 21"]
    assert problems(tasks=7) == ["later: tasks 6 -> 7"]


@pytest.mark.parametrize(
    ("anonymous_mb", "is_a_leak"),
    [
        ((55.0, 58.0), True),
        ((55.0, 56.5, 56.9), False),  # within what an allocator may keep
        ((55.0, 57.0, 59.0, 60.0, 61.0, 62.0), True),
        ((55.0, 57.0, 59.0, 59.3), False),  # it has levelled off
    ],
)
def test_memory_that_rises_with_every_run_is_a_leak_and_memory_that_levels_off_is_none(
    anonymous_mb: tuple[float, ...], *, is_a_leak: bool
) -> None:
    moments = [dataclasses.replace(BEFORE, anonymous_mb=mb) for mb in anonymous_mb]
    found = SoakResult(moments=moments).problems()
    shown = " -> ".join(map(str, anonymous_mb))
    assert found == [f"anonymous memory does not level off: {shown} MB"] * is_a_leak


@pytest.mark.parametrize(
    ("threads", "is_a_leak"),
    [((8, 9), True), ((8, 9, 10), True), ((8, 9, 9), False), ((8, 10, 9), False)],
)
def test_threads_that_rise_with_every_run_are_a_leak_and_a_pool_that_has_grown_is_none(
    threads: tuple[int, ...], *, is_a_leak: bool
) -> None:
    moments = [dataclasses.replace(BEFORE, threads=count) for count in threads]
    shown = " -> ".join(map(str, threads))
    found = SoakResult(moments=moments).problems()
    assert found == [f"threads do not level off: {shown}"] * is_a_leak


def test_a_call_that_fails_is_a_problem() -> None:
    result = SoakResult(moments=[BEFORE], failures=["no session.accepted"])
    assert result.problems() == ["a call failed: no session.accepted"]


@pytest.mark.integration
def test_a_few_calls_in_a_row_and_at_once_leave_no_thread_file_or_task_behind() -> None:
    said: list[str] = []
    result = asyncio.run(run_soak(progress=said.append, in_a_row=3, at_once=3, call_s=0.3))
    assert result.calls == 3 * (1 + len(result.moments))  # those that warm the process up run twice
    assert result.failures == []
    assert [words for words in result.problems() if "memory" not in words] == []
    assert len(result.moments) == len(said) >= 3
    assert result.as_json()["soak"]["moments"][0]["when"] == "before"
