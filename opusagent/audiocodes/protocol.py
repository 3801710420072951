"""The bot's end of one AudioCodes websocket: texts become events, orders become texts."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from opusagent.audio.convert import Decoder, Encoder
from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes import messages
from opusagent.audiocodes.activities import names_caller, read_activity, write_event
from opusagent.audiocodes.caller_stream import CallerStream
from opusagent.audiocodes.codec import ChunkWriter, UnknownMessage, dump, parse, parse_bot
from opusagent.audiocodes.events import (
    CallerEvent,
    CallerHungUp,
    CallStarted,
    ConnectionValidated,
    ResumeRequested,
    SessionRequested,
)
from opusagent.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["AudioCodesProtocol", "Phase"]


class Phase(enum.Enum):
    """How far the session on a websocket has come."""

    FRESH = "fresh"  # nothing asked yet
    ASKED = "asked"  # session.initiate or session.resume waits for its answer
    ACCEPTED = "accepted"
    LEAVING = "leaving"  # hangup sent, session.end to come
    REFUSED = "refused"  # session.error sent
    ENDED = "ended"  # session.end received


_LIVE: Final = (Phase.ACCEPTED, Phase.LEAVING)
_OVER: Final = (Phase.REFUSED, Phase.ENDED)


class _Play:
    """One play stream. Its start is written with its first audio, so that none is ever empty."""

    def __init__(self, start: messages.PlayStreamStart, media_format: MediaFormat) -> None:
        pattern = messages.PlayStreamChunk(stream_id=start.stream_id, audio_chunk=b"")
        self.start = start
        self.started = False
        self.encoder = Encoder(media_format)
        self.writer = ChunkWriter(pattern)


class AudioCodesProtocol:
    """One websocket of VoiceAI Connect, seen from the bot; one call at most.

    `receive` what comes, give orders, and send `texts_to_send` after each. Orders before
    `accept` are errors, except `reject` and `hang_up`. After `session.end` was received or
    `session.error` was sent every order is silently without effect: the two ends cross.
    """

    def __init__(
        self,
        *,
        new_id: Callable[[], str],
        utcnow: Callable[[], datetime],
        first_play: int = 1,
    ) -> None:
        """`first_play` numbers the first play stream: ids must not come twice in a conversation."""
        self._new_id = new_id
        self._utcnow = utcnow
        self._next_play = first_play
        self._phase = Phase.FRESH
        self._request: messages.SessionRequest | None = None
        self._media_format = MediaFormat.LPCM16_16K
        self._play_format = MediaFormat.LPCM16_24K
        self._call_started = False
        self._caller = CallerStream(self._media_format)
        self._play: _Play | None = None
        self._texts: list[str] = []

    @property
    def phase(self) -> Phase:
        """How far the session has come."""
        return self._phase

    @property
    def playing(self) -> bool:
        """Whether a play was started and not stopped, with or without audio so far."""
        return self._play is not None

    @property
    def next_play(self) -> int:
        """The number of the next play stream: the `first_play` of the websocket after this one."""
        return self._next_play

    def texts_to_send(self) -> list[str]:
        """The messages that wait to be sent, in order; they wait no longer."""
        texts, self._texts = self._texts, []
        return texts

    # What comes

    def receive(self, text: str | bytes) -> list[CallerEvent]:
        """What a message says; `bytes` is a binary frame. Acknowledgements are queued.

        Of its activities a broken one is an event of its own, and the others count.

        Raises:
            RemoteProtocolError: If the message is broken or out of order. It is dropped: nothing
                has changed.
        """
        message = parse(text)
        if isinstance(message, messages.UserStreamChunk) and self._phase in _LIVE:
            self._check_conversation(message)
            return self._caller.chunk(message.audio_chunk, message.participant)
        if isinstance(message, UnknownMessage):
            return [message]
        self._check_order(message)
        if self._phase is Phase.REFUSED and not isinstance(message, messages.SessionEnd):
            return []  # sent before our session.error arrived there
        match message:
            case messages.ConnectionValidate():
                self._texts.append(dump(messages.ConnectionValidated()))
                return [ConnectionValidated()]
            case messages.SessionInitiate() | messages.SessionResume():
                return self._receive_request(message)
            case messages.SessionEnd(reason_code=code, reason=reason):
                self._finish(Phase.ENDED)
                return [CallerHungUp(code, reason)]
            case messages.Activities(activities=activities):
                return self._receive_activities(activities)
            case messages.UserStreamStart(participant=participant):
                self._send(messages.UserStreamStarted(participant=participant))
                return self._caller.start(participant)
            case messages.UserStreamStop(participant=participant):
                self._send(messages.UserStreamStopped(participant=participant))
                return self._caller.stop(participant)
            case _:
                return [UnknownMessage(message.type)]

    def _check_order(self, message: messages.ToBot) -> None:
        if self._phase is Phase.ENDED:
            raise RemoteProtocolError(wire="audiocodes", got=f"{message.type} after session.end")
        if isinstance(message, messages.ConnectionValidate):
            return
        asking = isinstance(message, messages.SessionInitiate | messages.SessionResume)
        if self._phase is Phase.FRESH and not asking:
            raise RemoteProtocolError(wire="audiocodes", got=f"{message.type} before any session")
        self._check_conversation(message)
        # VAIC may send `start` before our acceptance is flushed, but nothing about audio.
        if self._phase is Phase.ASKED and message.type.startswith("userStream."):
            raise RemoteProtocolError(wire="audiocodes", got=f"{message.type} before acceptance")

    def _check_conversation(self, message: messages.ToBot) -> None:
        if self._request is None or message.conversation_id is None:
            return
        if message.conversation_id != self._request.conversation_id:
            got = f"{message.type} of another conversation"
            raise RemoteProtocolError(wire="audiocodes", got=got)

    def _receive_request(self, message: messages.SessionRequest) -> list[CallerEvent]:
        if self._phase in _LIVE:  # the same conversation asks again: same answer, no event
            self._send_accepted()
            return []
        if self._phase is Phase.ASKED:
            if message != self._request:
                got = f"a second, different {message.type}"
                raise RemoteProtocolError(wire="audiocodes", got=got)
            return []
        self._request = message
        self._phase = Phase.ASKED
        offered = message.supported_media_formats or ()
        if isinstance(message, messages.SessionResume):
            return [ResumeRequested(message.conversation_id, offered)]
        return [
            SessionRequested(
                conversation_id=message.conversation_id,
                caller=message.caller,
                bot_name=message.bot_name,
                offered=offered,
                expects_audio=message.expect_audio_messages is not False,
            )
        ]

    def _receive_activities(
        self, activities: tuple[messages.Activity | messages.BrokenActivity, ...]
    ) -> list[CallerEvent]:
        request = self._request
        caller = request.caller if isinstance(request, messages.SessionInitiate) else ""
        events: list[CallerEvent] = []
        for activity in activities:
            event = read_activity(activity, caller=caller)
            if isinstance(event, CallStarted):
                if self._call_started:
                    continue
                self._call_started = True
                if names_caller(event):
                    self._caller.expect_caller()
            events.append(event)
        return events

    # The session

    def accept(self, media_format: MediaFormat, play_format: MediaFormat) -> None:
        """Take the call: the caller's audio comes in `media_format`, the bot's in `play_format`.

        Raises:
            LocalProtocolError: If nothing was asked, or formats were offered and not these.
        """
        if self._phase in _OVER:
            return
        if self._phase is not Phase.ASKED or self._request is None:
            raise LocalProtocolError(f"accept in phase {self._phase.value}")
        offered = self._request.supported_media_formats
        if offered and (media_format not in offered or play_format not in offered):
            raise LocalProtocolError(f"{media_format} or {play_format} was not offered")
        self._phase = Phase.ACCEPTED
        self._media_format, self._play_format = media_format, play_format
        self._caller.use(media_format)
        self._send_accepted()

    def reject(self, reason: str) -> None:
        """End the call with `session.error`, at any time; the tenant's fail-over may follow."""
        if self._phase in _OVER:
            return
        self._texts.append(dump(messages.SessionError(reason=reason)))
        self._finish(Phase.REFUSED)

    def hang_up(self, reason: str) -> None:
        """End the call in good order, once; `session.end` follows.

        Before `accept` there is nothing to hang up, and the call is rejected.
        """
        match self._phase:
            case Phase.FRESH | Phase.ASKED:
                self.reject(reason)
            case Phase.ACCEPTED:
                self.send_activity(
                    "hangup", activity_params={"hangupReason": reason} if reason else None
                )
                self._phase = Phase.LEAVING
            case _:
                pass

    def lost(self) -> None:
        """The websocket is gone: what waits is dropped, and every order is without effect."""
        self._texts.clear()
        if self._phase not in _OVER:
            self._finish(Phase.ENDED)

    def configure(self, session_params: Mapping[str, JsonValue]) -> None:
        """Change settings of VoiceAI Connect for this call, e.g. `{"bargeIn": True}`."""
        self._send_event("config", session_params=session_params)

    def send_activity(
        self,
        name: str,
        *,
        value: JsonValue = None,
        activity_params: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Send an event, e.g. `transfer`, with a fresh id and the time of now."""
        self._send_event(name, value=value, activity_params=activity_params)

    def abort_prompts(self) -> None:
        """Ask VoiceAI Connect to drop what it has buffered or is playing."""
        self._send_event("abortPrompts")

    # What the bot says

    def start_play(self, alt_text: str = "") -> str:
        """Begin a play stream and return its id; nothing is sent before its first audio.

        Raises:
            LocalProtocolError: If one is playing: there is one at a time.
        """
        if self._play is not None:
            raise LocalProtocolError("start_play while playing")
        stream_id = str(self._next_play)
        self._next_play += 1
        if self._is_sending("playStream.start"):
            start = messages.PlayStreamStart(
                stream_id=stream_id, media_format=self._play_format, alt_text=alt_text or None
            )
            self._play = _Play(start, self._play_format)
        return stream_id

    def play(self, pcm: bytes) -> None:
        """Send bot audio: 16-bit PCM at the rate of the play format, of any size.

        Raises:
            LocalProtocolError: If no play was started.
        """
        if not self._is_sending("playStream.chunk"):
            return
        if self._play is None:
            raise LocalProtocolError("play without start_play")
        if not (data := self._play.encoder.feed(pcm)):
            return
        if not self._play.started:
            self._play.started = True
            self._send(self._play.start)
        self._texts.append(self._play.writer(data))

    def stop_play(self) -> None:
        """Say that no more audio comes, if any did. What was sent is still played to its end."""
        play, self._play = self._play, None
        if play is not None and play.started:
            self._send(messages.PlayStreamStop(stream_id=play.start.stream_id))

    def audio_in(self, texts: Sequence[str]) -> bytes:
        """The PCM of bot audio that was written here."""
        decoder = Decoder(self._play_format)
        said = (parse_bot(text) for text in texts)
        chunks = (one.audio_chunk for one in said if isinstance(one, messages.PlayStreamChunk))
        return b"".join(map(decoder.feed, chunks))

    # What the bot heard

    def speech_started(self) -> None:
        """The caller began to speak: VoiceAI Connect's trigger of a barge-in."""
        self._send(messages.UserStreamSpeechStarted(participant=self._caller.participant))

    def speech_stopped(self) -> None:
        """The caller stopped speaking."""
        self._send(messages.UserStreamSpeechStopped(participant=self._caller.participant))

    def speech_committed(self) -> None:
        """The caller's turn is the model's now: the timer for the bot's answer runs."""
        self._send(messages.UserStreamSpeechCommitted(participant=self._caller.participant))

    def speech_hypothesis(self, text: str) -> None:
        """What the caller may be saying."""
        self._send(
            messages.UserStreamSpeechHypothesis(
                participant=self._caller.participant,
                alternatives=(messages.Hypothesis(text=text),),
            )
        )

    def speech_recognised(self, text: str, confidence: float = 1.0) -> None:
        """What the caller said. With barge-in off this ends the caller's stream."""
        self._send(
            messages.UserStreamSpeechRecognition(
                participant=self._caller.participant,
                alternatives=(messages.Recognition(text=text, confidence=confidence),),
            )
        )

    def _send_event(
        self,
        name: str,
        *,
        value: JsonValue = None,
        activity_params: Mapping[str, JsonValue] | None = None,
        session_params: Mapping[str, JsonValue] | None = None,
    ) -> None:
        activity = write_event(
            name,
            activity_id=self._new_id(),
            now=self._utcnow(),
            value=value,
            activity_params=activity_params,
            session_params=session_params,
        )
        self._send(messages.BotActivities(activities=(activity,)))

    def _send_accepted(self) -> None:
        self._send(messages.SessionAccepted(media_format=self._media_format))

    def _send(self, message: messages.FromBot) -> None:
        if self._is_sending(message.type):
            self._texts.append(dump(message))

    def _is_sending(self, what: str) -> bool:
        if self._phase in _LIVE:
            return True
        if self._phase in _OVER:
            return False
        raise LocalProtocolError(f"{what} in phase {self._phase.value}")

    def _finish(self, phase: Phase) -> None:
        self._phase = phase
        self._play = None
