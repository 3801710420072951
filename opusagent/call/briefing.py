"""What the next stream is told of the conversation so far, and what it owes an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from opusagent.call.context import Past
from opusagent.call.plan import CallPlan
from opusagent.call.recovery import Recovery
from opusagent.models.session_state import Role, Turn
from opusagent.sonic import history

__all__ = ["Briefing", "Told"]

SUMMARY_BYTES = 1_000
"""How much of the conversation goes into the prompt where a history was refused."""

ROOM_SHARE = 0.125
"""How much of a history a standby is not told ahead: room for what is said until it is used, 5 kB of 40."""

_GOES_ON = "[the call goes on]"
_HEAD_BYTES = 64  # the line in front of a history


@dataclass(frozen=True, slots=True)
class Told:
    """What a stream knows of the conversation before it hears the caller.

    Attributes:
        turns: As they stood when it was told, oldest first; also those that were left out for their size.
        share: Of the allowed history, how much it was given; 0 for a summary in its prompt.
        ahead: The history it was sent; empty for a summary.
        n_then: So many turns the conversation had then; these, and those that were still to be answered.
    """

    turns: Sequence[Turn]
    share: float = 0.0
    ahead: history.History = field(default_factory=history.History)
    n_then: int = 0


@dataclass(frozen=True, slots=True)
class _Owed:
    """A text that the model has been given and has not answered: the next stream is given it, too."""

    text: str
    shown: str  # how it stands in the transcript; empty if it does not


class Briefing:
    """The past of one call, ready for another stream.

    Args:
        context: The conversation so far, oldest first; its argument is what will be typed to the
            stream, so that it is not told twice.
    """

    def __init__(self, plan: CallPlan, context: Callable[[Sequence[str]], Past]) -> None:
        self._plan = plan
        self._context = context
        self._owed: list[_Owed] = []

    @property
    def owed(self) -> tuple[str, ...]:
        """The texts that have no answer, oldest first."""
        return tuple(owed.text for owed in self._owed)

    @property
    def owed_turns(self) -> list[str]:
        """Those of them that the caller has said or entered, as they stand in the transcript."""
        return [owed.shown for owed in self._owed if owed.shown]

    def owe(self, text: str, *, shown: str) -> None:
        """A text awaits its answer. `shown`: how it stands in the transcript; empty if it does not."""
        self._owed.append(_Owed(text, shown))

    def answered(self) -> None:
        """Nothing is owed any more."""
        self._owed.clear()

    def data_used(self) -> None:
        """What no caller has said, such as a result, is owed no longer."""
        self._owed = [owed for owed in self._owed if owed.shown]

    def prompt(self, prompt: str, share: float) -> tuple[str, Told | None]:
        """What a stream is opened with: the prompt, with a summary for a service that refuses histories."""
        if share:
            return prompt, None
        turns = self._context(self.owed_turns).turns
        newest = history.build(turns, max_bytes=SUMMARY_BYTES).turns
        lines = "\n".join(f"{turn.role}: {turn.text}" for turn in newest)
        if lines:
            prompt = f"{prompt}\n\nThe conversation so far, shortened:\n{lines}"
        return prompt, Told(turns, n_then=len(self._context(()).turns))

    def ahead(self, recovery: Recovery) -> Told | None:
        """What a standby is told as soon as it is open: what is settled, as far as there is room.

        The history of a long call is some 300 kB of events, more than a connection takes at once. What is
        new since then is little, and goes out at the switch.
        """
        share = recovery.history_share
        max_bytes = self._max_bytes(share)
        room = int(max_bytes * ROOM_SHARE)
        if not recovery.takes_ahead or room < history.MIN_BYTES:
            return None
        past = self._context(self.owed_turns)
        turns = past.settled
        if not self._build(past.turns, max_bytes).dropped:  # then nothing may be left out here
            turns = _beginning(turns, max_bytes - room - _HEAD_BYTES)
        ahead = self._build(turns, max_bytes - room)
        return Told(turns, share, ahead) if ahead.turns else None

    def rest(self, told: Told | None, recovery: Recovery) -> history.History:
        """The history that a stream still lacks when it begins to hear the caller, without what is owed.

        Args:
            told: What it knows.
            recovery: Knows how much of a history the service takes.
        """
        past = self._context(self.owed_turns)
        share = recovery.history_share
        if told is not None and told.ahead.turns:
            left = self._max_bytes(told.share) - told.ahead.n_bytes
            return self._build(_since(told, past), left, opening=_GOES_ON)
        if share:
            return self._build(past.turns, self._max_bytes(share))
        if told is not None and recovery.takes_news:
            return self._build(_since(told, past), SUMMARY_BYTES, opening=_GOES_ON)
        return history.History()

    def _max_bytes(self, share: float) -> int:
        return max(int(self._plan.max_history_bytes * share), history.MIN_BYTES)

    def _build(
        self, turns: Sequence[Turn], max_bytes: int, opening: str = history.OPENING
    ) -> history.History:
        return history.build(
            turns,
            max_bytes=max_bytes,
            max_part_bytes=self._plan.max_part_bytes,
            opening=opening,
        )


def _beginning(turns: Sequence[Turn], max_bytes: int) -> Sequence[Turn]:
    """The longest beginning that fits, and that a turn of the caller's follows the bot's after."""
    end = size = 0
    for place, turn in enumerate(turns):
        if place and turn.role is Role.USER and turns[place - 1].role is Role.ASSISTANT:
            end = place
        size += len(turn.text.encode()) + 1
        if size > max_bytes:
            return turns[:end]
    return turns


def _since(told: Told, past: Past) -> list[Turn]:
    """What has been said since; what is worded differently now is among it."""
    before = [(turn.role, past.hide(turn.text)) for turn in told.turns]
    n_then = max(told.n_then, len(before))
    now = [(turn.role, turn.text) for turn in past.turns]
    pairs = zip(before, now, strict=False)
    same = next((n for n, (old, new) in enumerate(pairs) if old != new), min(len(before), len(now)))
    others = Counter(before[same:])
    fresh = []
    for place, turn in enumerate(past.turns[same:], same):
        if place < n_then and others[turn.role, turn.text]:  # what came later is new, if equal
            others[turn.role, turn.text] -= 1
        else:
            fresh.append(turn)
    return fresh
