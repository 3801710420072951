"""A VoiceAI Connect that reads slowly or not at all, on a socket whose system buffers are small."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect

from opusagent.models.agent import Agent, Greeting
from tests.end_to_end.rig import Line, ToneBrain, run
from tests.waiting import eventually, pass_time

pytestmark = pytest.mark.integration

GREETING = Agent(system_prompt="You are a test.", greeting=Greeting(text="Greet the caller."))
BYTES_PER_S = 48_000


def of_call(**message: Any) -> str:
    return json.dumps({"conversationId": "c-1", **message})


def event(name: str, **fields: Any) -> str:
    return of_call(type="activities", activities=[{"type": "event", "name": name, **fields}])


@asynccontextmanager
async def spoken_to(line: Line) -> AsyncIterator[ClientConnection]:
    """A call that has heard the first of a long speech; it reads only what the test reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", line.port))
    async with ws_connect(
        line.url, sock=sock, proxy=None, compression=None, max_queue=1, close_timeout=0.2
    ) as phone:
        formats = ["raw/lpcm16", "raw/lpcm16_24"]
        await phone.send(of_call(type="session.initiate", supportedMediaFormats=formats))
        await phone.send(event("start"))
        while json.loads(await phone.recv())["type"] != "playStream.chunk":
            pass
        yield phone


def test_a_key_silences_the_bot_at_once_for_a_caller_who_read_nothing_for_a_while() -> None:
    async def main(line: Line) -> None:
        async with spoken_to(line) as phone:
            await pass_time(2.5)
            await phone.send(of_call(type="userStream.start"))
            await phone.send(event("DTMF", value="1"))
            assert await eventually(lambda: line.logged("barge-in") != [])
            unread, types = 0, []
            while True:
                message = json.loads(await phone.recv())
                types.append(message["type"])
                unread += len(base64.b64decode(message.get("audioChunk", "")))
                if message["type"] == "activities":
                    break
            # 2.5 s had been said; what is left stood in the buffers of the two systems.
            assert unread / BYTES_PER_S < 1.2
            silence = ["userStream.speech.started", "playStream.stop", "activities"]
            assert [name for name in types if name in silence] == silence
            await phone.send(of_call(type="session.end"))
        await line.over()

    run(main, agent=GREETING, brain=lambda: ToneBrain(seconds=20.0))


def test_an_answer_does_not_wait_behind_audio_that_nobody_reads() -> None:
    async def main(line: Line) -> None:
        async with spoken_to(line) as phone:
            await pass_time(2.5)
            await phone.send(of_call(type="userStream.start"))
            await pass_time(0.1)
            before = 0
            while (message := json.loads(await phone.recv()))["type"] != "userStream.started":
                before += len(base64.b64decode(message.get("audioChunk", "")))
            assert before / BYTES_PER_S < 1.2
            await phone.send(of_call(type="session.end"))
        await line.over()

    run(main, agent=GREETING, brain=lambda: ToneBrain(seconds=20.0))


def test_a_caller_who_does_not_read_at_all_is_given_up_and_leaves_nothing() -> None:
    async def main(line: Line) -> None:
        async with spoken_to(line) as phone:
            began = asyncio.get_running_loop().time()
            assert await eventually(lambda: line.logged("caller does not read") != [], 9.0)
            assert asyncio.get_running_loop().time() - began > 4.5
            phone.transport.abort()
        await line.over()
        assert line.logged("call ended")[0]["by"] == "socket"

    run(main, agent=GREETING, brain=lambda: ToneBrain(seconds=20.0))
