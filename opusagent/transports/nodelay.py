"""Turns Nagle's algorithm off on the CRT's sockets, which the CRT itself does not offer.

With it on, an event waits until the last one was acknowledged: measured on loopback with 20 ms frames
both ways, audio reached the service 19.5 ms late (median) instead of under 1 ms; towards AWS it is up to
a round trip and the peer's delayed acknowledgement.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Final

__all__ = ["send_at_once"]

_FDS: Final = "/proc/self/fd"


def send_at_once(port: int) -> int:
    """Set `TCP_NODELAY` on every socket of this process that is connected to `port` and lacks it.

    Returns how many were found; 0 where the system does not list a process's files (not Linux).
    """
    try:
        numbers = [int(name) for name in os.listdir(_FDS)]  # noqa: PTH208 - twice as fast
    except OSError:
        return 0
    return sum(_set(number, port) for number in numbers)


def _set(fd: int, port: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.fromfd(
            fd, socket.AF_INET, socket.SOCK_STREAM
        ) as ours:  # the same socket, another number
            if ours.family not in (socket.AF_INET, socket.AF_INET6):
                return False
            if ours.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
                return False
            if ours.getpeername()[1] != port:
                return False
            if ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
                return False
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return True
    except (OSError, IndexError, TypeError):
        return False  # closed meanwhile, or no TCP socket
