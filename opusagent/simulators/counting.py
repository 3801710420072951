"""A mind that counts: every answer is numbered frames, so that loss in either direction can be told."""

from __future__ import annotations

from collections.abc import Sequence

from opusagent.simulators.caller_record import NumberCheck, check_numbers
from opusagent.simulators.numbered import NumberedAudio
from opusagent.simulators.sonic_service import StreamLog
from opusagent.sonic.peer_brain import Heard, PeerContext, Reply, ToolAnswer

__all__ = ["CountingBrain", "DeafEars", "check_stream"]


class DeafEars:
    """Understands nothing: numbered frames are no words, and need no answer."""

    def hear(self, pcm: bytes, rate_hz: int) -> Heard:
        """A noise."""
        del pcm, rate_hz
        return Heard("")


class CountingBrain:
    """Answers whatever is typed to it with numbered frames, from 0 on.

    Args:
        count: Frames in an answer.
        frame_ms: Length of each.
    """

    def __init__(self, count: int, frame_ms: int = 20) -> None:
        self._count = count
        self._frame_ms = frame_ms
        self._next = 0

    def reply(self, heard: str, context: PeerContext) -> Reply:
        """One answer."""
        del heard, context
        return Reply(sentences=(f"{self._count} numbered frames",))

    def after_tools(self, answers: Sequence[ToolAnswer], context: PeerContext) -> Reply:
        """Nothing: no tool was asked for."""
        del answers, context
        return Reply()

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        """The next numbers."""
        del sentence
        first, self._next = self._next, self._next + self._count
        return NumberedAudio(self._frame_ms, rate_hz).frames(first, self._count)


def check_stream(log: StreamLog, frame_ms: int = 20) -> NumberCheck | None:
    """What became of the caller's numbered frames on one stream; None where there were none."""
    if log.record is None or not log.record.audio:
        return None
    audio = NumberedAudio(frame_ms, log.record.audio_rate_hz)
    frames = audio.find(bytes(log.record.audio))
    return check_numbers(frames) if frames else None
