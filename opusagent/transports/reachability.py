"""Whether Bedrock could be reached: a TLS handshake and nothing more.

A stream costs money and quota, so start-up, `/readyz` and `check` look no further than this.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Problem", "why_unreachable"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no connection.

    Attributes:
        words: For an operator.
        lasts: Whether it stays until somebody changes something: a certificate, an endpoint.
    """

    words: str
    lasts: bool = False

    def __str__(self) -> str:
        return self.words


async def why_unreachable(
    url: str, *, ca_file: Path | None = None, timeout_s: float = 5.0
) -> Problem | None:
    """What keeps a TLS connection with HTTP/2 to `url` from coming up; `None` if nothing.

    Args:
        url: `https://HOST[:PORT]`.
        ca_file: CA certificates (PEM) in place of the system's.
        timeout_s: For name look-up, connection and handshake together.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    place = f"{host}:{port}"
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        return Problem(f"AWS_CA_BUNDLE: {ca_file} holds no certificates: {error}", lasts=True)
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except TimeoutError:
        return Problem(f"{place} did not answer within {timeout_s:g} s")
    except ssl.SSLCertVerificationError as error:
        words = f"{place} shows a certificate that is not trusted: {error.verify_message}"
        return Problem(words, lasts=True)
    except ssl.SSLError as error:
        return Problem(f"{place} refuses TLS: {error.reason}")
    except OSError as error:
        return Problem(f"{place} cannot be reached: {error.strerror or error}")
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    spoken = tls.selected_alpn_protocol()
    writer.transport.abort()  # no close_notify to wait for: nothing was said
    return None if spoken == "h2" else Problem(f"{place} does not speak HTTP/2", lasts=True)
