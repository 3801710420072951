"""Signatures of webhooks, as https://www.standardwebhooks.com describes them.

webhook-id         of the event; the same when it is delivered again
webhook-timestamp  seconds since 1970 of this attempt
webhook-signature  v1,BASE64 of the HMAC-SHA256 of `ID.TIMESTAMP.BODY` under the secret
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final

from opusagent.setting_types import signing_key

__all__ = ["TOLERANCE_S", "BadSignature", "headers_of", "verify"]

_SECONDS: Final = re.compile(r"[0-9]{1,12}")
TOLERANCE_S: Final = 300.0
"""How old, or how far ahead, a delivery may be for its receiver."""


class BadSignature(ValueError):
    """A delivery that is not from us, or too old."""


def headers_of(key: bytes, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that sign a delivery.

    Args:
        key: As `signing_key` gives it.
        event_id: Of the event.
        timestamp: Seconds since 1970.
        body: As it is sent.
    """
    signature = f"v1,{_digest(key, event_id, str(timestamp), body)}"
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance_s: float = TOLERANCE_S,
) -> None:
    """See that a delivery is ours; for receivers written in Python.

    Args:
        secret: `WEBHOOK_SECRET`.
        headers: Of the request, in any case.
        body: Of the request, byte for byte.
        now: Seconds since 1970.
        tolerance_s: How old it may be.

    Raises:
        BadSignature: If it is not.
    """
    given = {name.lower(): value for name, value in headers.items()}
    event_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not _SECONDS.fullmatch(timestamp) or abs(now - int(timestamp)) > tolerance_s:
        raise BadSignature("the timestamp is missing, too old or ahead")
    expected = f"v1,{_digest(signing_key(secret), event_id, timestamp, body)}".encode()
    signatures = given.get("webhook-signature", "").split()
    if not any(hmac.compare_digest(expected, _bytes(one)) for one in signatures):
        raise BadSignature("the signature is wrong")


def _bytes(text: str) -> bytes:
    """A header as bytes, whatever a server has made a text of."""
    return text.encode(errors="surrogatepass")


def _digest(key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join((_bytes(event_id), timestamp.encode(), body))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
