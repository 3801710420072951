"""Events of a real call: a function in the bridge's process, and a receiver on a real socket that verifies."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from opusagent.hooks import verify
from opusagent.simulators.caller_script import Pause, WaitForBot
from tests.end_to_end.rig import say
from tests.test_serving import ended, run, served
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SECRET = "a secret of the tests"
HOOK = """
import json, os

async def on_event(event):
    with open({path!r}, "a") as file:
        file.write(event.model_dump_json() + "\\n")
"""


@dataclass
class Receiver:
    """An application's web server: it refuses `refusals` requests, then takes all.

    Attributes:
        taken: Each event with what the store held when it came.
    """

    store: Path
    refusals: int = 0
    url: str = ""
    attempts: list[tuple[str, HTTPStatus]] = field(default_factory=list)
    taken: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")[1:]
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        raw = dict(line.split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers["content-length"]))
        verify(SECRET, raw, body, now=time.time())  # noqa: TID251  a receiver has its own clock
        status = HTTPStatus.SERVICE_UNAVAILABLE if self.refusals else HTTPStatus.NO_CONTENT
        self.attempts.append((headers["webhook-id"], status))
        if self.refusals:
            self.refusals -= 1
        else:
            stored = "".join(path.read_text() for path in self.store.glob("*.json"))
            self.taken.append((json.loads(body), stored))
        writer.write(f"HTTP/1.1 {status.value} x\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    @property
    def types(self) -> list[str]:
        return [event["type"] for event, _ in self.taken]


@asynccontextmanager
async def receiving(tmp_path: Path, refusals: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(tmp_path / "store", refusals)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events"
    async with server:
        yield receiver


def test_a_receiver_that_refuses_twice_gets_every_event_of_a_call_signed_and_after_it_is_stored(
    tmp_path: Path,
) -> None:
    (tmp_path / "hook.py").write_text(HOOK.format(path=str(tmp_path / "events.jsonl")))

    async def main() -> None:
        async with receiving(tmp_path, refusals=2) as receiver:
            settings = {
                "SESSION_STORE_DIR": str(receiver.store),
                "WEBHOOK_URL": receiver.url,
                "WEBHOOK_SECRET": SECRET,
                "WEBHOOK_INCLUDE_TEXT": "true",
                "EVENT_HOOKS": f"{tmp_path / 'hook.py'}:on_event",
            }
            async with served(tmp_path, **settings) as bridge:
                await bridge.call(say(), WaitForBot(quiet_s=0.1), Pause(0.5), conversation_id="c1")
                assert await eventually(lambda: "call.ended" in receiver.types, 15.0)
                first, second, third = receiver.attempts[:3]
                assert first == second == (third[0], HTTPStatus.SERVICE_UNAVAILABLE)
                assert third[1] is HTTPStatus.NO_CONTENT
                assert receiver.types == ["call.started", "turn", "turn", "call.ended"]
                for event, stored in receiver.taken:
                    assert event["conversation_id"] == "c1"
                    assert not event.get("text") or event["text"] in stored
                started, caller, bot, over = (event for event, _ in receiver.taken)
                assert (started["caller"], started["called"]) == (None, None)
                assert (caller["role"], caller["text"]) == ("caller", "My name is Ada.")
                assert (bot["role"], bot["text"]) == ("bot", "Numbers.")
                assert over["ended_by"] == "caller"
                metrics = (await bridge.get("/metrics")).text
                assert 'event_deliveries_total{outcome="delivered",to="webhook"} 4.0' in metrics
                assert "opusagent_event_retries_total 2.0" in metrics
                bridge.signal(signal.SIGTERM)
                assert await ended(bridge.child, 5.0) == 0
            log = "".join(bridge.log)
            for private in ("Ada", "4930901820", SECRET):
                assert private not in log
        told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
        assert [event["id"] for event in told] == [event["id"] for event, _ in receiver.taken]
        assert told[0]["caller"] == "+4930901820"

    run(main)


def test_what_waits_is_posted_when_the_process_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with receiving(tmp_path, refusals=1) as receiver:
            settings = {
                "SESSION_STORE_DIR": str(receiver.store),
                "WEBHOOK_URL": receiver.url,
                "WEBHOOK_SECRET": SECRET,
            }
            async with served(tmp_path, **settings) as bridge:
                await bridge.call(say(), WaitForBot(quiet_s=0.1))
                assert await eventually(lambda: bool(receiver.attempts))
                bridge.signal(signal.SIGTERM)
                assert await ended(bridge.child, 8.0) == 0
            assert receiver.types[0] == "call.started"
            assert receiver.types[-1] == "call.ended"
            assert {event.get("text") for event, _ in receiver.taken} == {None}

    run(main)
