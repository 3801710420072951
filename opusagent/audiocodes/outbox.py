"""Texts that wait for a VoiceAI Connect that reads slowly: what may overtake, what is taken back.

put    [chunk chunk]  <-  userStream.started              the answer is taken first
put    [chunk chunk]  <-  speech.started, playStream.stop, abortPrompts     both chunks go
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from opusagent.audiocodes import messages
from opusagent.audiocodes.codec import parse_bot

__all__ = ["Outbox"]

_CHUNK: Final = '{"type":"playStream.chunk"'
_STOP: Final = '{"type":"playStream.stop"'
_SPEECH_STARTED: Final = '{"type":"userStream.speech.started"'
_ACTIVITIES: Final = '{"type":"activities"'
_ABORT: Final = '"name":"abortPrompts"'
_IN_TURN: Final = ('{"type":"playStream.', _ACTIVITIES)
"""What keeps its place among bot audio: the audio itself, and e.g. a hang-up after a goodbye."""


class Outbox:
    """What the bot has said and nobody has read yet. Answers go before audio that waits."""

    def __init__(self) -> None:
        """Begin empty."""
        self._answers: deque[str] = deque()
        self._in_turn: deque[str] = deque()
        self._size = 0

    @property
    def size(self) -> int:
        """Characters that wait."""
        return self._size

    def put(self, texts: Sequence[str]) -> None:
        """Queue what one step of a call says, in order.

        If it makes the bot fall silent, audio that waits would be thrown away on arrival (AudioCodes
        Bot API, barge-in) and only keep the caller waiting: it is taken back.
        """
        withdrawn: set[str] = set()
        if self._in_turn and _silences(texts):
            withdrawn = self._take_audio_back()
        overtakes = any(text.startswith(_CHUNK) for text in self._in_turn)
        for text in texts:
            if withdrawn and text.startswith(_STOP) and _stream_of(text) in withdrawn:
                continue
            in_turn = text.startswith(_IN_TURN) or not overtakes
            (self._in_turn if in_turn else self._answers).append(text)
            self._size += len(text)

    def take(self) -> str | None:
        """The text to send now; None if nothing waits."""
        waiting = self._answers or self._in_turn
        if not waiting:
            return None
        text = waiting.popleft()
        self._size -= len(text)
        return text

    def clear(self) -> tuple[str, ...]:
        """Forget everything; returns the messages with bot audio that waited, in order."""
        audio = tuple(text for text in self._in_turn if text.startswith(_CHUNK))
        self._answers.clear()
        self._in_turn.clear()
        self._size = 0
        return audio

    def _take_audio_back(self) -> set[str]:
        """Drop audio, and the streams of which nothing was sent; returns these."""
        kept: list[str] = []
        withdrawn: set[str] = set()
        for text in self._in_turn:
            if text.startswith(_CHUNK):
                continue
            match parse_bot(text):
                case messages.PlayStreamStart(stream_id=stream):
                    withdrawn.add(stream)
                case messages.PlayStreamStop(stream_id=stream) if stream in withdrawn:
                    pass
                case _:
                    kept.append(text)
        self._in_turn = deque(kept)
        self._size = sum(map(len, self._answers)) + sum(map(len, kept))
        return withdrawn


def _silences(texts: Sequence[str]) -> bool:
    """The prompts are aborted, or a play stream stops and the caller is heard: no ordinary end."""
    if any(text.startswith(_ACTIVITIES) and _ABORT in text for text in texts):
        return True
    stops = any(text.startswith(_STOP) for text in texts)
    return stops and any(text.startswith(_SPEECH_STARTED) for text in texts)


def _stream_of(stop: str) -> str:
    message = parse_bot(stop)
    assert isinstance(message, messages.PlayStreamStop)
    return message.stream_id
