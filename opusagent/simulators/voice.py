"""Voices for the simulated caller and the local Nova Sonic service, rendered once and kept.

With the extra `simulate` the voices are eSpeak NG's; without it each text has a melody of its own.
The same text, voice and rate give the same bytes in every process: the local service recognises
what it hears by comparing it with its own recordings.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from opusagent.errors import ConfigError

__all__ = [
    "BOT",
    "CALLER",
    "EspeakVoice",
    "ToneVoice",
    "Voice",
    "VoiceStyle",
    "open_voice",
    "user_cache_dir",
]

_RENDERING: Final = 2
"""Part of every cache key: raise it when the rendering changes."""
_PEAK: Final = 18_000
_QUIET: Final = 300
_RENDER_LIMIT_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceStyle:
    """How somebody sounds. Names and ranges are eSpeak NG's (`espeak_ng --voices`, 0 to 100)."""

    voice: str = "en-us"
    words_per_minute: int = 165
    pitch: int = 50
    pitch_range: int = 50


CALLER: Final = VoiceStyle(voice="gmw/en-GB-x-rp+f3", words_per_minute=160, pitch=58)
"""A British woman."""
BOT: Final = VoiceStyle(voice="en-us", words_per_minute=170, pitch=38)
"""An American man."""


class Voice(Protocol):
    """Somebody who can say any text."""

    def speak(self, text: str, rate_hz: int) -> bytes:
        """The text as PCM16 mono, beginning and ending with sound rather than silence."""
        ...

    def prepare(self, texts: Iterable[str], rate_hz: int) -> None:
        """Render these texts ahead, so that `speak` answers at once for them."""
        ...


def open_voice(style: VoiceStyle, *, cache_dir: Path | None = None) -> Voice:
    """The best voice that this installation has: eSpeak NG's, or else melodies.

    Args:
        style: How it sounds; a different style is a different voice in either case.
        cache_dir: Where recordings are kept; the user's cache directory by default.
    """
    if find_spec("espeakng_loader") is None or find_spec("numpy") is None:
        return ToneVoice(style)
    return EspeakVoice(style, cache_dir=cache_dir)


def user_cache_dir() -> Path:
    """Where recordings are kept between runs: `$XDG_CACHE_HOME/opusagent/voices` or its default."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "opusagent" / "voices"


class EspeakVoice:
    """Speech by eSpeak NG. Safe to use from several threads and several processes."""

    def __init__(self, style: VoiceStyle, *, cache_dir: Path | None = None) -> None:
        self._style = style
        self._dir = cache_dir or user_cache_dir()
        self._known: dict[tuple[str, int], bytes] = {}
        self._lock = threading.Lock()
        self._version = f"{metadata.version('espeakng-loader')}/{_RENDERING}"

    def speak(self, text: str, rate_hz: int) -> bytes:
        """The text as PCM16 mono at `rate_hz`, without silence around it.

        Raises:
            ConfigError: If eSpeak NG cannot say it, e.g. because it has no such voice.
        """
        key = (text, rate_hz)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            path = self._dir / f"{self._digest(text, rate_hz)}.pcm"
            known = _read(path)
            if known is None:
                known = self._render(text, rate_hz)
                _write_whole(path, known)
            with self._lock:
                self._known[key] = known
        return known

    def prepare(self, texts: Iterable[str], rate_hz: int) -> None:
        """Render these texts ahead, on all cores.

        Raises:
            ConfigError: As `speak`.
        """
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as workers:
            for _ in workers.map(lambda text: self.speak(text, rate_hz), dict.fromkeys(texts)):
                pass

    def _digest(self, text: str, rate_hz: int) -> str:
        facts = json.dumps([self._version, asdict(self._style), rate_hz, text])
        return hashlib.sha256(facts.encode()).hexdigest()[:32]

    def _render(self, text: str, rate_hz: int) -> bytes:
        # Here, because numpy is there only with the extra.
        from opusagent.simulators.resampling import (  # noqa: PLC0415
            pcm_of,
            resample,
            samples_of,
        )

        if not any(character.isalnum() for character in text):
            return b""
        job = json.dumps({"text": text, **asdict(self._style)}).encode()
        # A process per text: see espeak.py for why.
        command = [sys.executable, "-I", str(Path(__file__).with_name("espeak.py"))]
        try:
            ended = subprocess.run(  # noqa: S603 - our own file, with this interpreter
                command, check=False, input=job, capture_output=True, timeout=_RENDER_LIMIT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"simulated voice {self._style.voice!r}: {error}") from error
        if ended.returncode != 0:
            reason = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise ConfigError(f"simulated voice {self._style.voice!r}: {reason}")
        spoken = samples_of(ended.stdout[4:])
        spoken = spoken * (_PEAK / float(abs(spoken).max(initial=1.0)))
        loud = (abs(spoken) > _QUIET).nonzero()[0]
        if not len(loud):
            return b""
        # Trimmed before the rate changes: at every rate a recording begins at the same sound.
        source_hz = int.from_bytes(ended.stdout[:4], "little")
        return pcm_of(resample(spoken[loud[0] : loud[-1] + 1], source_hz, rate_hz))


class ToneVoice:
    """A melody for each text, as long as the text would take; no two texts share one."""

    _NOTE_S: Final = 0.11
    _NOTES_PER_CHARACTER: Final = 0.55

    def __init__(self, style: VoiceStyle) -> None:
        self._style = style
        self._known: dict[tuple[str, int], bytes] = {}

    def speak(self, text: str, rate_hz: int) -> bytes:
        """The text's melody as PCM16 mono at `rate_hz`; about as long as the text would be."""
        key = (text, rate_hz)
        if key not in self._known:
            n_notes = math.ceil(len(text.strip()) * self._NOTES_PER_CHARACTER)
            names = hashlib.shake_256(f"{asdict(self._style)}/{text}".encode()).digest(n_notes)
            notes = (self._note(280.0 + 4.5 * name, rate_hz) for name in names)
            self._known[key] = b"".join(notes)
        return self._known[key]

    def prepare(self, texts: Iterable[str], rate_hz: int) -> None:
        """Compute these melodies ahead."""
        for text in texts:
            self.speak(text, rate_hz)

    def _note(self, frequency_hz: float, rate_hz: int) -> bytes:
        n_samples = round(self._NOTE_S * rate_hz)
        turn = 2 * math.pi * frequency_hz / rate_hz
        ramp = n_samples / 8  # in and out, so that notes do not click
        samples = (
            round(9000 * min(1.0, i / ramp, (n_samples - i) / ramp) * math.sin(turn * i))
            for i in range(n_samples)
        )
        return struct.pack(f"<{n_samples}h", *samples)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never seen half written; a cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    except OSError:
        return
