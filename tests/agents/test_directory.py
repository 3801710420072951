import re

import pytest

from opusagent.agents import AgentDirectory
from opusagent.errors import ConfigError
from opusagent.models.agent import Agent


def agent(**fields: object) -> Agent:
    return Agent.model_validate({"system_prompt": "x", **fields})


STAFF = AgentDirectory(
    {
        "default": agent(),
        "sales": agent(bot_names=["9a77ba86", "Shop"], numbers=["+49 (30) 100-0", "+4930*"]),
        "support": agent(numbers=["+493020*", "LiveHub"]),
    }
)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "default"),
        ({"bot_name": "9A77BA86"}, "sales"),
        ({"bot_name": "shop"}, "sales"),
        ({"bot_name": "support"}, "support"),
        ({"called": "+49301000"}, "sales"),
        ({"called": "49 30 9"}, "sales"),
        ({"called": "+4930200"}, "support"),
        ({"called": "livehub"}, "support"),
        ({"called": "+4989"}, "default"),
        ({"called": "+49"}, "default"),
        ({"called": "+4989", "bot_name": "support"}, "support"),
        ({"called": "+4930200", "bot_name": "sales"}, "support"),
        ({"agent": "SALES", "called": "+4930200", "bot_name": "support"}, "sales"),
        ({"agent": "nobody", "bot_name": "support"}, "support"),
    ],
)
def test_the_query_picks_before_the_number_before_the_name_of_the_bot(
    asked: dict[str, str], name: str
) -> None:
    assert STAFF.pick(**asked) == (name, STAFF.agents[name])


def test_only_a_call_that_nothing_else_has_decided_hangs_on_the_called_number() -> None:
    assert STAFF.hangs_on_number(agent="")
    assert STAFF.hangs_on_number(agent="nobody")
    assert not STAFF.hangs_on_number(agent="Sales")
    assert not AgentDirectory({"default": agent()}).hangs_on_number(agent="")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"bot_names": ["A"]}, {"bot_names": ["a"]}, "one and two: two agents answer for the same bot_names: a"),
        ({"bot_names": ["Two"]}, {}, "two and one: two agents answer for the same bot_names: Two"),
        ({"numbers": ["+49 1"]}, {"numbers": ["(49)1"]}, "the same numbers: (49)1"),
        ({"numbers": ["1*"]}, {"numbers": ["+1*"]}, "the same numbers: +1*"),
    ],
)  # fmt: skip
def test_two_agents_cannot_want_the_same_calls(
    first: dict[str, list[str]], second: dict[str, list[str]], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        AgentDirectory({"default": agent(), "one": agent(**first), "two": agent(**second)})
