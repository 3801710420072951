"""What the system knows of a process: processor time, memory, threads, files. Linux only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Memory", "busy_s", "cpu_s", "files", "memory", "stolen_s", "threads"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_BUSY: Final = (0, 1, 2, 5, 6)  # of /proc/stat: user, nice, system, irq, softirq
_STOLEN: Final = 7


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process in MB (10^6 bytes).

    Attributes:
        resident: All that is in memory, shared libraries and files among it.
        proportional: The same, with what is shared divided among those who share it.
        anonymous: What is the process's own and stands in no file.
    """

    resident: float
    proportional: float
    anonymous: float


def memory(pid: int) -> Memory:
    """The memory of a process now."""
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, kibibytes, *_ = line.split()
        found[name] = round(int(kibibytes) * 1024 / 1e6, 1)
    return Memory(found["Rss:"], found["Pss:"], found["Anonymous:"])


def cpu_s(pid: int) -> float:
    """Processor time of all threads of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_s() -> float:
    """Processor time of everything on this machine so far, in seconds."""
    return sum(_machine_s()[number] for number in _BUSY)


def stolen_s() -> float:
    """Processor time so far that this machine wanted and its host gave to others, in seconds."""
    return _machine_s()[_STOLEN]


def threads(pid: int) -> int:
    """How many threads a process has, native ones among them."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def files(pid: int) -> int:
    """How many file descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _machine_s() -> list[float]:
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return [int(field) / _TICKS for field in fields]
