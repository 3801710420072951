from __future__ import annotations

import io
import wave
from pathlib import Path

import pytest

from opusagent.errors import ConfigError
from opusagent.simulators.caller_script import (
    HangUp,
    Say,
    WaitForBot,
    recorded,
    spoken,
    turns_of,
)
from opusagent.simulators.voice import CALLER, ToneVoice


def wav(seconds: float, rate_hz: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(b"\x01\x00" * round(seconds * rate_hz))
    return file.getvalue()


def test_a_recording_is_there_at_any_rate(tmp_path: Path) -> None:
    path = tmp_path / "words.wav"
    path.write_bytes(wav(0.5, 16_000))
    sound = recorded(path)
    assert len(sound(16_000)) == 16_000
    assert len(sound(24_000)) == pytest.approx(24_000, abs=4)


@pytest.mark.parametrize("content", [None, b"", b"no sound", wav(0.0, 8_000)])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "words.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"words\.wav"):
        recorded(path)


def test_a_voice_says_the_words() -> None:
    voice = ToneVoice(CALLER)
    assert spoken(voice, "hello")(8_000) == voice.speak("hello", 8_000)


def test_each_turn_hears_the_bot_out_and_the_last_hangs_up() -> None:
    steps = turns_of([("one", bytes), ("two", bytes)])
    kinds = [type(step) for step in steps]
    assert kinds == [WaitForBot, Say, WaitForBot, Say, WaitForBot, HangUp]
