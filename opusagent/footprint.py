"""Less memory for a process that stays: imports put off, what imports leave behind given back.

Measured on `serve`: 83 MB resident after a plain start, of which 8 were the SDK's second HTTP client
and 18 what glibc kept of memory that was free already.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib.util
import mmap
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

__all__ = ["ProgramFiles", "defer", "holdings", "keep_small", "release", "settle", "without"]

TIDY_EVERY_S: Final = 4.0

_loading = threading.RLock()

_MAPPING: Final = re.compile(
    r"^(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) r-(?P<runs>[-x])p [0-9a-f]+ \S+ [1-9]\d* +(?P<file>.*)\n"
    r"(?:^[A-Z]\w+:.*\n)*?^Anonymous: +0 kB\n(?:^[A-Z]\w+:.*\n)*?^Swap: +0 kB$",
    re.MULTILINE,
)
"""A mapping in `/proc/self/smaps` of a file, not writable, whose every page stands in its file as it is."""


class _Deferred(ModuleType):
    """A module whose body runs when somebody first looks for something in it."""

    def __getattr__(self, name: str) -> Any:
        """Run the body; only a name that is not there yet comes here."""
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)  # the import system's questions are no use of the module
        with _loading:
            if self.__class__ is _Deferred:
                cast("ModuleType", self).__class__ = ModuleType
                spec = self.__spec__
                assert spec is not None
                assert spec.loader is not None
                if spec.submodule_search_locations is not None:
                    self.__path__ = spec.submodule_search_locations
                spec.loader.exec_module(self)
        return getattr(self, name)


def defer(name: str) -> None:
    """Let `import name` cost nothing until the module is used; without effect if it is loaded or missing.

    For modules that a library imports and this program never needs. (`importlib.util.LazyLoader` does
    not serve: a second `import` statement already counts as use there.)
    """
    if name in sys.modules or (spec := importlib.util.find_spec(name)) is None:
        return
    module = importlib.util.module_from_spec(spec)
    with contextlib.suppress(AttributeError):
        del module.__path__  # to import a submodule is a use, and asks for this first
    module.__class__ = _Deferred
    sys.modules[name] = module


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """Let `import name` fail within the block, for libraries that use what they happen to find.

    Without effect if it is loaded.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "not there"
    try:
        yield
    finally:
        del sys.modules[name]


def settle() -> ProgramFiles:
    """Call once when all is imported: what is there now stays, and free memory goes back to the system.

    The collector passes over frozen objects from then on: a full collection of the imported modules
    takes some 50 ms, in which no call's audio moves.
    """
    gc.collect()
    gc.freeze()
    _trim()
    files = ProgramFiles()
    files.let_go()
    return files


def release() -> None:
    """Give back what finished calls have left; takes some milliseconds, so not while there are others.

    Without it glibc keeps most of it: measured 8 MB more after each 50 calls at once than before.
    """
    gc.collect()
    _trim()


class ProgramFiles:
    """The program and the libraries that are loaded now, where they lie in memory as they stand in their files.

    Only those that are loaded when this is made: they stay where they are, while what is loaded later may
    be in the middle of being linked.
    """

    def __init__(self) -> None:
        """Find them; none where the system does not tell (not Linux)."""
        found: list[re.Match[str]] = []
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found = list(_MAPPING.finditer(Path("/proc/self/smaps").read_text()))
        programs = {one["file"] for one in found if one["runs"] == "x"}
        self._ranges = [
            (int(one["start"], 16), int(one["end"], 16)) for one in found if one["file"] in programs
        ]

    def let_go(self) -> None:
        """Unmap what was read of them: most of it only the start of a process, or of a call, needs.

        What is used again comes back from the system's cache, a microsecond each time. Takes some
        milliseconds in the system: while there are calls, in a thread.
        """
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            for start, end in self._ranges:
                libc.madvise(
                    ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED
                )


async def keep_small(
    busy: Callable[[], bool], tidy: Callable[[], None], *, every_s: float = TIDY_EVERY_S
) -> None:
    """Give back, until cancelled, what only the beginnings of calls read of program files.

    Measured with 25 calls: 4 MB less resident.

    Args:
        busy: Whether there are calls; where there are none, nothing is read.
        tidy: What gives it back; called in a thread.
        every_s: How often, in seconds.
    """
    never = asyncio.Event()
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_s):
                await never.wait()
        if busy():
            with contextlib.suppress(RuntimeError):  # no thread to be had: another time
                await asyncio.to_thread(tidy)


def _trim() -> None:
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def holdings() -> dict[str, int]:
    """What this process holds now: tasks of the running event loop, threads, file descriptors.

    Where the system does not list them (not Linux), threads are those that Python knows, and files are
    left out.
    """
    held = {"tasks": len(asyncio.all_tasks()), "threads": threading.active_count()}
    with contextlib.suppress(OSError):
        held["threads"] = sum(1 for _ in Path("/proc/self/task").iterdir())
        held["fds"] = (
            sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1
        )  # the listing itself is one
    return held
