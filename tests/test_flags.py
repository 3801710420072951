from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from opusagent.config import Settings, load
from opusagent.flags import with_flags_of, with_setting_flags

app = typer.Typer(rich_markup_mode=None)


@app.command()
@with_setting_flags
def serve(
    config: Annotated[Path | None, typer.Option(help="A TOML file.")] = None,
    **flags: str | bool,
) -> None:
    """Run."""
    typer.echo(f"{config} {flags}")
    typer.echo(load(flags).play_lead_seconds)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_setting_is_a_flag_with_its_meaning() -> None:
    shown = run("--help")
    missing = [name for name in Settings.model_fields if f"--{name.replace('_', '-')}" not in shown]
    assert missing == []
    assert all(field.description for field in Settings.model_fields.values())


def test_only_flags_that_were_given_are_handed_on() -> None:
    assert run() == "None {}\n0.3\n"
    shown = run("--config", "x.toml", "--play-lead-seconds", "0.5", "--no-barge-in")
    assert shown == "x.toml {'play_lead_seconds': '0.5', 'barge_in': False}\n0.5\n"


def test_a_command_without_a_place_for_flags_is_refused() -> None:
    def bare() -> None: ...

    with pytest.raises(TypeError, match="bare takes no"):
        with_setting_flags(bare)


def test_a_command_may_have_the_flags_of_some_settings_only() -> None:
    some = typer.Typer(rich_markup_mode=None)

    @some.command()
    @with_flags_of(("redis_url", "session_ttl"))
    def look(**flags: str | bool) -> None:
        typer.echo(flags)

    shown = CliRunner().invoke(some, ["--help"]).output
    assert "--redis-url" in shown
    assert "--bridge-port" not in shown
    assert CliRunner().invoke(some, ["--session-ttl", "5"]).output == "{'session_ttl': '5'}\n"
