from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue, TypeAdapter

from opusagent.errors import ConfigError
from opusagent.models.agent import AgentTool
from opusagent.tools.toolbox import Toolbox, check_tools
from tests import virtual_time
from tests.tools.rig import Here, asks
from tests.waiting import eventually, pass_time

DECLARED: TypeAdapter[list[AgentTool]] = TypeAdapter(list[AgentTool])
SERVER = Path(__file__).parent / "mcp_server.py"

MODULE = '''
from opusagent.tools import ToolContext, ToolRegistry

registry = ToolRegistry()


@registry.tool()
def remember(what: str, context: ToolContext) -> str:
    """Remember something."""
    before = context.state.get("what", "nothing")
    context.state.set("what", what)
    return f"{context.agent} knew {before}"


@registry.tool(repeatable=True)
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b
'''
PID = '''
import os

from opusagent.tools import ToolRegistry

registry = ToolRegistry()


@registry.tool()
def pid() -> int:
    """Say which process this is."""
    return os.getpid()
'''
HTTP = {"type": "http", "name": "look", "description": "Look.", "url": "http://127.0.0.1:9/"}


@pytest.fixture
def module(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "mine.py"
    path.write_text(MODULE, encoding="utf-8")
    return {"type": "python", "module": str(path)}


def of(*declared: dict[str, Any]) -> Sequence[AgentTool]:
    return DECLARED.validate_python(declared)


def names(toolbox: Toolbox, agent: str) -> list[str]:
    return [spec.name for spec in toolbox.of(agent).specs]


def test_each_agent_has_the_tools_of_its_file(module: dict[str, Any]) -> None:
    toolbox = Toolbox({"a": of(module, HTTP), "b": of(module | {"only": ["add"]}), "c": ()})
    assert names(toolbox, "a") == ["remember", "add", "look"]
    assert names(toolbox, "b") == ["add"]
    assert names(toolbox, "c") == names(toolbox, "unknown") == []
    assert [spec.repeatable for spec in toolbox.of("a").specs] == [False, True, False]


def test_tools_of_a_call_keep_state_and_say_so_on_the_loop(module: dict[str, Any]) -> None:
    told: list[tuple[str, JsonValue]] = []

    async def main() -> None:
        async with Toolbox({"bank": of(module)}, place=Here()) as toolbox:
            call = toolbox.of("bank").for_call(
                "c1",
                agent="bank",
                state={"what": "a name"},
                on_state=lambda key, value: told.append((key, value)),
            )
            assert await call(asks("remember", '{"what": "a PIN"}')) == {
                "result": "bank knew a name"
            }
            assert await call(asks("remember", '{"what": "more"}')) == {"result": "bank knew a PIN"}
            other = toolbox.of("bank").for_call("c2", agent="bank")
            assert await other(asks("remember", '{"what": "x"}')) == {"result": "bank knew nothing"}
            await asyncio.wait_for(_turn(), 1)

    virtual_time.run(main())
    assert told == [("what", "a PIN"), ("what", "more")]


async def _turn() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


@pytest.mark.parametrize("place", ["thread", "process"])
def test_state_set_elsewhere_is_told_on_the_loop_of_the_call(
    module: dict[str, Any], place: str
) -> None:
    loops: list[object] = []

    async def main() -> None:
        async with Toolbox({"bank": of(module | {"run_in": place})}) as toolbox:
            call = toolbox.of("bank").for_call(
                "c1", on_state=lambda *_: loops.append(asyncio.get_running_loop())
            )
            await call(asks("remember", '{"what": "x"}'))
            assert await eventually(lambda: loops == [asyncio.get_running_loop()])

    asyncio.run(main())


@pytest.mark.integration
def test_functions_run_in_another_process_unless_they_are_to_run_in_this_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "pid.py").write_text(PID, encoding="utf-8")
    declared = {"type": "python", "module": str(tmp_path / "pid.py")}
    agents = {"here": of(declared | {"run_in": "thread"}), "there": of(declared)}

    async def main() -> None:
        async with Toolbox(agents) as toolbox:
            here = await toolbox.of("here").for_call("c1")(asks("pid"))
            there = await toolbox.of("there").for_call("c1")(asks("pid"))
            assert here["result"] == os.getpid() != there["result"]

    asyncio.run(main())


def test_what_cannot_work_is_refused_with_its_key(module: dict[str, Any], tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.touch()
    for declared, words in (
        ([HTTP, HTTP], "tools.1: there is another tool named look"),
        ([module, HTTP | {"name": "add"}], "tools.1: there is another tool named add"),
        ([module | {"only": ["sub"]}], "tools.0: only: there is no sub; there are add, remember"),
        ([{"type": "python", "module": "no.such"}], "tools.0: module: no.such: cannot be loaded"),
        ([{"type": "python", "module": str(empty)}], "has no function that a ToolRegistry"),
        ([HTTP | {"headers": {"A": "${B}"}}], "tools.0: headers: A: ${B} is not set"),
        (
            [{"type": "mcp", "name": "m", "url": "https://x", "headers": {"A": "${B}"}}],
            "tools.0: headers: A: ${B} is not set",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            check_tools(of(*declared), {})
        assert words in str(caught.value)


@contextmanager
def no_more_files() -> Iterator[None]:
    """What opens a file or starts a process fails."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.integration
def test_a_process_that_cannot_be_started_for_a_changed_file_ends_nothing(
    module: dict[str, Any],
) -> None:
    async def main() -> JsonValue:
        async with Toolbox({"a": of(module)}) as toolbox:
            Path(module["module"]).write_text(MODULE.replace("a + b", "a * b"), encoding="utf-8")  # noqa: ASYNC240
            check_tools(of(module))
            with no_more_files():
                toolbox.replace({"a": of(module)})
                await pass_time(0.05)
            call = toolbox.of("a").for_call("c1")
            return await call(asks("add", '{"a": 2, "b": 3}'))

    assert asyncio.run(main()) == {"result": 6}


def test_a_module_that_goes_to_another_folder_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "orders.py"
    path.write_text(
        "import os\n"
        "from opusagent.tools import ToolRegistry\n"
        "os.chdir(os.path.dirname(__file__))\n"
        "registry = ToolRegistry()\n"
        "@registry.tool()\n"
        "def find() -> None:\n"
        '    """Find."""\n',
        encoding="utf-8",
    )
    tools = of({"type": "python", "module": str(path)})
    assert [*check_tools(tools)] == ["find"]
    assert Path.cwd() == tmp_path / "here"
    (tmp_path / "here").rmdir()
    assert [*check_tools(tools)] == ["find"]


@pytest.mark.integration
def test_tools_of_servers_are_shared_and_get_their_names_where_there_are_others(
    module: dict[str, Any],
) -> None:
    tiny = {
        "type": "mcp",
        "name": "tiny",
        "command": [sys.executable, str(SERVER)],
        "only": ["add", "fails"],
    }
    away = {"type": "mcp", "name": "away", "command": ["/no/such/command"]}

    async def main() -> None:
        async with Toolbox({"a": of(module, tiny, away), "b": of(tiny)}) as toolbox:
            assert names(toolbox, "a") == ["remember", "add", "tiny_add", "fails"]
            assert names(toolbox, "b") == ["add", "fails"]
            call = toolbox.of("a").for_call("c1")
            given = '{"a": 1, "b": 2}'
            assert await call(asks("add", given)) == {"result": 3}
            assert await call(asks("tiny_add", given)) == {"result": 3}
            assert "closed" in str((await call(asks("fails")))["error"])

    asyncio.run(main())


@pytest.mark.integration
def test_no_tool_is_lost_where_servers_have_one_name() -> None:
    tiny = {"type": "mcp", "name": "tiny", "command": [sys.executable, str(SERVER)]}

    async def main() -> None:
        declared = of(tiny | {"only": ["add", "fails"]}, tiny | {"only": ["add"]})
        async with Toolbox({"a": declared}) as toolbox:
            assert names(toolbox, "a") == ["tiny_add", "fails", "tiny_add_2"]

    asyncio.run(main())


def servers() -> list[int]:
    """The MCP servers that this process runs."""
    told = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], check=False, capture_output=True, text=True
    )
    lines = [line.split(maxsplit=2) for line in told.stdout.splitlines()]
    return [int(n) for n, of, args in lines if int(of) == os.getpid() and str(SERVER) in args]


@pytest.mark.integration
def test_a_server_that_no_agent_declares_any_more_is_let_go_and_not_begun_again() -> None:
    tiny = {"type": "mcp", "name": "tiny", "command": [sys.executable, str(SERVER)]}

    async def main() -> None:
        async with asyncio.timeout(30), Toolbox({"a": of(tiny)}) as toolbox:
            (first,) = servers()
            toolbox.tidy()
            toolbox.replace({"a": ()})
            assert not await eventually(lambda: servers() != [first], within_s=0.5)
            toolbox.tidy()
            assert await eventually(lambda: servers() == [])
            toolbox.replace({"a": ()})
            assert not await eventually(servers, within_s=0.5)
            toolbox.replace({"a": of(tiny)})
            assert await eventually(lambda: names(toolbox, "a"))
            assert len(servers()) == 1

    asyncio.run(main())


@pytest.mark.integration
def test_packages_of_the_extra_are_loaded_only_where_tools_need_them(
    module: dict[str, Any],
) -> None:
    code = f"""
import sys
import opusagent.server
from opusagent.models.agent import PythonTools
from opusagent.tools.toolbox import Toolbox
Toolbox({{"a": [PythonTools(type="python", module={module["module"]!r})]}})
print(sorted({{"httpx", "httpx2", "mcp"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
