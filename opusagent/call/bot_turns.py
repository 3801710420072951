"""What the bot says, from the stream that has the caller's ear and from the one before it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime

from opusagent.call.answer import Answer
from opusagent.call.comfort import Comfort
from opusagent.call.events import Effect, Report, StreamId
from opusagent.call.legs import Leg, LegRole
from opusagent.call.phone_side import PhoneSide
from opusagent.call.timers import ms
from opusagent.models.session_state import Role
from opusagent.sonic import reader as sonic
from opusagent.sonic.reader import Stage, StopReason
from opusagent.transcript_manager import TranscriptManager

__all__ = ["BotTurns", "Came"]


class Came(enum.Enum):
    """What an event was to the conversation."""

    NOTHING_NEW = "nothing_new"
    SOUND = "sound"  # the first of an answer
    MORE = "more"  # the first of another block of it: what was said meanwhile is not answered by it
    END = "end"  # of an answer


class BotTurns:
    """Plays and notes answers; at most one stream speaks to its end while the next has begun.

    Args:
        at: The time of day, later each time.
        out: Where reports are appended.
        began_at: When the call began, in monotonic seconds.
    """

    def __init__(
        self,
        phone: PhoneSide,
        comfort: Comfort,
        transcript: TranscriptManager,
        *,
        at: Callable[[], datetime],
        out: list[Effect],
        began_at: float,
    ) -> None:
        self._phone = phone
        self._comfort = comfort
        self._transcript = transcript
        self._at = at
        self._out = out
        self._began_at = began_at
        self._answer = Answer()
        self._old_answer = Answer()
        self._first_audio = True
        self.asked_at: float | None = None
        """When the caller's last turn ended, until it is answered."""

    @property
    def ends_by(self) -> float | None:
        """When the answer under way counts as over, if nothing more comes of it; None without one."""
        return self._answer.ends_by

    def generating(self, now: float) -> bool:
        """Whether the model is in the middle of an answer."""
        return self._answer.generating(now)

    def speaking(self, now: float) -> bool:
        """Whether the model is in the middle of an answer of which some sound has come."""
        return self._answer.speaking(now)

    def event(self, leg: Leg, event: sonic.SonicEvent, now: float) -> Came:
        """Take an event of the live stream, or of one that finishes its answer."""
        answer = self._answer if leg.role is LegRole.LIVE else self._old_answer
        match event:
            case sonic.BotAudio(content_id=content_id, pcm=pcm):
                if answer.sounds(content_id, now):
                    return self._play(leg.id, answer, content_id, pcm, now)
            case sonic.BotSpeechStarted(content_id=content_id):
                self._transcript.bot_begins(content_id=content_id, stream=leg.id)
                if not answer.begins(content_id, now):
                    self._transcript.bot_unheard(content_id=content_id)
            case sonic.BotSpeechEnded(stop_reason=StopReason.END_TURN) | sonic.Interrupted():
                answer.ends()
                self.finish(leg.id, now)
                return Came.END
            case sonic.BotSpeechEnded():
                answer.block_ends()
            case sonic.ToolRequested():
                answer.rests()
            case sonic.TextHeard(role=Role.ASSISTANT, stage=Stage.SPECULATIVE):
                self._plan(leg, event)
        return Came.NOTHING_NEW

    def unheard(self, leg: Leg, event: sonic.SonicEvent) -> None:
        """Note what a stream goes on to say though it is closed: its FINAL text will not count."""
        match event:
            case sonic.BotSpeechStarted(content_id=content_id):
                self._transcript.bot_begins(content_id=content_id, stream=leg.id)
                self._transcript.bot_unheard(content_id=content_id)
            case sonic.TextHeard(role=Role.ASSISTANT, stage=Stage.SPECULATIVE):
                self._plan(leg, event)

    def broken_off(self, leg: Leg, now: float) -> str | None:
        """The sentence in which the answer of a stream ends too soon, if it ends now; None if it does not."""
        answer = self._answer if leg.role is LegRole.LIVE else self._old_answer
        return self._transcript.last_voiced(stream=leg.id) if answer.breaks_off(now) else None

    def finish(self, stream: StreamId, now: float) -> None:
        """What has come of a stream's answer is all of it."""
        self._transcript.bot_finished(stream=stream)
        self._phone.complete_turn(now, source=stream)

    def cut(self, now: float, *, noticed: bool) -> None:
        """The caller has cut the bot off. `noticed` when the model knows: what begins now is new."""
        self._answer.cut(now, noticed=noticed)
        self._old_answer.cut(now, noticed=noticed)

    def unmute(self) -> None:
        """The model has taken the caller's turn: what begins now answers that."""
        self._answer.unmute()

    def stream_lost(self) -> None:
        """Nothing more comes of the answer of the live stream."""
        self._answer.stream_lost()

    def old_stream_lost(self) -> None:
        """Nothing more comes of the answer of the stream that was replaced."""
        self._old_answer.stream_lost()

    def hand_over(self) -> None:
        """Another stream answers from now on; the old one may finish what it says."""
        self._old_answer, self._answer = self._answer, Answer()

    def _plan(self, leg: Leg, event: sonic.TextHeard) -> None:
        self._transcript.bot_plans(
            event.text, content_id=event.content_id, stream=leg.id, at=self._at()
        )

    def _play(
        self, stream: StreamId, answer: Answer, content_id: str, pcm: bytes, now: float
    ) -> Came:
        came = Came.NOTHING_NEW
        goes_on = answer.speaking(now)
        if answer.is_first(content_id):
            # Only what sounds is an answer: a stream may break between announcing and speaking.
            self._transcript.bot_voices(content_id=content_id)
            came = Came.MORE if goes_on else Came.SOUND
        self._comfort.stop(now)
        if self._phone.play(pcm, content_id, now, source=stream):
            after = None if self.asked_at is None else ms(now - self.asked_at)
            first = ms(now - self._began_at) if self._first_audio else None
            fields = {"after_caller_ms": after, "after_initiate_ms": first}
            self._out.append(Report("bot speaks", {**fields}))
            self._first_audio = False
            self.asked_at = None
        return came
