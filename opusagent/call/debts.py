"""What the model was given and has not answered: the caller's words, typed texts, results of tools.

Audio without a text is in the replay ring; texts are in the briefing. Whoever opens the next stream finds in
both what that must be given once more, and the watchdog knows what the live one may be waited for.
"""

from __future__ import annotations

from opusagent.call.briefing import Briefing
from opusagent.call.legs import Leg
from opusagent.call.ring import ReplayRing
from opusagent.call.watchdog import Watchdog

__all__ = ["Debts"]

LATENCY_S = 1.0
"""What the bot goes on to say sooner after it was given a text is about something else still: answers to
typed text began after 0.6 s to 1.3 s (field measurement)."""


class Debts:
    """Keeps the account of one call's model."""

    def __init__(self, ring: ReplayRing, briefing: Briefing, watchdog: Watchdog) -> None:
        self._ring = ring
        self._briefing = briefing
        self._watchdog = watchdog
        self._owed_at: float | None = None  # when the newest text was given
        self._sentence_at = 0.0  # when the bot began its newest sentence
        self._for_next: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that have no answer, oldest first."""
        return self._briefing.owed

    @property
    def unanswered_speech(self) -> bool:
        """Whether the caller has said something that has neither text nor answer."""
        return self._ring.has_unanswered_speech

    # What is given

    def owe(self, text: str, now: float, *, shown: str = "", live: bool) -> None:
        """A text awaits its answer.

        Args:
            text: What is typed.
            now: The present, in monotonic seconds.
            shown: How it stands in the transcript, among the caller's newest words; empty if it does not.
            live: Whether there is a stream that can answer it.
        """
        self._briefing.owe(text, shown=shown)
        self._owed_at = now
        if live:
            self._watchdog.answer_is_owed(now)

    def ask_next(self, text: str) -> None:
        """Have the next stream asked for something, unless the caller has taken the word by then."""
        self._for_next = text

    def stream_begins(self, now: float) -> None:
        """Another stream will be given all of it."""
        text, self._for_next = self._for_next, None
        if text is not None and not self.unanswered_speech:
            self.owe(text, now, live=False)

    def caller_understood(
        self, text: str, now: float, *, live: Leg | None, answering: bool
    ) -> None:
        """The model has understood this and owes an answer; its audio is done with.

        Args:
            text: What the caller said.
            now: The present, in monotonic seconds.
            live: The stream that hears her, if there is one.
            answering: Whether the bot is speaking, perhaps in answer to this: its text may come late.
        """
        awaited = self.unanswered_speech or self._briefing.owed_turns
        if live is not None:
            live.untold = False
        self._ring.commit()
        if awaited or not answering:
            self.owe(text.strip(), now, shown=text.strip(), live=live is not None)

    # What comes

    def sentence_began(self, now: float) -> None:
        """The bot begins a sentence."""
        self._sentence_at = now
        self._watchdog.sentence_began(now)

    def sentence_goes_on(self, until: float) -> None:
        """More of its sentence has come; with it the phone has something to play until then."""
        self._watchdog.sentence_goes_on(until)

    def sentence_ended(self, *, answer: bool) -> None:
        """The bot ends a sentence, and perhaps its answer with it: what it was given before, it has used."""
        self._watchdog.sentence_ended()
        if answer and self._owed_at is not None and self._sentence_at > self._owed_at:
            self._briefing.data_used()
            if not self._briefing.owed:
                self._texts_answered()

    def answer_goes_on(self, now: float) -> None:
        """The bot says more: that may be about what it was given, but not about what it just was."""
        if self._owed_at is not None and now - self._owed_at >= LATENCY_S:
            self._texts_answered()

    def answered(self, live: Leg | None) -> None:
        """The bot speaks or acts: nothing that was said or typed before is owed an answer."""
        if live is not None:
            live.untold |= self.unanswered_speech
        self._ring.commit()
        self._texts_answered()

    def given_up(self) -> None:
        """Nothing is to be answered any more, also not what is being said."""
        self._ring.commit_all()
        self._briefing.answered()

    def _texts_answered(self) -> None:
        self._owed_at = None
        self._briefing.answered()
        self._watchdog.answered()
