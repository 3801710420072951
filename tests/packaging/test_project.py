import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from opusagent.config import Settings
from opusagent.models.agent import Agent
from opusagent.models.telephone import TelephoneFunction

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_direct_dependency_is_pinned(project: dict[str, Any]) -> None:
    metadata = project["project"]
    named = [
        *project["build-system"]["requires"],
        *metadata["dependencies"],
        *metadata["optional-dependencies"]["simulate"],
        *metadata["optional-dependencies"]["tools"],
        *project["dependency-groups"]["dev"],
    ]
    loose = [name for name in named if "==" not in name]
    assert loose == ["opusagent[simulate,tools]"]


def test_every_rule_that_is_ignored_has_its_reason(project: dict[str, Any]) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lint = project["tool"]["ruff"]["lint"]
    codes = [*lint["ignore"], *(c for rules in lint["per-file-ignores"].values() for c in rules)]
    without = [code for code in codes if not re.search(rf'"{code}".*# \S', text)]
    assert without == []


def test_the_readme_names_the_command_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    line = next(line for line in readme.splitlines() if "pytest" in line)
    assert "python -m uv run pytest" in line


def test_the_ci_script_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [n for n in Settings.model_fields if f"| `{n.upper()}` |" not in readme]
    assert missing == []


def test_the_readmes_telephone_is_one_that_an_agent_can_have() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("### The telephone\n")[1].split("\n### ")[0]
    shown = tomllib.loads(section.split("```toml\n")[1].split("```")[0])
    agent = Agent.model_validate({"system_prompt": "x", **shown})
    assert set(agent.telephone.functions) == set(TelephoneFunction)
