"""What `serve` is given is read alike with and without the libraries of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from opusagent.flags import with_setting_flags
from opusagent.running import serve_flags

app = typer.Typer(rich_markup_mode=None)
read: list[tuple[Path | None, dict[str, str | bool]]] = []


@app.command()
@with_setting_flags
def serve(
    config: Annotated[Path | None, typer.Option()] = None,
    **flags: str | bool,
) -> None:
    read.append((config, flags))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--config", "x.toml"],
        ["--config=x.toml", "--bridge-port", "0"],
        ["--bridge-token=a=b", "--barge-in"],
        ["--no-barge-in", "--play-lead-seconds", "-1"],
        ["--barge-in", "--no-barge-in", "--bridge-port", "1", "--bridge-port", "2"],
        ["--bridge-host="],
    ],
)
def test_the_flags_of_serve_are_read_as_typer_reads_them(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert serve_flags(arguments) == serve_flags(["serve", *arguments]) == read[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["-h"],
        ["serve", "--help"],
        ["serve", "more"],
        ["serve", "--"],
        ["serve", "--sing"],
        ["serve", "--bridge_port", "1"],
        ["serve", "--bridge-port"],
        ["serve", "--no-bridge-port", "1"],
        ["serve", "--no-config"],
        ["serve", "--barge-in=yes"],
    ],
)
def test_other_verbs_help_and_mistakes_are_left_to_typer(arguments: list[str]) -> None:
    assert serve_flags(arguments) is None


@pytest.mark.integration
def test_a_process_that_serves_holds_no_library_of_the_command_line() -> None:
    words = """
import sys
from opusagent.__main__ import main
code = main()
print(code, sorted({"typer", "rich", "pygments"} & set(sys.modules)), "opusagent.serving" in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", words, "serve", "--play-lead-seconds", "-1"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "2 [] True\n"
    assert "--play-lead-seconds" in found.stderr
