import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from opusagent.transports.reachability import Problem, why_unreachable

pytestmark = pytest.mark.integration


@asynccontextmanager
async def tls_server(authority: trustme.CA, *protocols: str) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(list(protocols))

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(accept, "localhost", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


def ca_file(authority: trustme.CA, directory: Path) -> Path:
    path = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def test_a_server_with_http2_and_a_trusted_certificate_is_reachable(tmp_path: Path) -> None:
    authority = trustme.CA()

    async def main() -> Problem | None:
        async with tls_server(authority, "h2") as url:
            return await why_unreachable(url, ca_file=ca_file(authority, tmp_path))

    assert asyncio.run(main()) is None


def test_a_server_without_http2_is_not_bedrock(tmp_path: Path) -> None:
    authority = trustme.CA()

    async def main() -> Problem | None:
        async with tls_server(authority, "http/1.1") as url:
            return await why_unreachable(url, ca_file=ca_file(authority, tmp_path))

    problem = asyncio.run(main())
    assert "does not speak HTTP/2" in str(problem)
    assert problem is not None
    assert problem.lasts


def test_a_certificate_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    async def main() -> Problem | None:
        async with tls_server(trustme.CA(), "h2") as url:
            return await why_unreachable(url, ca_file=ca_file(trustme.CA(), tmp_path))

    problem = asyncio.run(main())
    assert "certificate that is not trusted" in str(problem)
    assert problem is not None
    assert problem.lasts


def test_a_port_where_nobody_listens_cannot_be_reached() -> None:
    async def main() -> Problem | None:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await why_unreachable(f"https://127.0.0.1:{port}")

    problem = asyncio.run(main())
    assert "cannot be reached" in str(problem)
    assert problem is not None
    assert not problem.lasts


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()

    async def main() -> Problem | None:
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await why_unreachable(f"https://127.0.0.1:{port}", timeout_s=0.1)

    assert "did not answer within 0.1 s" in str(asyncio.run(main()))


def test_a_bundle_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing", encoding="utf-8")
    said = asyncio.run(why_unreachable("https://localhost:1", ca_file=tmp_path / "ca.pem"))
    assert "AWS_CA_BUNDLE" in str(said)
