"""Addresses and headers of requests, checked before the first of them is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from opusagent.errors import ConfigError

__all__ = ["check_address", "check_headers"]

_HEAD: Final = re.compile(r"https?://[^/?#\s]+([/?#].*)?", re.DOTALL)
_IN_NO_ADDRESS: Final = re.compile(r"[\x00-\x1f\x7f]")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_TEXT: Final = re.compile(r"[\x20-\x7e]*")


def check_address(url: str) -> None:
    """See that requests can be sent there.

    Raises:
        ConfigError: If not, whatever answers.
    """
    if not _HEAD.fullmatch(url):
        raise ConfigError("must begin with http://HOST/ or https://HOST/, without arguments in it")
    if _IN_NO_ADDRESS.search(url):
        raise ConfigError(
            "has a control character, which no address may have: a line break, perhaps"
        )
    try:
        urlsplit(url).port  # noqa: B018 - it is read only now
    except ValueError as error:
        raise ConfigError(f"leads nowhere: {error}") from None


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as they can be sent: a text ends where its last letter ends, as in a secret that was mounted.

    Raises:
        ConfigError: If one cannot; names it.
    """
    sent = {name: text.strip() for name, text in headers.items()}
    for name, text in sent.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of a header")
        if not _HEADER_TEXT.fullmatch(text):
            raise ConfigError(f"{name}: has a character that no header may have")
    return sent
