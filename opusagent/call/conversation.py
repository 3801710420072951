"""What is said in a call, by whom, and what follows from it.

The caller speaks or presses keys, the model answers, asks for tools, or is cut off. This module keeps
the transcript, the ledger and the greeting, and knows nothing of how a call begins or ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from pydantic import JsonValue

from opusagent.audiocodes import events as phone_events
from opusagent.call import restored
from opusagent.call.actions import Actions
from opusagent.call.bot_turns import BotTurns, Came
from opusagent.call.chronicle import Chronicle
from opusagent.call.comfort import Comfort
from opusagent.call.events import Effect, Report, StreamId
from opusagent.call.greeting import Greeting
from opusagent.call.legs import Leg, LegRole
from opusagent.call.model_side import ModelSide
from opusagent.call.phone_side import PhoneSide
from opusagent.call.plan import Ambient, CallPlan
from opusagent.call.script import Script
from opusagent.call.silence import Silence
from opusagent.call.succession import Succession
from opusagent.call.timers import earliest, ms
from opusagent.call.welcome import Welcome
from opusagent.models.session_state import Role, SessionState
from opusagent.sonic import reader as sonic
from opusagent.sonic.failures import Failure
from opusagent.sonic.reader import Stage, StopReason

__all__ = ["Conversation"]


class Conversation:
    """Joins the two sides of a call.

    Args:
        script: The agent's texts.
        phone: With its formats settled.
        out: Where effects are appended, in order.
        save: Orders the state to be stored, before anything that `out` gets later.
        hang_up: Ends the call once the bot has been heard, for a reason.
        variables: What tools have kept so far.
    """

    def __init__(
        self,
        plan: CallPlan,
        *,
        ambient: Ambient,
        script: Script,
        phone: PhoneSide,
        out: list[Effect],
        save: Callable[[], None],
        hang_up: Callable[[str, float], None],
        variables: Mapping[str, JsonValue],
        now: float,
    ) -> None:
        self._plan = plan
        self._script = script
        self._phone = phone
        self._out = out
        self._chronicle = Chronicle(ambient.utcnow)
        self._transcript = self._chronicle.transcript
        self._greeting = Greeting(plan.agent.greeting.text, plan.greeting_audio)
        self._comfort = Comfort(plan, phone)
        self._started = False
        self._bot = BotTurns(
            phone, self._comfort, self._transcript, at=self._chronicle.at, out=out, began_at=now
        )
        self.model = ModelSide(
            plan,
            plan.sonic_config(
                input_rate_hz=phone.caller_format.sample_rate_hz,
                output_rate_hz=phone.play_format.sample_rate_hz,
            ),
            prompt=lambda: script.prompt,
            context=self._chronicle.context,
            new_id=ambient.new_id,
            random=ambient.random,
            out=out,
        )
        self._welcome = Welcome(self._greeting, phone, self.model, self._chronicle)
        self.actions = Actions(
            plan,
            self,
            phone=phone,
            model=self.model,
            chronicle=self._chronicle,
            comfort=self._comfort,
            new_id=ambient.new_id,
            hang_up=hang_up,
            variables=variables,
            out=out,
        )
        self._silence = Silence(
            plan.agent.silence,
            phone,
            self.actions.telephone,
            busy=self._is_busy,
            prompt=self.prompt,
            hang_up=hang_up,
            out=out,
        )
        self._succession = Succession(
            self,
            phone=phone,
            bot=self._bot,
            model=self.model,
            actions=self.actions,
            greeting=self._greeting,
            chronicle=self._chronicle,
            save=save,
        )
        self.changed = False
        """Whether something is to be saved; the reader clears it."""

    # The call

    def start(self, now: float) -> None:
        """The call is up: the bot speaks first, if the agent is made so."""
        self._started = True
        self._silence.begin(now)
        self.changed |= self._welcome.begin(self._script.greeting, now)

    def stream_opened(self, now: float) -> None:
        """A stream hears the caller."""
        self._comfort.stop(now)
        self._welcome.look(now)
        self.changed = True

    def stream_lost(self, leg: Leg, failure: Failure, now: float) -> None:
        """A stream is gone; what came of its answer is played to its end, the rest will not come."""
        if self.model.is_standby(leg):
            return
        self._succession.lost(leg, failure, now)
        self.changed = True

    def look(self, now: float) -> None:
        """Note what was said; replace the stream if it is old and the moment good, or its time up."""
        self._note_given()
        self._succession.look(now)

    def caller_lost(self, now: float, unsent: Sequence[str]) -> None:
        """Her websocket is gone: the model hears silence, and what it says is kept."""
        self._caller_withheld(now)
        self._phone.detach(now, unsent)
        self._comfort.stop(now)
        self.actions.caller_lost(now)
        self.changed = True

    def caller_found(self, now: float) -> None:
        """She is back on another websocket."""
        self._phone.go_on(now)
        self._silence.begin(now)
        self.actions.caller_found(now)
        self.changed = True

    def restore(self, state: SessionState, now: float) -> None:
        """Go on with a conversation that another process began; there is no greeting."""
        self._started = True
        self._silence.begin(now)
        self._greeting.done()
        restored.go_on_from(
            state,
            now,
            chronicle=self._chronicle,
            actions=self.actions,
            model=self.model,
            rate_hz=self._rate_hz,
            invitation=lambda: self._script.resume,
        )
        self.changed = True

    def let_go(self, now: float) -> bytes:
        """Note what is still to be told; returns what the caller has said and nobody has answered, at 16 kHz."""
        self.actions.keypad.let_go(now)
        return restored.kept(self.model.unanswered_audio(), self._rate_hz)

    def end(self, now: float) -> None:
        """The call is over: what has not been played will not be heard."""
        self._note_given()
        if self._phone.audible(now):
            more = self._bot.generating(now)
            cut = self._phone.silence(now)
            self._transcript.bot_interrupted(
                heard=cut.heard, unheard=cut.unheard, broken_off=more or cut.dropped_s > 0
            )

    def _note_given(self) -> None:
        for content_id in self._phone.begun():
            self.changed |= self._transcript.bot_given(content_id=content_id)

    def prompt(self, text: str, now: float) -> None:
        """Have the model say something of its own, as a text of the agent's file asks it to."""
        self.model.prompt(self._script.filled(text), now)

    def bot_is_busy(self, now: float) -> bool:
        """Whether the model is in the middle of an answer."""
        return self._bot.generating(now)

    def _is_busy(self, now: float) -> bool:
        """Whether it is not for the caller to speak."""
        owes = self.model.live is None or bool(self.model.debts.texts) or self._greeting.pending
        busy = self.actions.pending or self._bot.generating(now) or self._phone.sound.plays(now)
        return owes or busy or not self._phone.connected

    def next_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return earliest(
            self._welcome.next_timer(),
            self._comfort.next_timer(),
            self.actions.next_timer(),
            self._silence.next_timer(),
        )

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._welcome.handle_timer(now)
        self._silence.handle_timer(now)
        self.actions.handle_timer(now)
        if self.model.waiting.wants_comfort and self._started:
            self._comfort.wanted(now)
        else:
            self._comfort.not_wanted()

    # The caller

    def caller_event(self, event: phone_events.CallerDid, now: float) -> None:
        """Something came from the caller herself."""
        match event:
            case phone_events.CallerAudio(pcm=pcm):
                self._caller_audio(pcm, now)
            case phone_events.UserStreamOpened():
                pass  # VoiceAI Connect takes half a second to begin: silence goes on until it does
            case phone_events.UserStreamClosed():
                self._caller_withheld(now)
            case phone_events.DtmfPressed(digits=digits):
                self._silence.begin(now)
                self.actions.keypad.press(digits, now)
                if self.actions.keypad.silences_bot:
                    self._barge_in("dtmf", now, noticed=False)
            case phone_events.NoUserInput():
                self._silence.told(now)
            case phone_events.TransferStatus() | phone_events.ActivityReceived():
                self.actions.phone_event(event, now)
            case _:
                assert_never(event)

    def _caller_audio(self, pcm: bytes, now: float) -> None:
        spoke = self._phone.caller_speaks
        speaks = self._phone.heard(pcm, now)
        if spoke and not speaks:
            self._bot.asked_at = now
        rising = self._phone.caller_may_speak
        if self._phone.secret:
            speaks = rising = False  # the tones of secret keys are neither kept nor given again
        self.model.caller_audio(pcm, speech=speaks, rising=rising, now=now)

    def _caller_withheld(self, now: float) -> None:
        if self._phone.caller_speaks:
            self._bot.asked_at = now
        self._phone.stream_closed(now)
        self.model.caller_withheld(now)

    def keys_pressed(self, typed: str, shown: str, now: float) -> None:
        """The caller entered something that the model is to know."""
        self.caller_acted(now)
        self._transcript.caller_said(shown, stream=self._live_id, at=self._chronicle.at())
        self.model.type_text(typed, now, shown=shown)
        self.changed = True

    def caller_acted(self, now: float) -> None:
        """The caller did something that she will be answered."""
        self._greeting.done()
        self.actions.telephone.caller_spoke(now)
        self._bot.asked_at = now

    # The model

    def model_event(self, leg: Leg, event: sonic.SonicEvent, now: float) -> None:
        """Something came from a stream."""
        self.model.shows_life(leg, now)
        match leg.role:
            case LegRole.LIVE:
                self._live_event(leg, event, now)
            case LegRole.DRAINING:
                if self._bot.event(leg, event, now) is Came.END:
                    self.model.drained(leg)
                self.actions.model_event(leg, event, now)
            case LegRole.CLOSING:
                self._bot.unheard(leg, event)
        self.late_event(leg, event)

    def _live_event(self, leg: Leg, event: sonic.SonicEvent, now: float) -> None:
        """What only the stream that has the caller's ear may do."""
        match event:
            case sonic.TextHeard(role=Role.ASSISTANT, stage=Stage.SPECULATIVE):
                self._welcome.announced(now)
            case sonic.BotSpeechStarted():
                self._welcome.announced(now)
                self.model.bot_started(now)
            case sonic.BotSpeechEnded(stop_reason=stop_reason):
                self.model.debts.sentence_ended(answer=stop_reason is StopReason.END_TURN)
            case sonic.Interrupted():
                self._succession.interrupted = True
                self.model.debts.sentence_ended(answer=False)
                self._barge_in("model", now, noticed=True)
            case sonic.TextHeard(role=Role.USER, stage=Stage.FINAL, text=text):
                self._caller_understood(leg, text, now)
        match self._bot.event(leg, event, now):
            case Came.SOUND:
                self.changed |= self._greeting.pending  # saved at once: nobody is greeted twice
                self._greeting.done()
                self._succession.interrupted = False
                self.model.debts.answered(leg)
            case Came.MORE:
                self._succession.interrupted = False
                self.model.debts.answer_goes_on(now)
            case Came.END:
                self.changed = True
        if isinstance(event, sonic.BotAudio):
            self.model.debts.sentence_goes_on(max(now, self._phone.silent_from))
        self.actions.model_event(leg, event, now)

    def late_event(self, leg: Leg, event: sonic.SonicEvent) -> None:
        """What counts from a stream that is being closed, too: its last texts and its bill."""
        match event:
            case sonic.TextHeard(role=Role.ASSISTANT, stage=Stage.FINAL, text=text):
                self._transcript.bot_said(text, stream=leg.id, at=self._chronicle.at())
                self.changed = True
            case sonic.TextHeard(role=Role.USER, stage=Stage.FINAL, text=text):
                if leg.late_turns and not leg.is_echo(text):
                    leg.late_turns -= 1
                    self._transcript.caller_said(text, stream=leg.id, at=self._chronicle.at())
                    self.changed = True
            case sonic.UsageReported():
                self._report("usage", **dataclasses.asdict(leg.used_since(event)))
            case sonic.UnknownEventReceived(name=name):
                self._report("unknown message", wire="sonic", type=name)

    def _caller_understood(self, leg: Leg, text: str, now: float) -> None:
        if not self.model.debts.unanswered_speech and leg.is_echo(text):
            return  # an echo has no sound behind it
        self._greeting.done()
        # A late part of the turn that the bot is answering already must not silence the answer.
        if self._phone.caller_spoke_over_bot and self._phone.audible(now):
            self._barge_in("transcript", now, noticed=True)
        self._bot.unmute()
        self._succession.interrupted = False
        self.actions.telephone.caller_spoke(now)
        self._silence.begin(now)
        self._transcript.caller_said(text, stream=leg.id, at=self._chronicle.at())
        answering = self._bot.speaking(now) or self._phone.audible(now)
        self.model.debts.caller_understood(text, now, live=leg, answering=answering)
        self._phone.understood(text)
        self.changed = True

    def _barge_in(self, cause: str, now: float, *, noticed: bool) -> None:
        """The caller cuts the bot off: nothing more of this answer is to be heard."""
        cut = self._phone.barge_in(now)
        if cut is not None or noticed:
            self._bot.cut(now, noticed=noticed)
        if cut is None:
            if noticed:  # what ran dry is over as well: the next answer gets its own play stream
                self._phone.complete_turn(now, source=self._live_id)
            return
        self.model.stop_draining()
        self.actions.telephone.interrupted(now)
        self._transcript.bot_interrupted(heard=cut.heard, unheard=cut.unheard)
        heard_ms, dropped_ms = ms(cut.heard_s), ms(cut.dropped_s)
        self._report("barge-in", cause=cause, heard_ms=heard_ms, dropped_ms=dropped_ms)
        self.changed = True

    # Within

    def snapshot(self, state: SessionState) -> SessionState:
        """The state with all that was said and done so far, as it is to be saved."""
        self.actions.note(state)
        return self._chronicle.snapshot(state)

    @property
    def _rate_hz(self) -> int:
        """Of what the model hears."""
        return self._phone.caller_format.sample_rate_hz

    @property
    def _live_id(self) -> StreamId:
        live = self.model.live
        return StreamId(0) if live is None else live.id

    def _report(self, event: str, **fields: JsonValue) -> None:
        self._out.append(Report(event, fields))
