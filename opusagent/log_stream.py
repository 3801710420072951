"""Where log lines go: what cannot be written is lost, and nothing else."""

from __future__ import annotations

import contextlib
import io
from typing import TextIO

__all__ = ["LossyStream"]


class LossyStream(io.TextIOBase):
    """Writes to `out`. A full disk or a reader that has gone costs lines, not the call that writes them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        """Write, if that can be done."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._out.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what waits, if that can be done."""
        with contextlib.suppress(OSError, ValueError):
            self._out.flush()
