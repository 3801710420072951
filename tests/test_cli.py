"""The command line as a user meets it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opusagent.cli import app, main
from opusagent.processes import SETTINGS, Child
from opusagent.simulators.calling import HELLO
from opusagent.simulators.faults import FAULT_NAMES
from opusagent.simulators.stream_report import load_reports

VERBS = ("serve", "demo", "call", "nova", "sessions", "check", "bench")


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
    lines = result.output.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["basic", "failover", "long-call", "reconnect", "restaurant", "tools"]
    assert all(line.endswith(".") for line in lines)  # with a sentence each


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command that ends at once."""
    code = main(arguments)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


NOBODY = "ws://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sing"], "sing"),
        (["serv"], "'serve'"),
        (["dmeo"], "'demo'"),
        (["serve", "--sing"], "--sing"),
        (["--sing"], "--sing"),
        (["call"], "url"),
        (["call", "http://localhost"], "'url'"),
        (["call", "ws://"], "'url'"),
        (["call", "ws://localhost:99999"], "'url'"),
        (["call", NOBODY, "--audio", "none.wav"], "--audio: none.wav"),
        (["call", NOBODY, "--save-audio", "none/heard.wav"], "--save-audio"),
        (["call", "wss://localhost:1", "--ca-file", "none.pem"], "--ca-file"),
        (["call", "wss://localhost:1", "--ca-file", __file__], "--ca-file"),
        (["call", NOBODY, "--chunk-ms", "0"], "--chunk-ms"),
        (["call", NOBODY, "--frame-ms", "1"], "--frame-ms"),
        (["call", NOBODY, "--numbers", "-5"], "--numbers"),
        (["call", NOBODY, "--expect-numbers", "-1"], "--expect-numbers"),
        (["call", NOBODY, "--numbers", "5", "--dtmf", "1"], "--numbers"),
        (["call", NOBODY, "--fast"], "--fast"),
        (["call", NOBODY, "--dtmf", "xyz"], "--dtmf"),
        (["call", NOBODY, "--media-format", "mp3"], "--media-format"),
        (["bench", "--calls", "many"], "--calls"),
        (["bench", "--calls", "0"], "--calls"),
        (["bench", "--calls", "1,-1"], "--calls"),
        (["bench", "--seconds", "0"], "--seconds"),
        (["bench", "--seconds", "nan"], "--seconds"),
        (["bench", "--frame-ms", "30"], "--frame-ms"),
        (["demo", "--scenario", "none"], "--scenario"),
        (["demo", "--output", f"{__file__}/x"], "--output"),
        (["nova", "--profile", "none"], "--profile"),
        (["nova", "--scenario", "none"], "--scenario"),
        (["nova", "--fault", "none"], "--fault"),
        (["nova", "--fault", "zombie:after=3"], "--fault"),
        (["nova", "--limit-seconds", "0"], "--limit-seconds"),
        (["nova", "--limit-seconds", "inf"], "--limit-seconds"),
        (["nova", "--scale", "0"], "--scale"),
        (["nova", "--quota", "0"], "--quota"),
        (["nova", "--numbers", "-1"], "--numbers"),
        (["nova", "--port", "99999"], "--port"),
        (["nova", "--ca-file", "none/ca.pem"], "--ca-file"),
        (["nova", "--record", f"{__file__}/x"], "--record"),
        (["check", "--config", "none.toml"], "none.toml"),
        (["serve", "--play-lead-seconds", "x"], "--play-lead-seconds"),
    ],
)
def test_a_mistake_of_use_is_one_line_that_names_it_and_exit_code_2(
    arguments: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run_here(capsys, *arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert named in line
    assert out == ""


def test_the_help_that_a_mistake_points_to_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "(see run_bridge.py --help)" in run_here(capsys, "sing")[2]
    assert "(see run_bridge.py nova --help)" in run_here(capsys, "nova", "--x")[2]


@pytest.mark.parametrize("before", [[], ["call"]])
def test_h_is_help(before: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    short = run_here(capsys, *before, "-h")
    assert short[0] == 0
    assert short == run_here(capsys, *before, "--help")


def test_every_fault_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_here(capsys, "nova", "--fault", "help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in FAULT_NAMES)


def test_what_the_simulators_need_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "opusagent.simulators.faults", raising=False)
    monkeypatch.delitem(sys.modules, "opusagent.simulators.wire", raising=False)
    monkeypatch.delitem(sys.modules, "opusagent.simulators.h2_connection", raising=False)
    monkeypatch.setitem(sys.modules, "h2.connection", None)
    code, out, err = run_here(capsys, "nova")
    assert (code, out) == (2, "")
    assert err == "nova needs h2.connection: pip install 'opusagent[simulate]'\n"


@pytest.mark.integration
def test_a_mistake_leaves_no_traceback_behind() -> None:
    result = run_program("nova", "--port", "99999")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.integration
def test_service_bridge_and_caller_by_hand_hold_a_conversation(tmp_path: Path) -> None:
    ca_file, heard, record = tmp_path / "ca.pem", tmp_path / "heard.wav", tmp_path / "record"
    environ = {
        "AWS_CA_BUNDLE": str(ca_file),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "BRIDGE_HOST": "127.0.0.1",
        "BRIDGE_PORT": "0",
        "ADMIN_PORT": "0",
        "DRAIN_SECONDS": "4",
        "LOG_LEVEL": "WARNING",
    }

    async def main() -> str:
        arguments = ("nova", "--ca-file", str(ca_file), "--record", str(record), "--quota", "1")
        async with Child("opusagent", *arguments) as nova:
            environ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] = (await nova.ready()).split()[1]
            async with Child("opusagent", "serve", environ=environ, hide=SETTINGS) as bridge:
                url = (await bridge.ready()).split()[1]
                call = ("call", url, "--save-audio", str(heard), "--json")
                async with Child("opusagent", *call) as caller:
                    last = ""
                    while line := await caller.line():
                        last = line
                assert caller.returncode == 0
        return last

    figures = json.loads(asyncio.run(main()))
    assert figures["ok"], figures
    assert [answer["phrase"] for answer in figures["answers"]] == [HELLO]
    assert figures["answers"][0]["seconds"] < 4
    assert figures["play_streams"] == 2
    assert heard.stat().st_size > 5 * 4 * 16_000
    (report,) = load_reports(record)
    assert [text.text for text in report.heard] == [HELLO]
    assert "Yes, I can hear you well." in [text.text for text in report.said]
    assert report.cut == ""


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
        AWS_SECRET_ACCESS_KEY="wJalrXUt",
        AWS_ENDPOINT_URL_BEDROCK_RUNTIME="https://localhost:1",
    )
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    marks = [line.split()[0] for line in lines]
    assert marks == ["ok"] * (len(lines) - 1) + ["FAIL"]
    assert [line.split(maxsplit=1)[1].split(":")[0] for line in lines if "tool" not in line] == [
        "configuration",
        "agents",
        "session store",
        "credentials",
        "Bedrock",
    ]
    assert any(line.startswith("ok   tool transfer_call of bank: ") for line in lines)
    assert "wJalrXUt" not in result.stdout


@pytest.mark.integration
def test_a_bot_that_is_not_there_is_a_failed_call() -> None:
    result = run_program("call", "ws://127.0.0.1:1", "--numbers", "1")
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stdout
