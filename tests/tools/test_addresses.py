from __future__ import annotations

import pytest

from opusagent.errors import ConfigError
from opusagent.tools.addresses import check_address, check_headers


@pytest.mark.parametrize(
    "url",
    [
        "http://shop",
        "https://shop.example:8443/a?b=c#d",
        "http://[::1]:80/",
        "https://müller.example/ü?q=New York",
    ],
)
def test_an_address_that_can_be_asked_is_taken(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("shop.example/mcp", "must begin with http"),
        ("http:///mcp", "must begin with http"),
        ("http://shop.example/a\n", "has a control character"),
        ("http://shop.example:port/", "leads nowhere: Port could not be cast"),
        ("http://shop.example:99999/", "leads nowhere: Port out of range"),
        ("http://[::1/", "leads nowhere: Invalid IPv6 URL"),
    ],
)
def test_one_that_cannot_is_refused_with_the_reason(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_address(url)


def test_a_header_ends_where_its_text_ends() -> None:
    given = {"Authorization": " Bearer secret\n", "X-Empty": ""}
    assert check_headers(given) == {"Authorization": "Bearer secret", "X-Empty": ""}


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"A B": "x"}, "^'A B' is no name of a header"),
        ({"A": "secret\nB: x"}, "^A: has a character that no header may have$"),
        ({"A": "secrét"}, "^A: has a character that no header may have$"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_headers(headers)
