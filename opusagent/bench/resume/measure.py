"""What is measured, each on a stage of its own."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from opusagent.bench.resume.phone import Phone, pause
from opusagent.bench.resume.stage import Bridge, Stage, stage

__all__ = [
    "Kills",
    "Moves",
    "Outage",
    "Returns",
    "Writes",
    "measure_kills",
    "measure_moves",
    "measure_outage",
    "measure_returns",
    "measure_writes",
    "percentile",
]

SAFE_S: Final = 0.1
"""What had reached the bridge so long before a kill must not be lost."""

CALLS_A_KILL: Final = 4
LIVE_FRAME_MS: Final = 160
"""Length of VoiceAI Connect's chunks of caller audio (measured on a live capture)."""

TALK_S: Final = (0.4, 1.6)
"""How long calls go on before the process is killed."""

type Progress = Callable[[str], None]


def percentile(values: Sequence[float], percent: float) -> float:
    """Of values in any order; not a number without any."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)], 2)


@dataclass(slots=True)
class Kills:
    """What became of calls whose process was killed.

    Attributes:
        kills: Processes that were killed.
        calls: Calls on them.
        items: Turns and function calls that reached the bridge in time.
        lost: Those of them that the next stream was not told.
        twice: Those that it was told twice.
        refused: Reasons of calls that were not taken up.
    """

    kills: int = 0
    calls: int = 0
    items: int = 0
    lost: int = 0
    twice: int = 0
    refused: list[str] = field(default_factory=list)

    def judge(self, due: Sequence[str], told: Sequence[str]) -> None:
        """Hold the tokens that a stream was told against those that it had to be told."""
        times = Counter(told)
        self.calls += 1
        self.items += len(due)
        self.lost += sum(times[token] == 0 for token in due)
        self.twice += sum(count > 1 for count in times.values())


async def measure_kills(
    n_kills: int, *, progress: Progress, saving: bool = True, seed: int = 0
) -> Kills:
    """Kill the process of a few calls at a random moment, again and again.

    Args:
        n_kills: How often.
        progress: Takes lines for whoever watches.
        saving: Whether sessions are stored; without it everything must be lost.
        seed: Of the moments, and of what is said.
    """
    found = Kills()
    moments = random.Random(seed)  # noqa: S311 - not for secrets
    async with stage(stored=saving, seed=seed, ON_UNKNOWN_SESSION="fresh") as played:
        doomed = await played.add()
        for number in range(n_kills):
            played.prefer(doomed)
            heir = await played.start()  # while the calls go on
            phones = [await played.call() for _ in range(CALLS_A_KILL)]
            await played.admit(heir)
            await pause(moments.uniform(*TALK_S))
            await _kill_one(played, doomed, phones, found)
            doomed = heir
            if (number + 1) % 10 == 0:
                progress(f"  {number + 1} kills: {found.items} items, {found.lost} lost")
    return found


async def _kill_one(played: Stage, doomed: Bridge, phones: Sequence[Phone], found: Kills) -> None:
    killed_at = await played.kill(doomed)
    found.kills += 1
    for phone in phones:
        try:
            await played.service.until_heard(phone.number, 2)
        except TimeoutError:
            found.refused.append(phone.refused or phone.lost or "never heard again")
        first, *others = played.service.streams_of(phone.number)
        due = first.said[: first.reached_by(killed_at - SAFE_S)]
        found.judge(due, [token for stream in others for token in stream.told])
        await phone.hang_up()


@dataclass(slots=True)
class Returns:
    """Callers who lost their line and came back to the same process; times in milliseconds."""

    returns: int = 0
    frames_sent: int = 0
    frames_lost: int = 0
    frames_doubled: int = 0
    new_streams: int = 0
    accepted_ms: list[float] = field(default_factory=list)


async def measure_returns(n_calls: int = 4, cuts: int = 50) -> Returns:
    """Cut callers off in the middle of a word, each several times."""
    found = Returns()
    async with stage() as played:
        await played.add()
        phones = [await played.call() for _ in range(n_calls)]
        moments = random.Random(1)  # noqa: S311 - not for secrets
        for _ in range(cuts):
            await pause(moments.uniform(0.05, 0.15))
            for phone in phones:
                await _cut(phone)
        await pause(0.5)
        for phone in phones:
            await phone.hang_up()
        await pause(1.0)
        for phone in phones:
            streams = played.service.streams_of(phone.number)
            times = Counter(number for stream in streams for number in stream.frames)
            found.returns += len(phone.returns)
            found.frames_sent += phone.sent
            found.frames_lost += sum(times[number] == 0 for number in range(phone.sent))
            found.frames_doubled += sum(count > 1 for count in times.values())
            found.new_streams += len(streams) - 1
            found.accepted_ms += _accepted_ms(phone)
    return found


async def _cut(phone: Phone) -> None:
    count = len(phone.returns)
    await phone.is_up.wait()
    await phone.cut()
    while len(phone.returns) == count and not phone.lost:
        await pause(0.002)
    await phone.is_up.wait()


def _accepted_ms(phone: Phone) -> list[float]:
    return [(one.accepted_at - one.asked_at) * 1000 for one in phone.returns]


@dataclass(slots=True)
class Moves:
    """Callers who came back to another process while the first one lives; times in milliseconds.

    Attributes:
        heard_ms: From `session.resume` to her first frame on the new stream, without the time in which
            the service opened it.
        hang_ups: How often the process that was left hung up; it must not.
    """

    moves: int = 0
    accepted_ms: list[float] = field(default_factory=list)
    heard_ms: list[float] = field(default_factory=list)
    hang_ups: int = 0
    refused: list[str] = field(default_factory=list)


async def measure_moves(n_moves: int = 200) -> Moves:
    """Send a few callers back and forth between two processes."""
    found = Moves()
    async with stage() as played:
        bridges = [await played.add(), await played.add()]
        phones = [await played.call() for _ in range(4)]
        for number in range(n_moves):
            phone = phones[number % len(phones)]
            there = bridges[(number // len(phones) + 1) % 2]
            played.prefer(there)
            n_streams = len(played.service.streams_of(phone.number))
            await phone.is_up.wait()
            await phone.cut()
            await played.service.until_heard(phone.number, n_streams + 1)
            await _note_move(played, phone, there, found)
        for phone in phones:
            found.accepted_ms += _accepted_ms(phone)
            found.hang_ups += phone.hung_up
            found.refused += [phone.refused] if phone.refused else []
            await phone.hang_up()
    return found


async def _note_move(played: Stage, phone: Phone, there: Bridge, found: Moves) -> None:
    stream = played.service.streams_of(phone.number)[-1]
    assert stream.heard_at is not None
    spent_ms = (stream.heard_at - phone.returns[-1].asked_at) * 1000
    opened = there.log.open_ms.get(phone.conversation_id, [])
    n_here = sum(one.url == there.url for one in phone.returns) + (there.url == phone.first_url)
    while len(opened) < n_here:  # its line may still be on the way
        await pause(0.005)
        opened = there.log.open_ms.get(phone.conversation_id, [])
    found.moves += 1
    found.heard_ms.append(spent_ms - opened[-1])


@dataclass(slots=True)
class Outage:
    """Many calls, one of two processes killed."""

    calls: int = 0
    heard_again: int = 0
    seconds: float = math.nan
    refused: list[str] = field(default_factory=list)


async def measure_outage(n_calls: int = 50) -> Outage:
    """Kill the process that has all calls; count until the model hears every caller again."""
    found = Outage(calls=n_calls)
    async with stage(n_calls=n_calls) as played:
        played.service.pause_s = (0.5, 1.5)
        doomed = await played.add()
        phones = [await played.call(frame_ms=LIVE_FRAME_MS) for _ in range(n_calls)]
        await played.add()
        played.prefer(doomed)
        await pause(2.0)
        killed_at = await played.kill(doomed)
        for phone in phones:
            try:
                await played.service.until_heard(phone.number, 2)
            except TimeoutError:
                found.refused.append(phone.refused or phone.lost or "never heard again")
        heard = [played.service.streams_of(phone.number)[1:2] for phone in phones]
        times = [stream.heard_at for streams in heard for stream in streams]
        found.heard_again = len(times)
        if len(times) == n_calls:
            found.seconds = round(max(at for at in times if at is not None) - killed_at, 3)
        for phone in phones:
            await phone.hang_up()
    return found


@dataclass(slots=True)
class Writes:
    """Writes of sessions, by the bridge's own count.

    Attributes:
        items: Turns and function calls; and calls that began, were accepted or ended. A turn that is spoken
            counts twice: it is stored when the phone is given the first of it, and when it is complete.
        writes: Of whole sessions.
        idle_s: For so long nothing was said.
        idle_writes: Meanwhile.
        save_ms: From an event to its being stored, on average.
    """

    items: int = 0
    writes: int = 0
    idle_s: float = 0.0
    idle_writes: int = 0
    save_ms: float = math.nan


async def measure_writes(n_calls: int = 5, talk_s: float = 5.0, idle_s: float = 5.0) -> Writes:
    """Count writes while a model talks, and while nobody says anything."""
    found = Writes(idle_s=idle_s)
    saves = 'session_saves_total{outcome="ok"}'
    async with stage() as played:
        bridge = await played.add()
        played.service.speaks = True
        phones = [await played.call() for _ in range(n_calls)]
        await pause(talk_s)
        played.service.talks = False
        await pause(1.0)
        before = await bridge.metric(saves)
        await pause(idle_s)
        found.idle_writes = round(await bridge.metric(saves) - before)
        for phone in phones:
            await phone.hang_up()
        await pause(1.0)
        found.writes = round(await bridge.metric(saves))
        found.items = len(played.service.items) + played.service.spoken + 3 * n_calls
        total_s = await bridge.metric("session_save_seconds_sum")
        found.save_ms = round(1000 * total_s / max(found.writes, 1), 2)
    return found
