"""Tests of your own agent: a whole call in a moment, with its transcript and its tool calls as the result.

    from opusagent.testing import Calls, Presses, play

    def test_the_order_is_found():
        outcome = play(
            "config/agents/shop.toml",
            caller=["Where is my order twelve?"],
            model=[Calls("find_order", number="12"), "Your order is {state}."],
        )
        assert outcome.tool_calls[0].arguments == {"number": "12"}
        assert outcome.transcript[-1].text == "Your order is on its way."

The bridge is the real one, with the agent's file, its tools and the state of the call; so is what VoiceAI
Connect and Nova Sonic do at its two ends, wire messages, rules and times. Only what the model makes of it
stands in the test: `model` has one entry for each time that it is its turn.

    "Hello."                                  it says so
    Calls("find_order", number="12")          it asks for a tool; its next turn comes with the result
    ("One moment.", Calls("find_order"))      it says so and asks
    "It is {state}."                          a field of the tool's result
    Told("keys.*1234", "Thank you.")          the play fails unless it was told what fits the pattern
    ()                                        it says nothing

A turn that never comes fails the play, unless the caller's last step is `HangsUp` and it is no `Told`.

`caller` has what the caller does: a text is said, and the bot heard out. `Presses`, `Waits`, `Interrupts`,
`Listens`, `HangsUp` are hers, `LosesLine` and `LosesStream` happen to her, `ChangesStream` waits for what
happens to every long call.

Time is virtual: minutes pass in a moment, and every run is the same. Async functions run on the play's loop,
so that `asyncio.sleep` costs nothing; for a plain function, and for a tool over HTTP, the clock stands still
until it is done, at most half a second of real time, after which the play goes on in real time. Use
`tool_seconds` for a tool that is slow, `fakes` for one that should not be run. Nothing has to be installed
besides the package itself.
"""

from opusagent.testing.outcome import Line, Outcome, ToolUse
from opusagent.testing.playing import play
from opusagent.testing.steps import (
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
)

__all__ = [
    "Calls",
    "ChangesStream",
    "HangsUp",
    "Interrupts",
    "Line",
    "Listens",
    "LosesLine",
    "LosesStream",
    "Outcome",
    "Presses",
    "Says",
    "Told",
    "ToolUse",
    "Waits",
    "play",
]
