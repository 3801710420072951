"""The command `opusagent`: `serve` goes without the libraries of the command line, all else is `cli`."""

from __future__ import annotations

import sys

from opusagent.config import load
from opusagent.footprint import without
from opusagent.running import ended, run, serve_flags

__all__ = ["main"]


def main() -> int:
    """Run the command line; returns the exit code. Without a verb the bridge is served."""
    given = serve_flags(sys.argv[1:])
    if given is None:
        from opusagent.cli import main as other

        return other(sys.argv[1:])
    file, flags = given
    with without("rich"):  # 4 MB: structlog draws tracebacks with it, and a log of JSON holds none
        from opusagent.serving import serve
    return ended("serve", lambda: run(serve(load(flags, file=file))))


if __name__ == "__main__":
    raise SystemExit(main())
