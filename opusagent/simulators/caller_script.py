"""What the simulated caller does: the settings of the line, and the steps of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opusagent.audio.convert import load_wav
from opusagent.audio.formats import MediaFormat
from opusagent.errors import ConfigError
from opusagent.simulators.voice import Voice

__all__ = [
    "LIVE_HUB_FORMATS",
    "CallerPlan",
    "CutSocket",
    "HangUp",
    "Hold",
    "LoseBot",
    "Pause",
    "Press",
    "Say",
    "SendNumbers",
    "SendText",
    "Stall",
    "Step",
    "WaitForBot",
    "WaitForBotToSpeak",
    "recorded",
    "spoken",
    "turns_of",
]

LIVE_HUB_FORMATS: Final = (
    MediaFormat.LPCM16_16K,
    MediaFormat.WAV_LPCM16_16K,
    MediaFormat.LPCM16_8K,
    MediaFormat.WAV_LPCM16_8K,
    MediaFormat.LPCM16_24K,
    MediaFormat.WAV_LPCM16_24K,
    MediaFormat.MULAW_8K,
    MediaFormat.WAV_MULAW_8K,
)
"""What AudioCodes Live Hub offers, in its order of preference (measured on a live capture)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerPlan:
    """How VoiceAI Connect behaves in a call. Times in seconds.

    The defaults are what a live capture shows, and VoiceAI Connect's own defaults.

    Attributes:
        media_formats: Offered to the bot, in order of preference.
        chunk_ms: Length of a `userStream.chunk`.
        barge_in: The administrator's setting; the bot may change it with a `config` event.
        cuts_on_speech: Whether `userStream.speech.started` silences the bot, with barge-in on.
        cuts_on_abort: Whether `abortPrompts` does.
        cut_delay_s: How long VoiceAI Connect takes for it.
        start_delay_s: From `session.accepted` to the `start` event.
        listen_delay_s: From the moment that VoiceAI Connect may listen to `userStream.start`.
        stream_startup_s: From `userStream.started` to the first sample that is sent.
        resume_recognition_s: With barge-in off, how long it waits for the bot before it listens.
        accept_timeout_s: How long it waits for `session.accepted`.
        play_finished: Whether it reports the end of playing.
        resume_after_s: If the bot closes the socket: how soon it comes back; None is never.
        resume_window_s: How long it tries to.
        new_stream_on_resume: Whether `userStream.start` comes again after a resume, or only chunks.
        numbered_ms: Length of the numbered frames that the bot's audio is searched for; 0 is not.
        keep_audio: Whether both sides' sound is kept for a recording, and a line for each chunk.
        limit_s: The longest a call may take.
    """

    media_formats: Sequence[str] = LIVE_HUB_FORMATS
    caller: str = "anonymous"
    callee: str = "bot"
    bot_name: str = "voice-bot"
    chunk_ms: int = 160
    barge_in: bool = False
    cuts_on_speech: bool = True
    cuts_on_abort: bool = True
    cut_delay_s: float = 0.0
    start_delay_s: float = 0.06
    listen_delay_s: float = 0.5
    stream_startup_s: float = 0.38
    resume_recognition_s: float = 10.0
    accept_timeout_s: float = 10.0
    play_finished: bool = True
    resume_after_s: float | None = None
    resume_window_s: float = 10.0
    new_stream_on_resume: bool = True
    numbered_ms: int = 0
    keep_audio: bool = True
    limit_s: float = 3600.0


type Recorded = Callable[[int], bytes]
"""A recording at any rate: takes hertz, gives PCM16 mono."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Say something, and go on when it has been said.

    Attributes:
        sound: The recording.
        label: What it is, for the record.
        over_bot: Speak at once, whatever the bot does; otherwise once VoiceAI Connect listens.
        expects_answer: Whether the bot should say something to it.
        timeout_s: How long to wait for VoiceAI Connect to listen; then it is said to the wall.
    """

    sound: Recorded
    label: str = ""
    over_bot: bool = False
    expects_answer: bool = True
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForBot:
    """Wait until the bot has said something since the caller's last words, and is quiet again."""

    quiet_s: float = 1.0
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForBotToSpeak:
    """Wait until the bot has been heard for `seconds` of an answer to the caller's last words."""

    seconds: float = 1.0
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """Press keys: one event each, `gap_s` apart, or all in one with `together` (DTMF collection)."""

    digits: str
    spelling: str = "DTMF"
    gap_s: float = 0.2
    together: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """From now on nothing leaves for `seconds`; then everything that waited, in one burst."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Put the bot on hold: the user stream is stopped, and started again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SendNumbers:
    """Send `count` numbered frames: in real time as speech, or as fast as the socket takes them."""

    count: int
    first: int = 0
    frame_ms: int = 20
    fast: bool = False
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class SendText:
    """Send any text, legal or not."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSocket:
    """Lose the socket without a word, and come back on a new one after `resume_after_s`, if at all.

    With `half_open` the old socket stays, but nothing is read from it or written to it any more. With
    `behind_chunk` it is lost right behind a chunk of what the bot plays, so that none is on the way:
    what is, is lost, and nobody learns of it.
    """

    resume_after_s: float | None = 0.5
    half_open: bool = False
    behind_chunk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseBot:
    """Have the bot's process end by `kill`, and come back `resume_after_s` after its socket is gone."""

    kill: Callable[[], None]
    resume_after_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """End the call from the caller's side."""

    reason_code: str = "client-disconnected"
    reason: str = "Client Side"


type Step = (
    Say
    | WaitForBot
    | WaitForBotToSpeak
    | Pause
    | Press
    | Stall
    | Hold
    | SendNumbers
    | SendText
    | CutSocket
    | LoseBot
    | HangUp
)


def recorded(path: Path) -> Recorded:
    """The sound of a WAV file.

    Raises:
        ConfigError: If the file cannot be read or used; names it.
    """
    try:
        content = path.read_bytes()
        load_wav(content, 16_000)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return lambda rate_hz: load_wav(content, rate_hz)


def spoken(voice: Voice, text: str) -> Recorded:
    """The sound of a voice that says `text`."""
    return lambda rate_hz: voice.speak(text, rate_hz)


def turns_of(sounds: Sequence[tuple[str, Recorded]], *, greeting_s: float = 8.0) -> list[Step]:
    """One turn a sound: hear the bot out, say it, hear the answer out. Ends with a hang-up.

    Args:
        sounds: Label and recording of each turn.
        greeting_s: How long to wait for a greeting; a bot may have none.
    """
    steps: list[Step] = [WaitForBot(timeout_s=greeting_s)]
    for label, sound in sounds:
        steps += [Say(sound=sound, label=label), WaitForBot()]
    return [*steps, HangUp()]
