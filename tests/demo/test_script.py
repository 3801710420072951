from __future__ import annotations

from pathlib import Path

from opusagent.demo.script import steps_of
from opusagent.simulators import caller_script as script
from opusagent.simulators.scenario import load_scenario
from opusagent.simulators.voice import CALLER, open_voice

SCENARIO = """
name = "mine"
description = "Any."
[setup]
bridges = 2
store = true
[[phrase]]
id = "hello"
text = "Hello."
[[step]]
do = "say"
phrase = "hello"
[[step]]
do = "cut_socket"
after_s = 1.5
resume_after_s = 0.3
to = "other"
[[step]]
do = "say"
phrase = "hello"
[[step]]
do = "kill_bridge"
"""


def test_a_line_is_lost_as_the_scenario_says_and_the_bridge_that_has_the_call_is_killed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SCENARIO)
    killed: list[int] = []
    said, spoke, cut, again, kill = steps_of(load_scenario(path), open_voice(CALLER), killed.append)
    assert isinstance(said, script.Say)
    assert said.expects_answer
    assert spoke == script.WaitForBotToSpeak(seconds=1.5, timeout_s=11.5)
    assert cut == script.CutSocket(resume_after_s=0.3, behind_chunk=True)
    assert isinstance(again, script.Say)
    assert not again.expects_answer
    assert isinstance(kill, script.LoseBot)
    assert kill.resume_after_s == 0.6
    kill.kill()
    assert killed == [2]
