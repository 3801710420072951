"""`REDIS_URL` as a typed value.

    redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]
    redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],HOST[:PORT]/SERVICE[/DB]
    redis+cluster://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]]

`rediss`, `rediss+sentinel` and `rediss+cluster` are the same over TLS. User and password may be
percent-encoded. After a `?` may stand `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (PEM files),
`ssl_cert_reqs` (`required` or `none`), and `sentinel_username`, `sentinel_password`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

from opusagent.errors import ConfigError

__all__ = ["Address", "RedisMode", "RedisTarget", "parse_redis_url"]

type Address = tuple[str, int]

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379


class RedisMode(enum.StrEnum):
    """How the servers stand together."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES: Final = {
    f"redis{tls}{suffix}": (mode, bool(tls))
    for suffix, mode in (
        ("", RedisMode.SINGLE),
        ("+sentinel", RedisMode.SENTINEL),
        ("+cluster", RedisMode.CLUSTER),
    )
    for tls in ("", "s")
}
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTarget:
    """Where sessions are stored, and how to get in. Its text shows no password.

    Attributes:
        mode: Of the servers.
        addresses: Of the server, of the Sentinels, or of cluster nodes to begin with.
        service: Sentinel's name for the servers; else empty.
        db: Number of the database; 0 in a cluster.
        username: Empty where there is none.
        password: Empty where there is none.
        tls: Whether to speak TLS, to Sentinels too.
        tls_options: redis-py's arguments `ssl_*`.
        sentinel_username: Of the Sentinels themselves.
        sentinel_password: Of the Sentinels themselves.
    """

    mode: RedisMode
    addresses: tuple[Address, ...]
    service: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    tls_options: tuple[tuple[str, str], ...] = ()
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)

    def __str__(self) -> str:
        scheme = next(name for name, kind in _SCHEMES.items() if kind == (self.mode, self.tls))
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.addresses
        )
        path = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{path}" + (f"/{self.db}" if self.db else "")


def parse_redis_url(url: str, *, password: str = "", db: int = 0) -> RedisTarget:
    """The target that a URL names; `password` and `db` fill in what it leaves out.

    Raises:
        ConfigError: If it is none. The message says what is wrong and never shows a password.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in _SCHEMES:
        raise _wrong(f"must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}")
    mode, tls = _SCHEMES[scheme]
    rest, _, query = rest.partition("?")
    where, _, path = rest.partition("/")
    if "@" in path or "@" in query:
        raise _wrong("a / or ? in a user name or password must be percent-encoded")
    credentials, _, hosts = where.rpartition("@")
    username, _, url_password = credentials.partition(":")
    service, url_db = _path(mode, path)
    options = _options(query, mode=mode, tls=tls)
    number = db if url_db is None else url_db
    if mode is RedisMode.CLUSTER and number:
        raise _wrong("a cluster has database 0 only")
    return RedisTarget(
        mode=mode,
        addresses=_addresses(hosts, mode),
        service=service,
        db=number,
        username=unquote(username),
        password=unquote(url_password) or password,
        tls=tls,
        tls_options=tuple((name, options[name]) for name in _TLS_OPTIONS if name in options),
        sentinel_username=options.get("sentinel_username", ""),
        sentinel_password=options.get("sentinel_password", ""),
    )


def _path(mode: RedisMode, path: str) -> tuple[str, int | None]:
    parts = [unquote(part) for part in path.split("/") if part]
    service = ""
    if mode is RedisMode.SENTINEL:
        if not parts:
            raise _wrong("must name the service: redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB")
        service = parts.pop(0)
    if len(parts) > 1:
        raise _wrong("has too many parts after the host")
    if not parts:
        return service, None
    if not parts[0].isascii() or not parts[0].isdigit():
        raise _wrong(f"the database must be a number, not {parts[0]!r}")
    return service, int(parts[0])


def _addresses(text: str, mode: RedisMode) -> tuple[Address, ...]:
    default = SENTINEL_PORT if mode is RedisMode.SENTINEL else REDIS_PORT
    found = tuple(_address(part, default) for part in text.split(","))
    if mode is RedisMode.SINGLE and len(found) > 1:
        raise _wrong("names several hosts: write redis+sentinel:// or redis+cluster://")
    return found


def _address(text: str, default: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default)
    host = host.removeprefix("[").removesuffix("]")
    if not host or "[" in host or (":" in host and not text.startswith("[")):
        raise _wrong("has a host that is not HOST[:PORT] (an IPv6 address stands in brackets)")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise _wrong(f"the port of {host} must be a number from 1 to 65535")
    return host, int(port)


def _options(query: str, *, mode: RedisMode, tls: bool) -> dict[str, str]:
    allowed = (_TLS_OPTIONS if tls else ()) + (
        _SENTINEL_OPTIONS if mode is RedisMode.SENTINEL else ()
    )
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise _wrong(f"does not know the option {name!r} here; allowed: {known}")
    if options.get("ssl_cert_reqs", "required") not in ("required", "none"):
        raise _wrong("ssl_cert_reqs must be required or none")
    return options


def _wrong(why: str) -> ConfigError:
    return ConfigError(f"REDIS_URL: {why}")
