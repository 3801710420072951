"""The README's first tool, made by following it word for word in an empty folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = "python -m uv run "


def blocks() -> Iterator[tuple[str, str, str]]:
    """Language, text and the file that was named last, of each block of the section."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("### Your first tool in five minutes\n")[1].split("\n### ")[0]
    end = 0
    for match in re.finditer(r"^ *```(\w+)\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL):
        named = re.findall(r"`([\w/]+\.\w+)`", section[end : match.start()])
        yield match[1], textwrap.dedent(match[2]), named[-1] if named else ""
        end = match.end()


@pytest.mark.integration
def test_the_first_tool_of_the_readme_works(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copy(ROOT / "run_bridge.py", tmp_path)
    said = []
    for language, text, file in blocks():
        if language != "console":
            (tmp_path / file).write_text(text, encoding="utf-8")
            continue
        assert text.startswith(UV)
        command = [sys.executable, *text.removeprefix(UV).split()]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert len(said) == 1
    assert "Your order is on its way." in said[0]
