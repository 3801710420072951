"""A call as a sound file: the caller on the left, the bot on the right, both as they were heard."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence

import audioop

from opusagent.audio.convert import resample
from opusagent.simulators.caller_playout import Sound
from opusagent.simulators.caller_record import CallRecord

__all__ = ["stereo_wav", "track"]

_SAME_RUN_S = 0.0005


def stereo_wav(record: CallRecord) -> bytes:
    """The call as a WAV file, from its first moment on, at the higher of both sides' rates."""
    sounds = (record.caller_sound, record.bot_sound)
    rate = max((s.rate_hz for side in sounds for s in side), default=16_000)
    left, right = (track(side, rate) for side in sounds)
    n_bytes = max(len(left), len(right), 2)
    left, right = left.ljust(n_bytes, b"\0"), right.ljust(n_bytes, b"\0")
    both = audioop.add(audioop.tostereo(left, 2, 1, 0), audioop.tostereo(right, 2, 0, 1), 2)
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(2)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(both)
    return file.getvalue()


def track(sounds: Sequence[Sound], rate_hz: int) -> bytes:
    """PCM16 from second 0 on, each sound in its place; sounds in order and not overlapping."""
    pcm = bytearray()
    for run in _runs(sounds):
        at = 2 * round(run.at * rate_hz)
        pcm += bytes(max(0, at - len(pcm)))
        sound = resample(run.pcm, run.rate_hz, rate_hz)
        pcm += sound[max(0, len(pcm) - at) :]
    return bytes(pcm)


def _runs(sounds: Sequence[Sound]) -> list[Sound]:
    """The sounds with neighbours joined, so that resampling has no seams inside a run."""
    runs: list[tuple[float, int, list[bytes]]] = []
    ends_at = 0.0
    for sound in sounds:
        if runs and sound.rate_hz == runs[-1][1] and abs(sound.at - ends_at) < _SAME_RUN_S:
            runs[-1][2].append(sound.pcm)
        else:
            runs.append((sound.at, sound.rate_hz, [sound.pcm]))
        ends_at = sound.ends_at
    return [Sound(at, b"".join(pieces), rate_hz) for at, rate_hz, pieces in runs]
