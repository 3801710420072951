"""Plays of small agents, with tools that are really run."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from opusagent.errors import ConfigError
from opusagent.models.agent import Agent, Greeting, McpServer
from opusagent.models.telephone import TelephoneFunction, TelephoneTools
from opusagent.testing import (
    Calls,
    ChangesStream,
    HangsUp,
    Interrupts,
    Listens,
    LosesLine,
    LosesStream,
    Presses,
    Says,
    Told,
    Waits,
    play,
)
from opusagent.testing.steps import Acts, CallerStep

MODULE = '''
import asyncio
import threading
import time

from opusagent.tools import ToolContext, ToolError, ToolRegistry

registry = ToolRegistry()
TOGETHER = threading.Barrier(2)


@registry.tool(repeatable=True)
def find_order(number: str, context: ToolContext) -> dict[str, object]:
    """Look an order up."""
    if number == "0":
        raise ToolError("there is no such order")
    return {"number": number, "order": {"state": "shipped"}, "caller": context.caller}


@registry.tool()
def keeps_badly(context: ToolContext) -> None:
    """Keep something under half a character."""
    context.state.set("caf\\udce9", 1)


@registry.tool()
async def think(seconds: float) -> dict[str, str]:
    """Take long."""
    await asyncio.sleep(seconds)  # as tools do; a play has a clock of its own
    return {"thought": "much"}


@registry.tool()
def works_a_little() -> dict[str, str]:
    """Take a moment of real time."""
    time.sleep(0.05)  # what a play must not count, so nothing but real time will do
    return {"done": "yes"}


@registry.tool()
def meets() -> dict[str, bool]:
    """Wait for another one."""
    try:
        TOGETHER.wait(0.2)
    except threading.BrokenBarrierError:
        return {"alone": True}
    return {"alone": False}
'''

SILENT = Agent(system_prompt="You answer the telephone.")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agents")
    (folder / "shop.py").write_text(MODULE, encoding="utf-8")
    file = folder / "shop.toml"
    file.write_text(
        'system_prompt = "You answer for a shop."\n'
        '[greeting]\ntext = "Greet the caller."\n'
        '[[tools]]\ntype = "python"\nmodule = "shop.py"\n',
        encoding="utf-8",
    )
    return file


def test_what_was_said_and_what_was_done_come_out(shop: Path) -> None:
    outcome = play(
        shop,
        caller=["Hello.", "Where is order 12?"],
        model=[
            "The shop, hello.",
            "How can I help?",
            ("One moment.", Calls("find_order", number="12")),
            "Order {number} is {order.state}.",
        ],
        number="+15550001111",
    )
    assert outcome.text == (
        "bot: The shop, hello.\n"
        "caller: Hello.\n"
        "bot: How can I help?\n"
        "caller: Where is order 12?\n"
        "bot: One moment.\n"
        "bot: Order 12 is shipped."
    )
    (use,) = outcome.tool_calls
    assert (use.name, use.arguments, use.failed) == ("find_order", {"number": "12"}, False)
    assert use.result is not None
    assert use.result["caller"] == "+15550001111"
    assert outcome.hung_up_by == "caller"


def test_a_play_of_half_a_minute_costs_a_moment_and_is_the_same_every_time(shop: Path) -> None:
    began = time.perf_counter()
    played = [
        play(shop, caller=["Hello.", Waits(20)], model=["The shop, hello.", "Yes?"])
        for _ in range(2)
    ]
    assert played[0].seconds == played[1].seconds > 24
    assert played[0].text == played[1].text
    assert played[0].phone.messages == played[1].phone.messages
    assert time.perf_counter() - began < 10


def test_a_tool_that_refuses_is_told_to_the_model(shop: Path) -> None:
    outcome = play(
        shop,
        caller=["Where is order zero?"],
        model=["Hello.", Calls("find_order", number="0"), Told("no such order", "Sorry: {error}.")],
    )
    assert outcome.said_by_bot[-1] == "Sorry: there is no such order."
    assert outcome.tool_calls[0].failed


def test_a_tool_may_sleep_for_nothing_and_is_late_in_virtual_time(shop: Path) -> None:
    began = time.perf_counter()
    outcome = play(
        shop,
        caller=["Think.", "Think longer."],
        model=[
            "Hello.",
            Calls("think", seconds=8),
            "I thought {thought}.",
            Calls("think", seconds=29),
            "That took too long.",
        ],
    )
    assert [use.seconds for use in outcome.tool_calls] == [pytest.approx(8), pytest.approx(10)]
    assert "did not answer within 10 seconds" in str(outcome.tool_calls[1].result)
    assert time.perf_counter() - began < 10


def test_a_plain_function_takes_no_virtual_time_unless_it_is_told_to(shop: Path) -> None:
    outcome = play(
        shop,
        caller=["Work.", "Find it."],
        model=[
            "Hello.",
            Calls("works_a_little"),
            "Done.",
            ("One moment.", Calls("find_order", number="1")),
            "Here.",
        ],
        tool_seconds={"find_order": 4.5},
    )
    assert [use.seconds for use in outcome.tool_calls] == [
        pytest.approx(0, abs=0.001),
        pytest.approx(4.5),
    ]


def test_a_tool_that_sets_what_the_state_cannot_have_fails_alone(shop: Path) -> None:
    outcome = play(
        shop, caller=["Keep it."], model=["Hello.", Calls("keeps_badly"), "I could not."]
    )
    assert outcome.tool_calls[0].result == {"error": "keeps_badly failed"}
    assert outcome.text.endswith("bot: I could not.")


def test_a_fake_stands_in_for_a_tool(shop: Path) -> None:
    asked: list[str] = []

    async def fake(number: str) -> dict[str, str]:
        asked.append(number)
        return {"state": "lost"}

    outcome = play(
        shop,
        caller=["Where is it?", "And now?"],
        model=[
            "Hello.",
            Calls("find_order", number="12"),
            "It is {state}.",
            Calls("works_a_little"),
            "It is {done}.",
        ],
        fakes={"find_order": fake, "works_a_little": {"done": "found"}},
    )
    assert asked == ["12"]
    assert outcome.said_by_bot[-2:] == ["It is lost.", "It is found."]


def test_a_fake_for_no_tool_is_an_error(shop: Path) -> None:
    with pytest.raises(ConfigError, match="buy: the agent has find_order"):
        play(shop, fakes={"buy": {}})


def test_tools_of_an_mcp_server_are_there_as_fakes_and_only_so() -> None:
    server = McpServer(type="mcp", name="crm", url="https://crm.example/mcp")
    agent = SILENT.model_copy(update={"tools": (server,)})
    outcome = play(
        agent,
        caller=["Who am I?"],
        model=[Calls("find_customer", number="12"), "You are {name}."],
        fakes={"find_customer": lambda number: {"name": f"customer {number}"}},
    )
    assert outcome.said_by_bot == ["You are customer 12."]
    (use,) = outcome.tool_calls
    assert (use.name, use.failed) == ("find_customer", False)
    with pytest.raises(ConfigError, match="find_customer: the agent has no tool"):
        play(agent, tool_seconds={"find_customer": 1})


def test_plain_functions_run_one_after_the_other_so_that_every_run_is_the_same(shop: Path) -> None:
    outcome = play(
        shop, caller=["Meet."], model=["Hello.", (Calls("meets"), Calls("meets")), "Nobody came."]
    )
    assert [use.result for use in outcome.tool_calls] == [{"alone": True}] * 2


def test_keys_reach_the_model_as_text() -> None:
    outcome = play(
        SILENT, caller=[Presses("4711")], model=[Told("keys.*4 7 1 1", "You pressed four keys.")]
    )
    assert outcome.said_by_bot == ["You pressed four keys."]
    assert outcome.told == ["The caller pressed these keys on the telephone: 4 7 1 1"]


def test_the_caller_may_interrupt() -> None:
    outcome = play(
        SILENT,
        caller=["Tell me.", Interrupts("Stop it.", after_s=1.0)],
        model=[
            ("This is a long story.", "It is about a shop.", "It sold nothing for years."),
            Told("stop it", "All right."),
        ],
    )
    told = outcome.transcript[1]
    assert told.interrupted
    assert "nothing for years" not in outcome.text
    assert outcome.said_by_bot[-1] == "All right."


def test_a_line_that_is_lost_comes_back_to_the_same_conversation() -> None:
    outcome = play(
        SILENT,
        caller=["My name is Alice.", LosesLine(back_after_s=2), "What is my name?"],
        model=["Hello Alice.", Told("what is my name", "Alice.")],
    )
    assert outcome.state.resumed_count == 1
    assert len(outcome.streams) == 1
    assert [line.text for line in outcome.transcript] == [
        "My name is Alice.",
        "Hello Alice.",
        "What is my name?",
        "Alice.",
    ]


def test_a_tool_goes_on_while_its_stream_breaks_off(shop: Path) -> None:
    outcome = play(
        shop,
        caller=[Says("Find order 7.", answered=False), Waits(3), LosesStream(), Listens()],
        model=[
            "Hello.",
            Calls("find_order", number="7"),
            Told("find_order.*shipped", "It is {order.state}."),
        ],
        tool_seconds={"find_order": 6},
    )
    assert len(outcome.streams) == 2
    assert len(outcome.tool_calls) == 1
    assert outcome.said_by_bot[-1] == "It is shipped."
    assert any(turn.text == "Find order 7." for turn in outcome.streams[1].history)


def test_a_stream_that_becomes_old_is_replaced_unheard() -> None:
    outcome = play(
        SILENT,
        caller=["My name is Alice.", ChangesStream(), "What is my name?"],
        model=["Hello Alice.", "Alice."],
        settings={"transition_threshold_seconds": 20},
    )
    assert len(outcome.streams) == 2
    assert [switch.reason for switch in outcome.state.stream_switches] == ["silence"]
    assert [turn.text for turn in outcome.streams[1].history] == [
        "My name is Alice.",
        "Hello Alice.",
    ]


def test_six_minutes_until_the_stream_changes_take_seconds() -> None:
    began = time.perf_counter()
    outcome = play(SILENT, caller=["Hello.", ChangesStream()], model=["Hello."])
    assert outcome.seconds > 360
    assert time.perf_counter() - began < 30


def test_a_play_fails_where_the_script_of_the_model_is_over() -> None:
    with pytest.raises(AssertionError, match=r"nothing more to say, and was told 'Bye\.'"):
        play(SILENT, caller=["Hello.", "Bye."], model=["Hello."])


def test_a_play_fails_where_the_model_was_told_something_else() -> None:
    with pytest.raises(AssertionError, match=r"should be told 'order'.*'Hello\.'"):
        play(SILENT, caller=["Hello."], model=[Told("order", "Which one?")])


def test_a_play_fails_where_a_result_has_no_such_field(shop: Path) -> None:
    with pytest.raises(AssertionError, match=r"\{price\} is not in the result"):
        play(
            shop,
            caller=["Where is it?"],
            model=["Hello.", Calls("find_order", number="1"), "It costs {price}."],
        )


def test_a_play_fails_where_the_bot_does_not_answer() -> None:
    with pytest.raises(AssertionError, match=r"no answer to 'Hello\.'"):
        play(SILENT, caller=["Hello."], model=[()], settings={"deaf_after_seconds": 0})


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (["Bye."], r"not asked for its last turn: 'Bye\.'"),
        (
            [Told("4711", Calls("find_order", number="12")), ("So.", Calls("hang_up", [1]))],
            (
                r"last 2 turns: Told\('4711', Calls\('find_order', number='12'\)\), "
                r"\('So\.', Calls\('hang_up', \[1\]\)\)"
            ),
        ),
    ],
)
def test_a_play_fails_where_the_model_is_not_asked_for_all_that_it_was_to_do(
    left: list[Acts], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        play(SILENT, caller=["Hello."], model=["Hi.", *left])


def test_a_caller_who_hangs_up_may_cut_the_model_short_but_for_what_it_must_be_told() -> None:
    hangs_up: list[CallerStep] = [Says("Hello.", answered=False), HangsUp()]
    assert play(SILENT, caller=hangs_up, model=["Hi.", "Are you there?"]).said_by_bot == []
    with pytest.raises(AssertionError, match=r"last 2 turns: 'Hi\.', Told\('hello', 'Yes\.'\)"):
        play(SILENT, caller=hangs_up, model=["Hi.", Told("hello", "Yes.")])


def test_a_play_fails_where_there_is_nothing_to_interrupt() -> None:
    agent = Agent(system_prompt="x")
    with pytest.raises(
        AssertionError, match=r"did not speak for 1 s: 'Stop\.' interrupted nothing"
    ):
        play(agent, caller=["Hi.", Interrupts("Stop.")], model=["Hello.", "Well."])


def test_a_setting_that_is_wrong_is_named() -> None:
    agent = Agent(system_prompt="x")
    with pytest.raises(ConfigError, match=r"^settings: play_lead_seconds: .*; no_such: Extra"):
        play(agent, settings={"play_lead_seconds": "soon", "no_such": 1})


def test_a_play_in_an_async_test_says_what_is_wrong_with_that() -> None:
    async def main() -> None:
        play(Agent(system_prompt="x"))

    with pytest.raises(RuntimeError, match="call it in a plain test, no async one"):
        asyncio.run(main())


def test_a_play_fails_where_the_call_is_over_before_the_caller_has_done_all() -> None:
    hangs_up = TelephoneTools(type="telephone", functions=(TelephoneFunction.HANG_UP,))
    with pytest.raises(AssertionError, match=r"the call was over before Presses\(keys='1'"):
        play(
            SILENT.model_copy(update={"tools": (hangs_up,)}),
            caller=["Bye.", Presses("1")],
            model=[("Goodbye.", Calls("hang_up", reason="done"))],
        )


def test_the_greeting_is_heard_before_the_caller_speaks() -> None:
    agent = SILENT.model_copy(update={"greeting": Greeting(text="Greet the caller.")})
    outcome = play(agent, caller=["Hello."], model=[Told("greet", "Good morning."), "Yes?"])
    assert [line.by for line in outcome.transcript] == ["bot", "caller", "bot"]


def test_a_caller_may_hang_up_after_the_greeting(shop: Path) -> None:
    assert play(shop, model=["Good morning."]).text == "bot: Good morning."
