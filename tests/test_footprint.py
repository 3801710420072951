import asyncio
import gc
import importlib
import platform
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from opusagent.footprint import defer, holdings, keep_small, release, without


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lazy_fruit"
    folder.mkdir()
    (folder / "__init__.py").write_text("from lazy_fruit.core import APPLE\n")
    (folder / "core.py").write_text("APPLE = 'apple'\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("lazy_fruit", "lazy_fruit.core"):
        sys.modules.pop(name, None)
    return folder


def loaded() -> bool:
    return "lazy_fruit.core" in sys.modules


def test_a_deferred_module_runs_when_something_is_looked_up_in_it_and_not_when_imported(
    package: Path,
) -> None:
    defer("lazy_fruit")
    import lazy_fruit  # type: ignore[import-not-found]  # noqa: PLC0415

    assert not loaded()
    assert lazy_fruit.APPLE == "apple"
    assert loaded()


def test_a_module_inside_a_deferred_one_can_be_imported(package: Path) -> None:
    defer("lazy_fruit")
    from lazy_fruit import core  # noqa: PLC0415

    assert core.APPLE == "apple"
    assert sys.modules["lazy_fruit"].core is core


def test_a_name_that_a_deferred_module_lacks_is_an_attribute_error(package: Path) -> None:
    defer("lazy_fruit")
    import lazy_fruit  # noqa: PLC0415

    with pytest.raises(AttributeError, match="PEAR"):
        _ = lazy_fruit.PEAR


def test_deferring_what_is_loaded_or_missing_does_nothing() -> None:
    asyncio_module = sys.modules["asyncio"]
    defer("asyncio")
    defer("no_module_of_this_name")
    assert sys.modules["asyncio"] is asyncio_module
    assert "no_module_of_this_name" not in sys.modules


def test_what_a_process_holds_is_counted() -> None:
    async def look() -> tuple[dict[str, int], dict[str, int]]:
        before = holdings()
        one, other = socket.socketpair()
        with one, other:
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(asyncio.Event().wait())
                within = holdings()
                waiting.cancel()
        return before, within

    before, within = asyncio.run(look())
    assert within["tasks"] == before["tasks"] + 1
    assert within["fds"] == before["fds"] + 2
    assert within["threads"] >= 1


@pytest.mark.integration
def test_the_sdks_other_http_client_is_not_loaded_with_the_bridge() -> None:
    words = "import opusagent.serving, sys; print('aiohttp.client' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


def test_what_only_the_collector_can_free_is_freed_at_rest() -> None:
    class Ring:
        def __init__(self) -> None:
            self.itself = self

    gc.disable()
    try:
        gone = weakref.ref(Ring())
        assert gone() is not None
        release()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.integration
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is free")
def test_free_memory_goes_back_to_the_system_at_rest() -> None:
    words = """
from pathlib import Path
from opusagent.footprint import release

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

blocks = [bytes(1000) for _ in range(100_000)]
del blocks[:-1]  # the last one lies on top and pins the rest
before = resident_mb()
release()
print(before - resident_mb())
"""
    found = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True
    )
    assert float(found.stdout) > 50


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is mapped")
def test_what_only_the_start_read_of_program_files_is_let_go_and_comes_back_when_it_is_used() -> (
    None
):
    words = """
import re
import ssl
from pathlib import Path
from opusagent.footprint import settle

def of_files_mb():
    text = Path("/proc/self/smaps_rollup").read_text()
    all_kb, own_kb = (int(re.search(rf"{name}: +([0-9]+)", text)[1]) for name in ("Rss", "Anonymous"))
    return (all_kb - own_kb) * 1024 / 1e6

before = of_files_mb()
settle()
print(before - of_files_mb())
assert ssl.create_default_context().get_ciphers()
"""
    found = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True
    )
    assert float(found.stdout) > 3


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is mapped")
def test_files_that_are_no_programs_and_what_is_loaded_later_are_left_alone(tmp_path: Path) -> None:
    data, later = tmp_path / "data", tmp_path / "later"
    words = f"""
import mmap
import re
from pathlib import Path
from opusagent.footprint import ProgramFiles

def mapped(name, **how):
    file = Path(name)
    file.write_bytes(b"x" * 1_000_000)
    with file.open("rb") as stream:
        found = mmap.mmap(stream.fileno(), 0, flags=mmap.MAP_PRIVATE, **how)
    assert found[:].count(b"x") == 1_000_000
    return found

def resident_kb(name):
    return int(re.search(rf"{{name}}\\s+Size.*?Rss: +([0-9]+)", Path("/proc/self/smaps").read_text(), re.DOTALL)[1])

data = mapped("{data}", prot=mmap.PROT_READ)
files = ProgramFiles()
later = mapped("{later}", prot=mmap.PROT_READ | mmap.PROT_EXEC)
before = resident_kb("{data}"), resident_kb("{later}")
files.let_go()
assert (resident_kb("{data}"), resident_kb("{later}")) == before, before
ProgramFiles().let_go()
assert resident_kb("{data}") == before[0]
assert resident_kb("{later}") == 0
"""
    subprocess.run([sys.executable, "-c", words], check=True)


def test_program_files_are_let_go_again_and_again_while_there_are_calls_off_the_loops_thread() -> (
    None
):
    busy = False
    done: asyncio.Queue[threading.Thread] = asyncio.Queue()

    async def main() -> None:
        nonlocal busy
        loop = asyncio.get_running_loop()

        def tidy() -> None:
            loop.call_soon_threadsafe(done.put_nowait, threading.current_thread())

        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(keep_small(lambda: busy, tidy, every_s=0.01))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await done.get()
            busy = True
            for _ in range(3):
                assert await done.get() is not threading.main_thread()
            keeping.cancel()

    asyncio.run(main())


def test_a_module_can_be_kept_from_those_who_use_what_they_find(package: Path) -> None:
    with without("lazy_fruit"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("lazy_fruit")
    with without("asyncio"):
        assert importlib.import_module("asyncio") is asyncio
    assert importlib.import_module("lazy_fruit").APPLE == "apple"
