"""`nova`: the local Nova Sonic service as a program."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from opusagent.errors import ConfigError
from opusagent.simulators.brain import PhraseEars, ScenarioBrain
from opusagent.simulators.counting import CountingBrain, DeafEars, check_stream
from opusagent.simulators.faults import parse_fault
from opusagent.simulators.hearing import Heard, PhraseBook
from opusagent.simulators.scenario import find_scenario
from opusagent.simulators.sonic_service import NovaService, ServicePlan
from opusagent.simulators.voice import open_voice
from opusagent.simulators.wire import WireServer
from opusagent.sonic.peer_brain import Brain
from opusagent.sonic.profiles import PROFILES, Timing

__all__ = ["NovaOptions", "run_nova"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NovaOptions:
    """What the command line said.

    Attributes:
        host: Where to listen.
        port: Its port; 0 takes any free one.
        ca_file: Where the CA certificate is written.
        limit_s: Life of a stream.
        scale: How much faster than the wall the limits run.
        quota: Streams at once; one more is throttled.
        profile: A name of `PROFILES`.
        scenario: A shipped one by name, or the path of a file.
        record: Folder for the reports of all streams.
        faults: As `parse_fault` takes them.
        numbers: Frames of an answer, where answers are numbered frames; 0 is speech.
    """

    host: str = "localhost"
    port: int = 0
    ca_file: Path | None = None
    limit_s: float = 480.0
    scale: float = 1.0
    quota: int | None = None
    profile: str = "nova-2"
    scenario: str = "basic"
    record: Path | None = None
    faults: list[str] = field(default_factory=list)
    numbers: int = 0


async def run_nova(options: NovaOptions) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Prints `READY https://localhost:PORT` when streams are taken.

    Raises:
        ConfigError: If an option cannot be used.
    """
    if options.profile not in PROFILES:
        raise ConfigError(f"--profile: {options.profile!r} is none of {', '.join(PROFILES)}")
    scenario = find_scenario(options.scenario)
    plan = ServicePlan(
        profile=PROFILES[options.profile],
        timing=Timing(limit_s=options.limit_s, interruptible_playout=True),
        faults=[parse_fault(text) for text in options.faults],
        scale=options.scale,
        quota=options.quota,
    )
    brain: Callable[[], Brain] = partial(CountingBrain, options.numbers)
    ears: PhraseEars | DeafEars = DeafEars()
    if not options.numbers:
        bot = open_voice(scenario.bot.style)
        # Rendered ahead, so that no answer waits for it.
        bot.prepare(scenario.sentences, 24_000)
        brain = partial(ScenarioBrain, scenario, bot)
        ears = PhraseEars(PhraseBook(scenario.phrases, open_voice(scenario.caller.style)))
    service = NovaService(
        brain,
        ears,
        plan,
        told=lambda event, stream: print(f"stream {stream} {event}", flush=True),
    )
    server = WireServer(service, host=options.host, port=options.port, ca_file=options.ca_file)
    try:
        await server.start()
    except OSError as error:
        place = f"--host {options.host} --port {options.port}"
        if error.filename is not None:  # not the socket: the certificate could not be written
            place = f"--ca-file {error.filename}"
        raise ConfigError(f"{place}: {error.strerror}") from error
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"READY {server.url}", flush=True)
    try:
        await stop.wait()
    finally:
        server.close()
        _report(service, ears, options)
    return 0


def _report(service: NovaService, ears: PhraseEars | DeafEars, options: NovaOptions) -> None:
    """Say what was received, and write it where a folder was named."""
    if options.numbers:
        for log in service.streams:
            if (check := check_stream(log)) is not None:
                print(
                    f"stream {log.number}: {check.count} numbered frames, {len(check.lost)} lost,"
                    f" {len(check.doubled)} doubled, {check.disordered} out of order",
                    flush=True,
                )
    if options.record is None:
        return
    service.save(options.record)
    utterances = ears.heard if isinstance(ears, PhraseEars) else []
    heard = [[_phrase(phrase) for phrase in utterance] for utterance in utterances]
    path = options.record / "heard.json"
    path.write_text(json.dumps(heard, indent=1), encoding="utf-8")


def _phrase(phrase: Heard) -> dict[str, JsonValue]:
    missing_ms = phrase.missing_start_ms + phrase.missing_end_ms + phrase.holes_ms
    return {
        "phrase": phrase.phrase_id,
        "text": phrase.text,
        "score": round(phrase.score, 3),
        "whole": phrase.whole,
        "missing_ms": missing_ms,
        "repeated_ms": phrase.repeated_ms,
    }
