"""What comes before a call: probes, tokens, first messages, lines that are taken, and letting go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from websockets.asyncio.client import connect as ws_connect

from opusagent.admin import admin_app
from opusagent.bridges.handshake import MAX_BROKEN
from opusagent.errors import TransportError
from opusagent.simulators.caller_script import Pause, SendNumbers, WaitForBot
from opusagent.simulators.calling import validate
from opusagent.transports.reachability import Problem
from opusagent.transports.websocket import connect
from tests.end_to_end.rig import Line, run, say
from tests.waiting import eventually

pytestmark = pytest.mark.integration

INITIATE = {
    "type": "session.initiate",
    "conversationId": "c-1",
    "botName": "bot",
    "caller": "anonymous",
    "expectAudioMessages": True,
    "supportedMediaFormats": ["raw/lpcm16"],
}


async def answer_to(line: Line, first: Mapping[str, Any] | str) -> list[dict[str, Any]]:
    """Everything the bridge says to a first message, until it closes the socket."""
    socket = await connect(line.url)
    await socket.send(first if isinstance(first, str) else json.dumps(first))
    answers = []
    while (text := await socket.recv()) is not None:
        answers.append(json.loads(text))
    return answers


def refusals(line: Line, label: str) -> float | None:
    return line.metrics.registry.get_sample_value(
        "opusagent_calls_refused_total", {"reason": label}
    )


def test_the_administrators_test_button_is_answered_without_a_stream() -> None:
    async def main(line: Line) -> None:
        assert await validate(lambda: connect(line.url)) is not None
        assert line.service.streams == []

    run(main)


def test_a_call_may_follow_a_validation_on_the_same_socket() -> None:
    async def main(line: Line) -> None:
        socket = await connect(line.url)
        await socket.send('{"type":"connection.validate"}')
        assert json.loads(await socket.recv() or "") == {
            "type": "connection.validated",
            "success": True,
        }
        await socket.send(json.dumps(INITIATE))
        assert json.loads(await socket.recv() or "")["type"] == "session.accepted"
        await socket.close()

    run(main)


@pytest.mark.parametrize("offered", [["raw/opus", "audio/flac"], []])
def test_a_call_without_a_common_format_is_refused_with_the_reason(offered: list[str]) -> None:
    async def main(line: Line) -> None:
        (error,) = await answer_to(line, INITIATE | {"supportedMediaFormats": offered})
        assert error["type"] == "session.error"
        assert "format" in error["reason"]
        assert line.service.streams == []

    run(main)


def test_a_text_connection_is_refused_with_the_setting_that_is_missing() -> None:
    async def main(line: Line) -> None:
        (error,) = await answer_to(line, INITIATE | {"expectAudioMessages": False})
        assert error["type"] == "session.error"
        assert "directTTS" in error["reason"]
        assert line.service.streams == []

    run(main)


def test_a_resume_of_an_unknown_conversation_is_refused_with_the_reason() -> None:
    async def main(line: Line) -> None:
        resume = {"type": "session.resume", "conversationId": "nobody-knows"}
        (error,) = await answer_to(line, resume)
        assert error["type"] == "session.error"
        assert error["reason"] == "conversation not found"
        assert refusals(line, "unknown_session") == 1

    run(main)


def failed_calls(line: Line) -> list[tuple[str, float]]:
    """Everything that is counted as a call, or as one that was refused."""
    return [
        (sample.labels.get("reason") or sample.labels["ended_by"], sample.value)
        for family in line.metrics.registry.collect()
        if family.name in ("opusagent_calls", "opusagent_calls_refused")
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    ]


@pytest.mark.parametrize("asked", ["session.initiate", "session.resume"])
def test_a_request_that_cannot_be_read_is_refused_with_what_is_wrong(asked: str) -> None:
    async def main(line: Line) -> None:
        async with ws_connect(line.url, proxy=None) as socket:
            await socket.send(json.dumps({"type": asked, "conversationId": "", "caller": "555"}))
            answer = json.loads(await socket.recv())
            assert answer["type"] == "session.error"
            assert "conversationId" in answer["reason"]
            assert "555" not in answer["reason"]
            await socket.wait_closed()
            assert socket.close_code == 1000
        assert failed_calls(line) == [("broken_handshake", 1)]

    run(main)


JUNK: list[str | bytes] = ["", "no JSON", "[]", "null", b"\x00\xff", '{"type":7}', '{"type":"new"}']


def test_what_cannot_be_read_before_a_call_is_passed_over() -> None:
    async def main(line: Line) -> None:
        async with ws_connect(line.url, proxy=None) as socket:
            for junk in JUNK * 2:
                await socket.send(junk)
            await socket.send(json.dumps(INITIATE))
            assert json.loads(await socket.recv())["type"] == "session.accepted"
            await socket.send('{"type":"session.end","conversationId":"c-1"}')
            await socket.wait_closed()
        await line.over()
        assert failed_calls(line) == [("caller", 1)]

    run(main)


def test_a_socket_that_speaks_nothing_but_nonsense_is_closed() -> None:
    async def main(line: Line) -> None:
        async with ws_connect(line.url, proxy=None) as socket:
            for _ in range(MAX_BROKEN + 1):
                await socket.send("no JSON")
            await socket.wait_closed()
            assert socket.close_code == 1002
        assert failed_calls(line) == [("broken_handshake", 1)]

    run(main)


def test_a_validation_after_which_nothing_comes_is_no_call_that_failed() -> None:
    async def main(line: Line) -> None:
        async with ws_connect(line.url, proxy=None) as socket:
            await socket.send('{"type":"connection.validate"}')
            assert json.loads(await socket.recv())["success"] is True
            await socket.wait_closed()
            assert socket.close_code == 1000
        assert failed_calls(line) == []

    run(main, handshake_timeout_seconds=0.3)


def test_a_socket_on_which_nothing_is_said_is_closed() -> None:
    async def main(line: Line) -> None:
        socket = await connect(line.url)
        async with asyncio.timeout(2):
            assert await socket.recv() is None
        assert refusals(line, "handshake_timeout") == 1

    run(main, handshake_timeout_seconds=0.2)


def test_a_scanner_that_goes_away_leaves_nothing() -> None:
    async def main(line: Line) -> None:
        (await connect(line.url)).abort()
        _, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.transport.abort()
        _, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        await writer.drain()
        writer.transport.abort()

    run(main)


def test_a_socket_lost_before_the_answer_leaves_no_stream() -> None:
    async def main(line: Line) -> None:
        socket = await connect(line.url)
        await socket.send(json.dumps(INITIATE))
        assert await eventually(lambda: bool(line.service.streams))
        socket.abort()
        await line.over()
        assert len(line.service.streams) == 1

    run(main, "slow-head:seconds=0.8")


def test_a_socket_lost_between_the_answer_and_the_start_closes_the_stream_in_order() -> None:
    async def main(line: Line) -> None:
        socket = await connect(line.url)
        await socket.send(json.dumps(INITIATE))
        assert json.loads(await socket.recv() or "")["type"] == "session.accepted"
        socket.abort()
        await line.over()
        line.stream(1).assert_valid_session()

    run(main)


def test_a_call_whose_start_never_comes_begins_without_it() -> None:
    async def main(line: Line) -> None:
        socket = await connect(line.url)
        await socket.send(json.dumps(INITIATE))
        assert json.loads(await socket.recv() or "")["type"] == "session.accepted"
        async with asyncio.timeout(3):
            config = json.loads(await socket.recv() or "")
        assert config["activities"][0]["sessionParams"] == {"bargeIn": True}
        await socket.close()

    run(main)


# Tokens and probes


@pytest.mark.parametrize("token", ["", "wrong", "secre", "secrets"])
def test_a_wrong_token_is_refused_before_the_upgrade(token: str) -> None:
    async def main(line: Line) -> None:
        with pytest.raises(TransportError, match="HTTP 401"):
            await connect(line.url, token=token)
        assert line.service.streams == []

    run(main, bridge_token=SecretStr("secret"))


@pytest.mark.parametrize("token", [SecretStr("secret"), None])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_health_probe_on_the_telephone_port_is_answered(
    token: SecretStr | None, method: str
) -> None:
    async def main(line: Line) -> None:
        url = line.url.replace("ws:", "http:")
        headers = {"Authorization": "bearer  secret"}
        content = b'{"conversation":"1"}' if method == "POST" else None
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.request(method, url, headers=headers, content=content)
            assert answer.status_code == 200
            assert answer.text == '{"type":"ac-bot-api","success":true}'
            assert answer.headers["content-type"] == "application/json"
            without = await client.request(method, url, content=content)
            assert without.status_code == (401 if token else 200)

    run(main, bridge_token=token)


def test_a_call_with_the_token_is_carried() -> None:
    async def main(line: Line) -> None:
        record = await line.caller(token="two").run([say(), WaitForBot(quiet_s=0.1)])
        assert record.in_vain == []
        await line.over()
        assert line.logged("call ended")[0]["tenant"] == "b"

    run(main, bridge_tokens={"a": SecretStr("one"), "b": SecretStr("two")})


# Lines


async def readyz(line: Line) -> httpx.Response:
    transport = httpx.ASGITransport(admin_app(line.settings, line.server, line.metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        return await client.get("/readyz")


def test_one_call_too_many_is_refused_at_once_and_readyz_says_so() -> None:
    async def main(line: Line) -> None:
        assert (await readyz(line)).status_code == 200
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(line.call(Pause(0.8))) for _ in range(2)]
            assert await eventually(lambda: line.server.stats()["calls_active"] == 2)
            ready = await readyz(line)
            assert ready.status_code == 503
            assert "at capacity: 2 calls" in ready.json()["reasons"][0]
            third = await line.call()
            assert third.refused == "all lines are busy"
            assert third.ended_at is not None
            assert third.ended_at < 0.5
        assert [call.result().end_reason for call in calls] == ["client-disconnected"] * 2
        await line.over()
        assert (await readyz(line)).status_code == 200
        assert (await line.call()).end_reason == "client-disconnected"
        assert len(line.service.streams) == 3

    run(main, session_max_concurrent=2)


def test_a_call_is_refused_at_once_while_no_try_could_work() -> None:
    async def main(line: Line) -> None:
        line.server.bedrock_problem = Problem("an untrusted certificate", lasts=True)
        refused = await line.call()
        assert refused.refused == "the model cannot be reached"
        assert line.service.streams == []
        assert refusals(line, "no_bedrock") == 1
        line.server.bedrock_problem = Problem("it did not answer just now")
        assert (await line.call()).end_reason == "client-disconnected"

    run(main)


def test_a_second_socket_for_a_call_under_way_is_refused_and_the_call_goes_on() -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            numbers = SendNumbers(count=50)
            first = line.caller(conversation_id="c-1")
            call = tasks.create_task(first.run([numbers, WaitForBot(quiet_s=0.1)]))
            assert await eventually(lambda: line.server.stats()["calls_active"] == 1)
            (error,) = await answer_to(line, INITIATE)
            assert error["type"] == "session.error"
            assert "under way" in error["reason"]
        assert call.result().in_vain == []
        assert line.numbers(1, range(50)).ok
        assert len(line.service.streams) == 1

    run(main)


def test_a_repeated_initiate_on_the_same_socket_opens_no_second_stream() -> None:
    async def main(line: Line) -> None:
        socket = await connect(line.url)
        for _ in range(3):
            await socket.send(json.dumps(INITIATE))
        assert json.loads(await socket.recv() or "")["type"] == "session.accepted"
        await socket.send('{"type":"session.end","conversationId":"c-1"}')
        while await socket.recv() is not None:
            pass
        assert len(line.service.streams) == 1

    run(main)


# Letting go


def test_a_draining_bridge_refuses_new_calls_and_lets_the_old_ones_finish() -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.call(SendNumbers(count=60), WaitForBot(quiet_s=0.1)))
            assert await eventually(lambda: bool(line.service.open_streams))
            drain = tasks.create_task(line.server.drain())
            assert await eventually(lambda: bool(line.server.ready()))
            assert "draining" in line.server.ready()[0]
            with pytest.raises(TransportError, match="HTTP 503"):
                await connect(line.url)
            assert not drain.done()
        assert call.result().in_vain == []
        assert call.result().end_reason == "client-disconnected"
        assert line.numbers(1, range(60)).ok

    run(main, drain_seconds=30)


def test_a_call_that_outlasts_the_drain_is_let_go_without_a_hang_up() -> None:
    async def main(line: Line) -> None:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(line.call(Pause(10)))
            assert await eventually(lambda: line.logged("call started") != [])
            async with asyncio.timeout(5):
                await line.server.drain()
        record = call.result()
        assert record.failure == "the bot closed the socket without a hang-up"
        assert record.hangup_reason is None
        assert record.refused is None

    run(main, drain_seconds=3.5)


def test_a_bridge_without_calls_drains_at_once() -> None:
    async def main(line: Line) -> None:
        async with asyncio.timeout(0.5):
            await line.server.drain()

    run(main)
