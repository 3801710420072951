"""Byte pipes to the two sides of a call, and nothing else.

    caller  <--texts-->   CallerTransport   websocket.py, or memory.py in tests
    Sonic   <--events-->  SonicTransport    bedrock.py, or memory.py in tests

Failures are `TransportError(code, message)`. Codes are the service's exception names (without
`Exception` or with it, as the service wrote them) or one of ours:

    ConnectionLost  the connection could not be made, or broke; the message says how
    NoHead          the service did not answer the request in time
    Ended           the service ended the stream without being asked and without a reason
    SendTimeout     the service has stopped reading
    Undecodable     a frame was broken; nothing after it can be read
    NoCredentials   there is nothing to sign with
    Closed          the transport was used after `close`: for the shell, the end it asked for
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from opusagent.footprint import defer

__all__ = ["CallerTransport", "SonicConnector", "SonicTransport"]

# The AWS SDK imports its other HTTP client as well: 8 MB, and nothing here uses it.
defer("aiohttp")


class SonicTransport(Protocol):
    """One bidirectional stream. Use: `open`, then `send` and `receive` side by side, then `close`.

    `send` may be called before `head` has answered. Any method may be cancelled at any time; the
    stream stays usable. Only one task may wait in `receive` or `listen`.
    """

    @property
    def expires_in_s(self) -> float | None:
        """Seconds for which what the stream is signed with is good; None if it does not expire."""

    async def open(self) -> None:
        """Connect and send the request. Bounded in time.

        Raises:
            TransportError: If there is no connection.
        """

    async def head(self) -> None:
        """Wait until the service has accepted the stream. Bounded in time.

        Raises:
            TransportError: If it refused, or did not answer.
        """

    async def send(self, *payloads: bytes) -> None:
        """Send JSON events, together; returns at once unless the service reads too slowly. Bounded.

        Raises:
            TransportError: If it cannot be sent any more.
        """

    def send_now(self, *payloads: bytes) -> bool:
        """Send JSON events, together, without waiting, and in their place after what was sent before.

        Returns:
            Whether they were sent, all or none. Where not (the service reads too slowly, the stream is
            not open yet, or not any more), `send` waits or says why.
        """

    async def flush(self) -> None:
        """Wait until all that was sent has left this process, as far as can be told.

        Raises:
            TransportError: If it cannot: the stream is gone, or the service reads too slowly.
        """

    async def receive(self) -> bytes | None:
        """Wait, without bound, for the next JSON event; None is the end that we asked for.

        Raises:
            TransportError: If the stream ended in any other way. Every later call raises it again.
        """

    async def listen(self, take: Callable[[bytes], None]) -> None:
        """Give every event to `take`, in order, in the step in which it came off the network.

        Returns at the end that we asked for. `take` must not raise; it is called by nobody any more
        once this has returned or raised.

        Raises:
            TransportError: As `receive`.
        """

    async def close_input(self) -> None:
        """Say that nothing more will be sent. What the service still has to say can be received."""

    async def close(self) -> None:
        """Let go of the stream, bounded. Never raises; may be called at any time, and again."""


class SonicConnector(Protocol):
    """Makes transports for new streams."""

    def connect(self, model_id: str = "", *, can_wait: bool = False) -> SonicTransport:
        """Give a transport to that model, or to the usual one; it has not been opened yet.

        Where there is no room for all, one that `can_wait` leaves its place to the others.
        """


class CallerTransport(Protocol):
    """One websocket, from either end of it."""

    async def recv(self) -> str | bytes | None:
        """Wait for the next message; None once the socket is closed, for whatever reason."""

    async def listen(self, take: Callable[[str | bytes], None]) -> None:
        """Give every message to `take`, in order, in the step in which it came off the network.

        Returns once the socket is closed, for whatever reason. `take` must not raise; it is called by
        nobody any more once this has returned. Not side by side with `recv`.
        """

    def send_now(self, text: str) -> bool:
        """Send one text message without waiting, and in its place after what was sent before.

        Returns:
            Whether it was sent. If not (the peer reads too slowly, or the socket is closed), `send`
            waits or says why.
        """

    async def send(self, text: str) -> None:
        """Send one text message; waits while the peer reads too slowly.

        Raises:
            TransportError: If the socket is closed.
        """

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket, bounded. Never raises; may be called again."""
