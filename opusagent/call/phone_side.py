"""The phone's side of a call: formats, what the bot plays, and what VoiceAI Connect is told of speech.

VoiceAI Connect runs its own timers and barge-in by the bot's `userStream.speech.*` messages
(AudioCodes Bot API, streaming mode). They are sent so that a cough does not silence the bot: during
playout speech is only reported once the model says that the caller interrupts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from opusagent.audio.formats import PREFERRED_CALLER, PREFERRED_PLAY, MediaFormat, choose
from opusagent.audio.speech import SpeechChange, SpeechDetector
from opusagent.audiocodes.protocol import AudioCodesProtocol, Phase
from opusagent.call.bot_voice import BotVoice
from opusagent.call.events import Effect, Record, Voice
from opusagent.call.plan import CallPlan
from opusagent.call.playback import Cut
from opusagent.call.url_sound import UrlSound

__all__ = ["PhoneSide"]

LATENESS_S = 0.25
"""VoiceAI Connect began to play up to 230 ms after the first chunk on a live capture: so long after the
end by our reckoning it may still be playing, and speech that it is told of would cut it off."""


class PhoneSide:
    """Joins one websocket's protocol to what is played and what is heard on it.

    Args:
        new_id: A fresh unique id, for activities.
        utcnow: The time of day, aware of its zone.
        out: Where sound is noted for a recording.
        first_play: The number of the first play stream; none may come twice in a conversation.
    """

    def __init__(
        self,
        plan: CallPlan,
        *,
        new_id: Callable[[], str],
        utcnow: Callable[[], datetime],
        out: list[Effect],
        first_play: int = 1,
    ) -> None:
        self._plan = plan
        self._recorded = out if plan.record else None
        self._new_id = new_id
        self._utcnow = utcnow
        self.wire = AudioCodesProtocol(new_id=new_id, utcnow=utcnow, first_play=first_play)
        self.caller_format = MediaFormat.LPCM16_16K
        self.play_format = MediaFormat.LPCM16_24K
        self._voice = self._new_voice()
        self._detector = self._new_detector()
        self._told_started = False
        self._spoke_at: float | None = None
        self._caller_quiet_from = 0.0
        self.secret = False
        """Whether what the caller does now stays out of the recording."""
        self.sound = UrlSound()
        """What VoiceAI Connect plays from a URL."""

    def choose_formats(self, offered: Sequence[str]) -> None:
        """Settle both directions: what needs no resampling first.

        Raises:
            NoCommonFormat: If none of the offered formats can be used.
        """
        self.caller_format = choose(offered, PREFERRED_CALLER)
        self.play_format = choose(offered, PREFERRED_PLAY)
        self._voice = self._new_voice()
        self._detector = self._new_detector()

    def restore_formats(self, caller: str, play: str, offered: Sequence[str]) -> None:
        """Settle on the formats of a conversation that goes on, where they are offered again.

        Raises:
            NoCommonFormat: If none of the offered formats can be used.
        """
        offered = offered or (caller, play)
        self.choose_formats(offered)
        if caller in offered:
            self.caller_format = MediaFormat(caller)
        if play in offered:
            self.play_format = MediaFormat(play)
        self._voice = self._new_voice()
        self._detector = self._new_detector()

    # Losing and finding the caller

    def detach(self, now: float, unsent: Sequence[str]) -> None:
        """The websocket is gone; `unsent` are messages with bot audio that did not leave on it any more."""
        self.wire.lost()
        self.stream_closed(now)
        self._told_started = False
        self._voice.hold(self.wire.audio_in(unsent))

    def attach(self) -> None:
        """There is another websocket; nothing has come on it yet."""
        self.wire = AudioCodesProtocol(
            new_id=self._new_id, utcnow=self._utcnow, first_play=self.wire.next_play
        )

    def can_go_on(self, offered: Sequence[str]) -> bool:
        """Whether the formats that the streams were opened for are offered again."""
        return not offered or {self.caller_format, self.play_format} <= set(offered)

    def accept(self) -> None:
        """Take the call, on the formats that are settled."""
        self.wire.accept(self.caller_format, self.play_format)

    def go_on(self, now: float) -> None:
        """Play what the bot has said meanwhile."""
        self._voice.resume(self.wire, now)

    @property
    def connected(self) -> bool:
        """Whether VoiceAI Connect can be told anything."""
        return self.wire.phase is Phase.ACCEPTED

    # What the caller does

    def heard(self, pcm: bytes, now: float) -> bool:
        """Take a chunk of the caller's audio. True while she speaks."""
        if self._recorded is not None and not self.secret:
            self._recorded.append(Record(Voice.CALLER, pcm))
        match self._detector.feed(pcm):
            case SpeechChange.STARTED:
                self._spoke_at = now
            case SpeechChange.STOPPED:
                self._caller_quiet_from = now
        self._tell_speech(now)
        return self._detector.speaking

    def stream_closed(self, now: float) -> None:
        """VoiceAI Connect withholds the caller's audio from now on."""
        if self._detector.speaking:
            self._caller_quiet_from = now
        self._detector = self._new_detector()
        self._tell_speech(now)

    @property
    def caller_speaks(self) -> bool:
        """Whether the caller speaks now, as far as audio came."""
        return self._detector.speaking

    @property
    def caller_may_speak(self) -> bool:
        """Whether there is sound of her that is too short yet to be called speech."""
        return self._detector.rising

    @property
    def caller_spoke_over_bot(self) -> bool:
        """Whether the caller began to speak after the newest play stream began."""
        began = self._voice.began_at
        return self._spoke_at is not None and began is not None and self._spoke_at > began

    @property
    def quiet_from(self) -> float | None:
        """Since when nobody speaks, or from when on, once the phone has played what it has.

        None while the caller speaks.
        """
        if self.caller_speaks:
            return None
        return max(self._caller_quiet_from, self._voice.silent_from())

    def understood(self, text: str) -> None:
        """The model has the caller's words: her turn is the bot's business now.

        Not with barge-in off: VoiceAI Connect then stops listening until the bot has played something.
        """
        if self._plan.barge_in:
            self.wire.speech_recognised(text)
            self.wire.speech_committed()

    # What the bot does

    def play(self, pcm: bytes, content_id: str, now: float, *, source: int = 0) -> bool:
        """Play more of the bot's turn. True if this begins a turn. For `source` see `BotVoice.add`."""
        return self._voice.add(pcm, content_id, now, source=source)

    def complete_turn(self, now: float, *, source: int = 0) -> None:
        """No more audio comes for the bot's turn."""
        self._voice.complete_turn(now, source=source)

    def barge_in(self, now: float) -> Cut | None:
        """Silence the bot, in VoiceAI Connect's order. None if it was not speaking; a sound ends, too."""
        audible = self._voice.audible(now)
        if not audible and not self.sound.plays(now):
            return None
        if self._plan.barge_in:
            # The start is what makes VoiceAI Connect fall silent; one from before the bot spoke is over.
            self._tell(now, started=False)
            self._tell(now, started=True)
        flushed = self._plan.barge_in or self._plan.abort_prompts
        cut = self._voice.interrupt(now, flushed=flushed) if audible else None
        if self._plan.abort_prompts:
            self.wire.abort_prompts()
            self.sound.cut(now)
        self._tell_speech(now)
        return cut

    def play_finished(self, played_ms: int | None, now: float) -> None:
        """VoiceAI Connect has played a turn of the bot, or a sound, to its end."""
        turn_s = self._voice.turn_s
        self.sound.play_finished(played_ms, now, turn=self.wire.next_play, turn_s=turn_s)

    def silence(self, now: float) -> Cut:
        """End what is playing without a word to VoiceAI Connect, which plays the lead that it has."""
        return self._voice.interrupt(now, flushed=False)

    def begun(self) -> list[str]:
        """The blocks of content that the phone has got the first of, since this was asked last."""
        return self._voice.begun()

    def audible(self, now: float) -> bool:
        """Whether the caller still hears the bot, or is about to."""
        return self._voice.audible(now)

    def remaining_s(self, now: float) -> float:
        """Seconds until the phone has played all there is."""
        return self._voice.remaining_s(now)

    @property
    def silent_from(self) -> float:
        """When it has played, or had played, all there is, in monotonic seconds."""
        return self._voice.silent_from()

    def pump(self, now: float) -> None:
        """Hand over what is due."""
        self._voice.pump(now)

    def next_timer(self) -> float | None:
        """When `pump` has something to do."""
        return self._voice.next_timer()

    def _tell_speech(self, now: float) -> None:
        speaks = self.caller_speaks
        if not speaks or not self._voice.audible(now - LATENESS_S):
            self._tell(now, started=speaks)

    def _tell(self, now: float, *, started: bool) -> None:
        if started == self._told_started:
            return
        self._told_started = started
        if started:
            self.wire.speech_started()
            if self._plan.barge_in:
                self.sound.cut(now)
        else:
            self.wire.speech_stopped()

    def _new_voice(self) -> BotVoice:
        rate_hz = self.play_format.sample_rate_hz
        return BotVoice(self.wire, 2 * rate_hz, lead_s=self._plan.play_lead_s, out=self._recorded)

    def _new_detector(self) -> SpeechDetector:
        return SpeechDetector(
            self.caller_format.sample_rate_hz, threshold_rms=self._plan.speech_threshold_rms
        )
