"""What sound is: formats, conversion, bounded buffers, speech energy, tones. No clock, no sockets."""

from __future__ import annotations

from opusagent.audio.convert import Decoder, Encoder, load_wav, resample
from opusagent.audio.formats import (
    PREFERRED_CALLER,
    PREFERRED_PLAY,
    Encoding,
    MediaFormat,
    choose,
)
from opusagent.audio.speech import SpeechChange, SpeechDetector, rms
from opusagent.audio.tail import AudioTail
from opusagent.audio.tones import comfort_tone, tone

__all__ = [
    "PREFERRED_CALLER",
    "PREFERRED_PLAY",
    "AudioTail",
    "Decoder",
    "Encoder",
    "Encoding",
    "MediaFormat",
    "SpeechChange",
    "SpeechDetector",
    "choose",
    "comfort_tone",
    "load_wav",
    "resample",
    "rms",
    "tone",
]
