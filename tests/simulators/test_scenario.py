from __future__ import annotations

from pathlib import Path

import pytest

from opusagent.errors import ConfigError
from opusagent.simulators.scenario import (
    Scenario,
    find_scenario,
    load_scenario,
    scenario_names,
)
from opusagent.simulators.steps import HangUp, Interrupt, Say, Wait
from opusagent.simulators.voice import BOT, CALLER

GOOD = """
name = "small"
description = "Says hello."
[bot]
voice = "en-us+m3"
[[typed]]
pattern = "(?P<who>operator)"
answer = ["I am the {who}."]
[[phrase]]
id = "hello"
text = "Hello, this is Bob."
facts = { name = "Bob" }
answer = ["Hello, {name}."]
[[phrase]]
id = "order"
text = "Where is my order?"
answer = ["Let me see."]
tools = [{ name = "find", arguments = { who = "{name}" }, answer = ["It is {result.place}."] }]
[[step]]
do = "wait"
[[step]]
do = "say"
phrase = "hello"
[[step]]
do = "hang_up"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


def test_a_scenario_is_read_from_a_file(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, GOOD))
    assert scenario.phrases == {"hello": "Hello, this is Bob.", "order": "Where is my order?"}
    assert [type(step) for step in scenario.step] == [Wait, Say, HangUp]
    assert scenario.caller.style == CALLER
    assert scenario.bot.style.voice == "en-us+m3"
    assert scenario.bot.style.pitch == BOT.pitch
    assert "Let me see." in scenario.sentences
    assert "Hello, {name}." not in scenario.sentences


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('name = "small"', "", r"small\.toml: name: Field required"),
        ('name = "small"', 'name = "Small!"', r"small\.toml: name: "),
        ('do = "say"', 'do = "sing"', r"step\[1\]: .*'sing'"),
        ('phrase = "hello"', 'phrase = "bye"', r"step\[1\]\.phrase: .*'bye'; there are hello"),
        ('phrase = "hello"', 'phrase = "hello"\nloud = true', r"step\[1\]\.loud: Extra"),
        ('phrase = "hello"', "", r"step\[1\]\.phrase: Field required"),
        ('id = "order"', 'id = "hello"', r"phrase\[1\]\.id: 'hello' is there twice"),
        ("Hello, {name}.", "Hello, {nam}.", r"phrase\[0\]\.answer: \{nam\} is a fact of no"),
        ("It is {result.place}", "It is {place}", r"phrase\[1\]\.tools: \{place\} is neither"),
        ("I am the {who}", "I am the {whom}", r"typed\[0\]\.answer: \{whom\} is neither"),
        ("(?P<who>operator)", "(?P<who>", r"typed\[0\]\.pattern: no regular expression"),
        ('do = "hang_up"', 'do = "hang_up"\n[[step]]\ndo = "wait"', r"step\[3\]: nothing can"),
        ('do = "hang_up"', 'do = "dtmf"\ndigits = "12x"', r"step\[2\]\.digits: "),
        ('do = "hang_up"', 'do = "pause"\nseconds = 0', r"step\[2\]\.seconds: "),
        ('do = "hang_up"', 'do = "kill_bridge"', r"step\[2\]: there is no other bridge on the"),
        ('do = "hang_up"', 'do = "cut_socket"\nto = "other"', r"step\[2\]: there is no other"),
        ('do = "hang_up"', 'do = "cut_socket"\nto = "mars"', r"step\[2\]\.to: "),
        ('name = "small"', "name = ", r"small\.toml: no TOML: "),
        (
            'answer = ["Let me see."]',
            'answer = ["Let me see."]\nforgets = ["What, {name}?"]',
            r"phrase\[1\]\.forgets: \{name\} cannot be there",
        ),
    ],
)
def test_a_wrong_file_is_an_error_that_names_file_key_and_reason(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=reason) as caught:
        load_scenario(write(tmp_path, GOOD.replace(old, new)))
    assert str(tmp_path / "small.toml") in str(caught.value)


@pytest.mark.parametrize(
    ("losses", "route"),
    [
        ([], (1,)),
        (["cut_socket"], (1, 1)),
        (["cut_socket, other", "cut_socket, other", "cut_socket, other"], (1, 2, 3, 1)),
        (["kill_bridge", "cut_socket, other", "cut_socket, other"], (1, 2, 3, 2)),
        (["cut_socket, other", "kill_bridge", "kill_bridge"], (1, 2, 3, 1)),
    ],
)
def test_a_caller_who_comes_back_gets_the_bridge_that_the_scenario_says(
    tmp_path: Path, losses: list[str], route: tuple[int, ...]
) -> None:
    steps = ""
    for loss in losses:
        what, _, where = loss.partition(", ")
        steps += f'[[step]]\ndo = "{what}"\n' + (f'to = "{where}"\n' if where else "")
    setup = "[setup]\nbridges = 3\nstore = true\n[bot]"
    text = GOOD.replace("[bot]", setup).replace('[[step]]\ndo = "hang_up"', steps)
    assert load_scenario(write(tmp_path, text)).route == route


def test_the_last_bridge_cannot_be_killed(tmp_path: Path) -> None:
    kills = '[[step]]\ndo = "kill_bridge"\n' * 2
    setup = "[setup]\nbridges = 2\nstore = true\n[bot]"
    text = GOOD.replace("[bot]", setup).replace('[[step]]\ndo = "hang_up"', kills)
    with pytest.raises(ConfigError, match=r"step\[3\]: there is no other bridge"):
        load_scenario(write(tmp_path, text))


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        find_scenario(str(tmp_path / "nowhere.toml"))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"--scenario: 'bsaic' is none of basic"):
        find_scenario("bsaic")


def test_a_path_is_as_good_as_a_name(tmp_path: Path) -> None:
    assert find_scenario(str(write(tmp_path, GOOD))).name == "small"


@pytest.mark.parametrize("name", scenario_names())
def test_every_shipped_scenario_is_right_and_named_like_its_file(name: str) -> None:
    assert find_scenario(name).name == name


def test_the_basic_call_is_what_the_demo_promises() -> None:
    basic = find_scenario("basic")
    said = [step.phrase for step in basic.step if isinstance(step, Say | Interrupt)]
    assert said == ["name", "account", "stop", "ask_name", "goodbye"]
    assert sum(isinstance(step, Interrupt) for step in basic.step) == 1
    assert isinstance(basic.step[-1], HangUp)


def test_a_step_judges_the_answer_without_regard_to_case() -> None:
    step = Wait(do="wait", answer_contains=("alice",), answer_lacks=("Bob",))
    assert step.verdict("Hello ALICE.") == ""
    assert step.verdict("Hello bob.") == "the answer 'Hello bob.' lacks 'alice' and contains 'Bob'"


def test_the_package_ships_its_scenarios() -> None:
    assert "basic" in scenario_names()
    assert isinstance(find_scenario("basic"), Scenario)
