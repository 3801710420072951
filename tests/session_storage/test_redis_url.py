from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opusagent.errors import ConfigError
from opusagent.session_storage.redis_url import RedisMode, RedisTarget, parse_redis_url

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (
            "redis://localhost",
            RedisTarget(mode=RedisMode.SINGLE, addresses=(("localhost", 6379),)),
        ),
        (
            "rediss://user:p%40ss%2F@[::1]:7000/5?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
            RedisTarget(
                mode=RedisMode.SINGLE,
                addresses=(("::1", 7000),),
                db=5,
                username="user",
                password="p@ss/",
                tls=True,
                tls_options=(("ssl_ca_certs", "/ca.pem"), ("ssl_cert_reqs", "none")),
            ),
        ),
        (
            "redis+sentinel://:pw@h1:26379,h2,[::2]:5/calls/3?sentinel_password=other",
            RedisTarget(
                mode=RedisMode.SENTINEL,
                addresses=(("h1", 26379), ("h2", 26379), ("::2", 5)),
                service="calls",
                db=3,
                password="pw",
                sentinel_password="other",
            ),
        ),
        (
            "redis+sentinel://h1/calls",
            RedisTarget(mode=RedisMode.SENTINEL, addresses=(("h1", 26379),), service="calls"),
        ),
        (
            "rediss+cluster://h:6380,i",
            RedisTarget(mode=RedisMode.CLUSTER, addresses=(("h", 6380), ("i", 6379)), tls=True),
        ),
        (
            "redis+cluster://h:6380/0",
            RedisTarget(mode=RedisMode.CLUSTER, addresses=(("h", 6380),)),
        ),
        (
            "rediss+sentinel://h/s/1",
            RedisTarget(
                mode=RedisMode.SENTINEL, addresses=(("h", 26379),), service="s", db=1, tls=True
            ),
        ),
    ],
)
def test_a_url_names_its_target(url: str, target: RedisTarget) -> None:
    assert parse_redis_url(url) == target


def test_password_and_database_fill_in_what_the_url_leaves_out() -> None:
    filled = parse_redis_url("redis://h", password="pw", db=4)
    assert (filled.password, filled.db) == ("pw", 4)
    own = parse_redis_url("redis://:own@h/2", password="pw", db=4)
    assert (own.password, own.db) == ("own", 2)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must begin with"),
        ("localhost:6379", "must begin with"),
        ("http://h", "redis\\+sentinel://"),
        ("redis://", "host"),
        ("redis://h:0", "port of h"),
        ("redis://h:99999", "port of h"),
        ("redis://h:x", "port of h"),
        ("redis://::1", "brackets"),
        ("redis://h,i", "several hosts"),
        ("redis://h/x", "database must be a number"),
        ("redis://h/1/2", "too many parts"),
        ("redis://h?db=1", "option 'db'"),
        ("redis://h?ssl_ca_certs=x", "option 'ssl_ca_certs'"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("redis+sentinel://h", "SERVICE"),
        ("redis+cluster://h/1", "database 0"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_in_words(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^REDIS_URL: .*{why}"):
        parse_redis_url(url)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@h:x",
        f"redis://:{SECRET}/more@h",
        f"redis://:{SECRET}?more@h",
        f"redis://:more/{SECRET}@h",
        f"redis://:more?{SECRET}@h",
        f"redis://:{SECRET}@h,i",
        f"redis+cluster://:{SECRET}@h/7",
        f"http://:{SECRET}@h",
        f"{SECRET}",
        f"redis+sentinel://:{SECRET}@h",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_redis_url(url)
    assert SECRET not in str(caught.value)


def test_the_text_of_a_target_shows_where_but_not_the_password() -> None:
    url = f"rediss+sentinel://user:{SECRET}@h:1,[::1]:2/calls/3?sentinel_password={SECRET}x"
    target = parse_redis_url(url)
    assert str(target) == "rediss+sentinel://h:1,[::1]:2/calls/3"
    assert SECRET not in repr(target)


@given(st.text(max_size=40) | st.text("redis+cluntl:/@,?[]0123456789.", max_size=40))
def test_any_text_is_a_target_or_an_error_in_words(text: str) -> None:
    for start in ("", "redis://", "rediss+sentinel://", "redis+cluster://"):
        with contextlib.suppress(ConfigError):
            assert parse_redis_url(start + text).addresses
