"""The command line as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opusagent.cli import app

VERBS = ("serve", "demo", "call", "nova", "check", "bench")


def run_program(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opusagent", *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: python run_bridge.py {verb}" in result.output.replace(
        "BRIDGE_TOKEN=secret ", ""
    )


def test_the_program_names_its_verbs() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert all(verb in result.output for verb in VERBS)


def test_the_scenarios_of_the_demo_can_be_listed() -> None:
    result = CliRunner().invoke(app, ["demo", "--list"])
    assert result.exit_code == 0
    assert "basic" in result.output.split()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sing"], "sing"),
        (["serve", "--sing"], "--sing"),
        (["--sing"], "--sing"),
        (["call"], "url"),
        (["call", "ws://localhost:1", "--audio", "none.wav"], "none.wav"),
        (["bench", "--calls", "many"], "--calls"),
        (["bench", "--frame-ms", "30"], "--frame-ms"),
        (["demo", "--scenario", "none"], "none"),
        (["nova", "--profile", "none"], "--profile"),
        (["nova", "--fault", "none"], "--fault"),
        (["nova", "--limit-seconds", "0"], "--limit-seconds"),
        (["check", "--config", "none.toml"], "none.toml"),
        (["serve", "--play-lead-seconds", "x"], "--play-lead-seconds"),
    ],
)
def test_a_mistake_of_use_is_one_line_that_names_it_and_exit_code_2(
    arguments: list[str], named: str
) -> None:
    result = run_program(*arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert named in line
    assert result.stdout == ""


@pytest.mark.integration
def test_a_wrong_value_in_the_environment_is_named_by_its_key() -> None:
    result = run_program("serve", PLAY_LEAD_SECONDS="-1")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "PLAY_LEAD_SECONDS" in line
    assert "-1" in line


@pytest.mark.integration
def test_a_failed_check_has_exit_code_1_and_a_line_for_each_finding(tmp_path: Path) -> None:
    result = run_program(
        "check",
        AWS_ACCESS_KEY_ID="AKIDEXAMPLE",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_ENDPOINT_URL_BEDROCK_RUNTIME="https://localhost:1",
    )
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "ok", "ok", "FAIL"]
    assert "secret" not in result.stdout


@pytest.mark.integration
def test_a_bot_that_is_not_there_is_a_failed_call() -> None:
    result = run_program("call", "ws://127.0.0.1:1", "--numbers", "1")
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stdout
