"""Tools in a process of their own, really started."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opusagent.config import Settings
from opusagent.errors import ConfigError, ToolError
from opusagent.observability import configure_logging
from opusagent.tools.host import NICE
from opusagent.tools.modules import tools_in
from opusagent.tools.tool import Arguments, CallState, JsonObject, Tool, ToolContext, ToolCrashed
from opusagent.tools.tool_process import ANSWERS_S, ToolProcess
from opusagent.tools.workshop import MAX_ABANDONED, STUCK_S
from tests.tools.rig import asks, of_call
from tests.waiting import eventually

pytestmark = pytest.mark.integration

MODULE = '''
import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from opusagent.tools import ToolContext, ToolError, ToolRegistry

registry = ToolRegistry()
n_runs = 0


@registry.tool()
def where() -> dict[str, object]:
    """Say which process this is."""
    global n_runs
    n_runs += 1
    return {"pid": os.getpid(), "runs": n_runs, "path": sys.path, "nice": os.nice(0)}


@registry.tool()
def counts(context: ToolContext) -> dict[str, object]:
    """Count in the call's state."""
    n = context.state.get("n", 0) + 1
    context.state.set("n", n)
    return {"n": n, "keys": list(context.state), "caller": context.caller}


@registry.tool()
async def fills(context: ToolContext) -> str:
    """Keep too much."""
    try:
        context.state.set("much", "x" * 50_000)
    except ValueError as error:
        return str(error)
    return "kept"


@registry.tool()
def keeps(kind: str, context: ToolContext) -> str:
    """Keep something under what can be no key, or can be no value."""
    keys = {"half a character": "caf\\udce9", "a number": 4527}
    try:
        if kind in keys:
            context.state.set(keys[kind], "x")
        else:
            context.state.set("x", "caf\\udce9")
    except ValueError as error:
        return f"not kept: {error}"
    return "kept"


@registry.tool()
def says_half_a_character(how: str) -> dict[str, str]:
    """Return or raise what UTF-8 does not have."""
    if how == "returns":
        return {"caf\\udce9": "caf\\udce9"}
    raise ToolError("caf\\udce9")


@registry.tool()
async def tidies_up(begun: str, over: str, context: ToolContext) -> None:
    """Use the state when it is cancelled."""
    Path(begun).touch()
    try:
        await asyncio.Event().wait()
    finally:
        try:
            context.state.set("tidied", True)
        except Exception as error:
            Path(over).write_text(f"{type(error).__name__}: {error}")


@registry.tool()
async def blocks() -> None:
    """Hold the other async functions up."""
    threading.Event().wait(3)


@registry.tool()
async def speaks() -> int:
    """Print, itself and by a program."""
    print("said by a tool")
    return os.system("echo said by a program")


@registry.tool()
def refuses() -> None:
    """Refuse."""
    raise ToolError("there is no such order")


@registry.tool()
def breaks() -> None:
    """Break."""
    raise RuntimeError("the caller said 471147114711")


@registry.tool()
def large() -> str:
    """Return 10 MB."""
    return "x" * 10_000_000


@registry.tool()
async def is_cancelled(file: str) -> None:
    """Wait to be cancelled."""
    Path(file).touch()
    try:
        await asyncio.Event().wait()
    finally:
        Path(file).unlink()


@registry.tool()
def never(file: str) -> None:
    """Never return."""
    Path(file).touch()
    threading.Event().wait()


@registry.tool(timeout_s=0.3)
def holds_the_lock() -> None:
    """Compute in C, where no other thread of the process gets its turn."""
    re.match("(a+)+$", "a" * 60 + "b")


@registry.tool()
def dies() -> None:
    """End the process."""
    os._exit(3)


@registry.tool()
def starts() -> int:
    """Start a process that goes on."""
    return subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"]).pid


@registry.tool()
def ends(pid: int) -> int:
    """End such a process in good order."""
    os.kill(pid, signal.SIGTERM)
    return os.waitpid(pid, 0)[1]
'''

SLOW = '''
from pathlib import Path
from threading import Event

from opusagent.tools import ToolRegistry

registry = ToolRegistry()
while not Path(__file__).with_name("gate").exists():
    Event().wait(0.01)


n_runs = 0


@registry.tool()
def works() -> int:
    """Work."""
    global n_runs
    n_runs += 1
    return n_runs
'''


STRANGE = """
import socket
import sys

from opusagent.tools.framing import Frames, frame

line, frames = socket.socket(fileno=int(sys.argv[1])), Frames()
while data := line.recv(65_536):
    for message in frames.feed(data):
        if message["do"] == "run":
            line.send(frame({"id": message["id"], "ask": 7, "set": [4527, "x"]}))
        if message["do"] == "answer":
            line.send(frame({"id": message["id"], "done": message}))
"""


class Tools:
    """The module, and the process that runs it."""

    def __init__(self, module: str, process: ToolProcess, abandoned: list[int]) -> None:
        self.module = module
        self.process = process
        self.abandoned = abandoned
        self.state = CallState()

    async def run(self, tool: str, **arguments: str | int) -> JsonObject:
        context = ToolContext(caller="+15551230001", state=self.state)
        given: Arguments = dict(arguments)
        return await self.process.run(self.module, tool, given, context)

    def tool(self, name: str) -> Tool:
        return self.process.tool_of(self.module, tools_in(self.module)[name])

    def change(self, text: str) -> None:
        Path(self.module).write_text(text, encoding="utf-8")

    async def pid(self) -> int:
        pid = (await self.run("where"))["pid"]
        assert isinstance(pid, int)
        return pid


@asynccontextmanager
async def tools(folder: Path) -> AsyncIterator[Tools]:
    (folder / "mine.py").write_text(MODULE, encoding="utf-8")
    abandoned: list[int] = []
    process = ToolProcess(abandoned.append)
    try:
        yield Tools(str(folder / "mine.py"), process, abandoned)
    finally:
        await process.stop()


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie."""
    told = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return told.stdout.strip()[:1] not in ("", "Z")


def children() -> list[int]:
    """The processes of this one."""
    told = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], check=False, capture_output=True, text=True
    )
    lines = [line.split(maxsplit=2) for line in told.stdout.splitlines()]
    return [int(n) for n, of, args in lines if int(of) == os.getpid() and "tools.host" in args]


def carried(folder: Path, main: Callable[[Tools], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        async with tools(folder) as mine:
            await main(mine)

    asyncio.run(run())


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_functions_run_in_one_process_that_stands_back_and_keeps_their_module(
    tmp_path: Path,
) -> None:
    async def main(mine: Tools) -> None:
        one, two = await mine.run("where"), await mine.run("where")
        assert one["pid"] == two["pid"] != os.getpid()
        assert (one["runs"], two["runs"]) == (1, 2)
        assert one["nice"] == min(os.nice(0) + NICE, 19)

    carried(tmp_path, main)


def test_the_state_of_the_call_is_the_one_that_the_bridge_has(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        mine.state.set("before", True)
        assert await mine.run("counts") == {
            "n": 1,
            "keys": ["before", "n"],
            "caller": "+15551230001",
        }
        mine.state.set("n", 41)
        assert (await mine.run("counts"))["n"] == 42
        assert mine.state.get("n") == 42
        assert "does not fit" in str((await mine.run("fills"))["result"])

    carried(tmp_path, main)


@pytest.mark.parametrize("kind", ["half a character", "a number", "a bad value"])
def test_what_the_state_cannot_have_is_refused_in_the_tool_and_harms_nobody(
    tmp_path: Path, kind: str
) -> None:
    async def main(mine: Tools) -> None:
        said = str((await mine.run("keeps", kind=kind))["result"])
        assert said.startswith("not kept: the ")
        assert len(mine.state) == 0

    carried(tmp_path, main)


def test_a_process_that_asks_for_what_the_state_cannot_have_is_answered(tmp_path: Path) -> None:
    (tmp_path / "strange.py").write_text(STRANGE, encoding="utf-8")

    async def main() -> None:
        process = ToolProcess(command=(sys.executable, str(tmp_path / "strange.py")))
        context = ToolContext()
        try:
            async with asyncio.timeout(10):
                told = await process.run("strange", "asks", {}, context)
        finally:
            await process.stop()
        assert (told["wrong"], len(context.state)) == ("no value of the state", 0)

    asyncio.run(main())


def test_halves_of_characters_in_results_and_refusals_are_left_out(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        run = of_call([mine.tool("says_half_a_character")])
        told = [
            await run(asks("says_half_a_character", f'{{"how": "{how}"}}'))
            for how in ("returns", "raises")
        ]
        assert told == [{"caf?": "caf?"}, {"error": "caf?"}]

    carried(tmp_path, main)


def test_a_tool_that_nobody_waits_for_is_told_so_at_once_when_it_uses_the_state(
    tmp_path: Path,
) -> None:
    async def main(mine: Tools) -> None:
        begun, over = tmp_path / "begun", tmp_path / "over"
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(mine.run("tidies_up", begun=str(begun), over=str(over)))
            assert await eventually(begun.exists)
            run.cancel()
        assert await eventually(lambda: over.exists() and over.read_text(), within_s=STUCK_S)
        assert over.read_text() == "ValueError: nobody waits for this tool any more"
        assert len(mine.state) == 0

    carried(tmp_path, main)


@pytest.mark.usefixtures("logging_as_it_was")
def test_what_is_wrong_in_the_process_is_said_in_the_log_of_the_bridge(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)

    async def main(mine: Tools) -> None:
        await mine.run("blocks")

    carried(tmp_path, main)
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["event"], line["level"]) == ("async tools block their loop", "warning")
    assert line["running"] == ["blocks"]
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("logging_as_it_was")
def test_a_module_that_can_be_loaded_in_one_process_only_is_told_of(tmp_path: Path) -> None:
    log = io.StringIO()
    configure_logging(Settings(log_format="json"), log)
    path = tmp_path / "once.py"
    path.write_text(
        "from pathlib import Path\n"
        "from opusagent.tools import ToolRegistry\n"
        f"Path({str(tmp_path / 'lock')!r}).touch(exist_ok=False)\n"
        "registry = ToolRegistry()\n"
        "@registry.tool()\n"
        "def find() -> None:\n"
        '    """Find."""\n',
        encoding="utf-8",
    )

    async def main() -> None:
        process = ToolProcess()
        tool = process.tool_of(str(path), tools_in(str(path))["find"])
        try:
            await process.start()
            assert "FileExistsError" in process.unloaded[str(path)]
            told = await of_call([tool])(asks("find"))
            assert told == {"error": "find is not available"}
        finally:
            await process.stop()

    asyncio.run(main())
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["event"], line["level"]) == ("tools cannot be loaded in their process", "error")
    assert line["problem"].startswith(f"{path}: cannot be loaded: FileExistsError")
    assert line["problem"].endswith("(once.py, line 3)")


def test_what_tools_print_goes_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main(mine: Tools) -> None:
        assert await mine.run("speaks") == {"result": 0}

    carried(tmp_path, main)
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["said by a tool", "said by a program"]


def test_what_a_tool_raises_says_what_it_would_say_here(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        with pytest.raises(ToolError, match="there is no such order"):
            await mine.run("refuses")
        with pytest.raises(ToolCrashed) as crash:
            await mine.run("breaks")
        line = (
            MODULE.splitlines().index('    raise RuntimeError("the caller said 471147114711")') + 1
        )
        assert (crash.value.kind, crash.value.at) == ("RuntimeError", f"{mine.module}:{line}")
        assert "the caller said 471147114711" in crash.value.trace
        assert "471147114711" not in str(crash.value)

    carried(tmp_path, main)


def test_ten_megabytes_do_not_leave_the_process(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        result = await mine.run("large")
        assert len(str(result)) < 25_000
        assert "shortened" in result

    carried(tmp_path, main)


def test_a_tool_that_nobody_waits_for_any_more_is_cancelled(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        file = tmp_path / "runs"
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(mine.run("is_cancelled", file=str(file)))
            assert await eventually(file.exists)
            run.cancel()
        assert await eventually(lambda: not file.exists())

    carried(tmp_path, main)


def test_a_process_that_ends_fails_what_ran_in_it_and_is_replaced(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        pid = await mine.pid()
        with pytest.raises(ToolError, match="what came of it is not known"):
            await mine.run("dies")
        assert await mine.pid() != pid
        assert await eventually(lambda: not is_there(pid))  # and leaves no zombie

    carried(tmp_path, main)


def test_a_process_that_does_not_react_is_ended_and_replaced(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        pid = await mine.pid()
        run = of_call([mine.tool("holds_the_lock")])
        result = await run(asks("holds_the_lock"))
        assert "did not answer within 0.3 seconds" in str(result)
        assert await eventually(lambda: not is_there(pid))
        assert await mine.pid() != pid

    carried(tmp_path, main)


def test_a_process_that_takes_long_to_load_is_not_ended_for_a_tool_that_does_not_wait(
    tmp_path: Path,
) -> None:
    """It would never be ready: the next one takes as long."""
    module = tmp_path / "slow.py"
    module.write_text(SLOW, encoding="utf-8")

    async def main(mine: Tools) -> None:
        mine.process.tool_of(str(module), tools_in(mine.module)["where"])  # has the module loaded
        given_up = [
            asyncio.wait_for(mine.process.run(str(module), "works", {}, ToolContext()), 0.3)
            for _ in range(MAX_ABANDONED)
        ]
        errors = await asyncio.gather(*given_up, return_exceptions=True)
        assert {type(error) for error in errors} == {TimeoutError}
        (pid,) = children()
        assert not await eventually(lambda: children() != [pid], within_s=ANSWERS_S + 0.3)
        (tmp_path / "gate").touch()
        done = await mine.process.run(str(module), "works", {}, ToolContext())
        assert done == {"result": 1}, "what was given up before it began is not begun"
        assert children() == [pid]

    carried(tmp_path, main)


def test_a_file_that_was_loaded_anew_is_run_in_another_process_and_what_runs_ends_in_the_old_one(
    tmp_path: Path,
) -> None:
    async def main(mine: Tools) -> None:
        file = tmp_path / "runs"
        mine.tool("where")
        pid = await mine.pid()
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(mine.run("is_cancelled", file=str(file)))
            assert await eventually(file.exists)
            assert not mine.process.renew(), "nothing has changed"
            mine.change(MODULE.replace("def starts(", "def renamed("))
            tools_in(mine.module, again=True)
            assert mine.process.renew()
            assert await mine.pid() != pid
            assert not mine.process.renew(), "the other process has it already"
            assert is_running(pid)
            with pytest.raises(ToolError, match="starts is not available any more"):
                await mine.run("starts")
            run.cancel()
        assert await eventually(lambda: not is_there(pid))
        assert not file.exists(), "it was cancelled, and had its time to end"

    carried(tmp_path, main)


def test_a_process_that_is_replaced_has_the_text_that_worked_whatever_is_on_disk_by_then(
    tmp_path: Path,
) -> None:
    async def main(mine: Tools) -> None:
        mine.tool("where")
        mine.change("1 / 0")
        with pytest.raises(ConfigError):
            tools_in(mine.module, again=True)
        pid = await mine.pid()
        with pytest.raises(ToolError, match="what came of it is not known"):
            await mine.run("dies")
        assert await mine.pid() != pid

    carried(tmp_path, main)


def test_what_a_tool_has_started_can_be_ended_by_a_tool(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        started = (await mine.run("starts"))["result"]
        assert isinstance(started, int)
        async with asyncio.timeout(10.0):
            assert await mine.run("ends", pid=started) == {"result": signal.SIGTERM}

    carried(tmp_path, main)


@pytest.mark.parametrize("how", ["stop", "dies"])
def test_what_tools_have_started_ends_with_their_process(tmp_path: Path, how: str) -> None:
    async def main(mine: Tools) -> None:
        started = (await mine.run("starts"))["result"]
        assert isinstance(started, int)
        if how == "stop":
            await mine.process.stop()
        else:
            with pytest.raises(ToolError):
                await mine.run("dies")
        assert await eventually(lambda: not is_running(started))

    carried(tmp_path, main)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux chooses whom it ends by this number")
def test_where_memory_is_short_the_tools_are_ended_and_not_the_calls(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        score = Path(f"/proc/{await mine.pid()}/oom_score_adj")
        assert int(await asyncio.to_thread(score.read_text, encoding="ascii")) == 1000

    carried(tmp_path, main)


def test_functions_that_never_end_are_ended_with_their_process(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        pid = await mine.pid()
        files = [tmp_path / f"{i}" for i in range(MAX_ABANDONED)]
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(mine.run("never", file=str(file))) for file in files]
            assert await eventually(lambda: all(file.exists() for file in files))
            for run in runs:
                run.cancel()
        assert await eventually(lambda: not is_there(pid))
        assert max(mine.abandoned) == MAX_ABANDONED
        assert mine.abandoned[-1] == 0
        assert await mine.pid() != pid

    carried(tmp_path, main)


def test_a_process_that_another_one_took_over_from_ends_with_the_bridge(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        pid = await mine.pid()
        files = [tmp_path / f"{i}" for i in range(MAX_ABANDONED)]
        last = tmp_path / "last"
        async with asyncio.TaskGroup() as tasks:
            going_on = tasks.create_task(
                of_call([mine.tool("is_cancelled")])(asks("is_cancelled", f'{{"file": "{last}"}}'))
            )
            runs = [tasks.create_task(mine.run("never", file=str(file))) for file in files]
            assert await eventually(lambda: all(file.exists() for file in (*files, last)))
            for run in runs:
                run.cancel()
            assert await eventually(lambda: MAX_ABANDONED in mine.abandoned)
            assert await mine.pid() != pid
            assert is_running(pid)  # it still has something to do
            await mine.process.stop()
            assert not is_there(pid)
            assert "error" in await going_on

    carried(tmp_path, main)


def test_signals_for_the_bridge_are_none_for_its_tools(tmp_path: Path) -> None:
    async def main(mine: Tools) -> None:
        pid = await mine.pid()
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        assert await mine.pid() == pid
        await mine.process.stop()
        assert not is_there(pid)

    carried(tmp_path, main)


def test_the_process_ends_when_the_bridge_is_gone_whatever_still_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE, encoding="utf-8")
    code = f"""
import asyncio, os
from pathlib import Path
from opusagent.tools.tool import ToolContext
from opusagent.tools.tool_process import ANSWERS_S, ToolProcess

async def main():
    process, module = ToolProcess(), {str(tmp_path / "mine.py")!r}
    print((await process.run(module, "where", {{}}, ToolContext()))["pid"], flush=True)
    file = Path({str(tmp_path / "runs")!r})
    never = asyncio.ensure_future(process.run(module, "never", {{"file": str(file)}}, ToolContext()))
    while not file.exists():
        await asyncio.sleep(0.01)  # another process makes it: nothing tells when
    os._exit(0)

asyncio.run(main())
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    pid = int(told.stdout)
    assert asyncio.run(eventually(lambda: not is_running(pid)))
