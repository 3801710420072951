"""When VoiceAI Connect listens to the caller, and how her audio leaves then.

`Floor` decides from when on the bot gets audio; `UserStream` cuts what the caller says into chunks
and sends each when its last sample has been spoken. No clock: times are in seconds of the call.
"""

from __future__ import annotations

import enum
import math

from opusagent.audio.convert import Encoder
from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes.peer import AudioCodesPeer
from opusagent.simulators.caller_journal import Journal
from opusagent.simulators.caller_mouth import Mouth, speech_bounds
from opusagent.simulators.caller_playout import PlayOut, Sound
from opusagent.simulators.caller_record import Phrase
from opusagent.simulators.caller_script import CallerPlan

__all__ = ["Ear", "Floor", "UserStream"]


class Ear(enum.Enum):
    """How VoiceAI Connect treats the caller's audio."""

    SHUT = "shut"
    ASKED = "asked"  # userStream.start is out
    OPEN = "open"


class Floor:
    """Who may speak. With barge-in on both may; with it off the bot goes first and is heard out."""

    def __init__(self, plan: CallerPlan, playout: PlayOut) -> None:
        self._plan = plan
        self._playout = playout
        self._started_at: float | None = None
        self._barge_in_since = 0.0
        self._bot_has_word_until: float | None = None
        self._held_until = -math.inf
        self.barge_in = plan.barge_in
        """Whether the caller may interrupt."""

    def start(self, now: float) -> None:
        """The call is through."""
        self._started_at = now
        self.give_to_bot(now)

    def set_barge_in(self, barge_in: bool, now: float) -> None:  # noqa: FBT001 - the setting itself
        """Change the setting."""
        if barge_in is not self.barge_in:
            self.barge_in = barge_in
            self._barge_in_since = now

    def give_to_bot(self, now: float) -> None:
        """Wait for the bot to play something, but not for ever (`resumeRecognitionTimeoutMS`)."""
        self._bot_has_word_until = now + self._plan.resume_recognition_s

    def bot_plays(self) -> None:
        """The bot has taken its turn."""
        self._bot_has_word_until = None

    def hold(self, until: float) -> None:
        """Listen to nobody for a while."""
        self._held_until = until

    def listen_at(self) -> float | None:
        """From when on the caller is listened to; None if that depends on what the bot does."""
        if self._started_at is None:
            return None
        if self.barge_in:
            free_at = max(self._started_at, self._barge_in_since)
        elif self._playout.open is not None:
            return None
        elif self._bot_has_word_until is not None:
            return max(self._bot_has_word_until, self._held_until)
        else:
            free_at = max(self._started_at, self._playout.quiet_since() or 0.0)
        return max(free_at + self._plan.listen_delay_s, self._held_until)


class UserStream:
    """The caller's voice, and the stream that carries it while VoiceAI Connect listens.

    Silence is sent like speech. What is said while nobody listens is not sent.
    """

    def __init__(self, plan: CallerPlan, journal: Journal, peer: AudioCodesPeer) -> None:
        self._plan = plan
        self._journal = journal
        self._record = journal.record
        self._peer = peer
        self._mouth = Mouth(0)
        self._mouth_began = 0.0
        self._next_sample = 0  # of the caller's sound, to go out
        self._encoder: Encoder | None = None
        self.ear = Ear.SHUT

    @property
    def rate_hz(self) -> int:
        """The caller's sample rate; 0 before the bot has accepted."""
        return self._mouth.rate_hz

    def accept(self, media_format: MediaFormat, now: float) -> None:
        """The bot listens in this format from now on."""
        if self._mouth.rate_hz != media_format.sample_rate_hz:
            self._mouth, self._mouth_began = Mouth(media_format.sample_rate_hz), now

    def tend(self, wanted: bool, now: float) -> None:  # noqa: FBT001 - what the floor says
        """Start or stop the stream as VoiceAI Connect wants it."""
        if wanted and self.ear is Ear.SHUT:
            self.ear = Ear.ASKED
            self._journal.asked("userStream.start", now)
            self._peer.start_user_stream()
        elif not wanted and self.ear is not Ear.SHUT:
            self.shut()
            self._journal.asked("userStream.stop", now)
            self._peer.stop_user_stream()

    def started(self, now: float) -> None:
        """The bot has answered `userStream.start`."""
        self._journal.answered("userStream.start", now)
        if self.ear is Ear.ASKED:
            self.open(now)

    def stopped(self, now: float) -> None:
        """The bot has answered `userStream.stop`."""
        self._journal.answered("userStream.stop", now)

    def open(self, now: float) -> None:
        """Audio goes to the bot from now on."""
        media_format = self._peer.media_format
        if media_format is None:
            return
        self._journal.note("listening", "")
        self.ear = Ear.OPEN
        self._encoder = Encoder(media_format)
        self._next_sample = self._sample_at(now + self._plan.stream_startup_s)

    def shut(self) -> None:
        """The bot gets no more audio."""
        self.ear = Ear.SHUT
        self._encoder = None

    def say(self, pcm: bytes, label: str, now: float, *, expects_answer: bool) -> Phrase:
        """Begin to say something, once everything before has been said and the stream has begun."""
        listens_at = self._next_sample if self.ear is Ear.OPEN else 0
        begin = self._mouth.say(pcm, max(self._sample_at(now), listens_at))
        first, end = speech_bounds(pcm, self.rate_hz)
        return Phrase(
            label=label,
            began_at=self._time_of(begin + first),
            ended_at=self._time_of(begin + end),
            over_bot=False,
            expects_answer=expects_answer,
            first_sample=begin + first,
            end_sample=begin + end,
        )

    def said_until(self) -> float:
        """When everything that is to be said has been said, and has left if somebody listens."""
        chunk_s = self._plan.chunk_ms / 1000 if self.ear is Ear.OPEN else 0.0
        return self._time_of(self._mouth.ends_at) + chunk_s

    def chunk_due(self) -> float | None:
        """When the next chunk has been spoken."""
        if self.ear is not Ear.OPEN:
            return None
        return self._time_of(self._next_sample + self._chunk_samples)

    def send_due(self, now: float) -> None:
        """Send every chunk that has been spoken by now."""
        while (due := self.chunk_due()) is not None and now >= due:
            first, n_samples = self._next_sample, self._chunk_samples
            self._next_sample += n_samples
            pcm = self._mouth.sound(first, n_samples)
            self.send_at_once(pcm)
            self._note_sent(first, pcm)

    def send_at_once(self, pcm: bytes) -> None:
        """Send audio without waiting for its time; only where the stream is open."""
        if self._encoder is not None:
            self._peer.chunk(self._encoder.feed(pcm))
            self._record.caller_chunks += 1

    def _note_sent(self, first: int, pcm: bytes) -> None:
        end = first + len(pcm) // 2
        sent = self._record.sent_ranges
        if sent and sent[-1][1] == first:
            sent[-1] = sent[-1][0], end
        else:
            sent.append((first, end))
        if self._plan.keep_audio:
            self._record.caller_sound.append(Sound(self._time_of(first), pcm, self.rate_hz))

    @property
    def _chunk_samples(self) -> int:
        return self.rate_hz * self._plan.chunk_ms // 1000

    def _sample_at(self, now: float) -> int:
        return round((now - self._mouth_began) * self.rate_hz)

    def _time_of(self, sample: int) -> float:
        return self._mouth_began + sample / max(self.rate_hz, 1)
