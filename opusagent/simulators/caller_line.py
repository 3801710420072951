"""VoiceAI Connect with a caller on the line: `AudioCodesPeer` plus the timing of the real one.

Without a loop and without sockets: texts go in by `receive`, come out by `texts_to_send`, and time
is an argument, in seconds since the call began. What is measured goes into the `CallRecord`.

The order of a call (live capture, barge-in off): initiate, accepted, `start` 60 ms later, the bot's
greeting, `playFinished` when it has really been played, `userStream.start` half a second after that,
and chunks of 160 ms from then on, silence included.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from opusagent.audio.convert import Encoder
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
from opusagent.simulators.caller_mouth import Mouth, speech_bounds
from opusagent.simulators.caller_playout import PlayOut, Sound
from opusagent.simulators.caller_record import (
    CallRecord,
    Message,
    Phrase,
    StreamAck,
    Violation,
)
from opusagent.simulators.caller_script import CallerPlan
from opusagent.simulators.numbered import NumberedAudio, NumberedReader

__all__ = ["CallPhase", "CallerLine"]

type Note = Callable[[str, str], None]

_MAX_KEPT_CHARS: Final = 120
_ON_THE_WAY_S: Final = 1.0


class CallPhase(enum.Enum):
    """How far the call is."""

    NEW = "new"  # session.initiate has not gone out
    ASKED = "asked"  # session.initiate or .resume is out
    UP = "up"  # accepted
    LOST = "lost"  # the socket is gone, the call is not
    OVER = "over"


class _Ear(enum.Enum):
    """How VoiceAI Connect treats the caller's audio."""

    SHUT = "shut"
    ASKED = "asked"  # userStream.start is out
    OPEN = "open"


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
        self._note = note
        self._peer = AudioCodesPeer(new_id=new_id, utcnow=utcnow)
        self._playout = PlayOut(keep_audio=plan.keep_audio)
        record.played = self._playout.spans
        record.bot_sound = self._playout.heard
        self._phase = CallPhase.NEW
        self._asked_at = 0.0
        self._start_at: float | None = None  # when the start event is due
        self._started_at: float | None = None
        self._barge_in = record.barge_in = plan.barge_in
        self._barge_in_since = 0.0
        # With barge-in off the bot has the word first, and again after it was given one.
        self._bot_has_word_until: float | None = None
        self._held_until = -math.inf
        self._stalled_until = -math.inf
        self._ear = _Ear.SHUT
        self._mouth: Mouth | None = None
        self._mouth_began = 0.0
        self._next_sample = 0  # of the caller's sound, to go out
        self._encoder: Encoder | None = None
        self._reader: tuple[int, NumberedReader] | None = None
        self._resumes = 0

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
        return self._ear is _Ear.OPEN

    @property
    def playout(self) -> PlayOut:
        """What the bot plays."""
        return self._playout

    @property
    def rate_hz(self) -> int:
        """The caller's sample rate, once the bot has accepted."""
        media_format = self._peer.media_format
        return 0 if media_format is None else media_format.sample_rate_hz

    def said_until(self) -> float:
        """When everything that is to be said will have gone out."""
        if self._mouth is None:
            return 0.0
        chunk_s = self._plan.chunk_ms / 1000
        return self._time_of(self._mouth.ends_at) + (chunk_s if self.listening else 0.0)

    # What happens to the line

    def initiate(self, now: float) -> None:
        """Ask the bot to take the call, on the socket that has just been opened."""
        self._phase = CallPhase.ASKED
        self._asked_at = self._record.initiated_at = now
        self._sent(now, "session.initiate", ", ".join(self._plan.media_formats))
        self._peer.initiate(
            self._conversation_id,
            caller=self._plan.caller,
            bot_name=self._plan.bot_name,
            formats=self._plan.media_formats,
        )

    def resume(self, now: float) -> None:
        """Ask the bot to go on, on a new socket."""
        self.lose(now)
        self._phase = CallPhase.ASKED
        self._asked_at = now
        self._resumes += 1
        self._sent(now, "session.resume")
        self._peer.resume(self._conversation_id, self._plan.media_formats)

    def lose(self, now: float) -> None:
        """The socket is gone. What VoiceAI Connect has of the bot plays on."""
        if self._phase is CallPhase.OVER:
            return
        self._phase = CallPhase.LOST
        self._shut_ear()
        self._stalled_until = -math.inf
        self._playout.lose()
        self._peer.texts_to_send()
        acks = self._record.acks  # an answer that was on the way is not missing
        acks[:] = [a for a in acks if a.answered_at is not None or now - a.asked_at > _ON_THE_WAY_S]

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
        mouth = self._mouth
        if mouth is None:
            return None
        listens_at = self._next_sample if self.listening else 0
        begin = mouth.say(pcm, max(self._sample_at(now), listens_at))
        first, end = speech_bounds(pcm, mouth.rate_hz)
        began_at = self._time_of(begin + first)
        phrase = Phrase(
            label=label,
            began_at=began_at,
            ended_at=self._time_of(begin + end),
            over_bot=self._playout.audible(began_at),
            expects_answer=expects_answer,
            first_sample=begin + first,
            end_sample=begin + end,
        )
        self._record.phrases.append(phrase)
        self._note("caller speaks", label)
        return phrase

    def send_at_once(self, pcm: bytes) -> None:
        """Send caller audio without waiting for its time; only where VoiceAI Connect listens."""
        if self._encoder is not None:
            self._peer.chunk(self._encoder.feed(pcm))
            self._record.caller_chunks += 1

    def press(self, digits: str, spelling: str, now: float) -> None:
        """Press keys."""
        self._sent(now, spelling, f"{len(digits)} keys")
        self._peer.dtmf(digits, spelling)

    def hold(self, seconds: float, now: float) -> None:
        """Withhold the caller's audio; it is lost."""
        self._held_until = now + seconds
        self._note("on hold", f"{seconds:g} s")
        self.handle_timer(now)

    def stall(self, seconds: float, now: float) -> None:
        """Let nothing out for a while, then everything."""
        self._stalled_until = now + seconds
        self._note("line stalls", f"{seconds:g} s")

    def hang_up(self, reason_code: str, reason: str, now: float) -> None:
        """End the call."""
        if self._phase is CallPhase.OVER:
            return
        self._shut_ear()
        self._sent(now, "session.end", reason_code)
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
            self._record.violations.append(Violation(now, error.got))
            self._note("violation", error.got)
            return
        for event in events:
            self._handle(event, now)
        self.handle_timer(now)

    def _handle(self, event: PeerEvent, now: float) -> None:
        match event:
            case PlayChunk(stream_id=stream_id, data=data):
                self._heard(now, "playStream.chunk", f"{stream_id} {len(data)}", quiet=True)
                self._bot_audio(self._playout.chunk(data, now))
            case PlayStarted(stream_id=stream_id, media_format=media_format):
                self._heard(now, "playStream.start", f"{stream_id} {media_format}")
                self._playout.start(stream_id, media_format, now)
                self._bot_has_word_until = None
            case PlayStopped(stream_id=stream_id):
                self._heard(now, "playStream.stop", stream_id)
                self._playout.stop(now)
            case Speech(kind=kind, text=text):
                self._heard(now, f"userStream.speech.{kind}", text)
                self._speech(kind, now)
            case PromptsAborted():
                self._heard(now, "abortPrompts")
                self._silence(now, obeyed=self._plan.cuts_on_abort)
            case UserStreamStarted():
                self._heard(now, "userStream.started", quiet=True)
                self._stream_started(now)
            case UserStreamStopped():
                self._heard(now, "userStream.stopped", quiet=True)
                self._acknowledge("userStream.stop", now)
            case _:
                self._about_call(event, now)

    def _about_call(self, event: PeerEvent, now: float) -> None:
        match event:
            case Accepted(media_format=media_format):
                self._heard(now, "session.accepted", media_format)
                self._accepted(media_format, now)
            case Refused(reason=reason):
                self._heard(now, "session.error", reason)
                self._record.refused = reason
                self._over("error", now)
            case Configured(session_params=params):
                self._heard(now, "config", ", ".join(f"{k}={v}" for k, v in params.items()))
                self._configured(params.get("bargeIn"), now)
            case HangupRequested(reason=reason):
                self._heard(now, "hangup", reason)
                self._record.hangup_reason = reason
                self.hang_up("bot-disconnected", reason or "Bot Side", now)
            case Activity(name=name):
                self._heard(now, name)
                if name in ("transfer", "handover"):
                    self.hang_up("transferred", "", now)
            case Validated():
                self._heard(now, "connection.validated")

    def _accepted(self, media_format: MediaFormat, now: float) -> None:
        if self._phase is not CallPhase.ASKED:
            return
        self._phase = CallPhase.UP
        if self._mouth is None or self._mouth.rate_hz != media_format.sample_rate_hz:
            self._mouth, self._mouth_began = Mouth(media_format.sample_rate_hz), now
        if self._resumes:
            self._record.resumed_after_s.append(now - self._asked_at)
            if self._started_at is not None and not self._plan.new_stream_on_resume:
                self._open_ear(now)
        else:
            self._record.accepted_at = now
            self._record.caller_format = media_format
        if self._started_at is None:
            self._start_at = now + self._plan.start_delay_s

    def _configured(self, barge_in: JsonValue, now: float) -> None:
        if isinstance(barge_in, bool) and barge_in is not self._barge_in:
            self._barge_in = self._record.barge_in = barge_in
            self._barge_in_since = now

    def _speech(self, kind: SpeechKind, now: float) -> None:
        if kind is SpeechKind.STARTED and self._barge_in:
            self._silence(now, obeyed=self._plan.cuts_on_speech)
        # The turn is the bot's: it is not listened to before it has answered (AudioCodes' sample).
        elif kind is SpeechKind.RECOGNITION and not self._barge_in:
            self._bot_has_word_until = now + self._plan.resume_recognition_s

    def _silence(self, now: float, *, obeyed: bool) -> None:
        if not obeyed:
            self._playout.forgive()
        elif self._playout.cut(now + self._plan.cut_delay_s):
            self._note("bot silenced", "")

    def _bot_audio(self, pcm: bytes) -> None:
        self._record.max_lead_s = self._playout.max_lead_s
        span = self._playout.open
        if not self._plan.numbered_ms or span is None:
            return
        rate = span.media_format.sample_rate_hz
        if self._reader is None or self._reader[0] != rate:
            self._reader = rate, NumberedReader(NumberedAudio(self._plan.numbered_ms, rate))
        self._record.numbers_heard += self._reader[1].feed(pcm)

    # Time

    def next_timer(self) -> float | None:
        """When `handle_timer` or `texts_to_send` has something to do."""
        times: list[float | None] = []
        match self._phase:
            case CallPhase.ASKED:
                times.append(self._asked_at + self._plan.accept_timeout_s)
            case CallPhase.UP:
                times += (self._start_at, self._chunk_due(), self._playout.next_timer())
                if self._ear is _Ear.SHUT:
                    times.append(self._listen_at())
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
        self._tend_ear(now)
        while (due := self._chunk_due()) is not None and now >= due:
            self._send_chunk()

    def _start(self, now: float) -> None:
        self._start_at, self._started_at = None, now
        self._bot_has_word_until = now + self._plan.resume_recognition_s
        self._sent(now, "start")
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
            self._sent(now, "playFinished", f"{span.stream_id} {played_ms} ms {status}")
            self._peer.play_finished(played_ms, status)

    # The user stream

    def _listen_at(self) -> float | None:
        """From when on VoiceAI Connect wants the caller's audio; None if that depends on the bot."""
        if self._started_at is None:
            return None
        if self._barge_in:
            free_at = max(self._started_at, self._barge_in_since)
        elif self._playout.open is not None:
            return None
        elif self._bot_has_word_until is not None:
            return max(self._bot_has_word_until, self._held_until)
        else:
            free_at = max(self._started_at, self._playout.quiet_since() or 0.0)
        return max(free_at + self._plan.listen_delay_s, self._held_until)

    def _tend_ear(self, now: float) -> None:
        listen_at = self._listen_at()
        wanted = listen_at is not None and now >= listen_at
        if wanted and self._ear is _Ear.SHUT:
            self._ear = _Ear.ASKED
            self._record.acks.append(StreamAck("userStream.start", now))
            self._sent(now, "userStream.start")
            self._peer.start_user_stream()
        elif not wanted and self._ear is not _Ear.SHUT:
            self._shut_ear()
            self._record.acks.append(StreamAck("userStream.stop", now))
            self._sent(now, "userStream.stop")
            self._peer.stop_user_stream()

    def _stream_started(self, now: float) -> None:
        self._acknowledge("userStream.start", now)
        if self._ear is _Ear.ASKED:
            self._open_ear(now)

    def _open_ear(self, now: float) -> None:
        media_format = self._peer.media_format
        if media_format is not None:
            self._ear = _Ear.OPEN
            self._encoder = Encoder(media_format)
            self._next_sample = self._sample_at(now + self._plan.stream_startup_s)
            self._note("listening", "")

    def _shut_ear(self) -> None:
        self._ear = _Ear.SHUT
        self._encoder = None

    def _acknowledge(self, name: str, now: float) -> None:
        waiting = [a for a in self._record.acks if a.name == name and a.answered_at is None]
        if waiting:
            waiting[0].answered_at = now

    @property
    def _chunk_samples(self) -> int:
        return self.rate_hz * self._plan.chunk_ms // 1000

    def _chunk_due(self) -> float | None:
        if self._ear is not _Ear.OPEN or self._phase is not CallPhase.UP:
            return None
        return self._time_of(self._next_sample + self._chunk_samples)

    def _send_chunk(self) -> None:
        mouth, encoder = self._mouth, self._encoder
        if mouth is None or encoder is None:
            return
        first, n_samples = self._next_sample, self._chunk_samples
        self._next_sample += n_samples
        pcm = mouth.sound(first, n_samples)
        self._peer.chunk(encoder.feed(pcm))
        self._record.caller_chunks += 1
        sent = self._record.sent_ranges
        if sent and sent[-1][1] == first:
            sent[-1] = sent[-1][0], first + n_samples
        else:
            sent.append((first, first + n_samples))
        if self._plan.keep_audio:
            self._record.caller_sound.append(Sound(self._time_of(first), pcm, mouth.rate_hz))

    def _sample_at(self, now: float) -> int:
        return round((now - self._mouth_began) * self.rate_hz)

    def _time_of(self, sample: int) -> float:
        return self._mouth_began + sample / max(self.rate_hz, 1)

    # The record

    def _sent(self, now: float, name: str, detail: str = "") -> None:
        self._record.messages.append(Message(now, by_bot=False, name=name, detail=detail))
        self._note(f"-> {name}", detail)

    def _heard(self, now: float, name: str, detail: str = "", *, quiet: bool = False) -> None:
        if not quiet or self._plan.keep_audio:
            kept = detail[:_MAX_KEPT_CHARS]
            self._record.messages.append(Message(now, by_bot=True, name=name, detail=kept))
        if not quiet:
            self._note(f"<- {name}", detail)

    def _over(self, reason: str, now: float) -> None:
        self._phase = CallPhase.OVER
        self._record.ended_at = now
        self._record.end_reason = reason
        self._shut_ear()
        self._playout.lose()
        if self._reader is not None:
            self._record.numbers_heard += self._reader[1].finish()
        if self._playout.ends_at > now:
            self._playout.cut(now)  # the line is dead
