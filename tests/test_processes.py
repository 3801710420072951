from __future__ import annotations

import asyncio

import pytest

from opusagent.processes import SETTINGS, Child, ProcessFailed

PRINT = "import os; print(*(os.environ.get(name) for name in ('BRIDGE_TOKEN', 'ADMIN_PORT', 'X')))"


@pytest.mark.integration
def test_a_bridge_that_is_tried_out_does_not_get_the_settings_of_the_real_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("BRIDGE_TOKEN", "secret"), ("ADMIN_PORT", "1"), ("X", "kept")):
        monkeypatch.setenv(name, value)

    async def main() -> str:
        arguments = ("timeit", "-n1", "-r1", PRINT)
        async with Child(*arguments, environ={"ADMIN_PORT": "0"}, hide=SETTINGS) as child:
            return await child.line()

    assert asyncio.run(main()) == "None 0 kept\n"


@pytest.mark.integration
def test_a_process_that_ends_before_it_is_ready_has_failed() -> None:
    async def main() -> None:
        async with Child("timeit", "-n1", "-r1", "pass") as child:
            await child.ready()

    with pytest.raises(ProcessFailed, match="timeit"):
        asyncio.run(main())


@pytest.mark.integration
def test_a_process_can_be_ended_as_a_crash_would_end_it() -> None:
    async def main() -> int | None:
        async with Child("http.server", "--bind", "127.0.0.1", "0") as child:
            child.kill()
            await child.gone()
            child.kill()  # it is gone already
        return child.returncode

    assert asyncio.run(main()) == -9
