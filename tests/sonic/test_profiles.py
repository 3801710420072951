from __future__ import annotations

from opusagent.sonic.profiles import PROFILES
from opusagent.sonic.stream import SonicConfig


def test_every_generation_has_a_profile_of_its_name() -> None:
    assert list(PROFILES) == ["v1", "nova-2", "nova-2.5"]
    assert all(profile.name == name for name, profile in PROFILES.items())


def test_the_default_model_and_voice_are_those_of_the_second_generation() -> None:
    config = SonicConfig(system_prompt="")
    assert config.model_id == PROFILES["nova-2"].model_id
    assert config.voice in PROFILES["nova-2"].voices


def test_voices_come_and_go_with_the_generations() -> None:
    assert "greta" in PROFILES["v1"].voices
    assert {"tina", "olivia"} <= PROFILES["nova-2"].voices - PROFILES["v1"].voices
    assert "greta" not in PROFILES["nova-2"].voices
    assert len(PROFILES["nova-2"].voices) == 16
