from __future__ import annotations

from pathlib import Path

import pytest

from opusagent.errors import ConfigError
from opusagent.simulators.scenario import Scenario, find_scenario, load_scenario
from opusagent.simulators.setup import Setup

WITH_SWITCHES = """
name = "mine-1"
description = "Any."
[[phrase]]
id = "hello"
text = "Hello."
[[phrase]]
id = "unsaid"
text = "Something else."
[[step]]
do = "say"
phrase = "hello"
"""


def scenario(tmp_path: Path, more: str) -> Scenario:
    path = tmp_path / "mine.toml"
    path.write_text(WITH_SWITCHES + more)
    return load_scenario(path)


def test_a_scenario_says_nothing_of_its_set_up_where_everything_is_as_always(
    tmp_path: Path,
) -> None:
    assert scenario(tmp_path, "").setup == Setup()
    assert (Setup().bridges, Setup().limit_s, Setup().environ) == (1, 480.0, {})


def test_a_scenario_brings_settings_and_faults(tmp_path: Path) -> None:
    setup = scenario(
        tmp_path,
        '[setup]\nfaults = ["reset:stream=2"]\n'
        "settings = { barge_in = false, transition_threshold_seconds = 9 }\n",
    ).setup
    assert setup.environ == {"BARGE_IN": "False", "TRANSITION_THRESHOLD_SECONDS": "9"}
    assert [fault.stream for fault in setup.fault_specs] == [2]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("[setup]\nsettings = { no_such_thing = 1 }", r"setup\.settings.*no_such_thing"),
        ('[setup]\nfaults = ["earthquake"]', r"setup\.faults.*earthquake"),
        ("[setup]\nbridges = 0", r"setup\.bridges"),
        ("[setup]\nstreams = 2", r"setup\.streams"),
        ('[[switch]]\nreason = "boredom"', r"switch\[0\]\.reason"),
        ('[[switch]]\nreason = "lost"\nduring = "unsaid"', r"switch\[0\]\.during: .*'unsaid'"),
    ],
)
def test_what_is_wrong_in_a_set_up_is_named(tmp_path: Path, wrong: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        scenario(tmp_path, wrong)


def test_the_long_call_has_a_limit_for_bridge_and_service_alike() -> None:
    setup = find_scenario("long-call").setup
    assert float(setup.environ["SESSION_LIMIT_SECONDS"]) == setup.limit_s
