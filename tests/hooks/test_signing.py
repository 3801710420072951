from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from opusagent.hooks.signing import BadSignature, headers_of, verify
from opusagent.setting_types import signing_key

SECRET = "a secret of some length"
BODY = b'{"type":"turn"}'
HEADERS = headers_of(signing_key(SECRET), "e-1", 1_000, BODY)


def test_a_delivery_is_signed_by_id_time_and_body() -> None:
    signed = hmac.new(SECRET.encode(), b'e-1.1000.{"type":"turn"}', hashlib.sha256).digest()
    expected = {
        "webhook-id": "e-1",
        "webhook-timestamp": "1000",
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
    assert expected == HEADERS


def test_the_example_of_the_standard_has_its_signature() -> None:
    """Of the public reference libraries of standardwebhooks.com."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    headers = headers_of(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("now", [1_000.0, 1_299.9, 700.1])
def test_a_receiver_takes_what_is_ours_and_new(now: float) -> None:
    verify(SECRET, HEADERS, BODY, now=now)
    verify(SECRET, {name.title(): value for name, value in HEADERS.items()}, BODY, now=now)
    rotated = HEADERS | {"webhook-signature": f"v1,AAAA {HEADERS['webhook-signature']}"}
    verify(SECRET, rotated, BODY, now=now)


@pytest.mark.parametrize(
    "changed",
    [
        {"headers": HEADERS | {"webhook-id": "e-2"}},
        {"headers": HEADERS | {"webhook-timestamp": "1001"}},
        {"headers": HEADERS | {"webhook-timestamp": "soon"}},
        {"headers": HEADERS | {"webhook-signature": "v1,AAAA"}},
        {"headers": HEADERS | {"webhook-timestamp": "9" * 400}},
        {"headers": HEADERS | {"webhook-timestamp": "9" * 5_000}},
        {"headers": HEADERS | {"webhook-signature": "é"}},
        {"headers": HEADERS | {"webhook-signature": "v1,\udce9"}},
        {"headers": HEADERS | {"webhook-id": "\udce9"}},
        {"headers": {}},
        {"body": BODY + b" "},
        {"secret": "another secret, just as long"},
        {"now": 1_301.0},
        {"now": 699.0},
    ],
)
def test_a_receiver_takes_nothing_else(changed: dict[str, object]) -> None:
    given = {"secret": SECRET, "headers": HEADERS, "body": BODY, "now": 1_000.0} | changed
    with pytest.raises(BadSignature):
        verify(given["secret"], given["headers"], given["body"], now=given["now"])  # type: ignore[arg-type]
