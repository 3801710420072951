from __future__ import annotations

import pytest
from pydantic import ValidationError

from opusagent.models.agent import Agent, Endpointing


def test_a_prompt_is_all_that_an_agent_needs() -> None:
    agent = Agent(system_prompt="Be kind.")
    assert agent.greeting.text == ""
    assert agent.endpointing is Endpointing.MEDIUM


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"system_prompt": "x", "colour": "red"},
        {"system_prompt": "x", "inference": {"temperature": 1.1}},
        {"system_prompt": "x", "inference": {"max_tokens": 0}},
        {"system_prompt": "x", "endpointing": "SOON"},
        {"system_prompt": "x", "tools": [{"type": "python", "module": ""}]},
        {"system_prompt": "x", "tools": [{"type": "mcp", "name": "m"}]},
        {
            "system_prompt": "x",
            "tools": [{"type": "mcp", "name": "m", "url": "x", "command": ["y"]}],
        },
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Agent.model_validate(wrong)


def test_an_agent_with_tools_survives_storage() -> None:
    agent = Agent.model_validate(
        {
            "system_prompt": "x",
            "tools": [
                {"type": "python", "module": "orders"},
                {"type": "http", "name": "a", "description": "A.", "url": "http://x/"},
                {"type": "mcp", "name": "m", "url": "http://x/"},
            ],
        }
    )
    assert Agent.model_validate(agent.model_dump(mode="json")) == agent
