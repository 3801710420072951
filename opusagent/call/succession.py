"""From one stream to the next in the middle of a conversation: when, and what becomes of the answer under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from opusagent.call.actions import Actions
from opusagent.call.bot_turns import BotTurns
from opusagent.call.chronicle import Chronicle
from opusagent.call.continuation import Action, Moment
from opusagent.call.greeting import Greeting
from opusagent.call.legs import Leg, LegRole
from opusagent.call.model_side import ModelSide
from opusagent.call.phone_side import PhoneSide
from opusagent.sonic.failures import Failure, Remedy

__all__ = ["BROKE_OFF", "FILTERED", "Succession", "Talk"]

BROKE_OFF = (
    '[the line broke in the middle of your sentence "{}"; say it once more and finish your answer]'
)
"""Typed to the stream that has to go on with an answer, of a stream or of a process that is gone."""

FILTERED = (
    "[this cannot be talked about; say so in one short sentence, without details, and ask the caller what else "
    "you can do]"
)
"""Typed to the stream that follows one which the service's content filter has ended."""


class Talk(Protocol):
    """The conversation in which it happens.

    Attributes:
        changed: Whether something is to be saved.
    """

    changed: bool

    def stream_opened(self, now: float) -> None:
        """Another stream hears the caller."""


class Succession:
    """Replaces streams that are old, and makes up for those that are lost.

    Args:
        talk: Told when another stream hears the caller.
        save: Orders the state to be stored, before anything that is done next.
    """

    def __init__(
        self,
        talk: Talk,
        *,
        phone: PhoneSide,
        bot: BotTurns,
        model: ModelSide,
        actions: Actions,
        greeting: Greeting,
        chronicle: Chronicle,
        save: Callable[[], None],
    ) -> None:
        self._talk = talk
        self._phone = phone
        self._bot = bot
        self._model = model
        self._actions = actions
        self._greeting = greeting
        self._chronicle = chronicle
        self._save = save
        self.interrupted = False
        """Whether the bot was, and has not spoken since."""

    def look(self, now: float) -> None:
        """Replace the stream if it is old and the moment is good, or its time is up."""
        while self._model.is_old(now):  # also one that has just been put in the place of another
            decision = self._model.decide(self._moment(), now)
            match decision.action:
                case Action.SWITCH:
                    self._switch(decision.cause, now)
                case Action.CLOSE_FIRST:
                    self._close_first(decision.cause, now)
                case _:
                    return

    def lost(self, leg: Leg, failure: Failure, now: float) -> None:
        """A stream is gone; what came of its answer is played to its end, the rest will not come."""
        filtered = failure.remedy is Remedy.REOPEN_WITHOUT_LAST
        if not filtered:
            self._have_it_finished(leg, now)
        self._bot.finish(leg.id, now)
        if leg.role is LegRole.DRAINING:
            self._bot.old_stream_lost()
            return
        self._forget_answer()
        if leg.role is LegRole.LIVE:
            self._chronicle.switched("lost")
        if filtered:
            self._chronicle.transcript.drop_last_exchange()
            self._model.debts.ask_next(FILTERED)

    def _moment(self) -> Moment:
        quiet_from = self._phone.quiet_from
        if quiet_from is not None and (ends_by := self._bot.ends_by) is not None:
            quiet_from = max(quiet_from, ends_by)
        return Moment(
            quiet_from=quiet_from,
            owed=(
                bool(self._model.debts.texts)
                or self._actions.tools_running
                or self._greeting.pending
                or self._actions.keypad.pending
            ),
            unanswered=self._model.debts.unanswered_speech,
            interrupted=self.interrupted,
        )

    def _switch(self, cause: str, now: float) -> None:
        """Go on with the standby. What the old stream was saying is heard to its end."""
        assert self._model.live is not None
        self._chronicle.switched(cause)
        self._save()  # so that a crash in the middle finds all of it
        self._actions.release(now)
        old = self._model.live.id
        # An answer without a sound so far is the next stream's to give: it is asked for it, too.
        drains = self._bot.speaking(now) and not self._phone.caller_speaks
        if drains:
            self._chronicle.transcript.bot_will_say(stream=old)
        else:
            self._bot.finish(old, now)
        self._bot.hand_over()
        self._model.switch(cause, now, drain=drains)
        self._forget_answer()
        self._talk.stream_opened(now)

    def _close_first(self, cause: str, now: float) -> None:
        """No standby can be had while the live stream is there."""
        assert self._model.live is not None
        self._chronicle.switched(cause)
        self._save()
        self._actions.release(now)
        self._have_it_finished(self._model.live, now)
        self._bot.finish(self._model.live.id, now)
        self._forget_answer()
        self._model.close_first(now)
        self._talk.changed = True

    def _have_it_finished(self, leg: Leg, now: float) -> None:
        """A stream ends in the middle of an answer: another one says the rest, unless the caller has the word."""
        sentence = self._bot.broken_off(leg, now)
        if sentence is None or self._phone.caller_speaks or self._model.debts.unanswered_speech:
            return
        text = BROKE_OFF.format(sentence)
        if leg.role is LegRole.LIVE:
            self._model.debts.ask_next(text)
        else:
            self._model.type_text(text, now)

    def _forget_answer(self) -> None:
        """Nothing more comes of what the stream was about to say."""
        self._bot.stream_lost()
        self.interrupted = False
        self._greeting.stream_lost()
        self._actions.stream_lost()
