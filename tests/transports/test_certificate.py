from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import structlog
import trustme
from cryptography.hazmat.primitives import serialization

from opusagent.errors import ConfigError
from opusagent.transports.certificate import server_tls


def test_a_certificate_and_a_key_that_cannot_be_used_are_both_named_with_the_reason(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    cert, key, other, locked = (tmp_path / name for name in ("cert", "key", "other", "locked"))
    mine = authority.issue_cert("localhost")
    mine.cert_chain_pems[0].write_to_path(cert)
    mine.private_key_pem.write_to_path(key)
    authority.issue_cert("localhost").private_key_pem.write_to_path(other)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    server_tls(cert, key)
    for file, why in (
        (other, "the key is another one's"),
        (locked, "no PEM, or the key has a pass phrase"),
        (tmp_path / "gone", "cannot be read: No such file or directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            server_tls(cert, file)
        assert str(caught.value) == f"BRIDGE_TLS_CERT, BRIDGE_TLS_KEY: {cert}, {file}: {why}"


@pytest.mark.parametrize("name", ["localhost", None])
def test_a_certificate_that_was_renewed_is_shown_from_the_next_connection_on(
    name: str | None, tmp_path: Path
) -> None:
    async def main() -> None:
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        renew(cert, key)
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=server_tls(cert, key))
        port = server.sockets[0].getsockname()[1]
        first = await shown(port, name)
        assert await shown(port, name) == first
        renew(cert, key)
        second = await shown(port, name)
        assert second != first
        with structlog.testing.capture_logs() as lines:
            key.write_text("half of")
            assert [await shown(port, name) for _ in range(2)] == [second] * 2
            assert [line["event"] for line in lines] == ["certificate not renewed"]
            renew(cert, key)
            assert await shown(port, name) not in (first, second)
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def renew(cert: Path, key: Path) -> None:
    made = trustme.CA().issue_cert("localhost")
    made.cert_chain_pems[0].write_to_path(cert)
    made.private_key_pem.write_to_path(key)


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def shown(port: int, name: str | None) -> bytes:
    """The certificate that a server shows to who asks for this name, or for none."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name or ""
    )
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found
