"""The certificate that `wss://` is served with; a renewed one is used without a restart."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from opusagent.errors import ConfigError

__all__ = ["server_tls"]

_log = structlog.get_logger("opusagent.certificate")


def server_tls(cert: Path, key: Path | None) -> ssl.SSLContext:
    """What a server that has these files listens with. Each handshake takes them as they are then.

    Where they cannot be used any more, it takes them as they were, and the log says so once.

    Raises:
        ConfigError: If they cannot be used now.
    """
    files = _Files(cert, key)
    context = files.context

    def choose(connection: ssl.SSLSocket | ssl.SSLObject, _name: object, _asked: object) -> None:
        connection.context = files.newest()

    context.sni_callback = choose  # called without a name, too (OpenSSL 3, measured)
    return context


class _Files:
    """A chain, its key, and what was last made of them."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._cert = cert
        self._key = key
        self._stamps = self._look()
        self.context = _loaded(cert, key)

    def newest(self) -> ssl.SSLContext:
        """Made anew where the files have changed; some 10 us where not."""
        if (stamps := self._look()) != self._stamps:
            self._stamps = stamps
            try:
                self.context = _loaded(self._cert, self._key)
            except ConfigError as error:  # half of a renewal, perhaps: the key comes next
                _log.warning("certificate not renewed", problem=str(error))
            else:
                _log.info("certificate renewed", file=str(self._cert))
        return self.context

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._cert, self._key) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _loaded(cert: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    place = f"BRIDGE_TLS_CERT, BRIDGE_TLS_KEY: {cert}, {key}"
    try:
        context.load_cert_chain(cert, key, password=lambda: "")  # without it OpenSSL asks a person
    except ssl.SSLError as error:
        is_other = error.reason == "KEY_VALUES_MISMATCH"
        why = "the key is another one's" if is_other else "no PEM, or the key has a pass phrase"
        raise ConfigError(f"{place}: {why}") from error
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read: {error.strerror}") from error
    return context
