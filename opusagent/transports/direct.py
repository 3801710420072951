"""Messages of a websocket given to their reader in the step in which they came off the network.

The library queues a message and wakes the task that waits for it, which runs when everything else that
is ready has run: under load that is where most of the delay of a chunk of audio came from. Here a whole
text frame goes straight to whoever listens. Everything else (parts, binary, broken text, what came
before anybody listened) takes the library's way, and nothing overtakes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from websockets.asyncio.connection import Connection
from websockets.frames import Frame, Opcode

if TYPE_CHECKING:
    from websockets.http11 import Request, Response

__all__ = ["DirectConnection"]

_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class DirectConnection(Connection):
    """To be mixed into the library's connection of either end.

    Attributes:
        listener: Takes each text as it comes; None while messages are asked for with `recv`.
        queued: How many whole messages have gone to the library's queue and have not been taken there.
    """

    listener: Callable[[str | bytes], None] | None = None
    queued = 0

    def process_event(self, event: Frame | Request | Response) -> None:
        """Take what the protocol has parsed; the library calls it."""
        if isinstance(event, Frame) and event.opcode in _DATA and event.fin:
            listener = self.listener
            if listener is not None and not self.queued and event.opcode is Opcode.TEXT:
                try:
                    text = str(event.data, "utf-8")
                except UnicodeDecodeError:
                    pass  # the library ends such a connection as it must
                else:
                    listener(text)
                    return
            self.queued += 1
        super().process_event(event)
