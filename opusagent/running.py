"""How a command runs and ends, without the libraries of the command line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from opusagent.config import Settings
from opusagent.errors import ConfigError, LocalProtocolError, OpusAgentError

__all__ = ["complain", "ended", "run", "serve_flags"]

EXIT_CHECK_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def ended(verb: str, command: Callable[[], int]) -> int:
    """Run a command; returns its exit code, or says in one line why it could not go on."""
    try:
        return command()
    except ConfigError as error:
        return complain(str(error))
    except LocalProtocolError:
        raise
    except OpusAgentError as error:  # a part that did not start, for example
        return complain(str(error), EXIT_CHECK_FAILED)
    except ModuleNotFoundError as error:
        if (error.name or "opusagent").partition(".")[0] == "opusagent":
            raise
        return complain(f"{verb} needs {error.name}: pip install 'opusagent[simulate]'")
    except (KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED


def complain(words: str, code: int = EXIT_USAGE) -> int:
    """Write the first line of `words` to standard error; returns `code`."""
    sys.stderr.write(f"{words.splitlines()[0] if words else 'failed'}\n")
    return code


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop, as in production."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def serve_flags(arguments: Sequence[str]) -> tuple[Path | None, dict[str, str | bool]] | None:
    """What `serve` is given, as typer reads it: the file of `--config`, and settings by field name.

    None if it is another verb, asks for help or holds a mistake: for typer to answer.
    """
    if arguments and not arguments[0].startswith("-") and arguments[0] != "serve":
        return None
    rest = iter(arguments[arguments[:1] == ["serve"] :])
    file: Path | None = None
    flags: dict[str, str | bool] = {}
    for argument in rest:
        flag, is_joined, value = argument.partition("=")
        name = flag[2:].replace("-", "_")
        switch = name.removeprefix("no_")
        if flag != "--" + name.replace("_", "-"):
            return None
        if name != "config" and _is_switch(switch) and not is_joined:
            flags[switch] = switch == name
            continue
        if name != "config" and (name not in Settings.model_fields or _is_switch(name)):
            return None
        if not is_joined and (value := next(rest, "--")) == "--":
            return None
        if name == "config":
            file = Path(value)
        else:
            flags[name] = value
    return file, flags


def _is_switch(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return field is not None and field.annotation is bool
