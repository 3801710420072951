"""Kinds of values that settings have, each with what is wrong with one in words."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr
from pydantic_settings import NoDecode

__all__ = [
    "LOOPBACK",
    "Functions",
    "Mounted",
    "SigningSecret",
    "Token",
    "Tokens",
    "WebhookUrl",
    "https",
    "lower",
    "one_worker",
    "signing_key",
    "upper",
]

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Hosts that only this machine reaches."""

_FUNCTION: Final = re.compile(r"[^:\s]+:[A-Za-z_]\w*")


def upper(value: object) -> object:
    """A text in upper case; anything else as it is."""
    return value.upper() if isinstance(value, str) else value


def lower(value: object) -> object:
    """A text in lower case; anything else as it is."""
    return value.lower() if isinstance(value, str) else value


def one_worker(count: int) -> int:
    """Only one. Raises `ValueError`, as all here."""
    if count != 1:
        raise ValueError("only 1: several workers on one port are not built; run several processes")
    return count


def _is_place(parts: SplitResult) -> bool:
    """Whether a connection could be tried to this host and port, if there is such a host."""
    try:
        return bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # a port that is none, or a name that no name server can be asked for
        return False


def https(url: str) -> str:
    """An `https://` address without a path's last slash."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not _is_place(parts) or "@" in parts.netloc:
        raise ValueError("must be https://HOST[:PORT], because the stream is HTTP/2 over TLS")
    return url.rstrip("/")


def _bearer(token: SecretStr) -> SecretStr:
    text = token.get_secret_value().strip()
    if not text:
        raise ValueError("must not be blank")
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII: nothing else matches in an HTTP header")
    return SecretStr(text)


type Token = Annotated[SecretStr, AfterValidator(_bearer)]
"""Of an `Authorization: Bearer` header. Without the spaces around it: a secret that is mounted as a file
often ends with a newline, and no header does."""


def _unwrapped(secret: SecretStr) -> SecretStr:
    return SecretStr(secret.get_secret_value().rstrip("\r\n"))


type Mounted = Annotated[SecretStr, AfterValidator(_unwrapped)]
"""A secret without the newline at its end, which one that is mounted as a file often has."""


def _pairs(value: object) -> object:
    """`name=token,name2=token2` as a dict; a name ends at the first `=`. Never says a token."""
    if not isinstance(value, str):
        return value
    tokens: dict[str, str] = {}
    for position, pair in enumerate(filter(None, map(str.strip, value.split(","))), start=1):
        name, equals, token = pair.partition("=")
        if not (name := name.strip()) or not equals or not (token := token.strip()):
            raise ValueError(f"pair {position} is not name=token; pairs are separated by commas")
        if name in tokens:
            raise ValueError(f"the name {name!r} stands there twice")
        tokens[name] = token
    return tokens


type Tokens = Annotated[
    Mapping[str, Token],
    NoDecode,
    BeforeValidator(_pairs),
    PlainSerializer(list, return_type=list[str]),
]


def _listed(value: object) -> object:
    """`a, b` as a list."""
    if not isinstance(value, str):
        return value
    return [part for part in map(str.strip, value.split(",")) if part]


def _functions(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _FUNCTION.fullmatch(name):
            raise ValueError(f"{name!r} is not module:function, or FILE.py:function")
    return names


type Functions = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_functions)
]


def _receiver(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    wants = ("https", "http") if parts.hostname in LOOPBACK else ("https",)
    if parts.scheme not in wants or not _is_place(parts) or "@" in parts.netloc:
        raise ValueError(
            "must be https://HOST[:PORT]/PATH without a password; http:// on this machine only"
        )
    return url


type WebhookUrl = Annotated[Mounted, AfterValidator(_receiver)]
"""Secret, because many have a token in their path."""


def signing_key(secret: str) -> bytes:
    """The bytes of a secret: `whsec_` is followed by base64, any other text is itself.

    Raises:
        ValueError: If it is too short, or not base64.
    """
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise ValueError("what follows whsec_ is not base64") from None
    if len(key) < 16:
        raise ValueError("must have 16 characters or more")
    return key


def _signing(secret: SecretStr) -> SecretStr:
    signing_key(secret.get_secret_value())
    return secret


type SigningSecret = Annotated[Mounted, AfterValidator(_signing)]
