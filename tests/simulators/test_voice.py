from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import audioop
import pytest

from opusagent.clock import SystemClock
from opusagent.errors import ConfigError
from opusagent.simulators.voice import (
    BOT,
    CALLER,
    EspeakVoice,
    ToneVoice,
    VoiceStyle,
    open_voice,
    user_cache_dir,
)
from tests.waiting import eventually

NAME = "My name is Alice Miller."
RATES = (8_000, 16_000, 24_000)


def test_a_text_gives_the_same_bytes_whatever_was_said_before_and_when(
    tmp_path: Path,
) -> None:
    first = EspeakVoice(CALLER, cache_dir=tmp_path / "first").speak(NAME, 16_000)
    second = EspeakVoice(CALLER, cache_dir=tmp_path / "second")
    second.speak("Something else first.", 16_000)
    clock = SystemClock()
    said_at = clock.utcnow().replace(microsecond=0)  # eSpeak's own seed: the second
    assert asyncio.run(eventually(lambda: clock.utcnow().replace(microsecond=0) != said_at))
    assert second.speak(NAME, 16_000) == first


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_recording_lasts_as_long_at_every_rate(caller_voice: EspeakVoice, rate_hz: int) -> None:
    seconds = len(caller_voice.speak(NAME, rate_hz)) / 2 / rate_hz
    assert seconds == pytest.approx(len(caller_voice.speak(NAME, 8_000)) / 16_000, abs=0.001)
    assert 0.8 < seconds < 2.5


def test_a_recording_begins_and_ends_with_sound_that_counts_as_speech(
    caller_voice: EspeakVoice,
) -> None:
    pcm = caller_voice.speak(NAME, 8_000)
    assert audioop.rms(pcm, 2) > 2000
    assert audioop.rms(pcm[:800], 2) > 100
    assert audioop.rms(pcm[-800:], 2) > 100
    assert audioop.max(pcm, 2) < 32_767


def test_caller_and_bot_sound_different(caller_voice: EspeakVoice, bot_voice: EspeakVoice) -> None:
    assert caller_voice.speak(NAME, 8_000) != bot_voice.speak(NAME, 8_000)


def test_a_recording_is_kept_on_disk_and_read_from_there(tmp_path: Path) -> None:
    EspeakVoice(BOT, cache_dir=tmp_path).speak("Yes.", 8_000)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"\x01\x02" * 10)
    assert EspeakVoice(BOT, cache_dir=tmp_path).speak("Yes.", 8_000) == b"\x01\x02" * 10


def test_another_rate_voice_or_text_is_another_recording(tmp_path: Path) -> None:
    EspeakVoice(BOT, cache_dir=tmp_path).speak("Yes.", 8_000)
    EspeakVoice(BOT, cache_dir=tmp_path).speak("Yes.", 16_000)
    EspeakVoice(BOT, cache_dir=tmp_path).speak("No.", 8_000)
    EspeakVoice(CALLER, cache_dir=tmp_path).speak("Yes.", 8_000)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    voice = EspeakVoice(BOT, cache_dir=file / "voices")
    assert voice.speak("Yes.", 8_000)
    assert voice.speak("Yes.", 8_000)


def test_threads_may_speak_at_once(tmp_path: Path) -> None:
    voice = EspeakVoice(BOT, cache_dir=tmp_path)
    with ThreadPoolExecutor(8) as workers:
        spoken = set(workers.map(lambda _: voice.speak("Yes.", 8_000), range(8)))
    assert len(spoken) == 1


def test_what_was_prepared_is_spoken_without_rendering(tmp_path: Path) -> None:
    EspeakVoice(BOT, cache_dir=tmp_path).prepare(["Yes.", "No.", "Yes."], 8_000)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_text_without_words_is_silence(caller_voice: EspeakVoice) -> None:
    assert caller_voice.speak(" ... ", 8_000) == b""


def test_an_unknown_voice_is_a_config_error_that_names_it(tmp_path: Path) -> None:
    voice = EspeakVoice(VoiceStyle(voice="klingon-opera"), cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="klingon-opera"):
        voice.speak(NAME, 8_000)


def test_the_cache_follows_the_desktop_standard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "opusagent" / "voices"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache_dir() == Path.home() / ".cache" / "opusagent" / "voices"


def test_with_the_extra_a_voice_is_a_real_one(tmp_path: Path) -> None:
    assert isinstance(open_voice(CALLER, cache_dir=tmp_path), EspeakVoice)


def test_a_melody_is_its_texts_own_and_as_long_as_the_text() -> None:
    voice = ToneVoice(CALLER)
    voice.prepare([NAME], 16_000)
    assert voice.speak(NAME, 16_000) == ToneVoice(CALLER).speak(NAME, 16_000)
    assert voice.speak(NAME, 16_000) != voice.speak("My name is Alice Meller.", 16_000)
    assert voice.speak(NAME, 16_000) != ToneVoice(BOT).speak(NAME, 16_000)
    assert len(voice.speak(NAME + NAME, 8_000)) == pytest.approx(
        2 * len(voice.speak(NAME, 8_000)), rel=0.1
    )
    assert audioop.rms(voice.speak(NAME, 16_000), 2) > 2000
