"""VoiceAI Connect with a caller on the line: `AudioCodesPeer` plus the timing of the real one.

Without a loop and without sockets: texts go in by `receive`, come out by `texts_to_send`, and time
is an argument, in seconds since the call began. What is measured goes into the `CallRecord`.

The order of a call (live capture, barge-in off): initiate, accepted, `start` 60 ms later, the bot's
greeting, `playFinished` when it has really been played, `userStream.start` half a second after that,
and chunks of 160 ms from then on, silence included.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from datetime import datetime

from pydantic import JsonValue

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes.peer import (
    Accepted,
    Activity,
    AudioCodesPeer,
    Configured,
    HangupRequested,
    PeerEvent,
    PlayChunk,
    PlayStarted,
    PlayStopped,
    PromptsAborted,
    Refused,
    Speech,
    SpeechKind,
    UserStreamStarted,
    UserStreamStopped,
    Validated,
)
from opusagent.errors import RemoteProtocolError
from opusagent.simulators.caller_ear import Ear, Floor, UserStream
from opusagent.simulators.caller_journal import Journal, Note
from opusagent.simulators.caller_playout import PlayOut
from opusagent.simulators.caller_record import CallRecord, Loss, Phrase
from opusagent.simulators.caller_script import CallerPlan

__all__ = ["CallPhase", "CallerLine"]


class CallPhase(enum.Enum):
    """How far the call is."""

    NEW = "new"  # session.initiate has not gone out
    ASKED = "asked"  # session.initiate or .resume is out
    UP = "up"  # accepted
    LOST = "lost"  # the socket is gone, the call is not
    OVER = "over"


class CallerLine:
    """One call as VoiceAI Connect runs it.

    Args:
        plan: How it behaves.
        record: What is measured goes here.
        new_id: Makes ids of activities.
        utcnow: The calendar.
        note: Told what happens, as it happens: a name and words.
    """

    def __init__(
        self,
        plan: CallerPlan,
        record: CallRecord,
        *,
        conversation_id: str,
        new_id: Callable[[], str],
        utcnow: Callable[[], datetime],
        note: Note,
    ) -> None:
        """Prepare; nothing is sent before `initiate`."""
        self._plan = plan
        self._record = record
        self._conversation_id = conversation_id
        self._journal = Journal(plan, record, note)
        self._peer = AudioCodesPeer(new_id=new_id, utcnow=utcnow)
        self._playout = PlayOut(keep_audio=plan.keep_audio)
        record.played = self._playout.spans
        record.bot_sound = self._playout.heard
        self._phase = CallPhase.NEW
        self._asked_at = 0.0
        self._start_at: float | None = None  # when the start event is due
        self._started_at: float | None = None
        self._floor = Floor(plan, self._playout)
        record.barge_in = plan.barge_in
        self._stream = UserStream(plan, self._journal, self._peer)
        self._stalled_until = -math.inf

    # What can be asked

    @property
    def phase(self) -> CallPhase:
        """How far the call is."""
        return self._phase

    @property
    def started(self) -> bool:
        """Whether the `start` event has gone out: the caller is on the line."""
        return self._started_at is not None

    @property
    def listening(self) -> bool:
        """Whether the caller's audio goes to the bot."""
        return self._stream.ear is Ear.OPEN

    @property
    def playout(self) -> PlayOut:
        """What the bot plays."""
        return self._playout

    @property
    def rate_hz(self) -> int:
        """The caller's sample rate; 0 before the bot has accepted."""
        return self._stream.rate_hz

    def said_until(self) -> float:
        """When everything that is to be said will have been said, and sent if somebody listens."""
        return self._stream.said_until()

    # What happens to the line

    def initiate(self, now: float) -> None:
        """Ask the bot to take the call, on the socket that has just been opened."""
        self._phase = CallPhase.ASKED
        self._asked_at = self._record.initiated_at = now
        self._journal.sent(now, "session.initiate", ", ".join(self._plan.media_formats))
        self._peer.initiate(
            self._conversation_id,
            caller=self._plan.caller,
            bot_name=self._plan.bot_name,
            formats=self._plan.media_formats,
        )

    def resume(self, now: float) -> None:
        """Ask the bot to go on, on a new socket."""
        if self._phase is CallPhase.OVER:
            return
        self.lose(now)
        self._phase = CallPhase.ASKED
        self._asked_at = self._record.losses[-1].resumed_at = now
        self._journal.sent(now, "session.resume")
        self._peer.resume(self._conversation_id, self._plan.media_formats)

    def lose(self, now: float) -> None:
        """The socket is gone. What VoiceAI Connect has of the bot plays on."""
        if self._phase in (CallPhase.LOST, CallPhase.OVER):
            return
        self._phase = CallPhase.LOST
        self._record.losses.append(Loss(now))
        self._stream.shut()
        self._stalled_until = -math.inf
        self._playout.lose(now)
        self._peer.texts_to_send()
        self._journal.socket_lost(now)

    def fail(self, reason: str, now: float) -> None:
        """The call is over without an orderly end."""
        if self._phase is not CallPhase.OVER:
            self._record.failure = reason
            self._over("error", now)

    def vanish(self, now: float) -> None:
        """The caller and VoiceAI Connect are gone for good, without a word."""
        if self._phase is not CallPhase.OVER:
            self._peer.texts_to_send()
            self._over("vanished", now)

    # What the caller does

    def say(
        self, pcm: bytes, label: str, now: float, *, expects_answer: bool = True
    ) -> Phrase | None:
        """Begin to say something, after what is being said; None before the bot has accepted."""
        if not self.rate_hz:
            return None
        phrase = self._stream.say(pcm, label, now, expects_answer=expects_answer)
        phrase = dataclasses.replace(phrase, over_bot=self._playout.audible(phrase.began_at))
        self._record.phrases.append(phrase)
        self._journal.note("caller speaks", label)
        return phrase

    def send_at_once(self, pcm: bytes) -> None:
        """Send caller audio without waiting for its time; only where VoiceAI Connect listens."""
        self._stream.send_at_once(pcm)

    def press(self, digits: str, spelling: str, now: float) -> None:
        """Press keys."""
        self._journal.sent(now, spelling, f"{len(digits)} keys")
        self._peer.dtmf(digits, spelling)

    def hold(self, seconds: float, now: float) -> None:
        """Withhold the caller's audio; it is lost."""
        self._floor.hold(now + seconds)
        self._journal.note("on hold", f"{seconds:g} s")
        self.handle_timer(now)

    def stall(self, seconds: float, now: float) -> None:
        """Let nothing out for a while, then everything."""
        self._stalled_until = now + seconds
        self._journal.note("line stalls", f"{seconds:g} s")

    def hang_up(self, reason_code: str, reason: str, now: float) -> None:
        """End the call."""
        if self._phase is CallPhase.OVER:
            return
        self._stream.shut()
        self._journal.sent(now, "session.end", reason_code)
        self._peer.end(reason_code, reason)
        self._over(reason_code, now)

    # The wire

    def texts_to_send(self, now: float) -> list[str]:
        """What is to go out now, in order."""
        return [] if now < self._stalled_until else self._peer.texts_to_send()

    def receive(self, text: str | bytes, now: float) -> None:
        """Take a message of the bot. Violations go into the record, the call goes on."""
        try:
            events = self._peer.receive(text)
        except RemoteProtocolError as error:
            self._journal.violation(now, error.got)
            return
        for event in events:
            self._handle(event, now)
        self.handle_timer(now)

    def _handle(self, event: PeerEvent, now: float) -> None:
        match event:
            case PlayChunk(stream_id=stream_id, data=data):
                self._journal.heard(now, "playStream.chunk", f"{stream_id} {len(data)}", often=True)
                self._bot_audio(self._playout.chunk(data, now))
            case PlayStarted(stream_id=stream_id, media_format=media_format):
                self._journal.heard(now, "playStream.start", f"{stream_id} {media_format}")
                self._playout.start(stream_id, media_format, now)
                self._floor.bot_plays()
            case PlayStopped(stream_id=stream_id):
                self._journal.heard(now, "playStream.stop", stream_id)
                self._playout.stop(now)
            case Speech(kind=kind, text=text):
                self._journal.heard(now, f"userStream.speech.{kind}", text)
                self._speech(kind, now)
            case PromptsAborted():
                self._journal.heard(now, "abortPrompts")
                self._silence(now, obeyed=self._plan.cuts_on_abort)
            case UserStreamStarted():
                self._journal.heard(now, "userStream.started", often=True)
                self._stream.started(now)
            case UserStreamStopped():
                self._journal.heard(now, "userStream.stopped", often=True)
                self._stream.stopped(now)
            case _:
                self._about_call(event, now)

    def _about_call(self, event: PeerEvent, now: float) -> None:
        match event:
            case Accepted(media_format=media_format):
                self._journal.heard(now, "session.accepted", media_format)
                self._accepted(media_format, now)
            case Refused(reason=reason):
                self._journal.heard(now, "session.error", reason)
                self._record.refused = reason
                self._over("error", now)
            case Configured(session_params=params):
                self._journal.heard(now, "config", ", ".join(f"{k}={v}" for k, v in params.items()))
                self._configured(params.get("bargeIn"), now)
            case HangupRequested(reason=reason):
                self._journal.heard(now, "hangup", reason)
                self._record.hangup_reason = reason
                self.hang_up("bot-disconnected", reason or "Bot Side", now)
            case Activity(name=name):
                self._journal.heard(now, name)
                if name in ("transfer", "handover"):
                    self.hang_up("transferred", "", now)
            case Validated():
                self._journal.heard(now, "connection.validated")

    def _accepted(self, media_format: MediaFormat, now: float) -> None:
        if self._phase is not CallPhase.ASKED:
            return
        self._phase = CallPhase.UP
        self._stream.accept(media_format, now)
        if self._record.losses:
            self._record.losses[-1].accepted_at = now
            if self._started_at is not None and not self._plan.new_stream_on_resume:
                self._stream.open(now)
        else:
            self._record.accepted_at = now
            self._record.caller_format = media_format
        if self._started_at is None:
            self._start_at = now + self._plan.start_delay_s

    def _configured(self, barge_in: JsonValue, now: float) -> None:
        if isinstance(barge_in, bool):
            self._floor.set_barge_in(barge_in, now)
            self._record.barge_in = barge_in

    def _speech(self, kind: SpeechKind, now: float) -> None:
        if kind is SpeechKind.STARTED and self._floor.barge_in:
            self._silence(now, obeyed=self._plan.cuts_on_speech)
        # The turn is the bot's: it is not listened to before it has answered (AudioCodes' sample).
        elif kind is SpeechKind.RECOGNITION and not self._floor.barge_in:
            self._floor.give_to_bot(now)

    def _silence(self, now: float, *, obeyed: bool) -> None:
        if not obeyed:
            self._playout.forgive()
        elif self._playout.cut(now + self._plan.cut_delay_s):
            self._journal.note("bot silenced", "")

    def _bot_audio(self, pcm: bytes) -> None:
        self._record.max_lead_s = self._playout.max_lead_s
        if (span := self._playout.open) is not None:
            self._journal.bot_audio(pcm, span.media_format.sample_rate_hz)

    # Time

    def next_timer(self) -> float | None:
        """When `handle_timer` or `texts_to_send` has something to do."""
        times: list[float | None] = []
        match self._phase:
            case CallPhase.ASKED:
                times.append(self._asked_at + self._plan.accept_timeout_s)
            case CallPhase.UP:
                times += (self._start_at, self._stream.chunk_due(), self._playout.next_timer())
                if self._stream.ear is Ear.SHUT:
                    times.append(self._floor.listen_at())
        if self._stalled_until > -math.inf:
            times.append(self._stalled_until)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if now >= self._stalled_until:
            self._stalled_until = -math.inf
        if self._phase is CallPhase.ASKED and now >= self._asked_at + self._plan.accept_timeout_s:
            self.fail("the bot did not answer session.initiate or session.resume", now)
        if self._phase is not CallPhase.UP:
            return
        if self._start_at is not None and now >= self._start_at:
            self._start(now)
        self._tell_finished(now)
        listen_at = self._floor.listen_at()
        self._stream.tend(listen_at is not None and now >= listen_at, now)
        self._stream.send_due(now)

    def _start(self, now: float) -> None:
        self._start_at, self._started_at = None, now
        self._floor.start(now)
        self._journal.sent(now, "start")
        self._peer.start(
            {
                "locale": "en-US",
                "caller": self._plan.caller,
                "callee": self._plan.callee,
                "vaigConversationId": self._conversation_id,
            }
        )

    def _tell_finished(self, now: float) -> None:
        for span in self._playout.finished(now):
            if not self._plan.play_finished:
                continue
            status = "finished" if span.cut_at is None else "interrupted"
            played_ms = round(span.heard_s * 1000)
            self._journal.sent(now, "playFinished", f"{span.stream_id} {played_ms} ms {status}")
            self._peer.play_finished(played_ms, status)

    def _over(self, reason: str, now: float) -> None:
        self._phase = CallPhase.OVER
        self._stalled_until = -math.inf
        self._journal.over(reason, now)
        self._stream.shut()
        self._playout.lose(now)
        if self._playout.ends_at > now:
            self._playout.cut(now)  # the line is dead
