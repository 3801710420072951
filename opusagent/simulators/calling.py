"""The verb `call`: a simulated VoiceAI Connect calls any bot that speaks the Bot API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from opusagent.audiocodes.peer import AudioCodesPeer, Validated
from opusagent.errors import ConfigError, RemoteProtocolError, TransportError
from opusagent.simulators.caller import CallerSocket, Progress, SimulatedCaller
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.caller_script import (
    LIVE_HUB_FORMATS,
    CallerPlan,
    CutSocket,
    HangUp,
    Pause,
    Press,
    Recorded,
    Say,
    SendNumbers,
    Step,
    WaitForBot,
    WaitForBotToSpeak,
    recorded,
    spoken,
)
from opusagent.simulators.caller_wav import stereo_wav
from opusagent.simulators.verdict import Verdict
from opusagent.simulators.voice import CALLER, open_voice
from opusagent.transports.websocket import connect

__all__ = [
    "AFTER_RESUME",
    "HELLO",
    "INTERRUPTION",
    "CallOptions",
    "call_steps",
    "run_call",
    "summary",
    "validate",
]

VALIDATE_S: Final = 5.0
_GREETING_S: Final = 8.0
_KEYS_S: Final = 8.0
"""Not every bot has something to say to keys."""
_LAST_FRAME_S: Final = 0.5
HELLO: Final = "Hello, can you hear me?"
INTERRUPTION: Final = "Sorry, one moment please."
AFTER_RESUME: Final = "Hello, are you still there?"
"""What a caller without recordings says; the scenario `basic` has answers to all three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What `call` is asked to do.

    Attributes:
        url: `ws://` or `wss://`.
        token: Of the `Authorization: Bearer` header; none without.
        ca_file: Certificates to trust instead of the system's.
        audio: What the caller says, a WAV file a turn; a built-in sentence without any.
        interrupt: Whether the caller speaks over the bot's last answer.
        dtmf: Keys to press after the last turn.
        cut_socket: Whether the socket is lost, and resumed, before the end.
        numbers: Numbered frames to send instead of words.
        numbers_first: Number of the first of them.
        fast: Whether they go out as fast as the socket takes them, not in real time.
        listen_for_numbers: Whether the bot's audio is searched for numbered frames.
        frame_ms: Length of a numbered frame, both ways.
        save_audio: Where the stereo WAV goes.
        media_formats: Offered to the bot, in order of preference.
        chunk_ms: Length of a chunk of caller audio.
        barge_in: The administrator's setting; the bot may change it.
        validate_first: Whether the administrator's test button is pressed before the call.
        bot_name: Picks the agent.
    """

    url: str
    token: str = ""
    ca_file: Path | None = None
    audio: Sequence[Path] = ()
    interrupt: bool = False
    dtmf: str = ""
    cut_socket: bool = False
    numbers: int = 0
    numbers_first: int = 0
    fast: bool = False
    listen_for_numbers: bool = False
    frame_ms: int = 20
    save_audio: Path | None = None
    media_formats: Sequence[str] = LIVE_HUB_FORMATS
    chunk_ms: int = 160
    barge_in: bool = False
    validate_first: bool = True
    bot_name: str = "voice-bot"


async def run_call(options: CallOptions, progress: Progress | None = None) -> CallRecord:
    """Make one call. What goes wrong with the bot stands in the record.

    Raises:
        ConfigError: If a sound file cannot be used or written.
    """
    steps = await asyncio.to_thread(call_steps, options)

    async def dial() -> CallerSocket:
        return await connect(options.url, token=options.token, ca_file=options.ca_file)

    validated_after_s = await validate(dial) if options.validate_first else None
    plan = CallerPlan(
        media_formats=options.media_formats,
        chunk_ms=options.chunk_ms,
        barge_in=options.barge_in,
        bot_name=options.bot_name,
        numbered_ms=options.frame_ms if options.listen_for_numbers else 0,
    )
    caller = SimulatedCaller(plan, dial, progress=progress)
    record = await caller.run(steps)
    record.validation_asked = options.validate_first
    record.validated_after_s = validated_after_s
    if (path := options.save_audio) is not None:
        try:
            await asyncio.to_thread(path.write_bytes, stereo_wav(record))
        except OSError as error:
            raise ConfigError(f"--save-audio: {path}: {error.strerror}") from error
    return record


async def validate(dial: Callable[[], Awaitable[CallerSocket]]) -> float | None:
    """Press the administrator's test button, on a websocket of its own.

    Returns:
        Seconds until the right answer, connecting apart; None if there was none in time.
    """
    loop = asyncio.get_running_loop()
    peer = AudioCodesPeer(new_id=str, utcnow=lambda: datetime.fromtimestamp(0, UTC))
    try:
        socket = await dial()
    except TransportError:
        return None
    asked_at = loop.time()
    try:
        async with asyncio.timeout(VALIDATE_S):
            peer.validate()
            for text in peer.texts_to_send():
                await socket.send(text)
            while (answer := await socket.recv()) is not None:
                if Validated() in peer.receive(answer):
                    return loop.time() - asked_at
    except (TimeoutError, TransportError, RemoteProtocolError):
        return None
    finally:
        await socket.close()
    return None


def call_steps(options: CallOptions) -> list[Step]:
    """The script of a call; renders what has to be spoken.

    Raises:
        ConfigError: If a sound file cannot be used; names it.
    """
    steps: list[Step] = [WaitForBot(timeout_s=_GREETING_S)]
    if options.numbers:
        numbers = SendNumbers(
            count=options.numbers,
            first=options.numbers_first,
            frame_ms=options.frame_ms,
            fast=options.fast,
        )
        # The last frame is on its way when the step ends; bot audio may come later still.
        return [*steps, numbers, Pause(_LAST_FRAME_S), HangUp()]
    voice = open_voice(CALLER)

    def words(text: str) -> Recorded:
        for rate_hz in (8_000, 16_000, 24_000):
            voice.prepare((text,), rate_hz)
        return spoken(voice, text)

    turns = [(path.name, _recording(path)) for path in options.audio] or [(HELLO, words(HELLO))]
    for label, sound in turns:
        steps += [Say(sound=sound, label=label), WaitForBot()]
    if options.interrupt:
        again = Say(sound=turns[-1][1], label=turns[-1][0])
        over = Say(sound=words(INTERRUPTION), label=INTERRUPTION, over_bot=True)
        steps += [again, WaitForBotToSpeak(), over, WaitForBot()]
    if options.dtmf:
        steps += [Press(digits=options.dtmf), WaitForBot(timeout_s=_KEYS_S)]
    if options.cut_socket:
        back = Say(sound=words(AFTER_RESUME), label=AFTER_RESUME)
        steps += [CutSocket(), back, WaitForBot()]
    return [*steps, HangUp()]


def _recording(path: Path) -> Recorded:
    try:
        return recorded(path)
    except ConfigError as error:
        raise ConfigError(f"--audio: {error}") from error


def summary(record: CallRecord, verdict: Verdict) -> dict[str, JsonValue]:
    """The call in figures, for `--json`; seconds."""
    heard = [span for span in record.played if span.began_at is not None]
    numbers = record.numbers() if record.numbers_heard else None
    return {
        "ok": verdict.ok,
        "verdict": verdict.as_json(),
        "validated_after_s": _r(record.validated_after_s),
        "accept_s": _r(record.accept_s),
        "first_bot_audio_s": _r(record.first_bot_audio_s),
        "duration_s": _r(record.ended_at),
        "ended": record.end_reason,
        "barge_in": record.barge_in,
        "caller_format": record.caller_format,
        "caller_chunks": record.caller_chunks,
        "play_streams": len(record.played),
        "bot_heard_s": _r(sum(span.heard_s for span in heard)),
        "max_lead_s": _r(record.max_lead_s),
        "longest_hole_s": _r(max((h.seconds for s in heard for h in s.holes), default=0.0)),
        "answers": [{"phrase": a.phrase.label, "seconds": _r(a.seconds)} for a in record.answers()],
        "interruptions": [
            {
                "phrase": i.phrase.label,
                "silent_after_s": _r(i.silent_after_s),
                "told_after_s": _r(i.told_after_s),
                "cut": i.cut,
            }
            for i in record.interruptions()
        ],
        "resumed_after_s": [_r(seconds) for seconds in record.resumed_after_s],
        "numbers_sent": len(record.numbers_sent),
        "numbers_heard": None
        if numbers is None
        else {
            "count": numbers.count,
            "lost": len(numbers.lost),
            "doubled": len(numbers.doubled),
            "disordered": numbers.disordered,
            "broken": numbers.broken,
        },
    }


def _r(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
