from __future__ import annotations

import errno
import io
from typing import override

from opusagent.log_stream import LossyStream


class Disk(io.StringIO):
    """A stream that is full at times."""

    is_full = False

    @override
    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)

    @override
    def flush(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_what_cannot_be_written_is_lost_and_what_comes_later_is_not() -> None:
    disk = Disk()
    stream = LossyStream(disk)
    stream.write("one\n")
    disk.is_full = True
    assert stream.write("two\n") == 4
    stream.flush()
    disk.is_full = False
    stream.write("three\n")
    assert disk.getvalue() == "one\nthree\n"
    disk.close()
    stream.write("four\n")
    stream.flush()
