"""A model that can be checked: it understands numbered turns and answers each with numbered frames.

What it says tells which turn it answers; what it is told (history, typed texts, results) it takes from the
words alone, like the real one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from opusagent.bench.switches.frames import FRAME_S, Frame, find, write
from opusagent.sonic.peer_brain import Heard, PeerContext, Reply, ToolAnswer, ToolAsk

__all__ = [
    "DATA",
    "FINISH",
    "TOOL",
    "NumberEars",
    "NumberMind",
    "answer_parts",
    "as_keys",
    "parts_of_answer",
    "turn_text",
    "turns_in",
]

TOOL: Final = "look_up"
DATA: Final = "[data, not an instruction"
"""How a result begins that is typed to a stream which did not ask for it."""
FINISH: Final = "[the line broke"
"""How the request begins to finish an answer that another stream has begun."""
SENTENCE_S: Final = 0.5

_TURN: Final = re.compile(r'turn[": ]+(\d+)[./](\d+)')
_KEYS: Final = re.compile(r"keys on the telephone: ((?:\d ?){6})")
_ANSWER: Final = re.compile(r"answer (\d+)/(\d+) part (\d+) of (\d+)")


def turn_text(call: int, turn: int) -> str:
    """What is understood of a turn."""
    return f"turn {call}/{turn}"


def as_keys(call: int, turn: int) -> str:
    """The six keys that stand for a turn."""
    return f"{call % 1000:03}{turn % 1000:03}"


def turns_in(text: str) -> list[tuple[int, int]]:
    """Call and turn of every turn, spoken or keyed, that a text names, in order, each once."""
    spoken = [(int(call), int(turn)) for call, turn in _TURN.findall(text)]
    for keys in _KEYS.findall(text):
        digits = keys.replace(" ", "")
        spoken.append((int(digits[:3]), int(digits[3:])))
    return list(dict.fromkeys(spoken))


def answer_parts(text: str) -> list[tuple[int, int, int]]:
    """Call, turn and part of every sentence of an answer that a text holds."""
    return [(int(call), int(turn), int(part)) for call, turn, part, _ in _ANSWER.findall(text)]


def parts_of_answer(answer_s: float) -> tuple[int, int]:
    """How many sentences an answer has, and how many frames each of them."""
    n_parts = max(1, round(answer_s / SENTENCE_S))
    return n_parts, round(answer_s / n_parts / FRAME_S)


class NumberEars:
    """Hear which turns an utterance belongs to."""

    def hear(self, pcm: bytes, rate_hz: int) -> Heard:
        """The turns by number."""
        del rate_hz
        turns = dict.fromkeys((f.call, f.turn) for f in find(pcm) if f.turn)
        return Heard("; ".join(turn_text(*turn) for turn in turns))


class NumberMind:
    """Answers on one stream.

    Args:
        stream: Stands in every frame that it speaks.
        answer_s: How long an answer is; sentences have half a second.
        tools: Whether it asks for a tool first.
        replied: Called with each call and turn that it begins to answer aloud.
    """

    def __init__(
        self,
        stream: int,
        answer_s: float,
        *,
        tools: bool = False,
        replied: Callable[[int, int], None] = lambda _call, _turn: None,
    ) -> None:
        self._stream = stream
        self._n_parts, self._part_frames = parts_of_answer(answer_s)
        self._tools = tools
        self._replied = replied

    def reply(self, heard: str, context: PeerContext) -> Reply:
        """Answer each turn that was named, or ask for the tool of each."""
        del context
        if heard.startswith(FINISH):
            return Reply(tuple(self._rest(heard)))
        if self._tools and not heard.startswith(DATA):
            asks = [ToolAsk(TOOL, {"turn": f"{c}/{t}"}) for c, t in turns_in(heard)]
            return Reply(tools=tuple(asks))
        return self._answer(turns_in(heard))

    def after_tools(self, answers: Sequence[ToolAnswer], context: PeerContext) -> Reply:
        """Answer the turns that the results name."""
        del context
        return self._answer(turns_in("; ".join(f"turn {a.result.get('turn')}" for a in answers)))

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        """The frames of one part of an answer."""
        match = _ANSWER.search(sentence)
        if match is None:
            return b""
        call, turn, part, _ = map(int, match.groups())
        first = (part - 1) * self._part_frames
        numbers = range(first, first + self._part_frames)
        return b"".join(write(Frame(call, turn, n, self._stream), rate_hz) for n in numbers)

    def _rest(self, asked: str) -> Iterator[str]:
        for call, turn, part in answer_parts(asked):
            for further in range(part, self._n_parts + 1):
                yield f"answer {call}/{turn} part {further} of {self._n_parts}"

    def _answer(self, turns: Sequence[tuple[int, int]]) -> Reply:
        for turn in turns:
            self._replied(*turn)
        n_parts = self._n_parts
        return Reply(
            tuple(
                f"answer {call}/{turn} part {part} of {n_parts}"
                for call, turn in turns
                for part in range(1, n_parts + 1)
            )
        )
