"""This side hangs up: what the caller still hears, what is said, and how the socket closes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed

from opusagent.bridges.audiocodes_bridge import AudioCodesBridge
from opusagent.bridges.planning import make_plan
from opusagent.call.events import CallOutcome, EndedBy, HangUp, Report
from opusagent.models.agent import Agent, Greeting
from opusagent.transports import CallerTransport
from opusagent.transports.websocket import WebSocketServer
from tests.end_to_end.rig import Line, ToneBrain, run
from tests.waiting import eventually, pass_time

pytestmark = pytest.mark.integration

GREETING = Agent(system_prompt="You are a test.", greeting=Greeting(text="Say goodbye."))
GOODBYE_S = 1.0
BYTES_PER_S = 48_000


@dataclass
class Hanging:
    """One call whose bridge the test has in its hand, and the phone at its other end."""

    phone: ClientConnection
    bridge: AudioCodesBridge
    ended: asyncio.Future[CallOutcome]
    heard: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    async def say(self, **message: Any) -> None:
        await self.phone.send(json.dumps({"conversationId": "c-1", **message}))

    async def activity(self, name: str, **fields: Any) -> None:
        await self.say(type="activities", activities=[{"type": "event", "name": name, **fields}])

    async def hear(self, name: str) -> None:
        """Listen until this comes: a message by its type, an activity by its name."""
        while True:
            message = json.loads(await self.phone.recv())
            self.heard.append((asyncio.get_running_loop().time(), message))
            if name in names([message]):
                return

    async def listen(self) -> None:
        """Listen until the bridge closes the socket."""
        try:
            while True:
                await self.hear("")
        except ConnectionClosed:
            pass

    def hang_up(self) -> None:
        self.bridge.step(HangUp("done"))

    @property
    def names(self) -> list[str]:
        return names([message for _, message in self.heard])

    def time_of(self, name: str) -> float:
        return next(at for at, message in self.heard if name in names([message]))

    @property
    def bot_audio_s(self) -> float:
        chunks = (message.get("audioChunk", "") for _, message in self.heard)
        return sum(len(base64.b64decode(chunk)) for chunk in chunks) / BYTES_PER_S


def names(messages: list[dict[str, Any]]) -> list[str]:
    return [
        name
        for message in messages
        for name in (
            [activity["name"] for activity in message["activities"]]
            if message["type"] == "activities"
            else [message["type"]]
        )
    ]


@asynccontextmanager
async def called(line: Line) -> AsyncIterator[Hanging]:
    """Somebody has asked for a call, on real sockets."""
    bridges: list[AudioCodesBridge] = []
    reports: list[Report] = []
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[CallOutcome] = loop.create_future()

    async def carry(caller: CallerTransport, *_: object) -> None:
        bridge = AudioCodesBridge(
            platform_websocket=caller,
            realtime_websocket=line.connector,
            session_config=make_plan(line.settings, "default", line.agent),
            report=reports.append,
        )
        bridges.append(bridge)
        ended.set_result(await bridge.run())

    server = WebSocketServer(carry, host="127.0.0.1", port=0, tokens={}, refuse_new=lambda: False)
    url = f"ws://127.0.0.1:{await server.start()}/"
    try:
        async with ws_connect(url, proxy=None, compression=None) as phone:
            assert await eventually(lambda: bool(bridges))
            call = Hanging(phone, bridges[0], ended)
            formats = ["raw/lpcm16", "raw/lpcm16_24"]
            await call.say(type="session.initiate", supportedMediaFormats=formats)
            yield call
            async with asyncio.timeout(6):
                await ended
    finally:
        await server.stop()


def goodbye() -> ToneBrain:
    return ToneBrain("Goodbye.", seconds=GOODBYE_S)


def test_a_goodbye_is_heard_to_its_end_before_the_hang_up_and_the_end_is_waited_for() -> None:
    async def main(line: Line) -> None:
        async with called(line) as call:
            await call.hear("session.accepted")
            await call.activity("start")
            await call.hear("playStream.chunk")
            call.hang_up()
            call.hang_up()
            await call.hear("hangup")
            assert call.bot_audio_s == pytest.approx(GOODBYE_S, abs=0.01)
            waited_s = call.time_of("hangup") - call.time_of("playStream.chunk")
            assert GOODBYE_S < waited_s < GOODBYE_S + 1.0
            reason = call.heard[-1][1]["activities"][0]["activityParams"]["hangupReason"]
            assert reason == "done"
            await pass_time(0.3)
            assert not call.ended.done()
            call.hang_up()
            await call.say(type="session.end", reasonCode="bot-disconnected")
            await call.listen()
            assert call.names.count("hangup") == 1
            assert call.names.index("playStream.stop") < call.names.index("hangup")
            assert call.phone.close_code == 1000
            assert call.phone.close_reason == "session ended"
        assert call.ended.result().by is EndedBy.BOT
        await line.over()
        line.stream(1).assert_valid_session()

    run(main, agent=GREETING, brain=goodbye)


def test_a_phone_that_says_when_it_has_played_the_goodbye_is_hung_up_at_once() -> None:
    async def main(line: Line) -> None:
        async with called(line) as call:
            await call.hear("session.accepted")
            await call.activity("start")
            await call.hear("playStream.chunk")
            call.hang_up()
            await call.hear("playStream.stop")
            left_s = GOODBYE_S - (
                call.time_of("playStream.stop") - call.time_of("playStream.chunk")
            )
            await pass_time(left_s + 0.02)
            told_at = asyncio.get_running_loop().time()
            await call.activity("playFinished", value={"status": "finished"})
            await call.hear("hangup")
            assert call.time_of("hangup") - told_at < 0.25
            await call.say(type="session.end", reasonCode="bot-disconnected")
            await call.listen()
        await line.over()

    run(main, agent=GREETING, brain=goodbye)


def test_a_session_whose_end_does_not_come_is_closed_all_the_same() -> None:
    async def main(line: Line) -> None:
        async with called(line) as call:
            await call.hear("session.accepted")
            await call.activity("start")
            call.hang_up()
            await call.hear("hangup")
            asked_at = asyncio.get_running_loop().time()
            await call.listen()
            assert 4.5 < asyncio.get_running_loop().time() - asked_at < 6.0
            assert call.phone.close_code == 1000
        assert call.ended.result().by is EndedBy.BOT
        await line.over()

    run(main)


def test_a_hang_up_before_the_call_is_accepted_refuses_it() -> None:
    async def main(line: Line) -> None:
        async with called(line) as call:
            assert await eventually(lambda: bool(line.service.streams))
            call.hang_up()
            await call.listen()
            assert call.names == ["session.error"]
            assert call.phone.close_code == 1000
        assert call.ended.result().by is EndedBy.REFUSED
        await line.over()

    run(main, "slow-head:seconds=3")


def test_a_hang_up_that_crosses_the_callers_own_is_no_error() -> None:
    async def main(line: Line) -> None:
        async with called(line) as call:
            await call.hear("session.accepted")
            await call.activity("start")
            await call.say(type="session.end", reasonCode="client-disconnected")
            call.hang_up()
            await call.listen()
            assert call.phone.close_code == 1000
            call.hang_up()  # nobody is there any more
        await line.over()

    run(main)
