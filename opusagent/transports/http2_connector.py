"""How an HTTP/2 connection of the AWS common runtime (CRT) begins: TCP, TLS, and an `Exchange` that is told."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from awscrt import http, io
from awscrt.exceptions import AwsCrtError

from opusagent.errors import ConfigError
from opusagent.transports.http2 import Exchange

__all__ = ["Http2Connector"]


@cache
def _bootstrap() -> io.ClientBootstrap:
    """Give the process's one CRT event loop: one thread for all streams, made at first use."""
    group = io.EventLoopGroup(1)
    return io.ClientBootstrap(group, io.DefaultHostResolver(group))


class Http2Connector:
    """Starts exchanges, each on a connection of its own.

    So a connection that fails takes one stream with it, and calls that start together do not race
    for one. The TLS context, which is expensive, and the CRT's thread are shared.
    """

    def __init__(self, *, ca_file: Path | None, connect_s: float) -> None:
        """Load the certificates.

        Args:
            ca_file: PEM certificates to trust in place of the system's.
            connect_s: The limit for TCP, in seconds.

        Raises:
            ConfigError: If `ca_file` cannot be used.
        """
        options = io.TlsContextOptions()
        options.alpn_list = ["h2"]
        try:
            if ca_file is not None:
                options.override_default_trust_store(ca_file.read_bytes())
            self._tls = io.ClientTlsContext(options)
        except OSError as error:
            raise ConfigError(f"AWS_CA_BUNDLE: cannot read {ca_file}: {error.strerror}") from error
        except (AwsCrtError, RuntimeError) as error:
            raise ConfigError(f"AWS_CA_BUNDLE: no usable certificates in {ca_file}") from error
        self._socket_options = io.SocketOptions()
        self._socket_options.connect_timeout_ms = int(connect_s * 1000)
        self._socket_options.keep_alive = True

    def connect(self, exchange: Exchange, host: str, port: int) -> None:
        """Begin to connect; `exchange.connected` waits for it."""
        tls = self._tls.new_connection_options()
        tls.set_server_name(host)
        http.Http2ClientConnection.new(
            host_name=host,
            port=port,
            bootstrap=_bootstrap(),
            socket_options=self._socket_options,
            tls_connection_options=tls,
        ).add_done_callback(exchange.on_connected)
