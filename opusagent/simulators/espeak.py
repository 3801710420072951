"""eSpeak NG in a process of its own: a job as JSON on stdin, 16-bit mono PCM on stdout.

Run as a file, not imported: what eSpeak says depends on everything the process has said before
(measured with 1.52: the same sentence differs from one rendering to the next, even after a new
initialisation), and it keeps its state in globals. A fresh process per sentence, which puts a seed
of its own in place of eSpeak's (the second of the day), renders the same samples every time and
cannot take anybody else down. Nothing of `opusagent` is imported here, so that the process starts
in a few hundredths of a second.

The first four bytes of the answer are the sample rate, little-endian.
"""

from __future__ import annotations

import ctypes
import json
import sys

import espeakng_loader  # type: ignore[import-untyped]  # ships no types

_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_UTF8 = 1
_CHARACTERS = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_SEED = 1
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def render(text: str, voice: str, words_per_minute: int, pitch: int, pitch_range: int) -> bytes:
    """One sentence as the sample rate and PCM16 mono.

    Raises:
        SystemExit: With words, if eSpeak does not start or has no such voice.
    """
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    pcm = bytearray()

    def collect(samples: object, n_samples: int, _events: int | None) -> int:
        if samples and n_samples > 0:
            pcm.extend(ctypes.string_at(samples, 2 * n_samples))  # type: ignore[arg-type]  # a pointer, as ctypes gives it
        return 0

    callback = _CALLBACK(collect)  # kept in a local: eSpeak holds no reference to it
    data = espeakng_loader.get_data_path().encode()
    rate_hz: int = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
    if rate_hz <= 0:
        raise SystemExit(f"eSpeak NG does not start: {rate_hz}")
    library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise SystemExit(f"eSpeak NG has no voice {voice!r}")
    for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
        library.espeak_SetParameter(parameter, value, 0)
    raw = text.encode()
    size = ctypes.c_size_t(len(raw) + 1)
    if library.espeak_Synth(raw, size, 0, _CHARACTERS, 0, _UTF8, None, None) != 0:
        raise SystemExit("eSpeak NG cannot say this text")
    library.espeak_Synchronize()
    return rate_hz.to_bytes(4, "little") + bytes(pcm)


if __name__ == "__main__":
    sys.stdout.buffer.write(render(**json.load(sys.stdin)))
