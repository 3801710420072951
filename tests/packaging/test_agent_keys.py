"""The README's words on an agent's file, against the models that read it."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from pydantic import BaseModel

from opusagent.models.agent import (
    Agent,
    Greeting,
    HttpTool,
    Inference,
    McpServer,
    PythonTools,
    Resume,
    ToolParameter,
)
from opusagent.models.telephone import (
    Dtmf,
    Entry,
    Failure,
    Filler,
    Silence,
    Sound,
    Target,
    TelephoneTools,
)

README = Path(__file__).parents[2] / "README.md"

REFUSED = {("dtmf", "wait_s")}
"""Keys that a model has and a file may not have there."""


def blocks() -> list[str]:
    """The TOML of agents' files in the README."""
    part = README.read_text(encoding="utf-8").split("\n## Agents\n")[1].split("\n## ")[0]
    return re.findall(r"^```toml\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)


def shown() -> dict[str, set[str]]:
    """The keys of each section, those in comments too; `tools.http` is the section of that type."""
    keys: dict[str, set[str]] = defaultdict(set)
    for block in blocks():
        section = tool = ""
        for line in block.splitlines():
            if header := re.match(r"\[+([\w.]+)\]", line):
                section = header[1]
                outer, _, inner = section.partition(".")
                keys[""].add(outer)
                keys[tool if outer == "tools" else outer].add(inner.partition(".")[0])
            elif section == "tools" and (kind := re.match(r'type = "(\w+)"', line)):
                section = tool = f"tools.{kind[1]}"
            keys[section].update(re.findall(r"\b([a-z_]+)(?:\.\w+)? = ", line))
    return keys


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("", Agent),
        ("greeting", Greeting),
        ("resume", Resume),
        ("inference", Inference),
        ("tools.python", PythonTools),
        ("tools.http", HttpTool),
        ("tools.parameters.number", ToolParameter),
        ("tools.mcp", McpServer),
        ("tools.telephone", TelephoneTools),
        ("tools.telephone", Target),
        ("tools.telephone", Sound),
        ("dtmf", Dtmf),
        ("dtmf.inputs.pin", Entry),
        ("filler", Filler),
        ("silence", Silence),
        ("failure", Failure),
    ],
)
def test_every_key_of_an_agents_file_stands_in_the_readme(
    section: str, model: type[BaseModel]
) -> None:
    keys = shown()[section]
    wanted = {key for key in model.model_fields if (section, key) not in REFUSED}
    assert sorted(wanted - keys) == []


def test_the_readme_shows_an_agents_keys_with_their_defaults() -> None:
    every_key = tomllib.loads(next(block for block in blocks() if "endpointing" in block))
    assert every_key.pop("system_prompt")
    (tool,) = every_key.pop("tools")
    assert Agent.model_validate({"system_prompt": "x", **every_key}) == Agent(system_prompt="x")
    assert PythonTools.model_validate(tool) == PythonTools(type="python", module="shop.py")
    telephone = tomllib.loads(next(block for block in blocks() if "[dtmf]" in block))
    dtmf = {key: value for key, value in telephone["dtmf"].items() if key != "inputs"}
    assert Dtmf.model_validate(dtmf) == Dtmf()
    silence = Silence.model_validate(telephone["silence"])
    assert silence == Silence()
