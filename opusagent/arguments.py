"""What the command line is given, looked at before anything begins.

Each check is a typer callback: it returns the value, or says in one line what is wrong with it; the
option's name is put in front by typer.
"""

from __future__ import annotations

import math
import ssl
import tempfile
from pathlib import Path

import typer
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from opusagent.audio.formats import MediaFormat
from opusagent.errors import ConfigError

__all__ = [
    "call_counts",
    "certificates",
    "formats",
    "keys",
    "more_than_zero",
    "websocket_url",
    "writable_file",
    "writable_folder",
]

_KEYS = frozenset("0123456789ABCD*#")


def writable_file[P: Path | None](path: P) -> P:
    """A file that can be written; it is as before, and not there if it was not."""
    if path is not None:
        was_there = path.exists()
        try:
            with path.open("ab"):
                pass
            if not was_there:
                path.unlink()
        except OSError as error:
            raise typer.BadParameter(f"{path}: {error.strerror}") from error
    return path


def writable_folder[P: Path | None](path: P) -> P:
    """A folder that files can be written into; made where it is missing."""
    if path is not None:
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise typer.BadParameter(f"{path}: {error.strerror}") from error
    return path


def certificates[P: Path | None](path: P) -> P:
    """A PEM file with certificates to trust."""
    if path is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except ssl.SSLError:
            raise typer.BadParameter(f"{path}: holds no certificates (PEM)") from None
        except OSError as error:
            raise typer.BadParameter(f"{path}: {error.strerror}") from error
    return path


def websocket_url(url: str) -> str:
    """A URL that a websocket can be opened to."""
    try:
        parse_uri(url)
    except (InvalidURI, ValueError) as error:
        raise typer.BadParameter(f"{error}; must be ws://HOST[:PORT] or wss://HOST") from error
    return url


def keys(digits: str) -> str:
    """Keys of a telephone, letters in upper case."""
    pressed = digits.upper()
    if foreign := sorted(set(pressed) - _KEYS):
        raise typer.BadParameter(f"{''.join(foreign)!r}: keys are 0 to 9, A to D, * and #")
    return pressed


def formats(names: list[str] | None) -> list[str] | None:
    """Media formats of the Bot API."""
    for name in names or ():
        if name not in MediaFormat:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(MediaFormat)}")
    return names


def more_than_zero(number: float) -> float:
    """A number above 0 that is not endless."""
    if not 0 < number < math.inf:
        raise typer.BadParameter(f"{number:g}: must be more than 0, and not endless")
    return number


def call_counts(text: str) -> list[int]:
    """Numbers of calls such as `1,10,25`.

    Raises:
        ConfigError: If it is no list of numbers from 1 on.
    """
    try:
        counts = [int(number) for number in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ConfigError(f"--calls: {text!r} is no list of numbers from 1 on, such as 1,10,25")
    return counts
