"""On a thread that the CRT started, with callbacks of the CRT."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest
from awscrt import http, io

from opusagent.transports.crt_thread import keep_thread_state

pytestmark = pytest.mark.integration


def call_on_its_thread(group: io.EventLoopGroup, call: Callable[[], None]) -> None:
    """Let the CRT call, by way of a connection that fails, and wait for that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    called = threading.Event()

    def on_failure(_: Future[http.Http2ClientConnection]) -> None:
        call()
        called.set()

    tls = io.ClientTlsContext(io.TlsContextOptions()).new_connection_options()
    bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
    http.Http2ClientConnection.new(
        "127.0.0.1", port, bootstrap=bootstrap, tls_connection_options=tls
    ).add_done_callback(on_failure)
    assert called.wait(10)


@pytest.mark.parametrize("kept", [False, True])
def test_a_native_thread_keeps_its_python_state_between_two_calls_once_it_was_asked_to(
    *, kept: bool
) -> None:
    group = io.EventLoopGroup(1)
    local = threading.local()
    found: list[bool] = []

    def mark() -> None:
        if kept:
            keep_thread_state()
            keep_thread_state()
        local.mark = threading.get_native_id()

    call_on_its_thread(group, mark)
    call_on_its_thread(group, lambda: found.append(hasattr(local, "mark")))
    assert found == [kept]


def test_a_thread_of_python_may_ask_too() -> None:
    keep_thread_state()
    keep_thread_state()
