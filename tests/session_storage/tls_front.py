"""TLS in front of a server that speaks none: the wheel's Valkey is built without it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import trustme

_HANDSHAKE = b"\x16"
"""The first byte of a TLS connection (RFC 8446, section 5.1)."""


@contextlib.asynccontextmanager
async def tls_front(
    port: int, folder: Path, *, authority: trustme.CA | None = None, also_plain: bool = False
) -> AsyncIterator[tuple[int, Path]]:
    """Its own port, and the file of the authority that signed its certificate.

    Args:
        port: Of the server behind it.
        folder: For the file.
        authority: Signs; by default a new one.
        also_plain: Whether connections without TLS are let through, as a Sentinel of the wheel needs it.
    """
    authority = authority or trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    loop = asyncio.get_running_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, to_behind))
            tasks.create_task(pump(behind, writer))

    async def take(taken: socket.socket) -> None:
        readable = loop.create_future()
        loop.add_reader(taken, readable.set_result, None)
        await readable
        loop.remove_reader(taken)
        is_tls = not also_plain or taken.recv(1, socket.MSG_PEEK) == _HANDSHAKE
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader, serve)
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                lambda: protocol, taken, ssl=context if is_tls else None
            )

    async def listen(listener: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                taken, _ = await loop.sock_accept(listener)
                taken.setblocking(False)
                tasks.create_task(take(taken))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        listening = loop.create_task(listen(listener))
        try:
            yield listener.getsockname()[1], ca_file
        finally:
            listening.cancel()
            await asyncio.wait((listening,))
