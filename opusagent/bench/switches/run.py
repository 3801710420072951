"""Runs the cases, one after the other, each with a bridge and a service of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from opusagent.bench import process_facts
from opusagent.bench.load_callers import BEARER
from opusagent.bench.switches.cases import EXPIRES_IN_S, Case
from opusagent.bench.switches.facts import BridgeLog, read_replies, read_streams
from opusagent.bench.switches.figures import CaseFigures
from opusagent.bench.switches.measure import measure
from opusagent.bench.switches.phone import CallLog, Phone
from opusagent.processes import SETTINGS, Child, ProcessFailed

__all__ = ["run_case", "run_switches"]

AT_ONCE: Final = 8
"""Calls at a time: with more, the callers, the service and the bridge wait for one another on two cores. Measured:
from the decision to the first frame p50 11.5 ms, p99 24 ms; with 16 it is 20.5 and 85."""
LEFT_S: Final = 6.0
"""How long streams may take to close after their call."""
LOOK_S: Final = 0.25
TELL_EVERY_S: Final = 10.0
CASE_S: Final = 400.0
ANSWER_S: Final = 60.0
DTMF_PAUSE_S: Final = 0.5

_AGENT: Final = 'system_prompt = "You are measured."\n'


type _Clocks = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Rig:
    """A bridge and a service that run."""

    service: Child
    bridge: Child
    url: str
    log: BridgeLog

    def clocks(self) -> _Clocks:
        """Seconds on the wall, and of processor time of the bridge, of all of us, of the machine."""
        bridge = process_facts.cpu_s(self.bridge.pid)
        ours = bridge + process_facts.cpu_s(self.service.pid) + process_facts.cpu_s(os.getpid())
        return time.monotonic(), bridge, ours, process_facts.busy_s()

    def load_since(self, before: _Clocks) -> tuple[float, float]:
        """How much of a core the bridge took since then, and how much others, in percent."""
        wall, bridge, ours, machine = (
            now - then for now, then in zip(self.clocks(), before, strict=True)
        )
        others = max(machine - ours, 0.0)
        return round(100 * bridge / wall, 1), round(100 * others / wall, 1)


async def run_switches(
    cases: Sequence[Case],
    *,
    per_case: int,
    progress: Callable[[str], None],
    at_once: int = AT_ONCE,
) -> list[CaseFigures]:
    """Measure each case.

    Args:
        cases: What to measure.
        per_case: How many switches each has at least.
        progress: Told how far it is.
        at_once: Calls at a time.

    Raises:
        ProcessFailed: If the bridge or the service does not start.
    """
    found = []
    for number, case in enumerate(cases, start=1):
        progress(
            f"{number} of {len(cases)}: {case.name}, {per_case} switches, {at_once} calls at once"
        )
        found.append(await run_case(case, per_case=per_case, at_once=at_once, progress=progress))
    return found


async def run_case(
    case: Case, *, per_case: int, at_once: int, progress: Callable[[str], None]
) -> CaseFigures:
    """Measure one case."""
    at_once = max(1, min(at_once, per_case))
    async with _rig(case, at_once) as rig:
        before = rig.clocks()
        calls = await _calls(case, rig, per_case, at_once, progress)
        bridge_percent, others_percent = rig.load_since(before)
        facts = await _when_closed(rig.service)
    streams = read_streams(facts)
    figures = measure(case, calls, streams, read_replies(facts), rig.log.lines)
    figures.bridge_percent, figures.others_percent = bridge_percent, others_percent
    figures.left_open = facts["open"] + facts["connections"]
    figures.failures += rig.log.warnings
    for line in figures.wrong[:3] + figures.failures[:3]:
        progress(f"   {line}")
    return figures


async def _calls(
    case: Case, rig: _Rig, per_case: int, at_once: int, progress: Callable[[str], None]
) -> list[CallLog]:
    """Keep so many calls under way until there were switches enough."""
    stop = asyncio.Event()
    numbers = itertools.count(1)
    logs: list[CallLog] = []

    async def line(delay_s: float) -> None:
        await _wait(delay_s)
        while not stop.is_set():
            logs.append(await Phone(next(numbers), case.caller, stop).run(rig.url))

    async with asyncio.TaskGroup() as tasks:
        for n in range(at_once):
            tasks.create_task(line(n * 2.0 / at_once))
        loop = asyncio.get_running_loop()
        began = told = loop.time()
        while rig.log.n_switches < per_case and loop.time() < began + CASE_S:
            await _wait(LOOK_S)
            if loop.time() >= told + TELL_EVERY_S:
                told = loop.time()
                progress(f"   {rig.log.n_switches} of {per_case}")
        stop.set()
    return logs


async def _when_closed(service: Child) -> dict[str, Any]:
    """What the service knows, once all streams are closed or have had their time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LEFT_S
    while True:
        await service.tell("figures")
        async with asyncio.timeout(ANSWER_S):
            facts: dict[str, Any] = json.loads(await service.line())
        if not facts["open"] + facts["connections"] or loop.time() >= deadline:
            return facts
        await _wait(LOOK_S)


@asynccontextmanager
async def _rig(case: Case, at_once: int) -> AsyncIterator[_Rig]:
    """Start the service and the bridge of a case; they end with the block."""
    log = BridgeLog()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca_file = folder / "ca.pem"
        agents = folder / "agents"
        agents.mkdir()
        (agents / "default.toml").write_text(_AGENT, encoding="utf-8")
        habits = asdict(case.service) | {"n_calls": at_once, "limit_s": case.limit_s}
        module = "opusagent.bench.switches.service"
        async with Child(module, str(ca_file), json.dumps(habits)) as service:
            environ = _environ(case, folder, (await service.ready()).split()[1], at_once)
            settings = folder / "bridge.toml"
            settings.touch()
            command = ["opusagent", "serve", "--config", str(settings)]
            if case.service.tools:
                command = ["opusagent.bench.switches.bridge", str(settings)]
            async with Child(*command, environ=environ, hide=SETTINGS, log=log.take) as bridge:
                try:
                    ready = await bridge.ready()
                except ProcessFailed as error:
                    raise ProcessFailed("; ".join([str(error), *log.warnings])) from error
                yield _Rig(service, bridge, ready.split()[1], log)


def _environ(case: Case, folder: Path, endpoint: str, at_once: int) -> dict[str, str]:
    environ = {
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": endpoint,
        "AWS_CA_BUNDLE": str(folder / "ca.pem"),
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "BRIDGE_HOST": "127.0.0.1",
        "BRIDGE_PORT": "0",
        "BRIDGE_TOKEN": BEARER,
        "ADMIN_HOST": "127.0.0.1",
        "ADMIN_PORT": "0",
        "AGENT_CONFIG_DIR": str(folder / "agents"),
        "SESSION_MAX_CONCURRENT": str(2 * at_once),
        "DRAIN_SECONDS": "3",
        "DTMF_PAUSE_SECONDS": str(DTMF_PAUSE_S),
        "TRANSITION_THRESHOLD_SECONDS": str(case.threshold_s),
        "AUDIO_START_TIMEOUT_SECONDS": str(case.timeout_s),
        "SESSION_LIMIT_SECONDS": str(case.limit_s),
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
    }
    return environ | (_expiring(folder) if case.expires else {})


def _expiring(folder: Path) -> dict[str, str]:
    """AWS's own way to credentials that a program gives out, and that do not last."""
    program = folder / "credentials.sh"
    program.write_text(
        "#!/bin/sh\n"
        f'until=$(date -u -d "+{EXPIRES_IN_S} seconds" +%Y-%m-%dT%H:%M:%SZ)\n'
        """printf '{"Version":1,"AccessKeyId":"local","SecretAccessKey":"local","Expiration":"%s"}' $until\n""",
        encoding="utf-8",
    )
    profile = folder / "aws"
    profile.write_text(f"[default]\ncredential_process = sh {program}\n", encoding="utf-8")
    nothing = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
    return nothing | {"AWS_CONFIG_FILE": str(profile), "AWS_SHARED_CREDENTIALS_FILE": str(profile)}


async def _wait(seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        pass
