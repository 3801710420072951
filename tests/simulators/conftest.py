from __future__ import annotations

from pathlib import Path

import pytest

from opusagent.simulators.voice import BOT, CALLER, EspeakVoice


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("voices")


@pytest.fixture(scope="session")
def caller_voice(recordings: Path) -> EspeakVoice:
    return EspeakVoice(CALLER, cache_dir=recordings)


@pytest.fixture(scope="session")
def bot_voice(recordings: Path) -> EspeakVoice:
    return EspeakVoice(BOT, cache_dir=recordings)
