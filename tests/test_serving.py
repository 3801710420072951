"""`serve` as a process: ready, calls, signals, and what keeps it from starting."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import trustme
import uvloop

from opusagent.processes import SETTINGS, Child, ProcessFailed
from opusagent.serving import url_of
from opusagent.simulators.caller import SimulatedCaller
from opusagent.simulators.caller_record import CallRecord, check_numbers
from opusagent.simulators.caller_script import Pause, SendNumbers, Step, WaitForBot
from opusagent.simulators.numbered import NumberedAudio
from opusagent.simulators.sonic_service import NovaService, ServicePlan
from opusagent.simulators.wire import WireServer
from opusagent.transports.websocket import connect
from tests.end_to_end.rig import KEYS, PLAN, QUICK, NumberBrain, ToldEars, say
from tests.waiting import eventually

pytestmark = pytest.mark.integration

BRAIN = NumberBrain(first=700, count=40)


@dataclass
class Served:
    """A bridge in a process of its own, and the service in this one."""

    child: Child
    service: NovaService
    url: str
    admin: str
    log: list[str]

    async def call(self, *steps: Step, conversation_id: str | None = None) -> CallRecord:
        plan = replace(PLAN, numbered_ms=20, caller="+4930901820")
        caller = SimulatedCaller(plan, lambda: connect(self.url), conversation_id=conversation_id)
        return await caller.run(steps)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"{self.admin}{path}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.child.pid, number)


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    agents = tmp_path / "agents"
    agents.mkdir(exist_ok=True)
    (agents / "default.toml").write_text('system_prompt = "You are a test."\n')
    ports = {"BRIDGE_HOST": "127.0.0.1", "BRIDGE_PORT": "0", "ADMIN_PORT": "0"}
    return {**KEYS, **ports, "AGENT_CONFIG_DIR": str(agents), "LOG_FORMAT": "json", **more}


@asynccontextmanager
async def served(tmp_path: Path, **more: str) -> AsyncIterator[Served]:
    service = NovaService(lambda: BRAIN, ToldEars("My name is Ada."), ServicePlan(timing=QUICK))
    ca_file = tmp_path / "ca.pem"
    async with WireServer(service, ca_file=ca_file) as wire:
        log: list[str] = []
        aws = {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": wire.url, "AWS_CA_BUNDLE": str(ca_file)}
        variables = environ(tmp_path, **aws, **more)
        async with Child("opusagent", "serve", environ=variables, log=log.append) as child:
            ready = await child.ready()
            found = re.fullmatch(
                r"READY (ws://127.0.0.1:\d+) admin (http://127.0.0.1:\d+)\n", ready
            )
            assert found is not None, ready
            yield Served(child, service, found[1], found[2], log)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def ended(child: Child, within_s: float) -> int:
    """The exit code of a process that ends by itself."""
    async with asyncio.timeout(within_s):
        while await child.line():
            pass
    return await child.end()


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "ws://0.0.0.0:8765"), ("::", "ws://[::]:8765")]
)
def test_where_the_bridge_listens_is_told_as_a_url(host: str, url: str) -> None:
    assert url_of("ws", host, 8765) == url


def test_a_served_bridge_carries_a_call_and_ends_at_once_when_told_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path, LOG_AUDIO_EVENTS="true") as bridge:
            assert (await bridge.get("/readyz")).status_code == 200
            assert bridge.service.streams == []  # start-up looks with a handshake at most
            record = await bridge.call(SendNumbers(count=60), WaitForBot(quiet_s=0.1))
            assert record.in_vain == []
            assert record.violations == []
            assert record.numbers(BRAIN.expected).ok
            heard = bridge.service.streams[0].record
            assert heard is not None
            frames = NumberedAudio(20, heard.audio_rate_hz).find(bytes(heard.audio))
            assert check_numbers(frames, range(60)).ok
            assert await eventually(lambda: not bridge.service.open_streams)
            heard.assert_valid_session()
            metrics = (await bridge.get("/metrics")).text
            assert 'opusagent_calls_total{ended_by="caller"} 1.0' in metrics
            bridge.signal(signal.SIGTERM)
            assert await ended(bridge.child, 3.0) == 0
        text = "".join(bridge.log)
        assert '"call ended"' in text
        levels = {json.loads(line)["level"] for line in bridge.log}
        assert levels <= {"info", "warning"}
        for private in ("4930901820", "Ada", f'"{KEYS["AWS_SECRET_ACCESS_KEY"]}"'):
            assert private not in text

    run(main)


def test_a_call_is_seen_on_the_admin_port_while_it_lasts_and_its_session_after_it(
    tmp_path: Path,
) -> None:
    store = {"SESSION_STORE_DIR": str(tmp_path / "store")}

    async def seen(bridge: Served, path: str) -> dict[str, Any]:
        answer = await bridge.get(path)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    async def main() -> None:
        async with served(tmp_path, **store) as bridge:
            async with asyncio.TaskGroup() as tasks:
                steps = (say(), WaitForBot(quiet_s=0.1), Pause(1.0))
                tasks.create_task(bridge.call(*steps, conversation_id="c/1"))
                assert await eventually(lambda: bool(bridge.service.open_streams))
                (call,) = (await seen(bridge, "/calls"))["calls"]
                assert (call["id"], call["agent"]) == ("c/1", "default")
                assert (await seen(bridge, "/calls/c%2F1"))["since"] == call["since"]
            while (await seen(bridge, "/calls"))["calls"]:  # its stream is seen to its end
                pass
            assert (await seen(bridge, "/sessions/c%2F1"))["turns"] > 0
            said = await seen(bridge, "/conversation/c%2F1/history")
            assert {"role": "user", "text": "My name is Ada."} in [
                {"role": turn["role"], "text": turn["text"]} for turn in said["history"]
            ]
            stats = await seen(bridge, "/stats")
            assert (stats["storage_type"], stats["active_sessions_count"]) == ("file", 1)
            command = ("sessions", "show", "c/1", "--json")
            async with Child("opusagent", *command, environ=store, hide=SETTINGS) as shown:
                assert json.loads(await shown.line())["turns"] == said["historyLength"]

    run(main)


def test_a_signal_turns_the_bridge_red_and_a_second_one_ends_it_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as bridge, asyncio.TaskGroup() as tasks:
            call = tasks.create_task(bridge.call(Pause(20)))
            assert await eventually(lambda: bool(bridge.service.open_streams))
            bridge.signal(signal.SIGTERM)
            while (ready := await bridge.get("/readyz")).status_code == 200:
                pass
            assert "draining" in ready.json()["reasons"][0]
            assert not call.done()
            bridge.signal(signal.SIGINT)
            assert await ended(bridge.child, 4.0) == 130
        assert call.result().refused is None

    run(main)


def test_an_agent_s_file_that_changes_is_used_for_the_next_call(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as bridge:
            file = tmp_path / "agents" / "default.toml"

            async def prompt() -> str:
                await bridge.call(say(), WaitForBot(quiet_s=0.1))
                record = bridge.service.streams[-1].record
                assert record is not None
                return record.system_prompt

            assert await prompt() == "You are a test."
            file.write_text('system_prompt = "You are {agent}, called by {caller}."\n')
            assert await prompt() == "You are default, called by +4930901820."
            file.write_text('system_prompt = "You are {nobody}."\n')
            assert await prompt() == "You are default, called by +4930901820."
            assert (await bridge.get("/readyz")).status_code == 200
            problems = (await bridge.get("/stats")).json()["agent_problems"]
            assert "unknown variable {nobody}" in problems[str(file)]
            assert "opusagent_agents_broken 1.0" in (await bridge.get("/metrics")).text
        (line,) = [json.loads(line) for line in bridge.log if '"error"' in line]
        assert "unknown variable {nobody}" in line["problem"]
        assert "4930901820" not in "".join(bridge.log)

    run(main)


def test_a_bridge_without_bedrock_starts_and_says_why_it_is_not_ready(tmp_path: Path) -> None:
    async def main() -> None:
        variables = environ(tmp_path, AWS_ENDPOINT_URL_BEDROCK_RUNTIME="https://localhost:1")
        log: list[str] = []
        async with Child("opusagent", "serve", environ=variables, log=log.append) as child:
            admin = (await child.ready()).split()[-1]
            async with httpx.AsyncClient(trust_env=False) as client:
                ready = await client.get(f"{admin}/readyz")
        assert ready.status_code == 503
        assert "cannot be reached" in ready.json()["reasons"][0]
        assert child.returncode == 0

    run(main)


@pytest.mark.parametrize("fault", ["authority", "protocol"])
def test_a_bridge_whose_bedrock_can_never_be_reached_does_not_start(
    tmp_path: Path, fault: str
) -> None:
    async def main() -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        trusted = trustme.CA() if fault == "authority" else authority
        context.set_alpn_protocols(["h2"] if fault == "authority" else ["http/1.1"])
        ca_file = tmp_path / "ca.pem"
        trusted.cert_pem.write_to_path(str(ca_file))

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with await asyncio.start_server(accept, "localhost", 0, ssl=context) as server:
            url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
            aws = {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url, "AWS_CA_BUNDLE": str(ca_file)}
            variables = environ(tmp_path, **aws, LOG_LEVEL="ERROR")
            log: list[str] = []
            async with Child("opusagent", "serve", environ=variables, log=log.append) as child:
                with pytest.raises(ProcessFailed):
                    await child.ready()
        assert child.returncode == 2
        (line,) = log
        assert "AWS_CA_BUNDLE" in line
        assert ("not trusted" if fault == "authority" else "HTTP/2") in line

    run(main)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"AGENT_CONFIG_DIR": "/nowhere"}, "AGENT_CONFIG_DIR"),
        ({"AWS_CA_BUNDLE": __file__}, "AWS_CA_BUNDLE"),
        ({"BRIDGE_PORT": "taken"}, "BRIDGE_PORT"),
        ({"ADMIN_PORT": "taken"}, "ADMIN_PORT"),
        (
            {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_PROFILE": "",
                "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
                "AWS_CONFIG_FILE": "/nowhere",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            "AWS_ACCESS_KEY_ID",
        ),
    ],
    ids=["agents", "certificates", "telephone port", "admin port", "credentials"],
)
def test_a_bridge_that_cannot_work_does_not_start_and_names_the_setting(
    tmp_path: Path, wrong: dict[str, str], named: str
) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            values = {name: port if v == "taken" else v for name, v in wrong.items()}
            variables = environ(
                tmp_path,
                **{"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "https://localhost:1", "LOG_LEVEL": "ERROR"}
                | values,
            )
            log: list[str] = []
            async with Child("opusagent", "serve", environ=variables, log=log.append) as child:
                with pytest.raises(ProcessFailed):
                    await child.ready()
            assert child.returncode == 2
            (line,) = log
            assert named in line

    run(main)
