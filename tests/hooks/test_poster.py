"""One request on a real socket."""

from __future__ import annotations

import asyncio

import pytest

from opusagent.hooks.webhook import Poster
from opusagent.tools.workshop import Workshop

pytestmark = pytest.mark.integration


async def post(answer: str | None, timeout_s: float = 3.0) -> tuple[int | None, int]:
    """The status that comes of an answer, None for none, and how many requests there were."""
    requests = 0
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await done.wait()
        else:
            writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        workshop = Workshop()
        status = None
        try:
            status = await Poster(url, timeout_s=timeout_s, place=workshop)(b"{}", {})
        except OSError:
            pass
        finally:
            done.set()
            workshop.stop()
        return status, requests


@pytest.mark.parametrize("status", [200, 204, 404, 503])
def test_the_status_of_the_answer_is_what_comes_of_it(status: int) -> None:
    assert asyncio.run(post(f"{status} x")) == (status, 1)


def test_a_receiver_on_this_machine_is_reached_without_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert asyncio.run(post("204 x")) == (204, 1)


def test_what_is_signed_for_one_address_is_not_sent_to_another() -> None:
    assert asyncio.run(post("307 x\r\nLocation: /elsewhere")) == (307, 1)
    assert asyncio.run(post("302 x\r\nLocation: /elsewhere")) == (302, 1)


def test_a_receiver_that_does_not_answer_in_time_has_not_answered() -> None:
    assert asyncio.run(post(None, timeout_s=0.2)) == (None, 1)
