"""VoiceAI Connect's end of a conversation: for the simulator and the tests, strict with the bot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from opusagent.audio.formats import MediaFormat
from opusagent.audiocodes import messages
from opusagent.audiocodes.activities import timestamp
from opusagent.audiocodes.codec import ChunkWriter, UnknownMessage, dump, parse_bot
from opusagent.audiocodes.peer_events import (
    Accepted,
    Activity,
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

__all__ = [
    "Accepted",
    "Activity",
    "AudioCodesPeer",
    "Configured",
    "HangupRequested",
    "PeerEvent",
    "PlayChunk",
    "PlayStarted",
    "PlayStopped",
    "PromptsAborted",
    "Refused",
    "Speech",
    "SpeechKind",
    "UserStreamStarted",
    "UserStreamStopped",
    "Validated",
]


_SPEECH: Final[Mapping[type[messages.Message], SpeechKind]] = {
    messages.UserStreamSpeechStarted: SpeechKind.STARTED,
    messages.UserStreamSpeechStopped: SpeechKind.STOPPED,
    messages.UserStreamSpeechCommitted: SpeechKind.COMMITTED,
}


def _violation(got: str) -> RemoteProtocolError:
    return RemoteProtocolError(wire="audiocodes", got=got)


class AudioCodesPeer:
    """One conversation as VoiceAI Connect sees it, over as many websockets as it takes.

    What the bot sends is checked and refused where the Bot API does not allow it. What is sent
    to the bot is not checked: tests need calls that misbehave.
    """

    def __init__(self, *, new_id: Callable[[], str], utcnow: Callable[[], datetime]) -> None:
        self._new_id = new_id
        self._utcnow = utcnow
        self._conversation_id: str | None = None
        self._offered: tuple[str, ...] = ()
        self._media_format: MediaFormat | None = None
        self._used_plays: set[str] = set()
        self._texts: list[str] = []
        self._forget_socket()

    def _forget_socket(self) -> None:
        self._texts.clear()
        self._owed: Counter[str] = Counter()  # answers that the bot owes, by what it would say
        self._accepted = False
        self._resuming = False
        self._refused = False
        self._play: str | None = None
        self._play_has_audio = False
        self._chunk_writers: dict[str | None, ChunkWriter] = {}

    @property
    def media_format(self) -> MediaFormat | None:
        """What the bot listens in, once it said so."""
        return self._media_format

    @property
    def play(self) -> str | None:
        """The id of the play stream that is open."""
        return self._play

    def texts_to_send(self) -> list[str]:
        """The messages that wait to be sent, in order; they wait no longer."""
        texts, self._texts = self._texts, []
        return texts

    # What VoiceAI Connect says

    def validate(self) -> None:
        """Press the administrator's test button. The real one does it on a websocket of its own."""
        self._owed["connection.validated"] += 1
        self._texts.append(dump(messages.ConnectionValidate()))

    def initiate(
        self,
        conversation_id: str,
        *,
        caller: str = "anonymous",
        bot_name: str = "voice-bot",
        formats: Sequence[str] | None = tuple(MediaFormat),
        expect_audio: bool | None = True,
    ) -> None:
        """Ask for a new call; `None` leaves a field out."""
        self._ask(conversation_id, formats)
        self._texts.append(
            dump(
                messages.SessionInitiate(
                    conversation_id=conversation_id,
                    caller=caller,
                    bot_name=bot_name,
                    expect_audio_messages=expect_audio,
                    supported_media_formats=None if formats is None else tuple(formats),
                )
            )
        )

    def resume(self, conversation_id: str, formats: Sequence[str] | None = None) -> None:
        """Ask, on a new websocket, to go on. What was on the way on the old one is lost."""
        self._forget_socket()
        self._ask(conversation_id, formats)
        self._resuming = True
        self._texts.append(
            dump(
                messages.SessionResume(
                    conversation_id=conversation_id,
                    supported_media_formats=None if formats is None else tuple(formats),
                )
            )
        )

    def _ask(self, conversation_id: str, formats: Sequence[str] | None) -> None:
        self._conversation_id = conversation_id
        if formats is not None:
            self._offered = tuple(formats)
        self._owed["session.accepted"] += 1
        self._chunk_writers.clear()

    def start(self, parameters: Mapping[str, JsonValue] | None = None) -> None:
        """Say that the call is through, with the parameters of a plain call or these."""
        plain: dict[str, JsonValue] = {"locale": "en-US", "callee": "bot", "caller": "anonymous"}
        self.activity("start", parameters=plain if parameters is None else parameters)

    def activity(
        self,
        name: str,
        *,
        value: JsonValue = None,
        parameters: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Send an event."""
        event = messages.Activity(
            name=name,
            id=self._new_id(),
            timestamp=timestamp(self._utcnow()),
            value=value,
            parameters=None if parameters is None else dict(parameters),
        )
        self._texts.append(
            dump(messages.Activities(conversation_id=self._conversation_id, activities=(event,)))
        )

    def dtmf(self, digits: str, spelling: str = "DTMF") -> None:
        """The caller pressed keys."""
        self.activity(spelling, value=digits)

    def no_user_input(self, count: int) -> None:
        """The caller said nothing, for the `count`-th time."""
        self.activity("noUserInput", value=count)

    def play_finished(self, played_ms: int, status: str = "finished") -> None:
        """Playback ended."""
        self.activity("playFinished", value={"playedDurationMS": played_ms, "status": status})

    def start_user_stream(self, participant: str | None = None) -> None:
        """Say that caller audio comes; it may come once the bot has answered."""
        self._owed[f"userStream.started {participant or ''}"] += 1
        self._texts.append(
            dump(
                messages.UserStreamStart(
                    conversation_id=self._conversation_id, participant=participant
                )
            )
        )

    def chunk(self, data: bytes, participant: str | None = None) -> None:
        """Send caller audio in the accepted format."""
        writer = self._chunk_writers.get(participant)
        if writer is None:
            pattern = messages.UserStreamChunk(
                conversation_id=self._conversation_id, participant=participant, audio_chunk=b""
            )
            writer = self._chunk_writers[participant] = ChunkWriter(pattern)
        self._texts.append(writer(data))

    def stop_user_stream(self, participant: str | None = None) -> None:
        """Say that no more caller audio comes."""
        self._owed[f"userStream.stopped {participant or ''}"] += 1
        self._texts.append(
            dump(
                messages.UserStreamStop(
                    conversation_id=self._conversation_id, participant=participant
                )
            )
        )

    def end(self, reason_code: str = "client-disconnected", reason: str = "Client Side") -> None:
        """End the conversation. What the bot had on the way is still read."""
        self._texts.append(
            dump(
                messages.SessionEnd(
                    conversation_id=self._conversation_id, reason_code=reason_code, reason=reason
                )
            )
        )

    # What the bot says

    def receive(self, text: str | bytes) -> list[PeerEvent]:
        """What a message of the bot says.

        Raises:
            RemoteProtocolError: If the bot may not say it, or not now. The conversation goes on.
        """
        message = parse_bot(text)
        if isinstance(message, UnknownMessage):
            raise _violation(f"unknown message {message.type}")
        if self._refused:
            raise _violation(f"{message.type} after session.error")
        match message:
            case messages.PlayStreamChunk(stream_id=stream_id, audio_chunk=data):
                return [self._play_chunk(stream_id, data)]
            case messages.ConnectionValidated():
                self._settle("connection.validated")
                return [Validated()]
            case messages.SessionAccepted(media_format=media_format):
                return [self._accept(media_format)]
            case messages.SessionError(reason=reason):
                self._refused = True
                return [Refused(reason)]
            case _ if not self._accepted:
                raise _violation(f"{message.type} before session.accepted")
            case messages.BotActivities(activities=activities):
                return [self._activity(one) for one in activities]
            case messages.PlayStreamStart() | messages.PlayStreamStop():
                return [self._play_change(message)]
            case _:
                return self._about_user(message)

    def _about_user(self, message: messages.FromBot) -> list[PeerEvent]:
        match message:
            case messages.UserStreamStarted(participant=participant):
                self._settle(f"userStream.started {participant or ''}")
                return [UserStreamStarted(participant)]
            case messages.UserStreamStopped(participant=participant):
                self._settle(f"userStream.stopped {participant or ''}")
                return [UserStreamStopped(participant)]
            case messages.UserStreamSpeechHypothesis(alternatives=heard):
                return [Speech(SpeechKind.HYPOTHESIS, heard[0].text)]
            case messages.UserStreamSpeechRecognition(alternatives=said):
                return [Speech(SpeechKind.RECOGNITION, said[0].text)]
            case _:
                kind = _SPEECH.get(type(message))
                return [] if kind is None else [Speech(kind)]

    def _settle(self, answer: str) -> None:
        if not self._owed[answer]:
            raise _violation(f"{answer.strip()} that nobody asked for")
        self._owed[answer] -= 1

    def _accept(self, name: str | None) -> Accepted:
        if name is None and self._resuming and self._media_format is not None:
            name = self._media_format  # the vendor's SDK leaves it out on a resume
        media_format = self._offered_format(name, "session.accepted")
        if self._accepted and media_format is not self._media_format:
            raise _violation("session.accepted with another format than before")
        self._settle("session.accepted")
        self._accepted = True
        self._media_format = media_format
        return Accepted(media_format)

    def _offered_format(self, name: str | None, where: str) -> MediaFormat:
        if name is None:
            raise _violation(f"{where} without a format")
        try:
            media_format = MediaFormat(name)
        except ValueError:
            raise _violation(f"{where} with an unknown format") from None
        if self._offered and media_format not in self._offered:
            raise _violation(f"{where} with a format that was not offered: {media_format}")
        return media_format

    def _play_change(
        self, message: messages.PlayStreamStart | messages.PlayStreamStop
    ) -> PlayStarted | PlayStopped:
        if isinstance(message, messages.PlayStreamStop):
            return self._play_stop(message.stream_id)
        if self._play is not None:
            raise _violation("playStream.start while another is open")
        if message.stream_id in self._used_plays:
            raise _violation("playStream.start with an id that was used before")
        media_format = self._offered_format(message.media_format, "playStream.start")
        self._play = message.stream_id
        self._play_has_audio = False
        self._used_plays.add(message.stream_id)
        return PlayStarted(message.stream_id, media_format)

    def _play_chunk(self, stream_id: str, data: bytes) -> PlayChunk:
        if stream_id != self._play:
            raise _violation("playStream.chunk outside its stream")
        if not data:
            raise _violation("playStream.chunk without audio")
        self._play_has_audio = True
        return PlayChunk(stream_id, data)

    def _play_stop(self, stream_id: str) -> PlayStopped:
        if stream_id != self._play:
            raise _violation("playStream.stop outside its stream")
        self._play = None
        if not self._play_has_audio:
            raise _violation("a play stream without audio")
        return PlayStopped(stream_id)

    def _activity(self, activity: messages.BotActivity) -> PeerEvent:
        if not activity.id or not activity.timestamp:
            raise _violation("an activity without id or timestamp")
        params = activity.activity_params or {}
        match activity.name:
            case "config":
                return Configured(activity.session_params or {})
            case "abortPrompts":
                return PromptsAborted()
            case "hangup":
                reason = params.get("hangupReason")
                return HangupRequested(reason if isinstance(reason, str) else "")
            case _:
                return Activity(activity.name or activity.type, params, activity.value)
