"""On sockets of our own, as the CRT makes them."""

from __future__ import annotations

import socket
import sys

import pytest

from opusagent.transports.nodelay import send_at_once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds nothing there")


def sends_at_once(connected: socket.socket) -> bool:
    return bool(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("family", "host"),
    [
        (socket.AF_INET, "127.0.0.1"),
        pytest.param(
            socket.AF_INET6, "::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
        ),
    ],
)
def test_every_socket_to_the_port_sends_at_once_and_no_other(
    family: socket.AddressFamily, host: str
) -> None:
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_server((host, 0), family=family) as elsewhere,
        socket.create_connection(listener.getsockname()[:2]) as first,
        socket.create_connection(listener.getsockname()[:2]) as second,
        socket.create_connection(elsewhere.getsockname()[:2]) as other,
    ):
        port = listener.getsockname()[1]
        assert send_at_once(port) == 2
        assert sends_at_once(first)
        assert sends_at_once(second)
        assert not sends_at_once(other)
        assert send_at_once(port) == 0
