"""What happened in a call of the simulated caller: everything that can be measured at the phone.

Times are seconds since the call began, unless a name says otherwise.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from opusagent.audio.formats import MediaFormat
from opusagent.simulators.caller_playout import PlaySpan, Sound
from opusagent.simulators.numbered import NumberedFrame

__all__ = [
    "Answer",
    "CallRecord",
    "Interruption",
    "Loss",
    "Message",
    "NumberCheck",
    "Phrase",
    "StreamAck",
    "Violation",
    "check_numbers",
]

_ONE_RUN_S = 0.05
"""Play streams closer than this are one run of speech to the ear."""
_INTERRUPTING: Final = frozenset({"userStream.speech.started", "abortPrompts"})


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came from the bot or went to it. Caller audio is not among them."""

    at: float
    by_bot: bool
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that the bot may not say, or not then."""

    at: float
    what: str


@dataclass(slots=True)
class StreamAck:
    """A `userStream.start` or `.stop`, and when the bot answered it."""

    name: str
    asked_at: float
    answered_at: float | None = None


@dataclass(slots=True)
class Loss:
    """A websocket that was lost, and what came of the next one; None where it did not come so far.

    Attributes:
        at: When it was gone.
        resumed_at: When `session.resume` went out.
        accepted_at: When `session.accepted` came.
    """

    at: float
    resumed_at: float | None = None
    accepted_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """Something the caller said. From its first to its last sound, silence around it cut off.

    Attributes:
        over_bot: Whether the bot was heard when it began.
        first_sample: Position in the caller's sound.
        end_sample: One past its last.
    """

    label: str
    began_at: float
    ended_at: float
    over_bot: bool
    expects_answer: bool
    first_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How long the caller waited; `seconds` is None if nothing came before her next words."""

    phrase: Phrase
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """A phrase that began while the bot was heard.

    Attributes:
        silent_after_s: From the caller's first sound to the last sound of the bot.
        told_after_s: From the caller's first sound to the bot's first message about it
            (`userStream.speech.started` or `abortPrompts`) while it was heard; None without one.
        flushed_after_s: From that message to the last sound of the bot; None without one.
        cut: Whether the bot was silenced, rather than done.
    """

    phrase: Phrase
    silent_after_s: float
    told_after_s: float | None
    flushed_after_s: float | None
    cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCheck:
    """What became of numbered frames.

    Attributes:
        count: Frames that came whole, repeats included.
        lost: Numbers that never came whole, of those expected.
        doubled: Numbers that came more than once.
        disordered: How often a number was smaller than the one before.
        foreign: Numbers that were not expected.
        broken: Frames that were cut short.
    """

    count: int
    lost: tuple[int, ...]
    doubled: tuple[int, ...]
    disordered: int
    foreign: tuple[int, ...]
    broken: int

    @property
    def ok(self) -> bool:
        """Whether every frame came once, whole and in order."""
        wrong = (self.lost, self.doubled, self.disordered, self.foreign, self.broken)
        return bool(self.count) and not any(wrong)


def check_numbers(frames: Sequence[NumberedFrame], expected: range | None = None) -> NumberCheck:
    """Hold the frames that came against the numbers that should have come.

    Args:
        frames: In order of arrival.
        expected: Without it: everything from the smallest to the largest that came.
    """
    whole = [frame.number for frame in frames if frame.whole]
    times = Counter(whole)
    if expected is None:
        expected = range(min(whole), max(whole) + 1) if whole else range(0)
    return NumberCheck(
        count=len(whole),
        lost=tuple(number for number in expected if number not in times),
        doubled=tuple(sorted(number for number, n in times.items() if n > 1)),
        disordered=sum(b < a for a, b in itertools.pairwise(whole)),
        foreign=tuple(sorted(number for number in times if number not in expected)),
        broken=len(frames) - len(whole),
    )


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """One call.

    Attributes:
        began_at: The loop's time that all others count from.
        validation_asked: Whether `connection.validate` was sent, on a websocket of its own.
        validated_after_s: How long the bot took to answer it; None if it did not.
        initiated_at: When `session.initiate` went out.
        accepted_at: When `session.accepted` came.
        caller_format: What the bot listens in.
        ended_at: When the call was over for VoiceAI Connect.
        end_reason: The `reasonCode` of `session.end`, or why there was none.
        refused: The reason of the bot's `session.error`.
        hangup_reason: The reason of the bot's `hangup`.
        failure: Why there was no call, or why it broke off; not the bot's words.
        losses: The websockets that were lost.
        barge_in: Whether it was on in the end.
        played: The bot's play streams.
        max_lead_s: The most bot audio that waited to be played.
        caller_sound: As it was sent.
        bot_sound: As it was heard.
        caller_chunks: How many chunks were sent.
        sent_ranges: The caller's samples that were sent, as begin and end.
        numbers_sent: Numbered frames that were sent.
        numbers_heard: Numbered frames in the bot's audio as it came.
        in_vain: What the script waited for without success.
    """

    began_at: float
    validation_asked: bool = False
    validated_after_s: float | None = None
    initiated_at: float | None = None
    accepted_at: float | None = None
    caller_format: MediaFormat | None = None
    ended_at: float | None = None
    end_reason: str = ""
    refused: str | None = None
    hangup_reason: str | None = None
    failure: str | None = None
    losses: list[Loss] = field(default_factory=list)
    barge_in: bool = False
    messages: list[Message] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    acks: list[StreamAck] = field(default_factory=list)
    phrases: list[Phrase] = field(default_factory=list)
    played: list[PlaySpan] = field(default_factory=list)
    max_lead_s: float = 0.0
    caller_sound: list[Sound] = field(default_factory=list)
    bot_sound: list[Sound] = field(default_factory=list)
    caller_chunks: int = 0
    sent_ranges: list[tuple[int, int]] = field(default_factory=list)
    numbers_sent: range = range(0)
    numbers_heard: list[NumberedFrame] = field(default_factory=list)
    in_vain: list[str] = field(default_factory=list)

    @property
    def accept_s(self) -> float | None:
        """From `session.initiate` to `session.accepted`."""
        if self.accepted_at is None or self.initiated_at is None:
            return None
        return self.accepted_at - self.initiated_at

    @property
    def resumed_after_s(self) -> list[float]:
        """How long each accepted `session.resume` took."""
        return [
            loss.accepted_at - loss.resumed_at
            for loss in self.losses
            if loss.accepted_at is not None and loss.resumed_at is not None
        ]

    @property
    def first_bot_audio_s(self) -> float | None:
        """From `session.accepted` to the first sound of the bot."""
        began = [span.began_at for span in self.played if span.began_at is not None]
        if self.accepted_at is None or not began:
            return None
        return min(began) - self.accepted_at

    def bot_began_after(self, at: float) -> float | None:
        """When the bot was first heard of those play streams that began at `at` or later."""
        began = (s.began_at for s in self.played if s.began_at is not None and s.began_at >= at)
        return min(began, default=None)

    def sent_share(self, phrase: Phrase) -> float:
        """How much of a phrase went out to the bot, 0 to 1."""
        first, end = phrase.first_sample, phrase.end_sample
        sent = sum(max(0, min(b, end) - max(a, first)) for a, b in self.sent_ranges)
        return sent / max(end - first, 1)

    def answers(self) -> list[Answer]:
        """How long the caller waited after each phrase that wants an answer."""
        answers = []
        for phrase, after in zip(self.phrases, [*self.phrases[1:], None], strict=False):
            if not phrase.expects_answer:
                continue
            began = self.bot_began_after(phrase.ended_at)
            if began is not None and after is not None and began > after.ended_at:
                began = None  # that one answers the next phrase
            seconds = None if began is None else began - phrase.ended_at
            answers.append(Answer(phrase=phrase, seconds=seconds))
        return answers

    def interruptions(self) -> list[Interruption]:
        """What became of the bot's speech each time the caller spoke over it."""
        return [self._interruption(phrase) for phrase in self.phrases if phrase.over_bot]

    def _interruption(self, phrase: Phrase) -> Interruption:
        spoke_at = silent_at = phrase.began_at
        cut = False
        for span in self.played:
            if span.began_at is None or span.ended_at is None or span.ended_at <= spoke_at:
                continue
            if span.began_at > silent_at + _ONE_RUN_S:
                break
            silent_at = max(silent_at, span.ended_at)
            cut = cut or span.cut_at is not None
        told = (m.at for m in self.messages if m.at >= spoke_at and m.name in _INTERRUPTING)
        told_at = min(told, default=None)
        if told_at is not None and told_at > silent_at:
            told_at = None  # about what she said, not about the bot
        return Interruption(
            phrase=phrase,
            silent_after_s=silent_at - spoke_at,
            told_after_s=None if told_at is None else told_at - spoke_at,
            flushed_after_s=None if told_at is None else silent_at - told_at,
            cut=cut,
        )

    def numbers(self, expected: range | None = None) -> NumberCheck:
        """What became of the numbered frames in the bot's audio."""
        return check_numbers(self.numbers_heard, expected)
