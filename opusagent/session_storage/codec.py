"""Documents as bytes: JSON, where asked compressed, where asked sealed.

The first bytes say what follows, so that settings may change while sessions are stored:

    {      JSON as it is
    OAz1   zlib of JSON
    OAe1   id of the key (8), nonce (12), AES-256-GCM of one of the two above

What was written without a key stays readable when keys are set, and is sealed by its next write.
The conversation's id is bound in: a record copied to another id does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import json
import os
import zlib
from collections.abc import Sequence
from typing import Any, Final

from opusagent.errors import ConfigError, SessionUnreadable
from opusagent.session_storage.envelope import json_of

__all__ = ["Codec", "parse_keys"]

_ZLIB: Final = b"OAz1"
_SEALED: Final = b"OAe1"
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
"""A compressed record that grows beyond this is taken for damage."""


def parse_keys(text: str) -> list[bytes]:
    """The keys of `SESSION_ENCRYPTION_KEYS`: 32 bytes each, base64, separated by commas.

    Raises:
        ConfigError: If one is not, which is named by its place, never quoted; or if there is none in a text.
    """
    keys = []
    for place, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        try:
            key = base64.b64decode(part.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _KEY_BYTES:
            raise ConfigError(
                f"SESSION_ENCRYPTION_KEYS: key {place} is not 32 bytes in base64"
                " (make one with: openssl rand -base64 32)"
            )
        keys.append(key)
    if text and not keys:
        raise ConfigError("SESSION_ENCRYPTION_KEYS: holds no key, so nothing would be encrypted")
    return keys


class Codec:
    """Turns documents into bytes and back.

    Args:
        compress: Whether to compress what is written.
        keys: Of 32 bytes each. The first one seals, all of them open; without any nothing is sealed.

    Raises:
        ConfigError: If there are keys, but nothing to use them with.
    """

    def __init__(self, *, compress: bool = False, keys: Sequence[bytes] = ()) -> None:
        self._compress = compress
        self._first = _id_of(keys[0]) if keys else b""
        self._ciphers: dict[bytes, Any] = {}
        self._broken: tuple[type[Exception], ...] = (ValueError,)
        if keys:
            aesgcm, invalid_tag = _cryptography()
            self._ciphers = {_id_of(key): aesgcm(key) for key in keys}
            self._broken = (ValueError, invalid_tag)

    def encode(self, conversation_id: str, document: dict[str, Any]) -> bytes:
        """The document as it is to be stored."""
        raw = json_of(document)
        if self._compress:
            raw = _ZLIB + zlib.compress(raw)
        if self._first:
            nonce = os.urandom(_NONCE_BYTES)
            bound = _SEALED + conversation_id.encode(errors="surrogatepass")
            sealed = self._ciphers[self._first].encrypt(nonce, raw, bound)
            raw = _SEALED + self._first + nonce + sealed
        return raw

    def decode(self, conversation_id: str, raw: bytes) -> dict[str, Any]:
        """The document that `encode` was given.

        Raises:
            SessionUnreadable: If the bytes are damaged, or sealed with a key that is not here.
        """
        if raw.startswith(_SEALED):
            raw = self._open(conversation_id, raw.removeprefix(_SEALED))
        try:
            if raw.startswith(_ZLIB):
                raw = _inflate(raw.removeprefix(_ZLIB))
            document = json.loads(raw)
        except (ValueError, zlib.error, RecursionError) as error:
            raise SessionUnreadable(type(error).__name__, damaged=True) from None
        if not isinstance(document, dict):
            raise SessionUnreadable("no JSON object", damaged=True)
        return document

    def _open(self, conversation_id: str, raw: bytes) -> bytes:
        key_id, rest = raw[:_ID_BYTES], raw[_ID_BYTES:]
        if (cipher := self._ciphers.get(key_id)) is None:
            raise SessionUnreadable(
                "sealed with a key that is not among SESSION_ENCRYPTION_KEYS", damaged=False
            )
        bound = _SEALED + conversation_id.encode(errors="surrogatepass")
        try:
            opened: bytes = cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], bound)
        except self._broken:
            raise SessionUnreadable("the seal is broken", damaged=True) from None
        return opened


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    raw = inflater.decompress(data, MAX_DOCUMENT_BYTES)
    if not inflater.eof:
        raise ValueError("cut off, or larger than a session can be")
    return raw


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"opusagent session key" + key).digest()[:_ID_BYTES]


def _cryptography() -> tuple[Any, type[Exception]]:
    try:
        aead = importlib.import_module("cryptography.hazmat.primitives.ciphers.aead")
        exceptions = importlib.import_module("cryptography.exceptions")
    except ImportError:
        raise ConfigError(
            "SESSION_ENCRYPTION_KEYS needs the extra `encryption`: pip install 'opusagent[encryption]'"
        ) from None
    return aead.AESGCM, exceptions.InvalidTag
