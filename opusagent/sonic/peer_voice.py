"""How the service speaks: sentence by sentence, faster than real time, and cut off in the middle."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from opusagent.models.session_state import Role
from opusagent.sonic.peer_faults import Fault
from opusagent.sonic.peer_writer import INTERRUPTED, PeerWriter
from opusagent.sonic.profiles import Timing
from opusagent.sonic.reader import Stage, StopReason

__all__ = ["Voice"]

_SPEEDS: Final = {Fault.FAST_AUDIO: 10.0, Fault.SLOW_AUDIO: 0.8}


@dataclass(slots=True)
class _Sentence:
    text: str
    n_bytes: int
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Owed:
    """A FINAL text that is still to come."""

    turn: int
    due: float
    text: str
    stop: StopReason


class Voice:
    """Sends one turn of the bot after the other, in the order and the pace of the service.

    Args:
        writer: Where the events go.
        speak: Gives a sentence as PCM at a rate.
        timing: Pace, and when FINAL texts follow.
        faults: Those about turns and interruptions are honoured here.
    """

    def __init__(
        self,
        writer: PeerWriter,
        speak: Callable[[str, int], bytes],
        timing: Timing,
        faults: Collection[Fault] = (),
    ) -> None:
        self._writer = writer
        self._speak = speak
        self._timing = timing
        self._faults = frozenset(faults)
        self._speed = next((s for f, s in _SPEEDS.items() if f in faults), timing.speed)
        self._script: Iterator[float] | None = None
        self._turn_number = 0
        self._due = 0.0
        self._began_at = 0.0
        self._sentences: list[_Sentence] = []
        self._owed: list[_Owed] = []

    @property
    def busy(self) -> bool:
        """Whether audio of a turn is still to be sent."""
        return self._script is not None

    def speaking(self, now: float) -> bool:
        """Whether speech of the caller would interrupt the bot, by the service's own clock."""
        return self.busy or (self._timing.interruptible_playout and now < self._played_until())

    def next_timer(self) -> float | None:
        """When `advance` has something to do."""
        times = [owed.due for owed in self._owed if owed.due < math.inf]
        if self._script is not None:
            times.append(self._due)
        return min(times, default=None)

    def begin(self, sentences: Sequence[str], now: float, *, more: bool) -> None:
        """Start a turn; `more` if a tool use will follow, so that its audio does not end it."""
        self._began_at = self._due = now
        self._sentences = []
        self._turn_number += 1
        self._script = self._turn(sentences, more=more)

    def advance(self, now: float) -> list[str]:
        """Send what is due. Returns the sentences whose audio is complete since the last call."""
        before = self._complete()
        while self._script is not None and self._due <= now:
            wait_s = next(self._script, None)
            if wait_s is None:
                self._script = None
            else:
                self._due += wait_s
        self._send_owed(now)
        return [sentence.text for sentence in self._sentences[before : self._complete()]]

    def interrupt(self, now: float) -> str:
        """Fall silent in the middle of a turn, and say so. Returns what was left of a sentence."""
        self._script = None
        complete, partial = self._spoken(now)
        # FINAL texts of a turn that was being played are replaced by what was heard of it.
        self._owed = [owed for owed in self._owed if owed.turn != self._turn_number]
        silent = Fault.NO_INTERRUPTION in self._faults
        by_audio = Fault.AUDIO_INTERRUPTED in self._faults and not silent
        stop = StopReason.INTERRUPTED if by_audio else StopReason.END_TURN
        if Fault.TEXT_BEFORE_AUDIO_END not in self._faults:
            self._writer.end_audio(stop)
        confirmed = [*complete, partial] if partial and silent else complete
        self._owe(confirmed, now, last=StopReason.PARTIAL_TURN)
        self._send_owed(now)
        if not silent:
            self._announce_interruption(partial)
        self._writer.end_audio(stop)
        self._sentences.clear()
        return partial

    def confirm(self) -> None:
        """Send every FINAL text that is owed: the caller's next turn has come."""
        if Fault.LATE_FINAL not in self._faults:
            self._send_owed(math.inf)

    def stop(self, now: float) -> None:
        """End a turn because the session ends, and send every FINAL text, however late."""
        if self.busy:
            complete, partial = self._spoken(now)
            self._writer.end_audio(StopReason.PARTIAL_TURN)
            self._owe([*complete, *([partial] if partial else [])], now)
        self._script = None
        self._send_owed(math.inf)

    def _turn(self, sentences: Sequence[str], *, more: bool) -> Iterator[float]:
        ends = not more and Fault.NO_END_TURN not in self._faults
        for number, text in enumerate(sentences, start=1):
            pcm = self._speak(text, self._writer.rate_hz)
            self._writer.text(Role.ASSISTANT, Stage.SPECULATIVE, [text], StopReason.PARTIAL_TURN)
            yield from self._sentence(text, pcm)
            last = number == len(sentences)
            self._writer.end_audio(
                StopReason.END_TURN if last and ends else StopReason.PARTIAL_TURN
            )
        delay_s = self._timing.final_delay_s
        spoken_at = self._played_until() if self._timing.interruptible_playout else self._due
        due = math.inf if delay_s is None else spoken_at + delay_s
        self._owe(sentences, due)
        self._writer.count(speech_out_s=self._sent_s(), text_out=" ".join(sentences))
        self._writer.usage()

    def _sentence(self, text: str, pcm: bytes) -> Iterator[float]:
        chunk_bytes = 2 * max(1, round(self._timing.chunk_s * self._writer.rate_hz))
        sentence = _Sentence(text, len(pcm))
        self._sentences.append(sentence)
        self._writer.start_audio()
        for start in range(0, len(pcm), chunk_bytes):
            chunk = pcm[start : start + chunk_bytes]
            self._writer.audio(chunk)
            sentence.sent_bytes += len(chunk)
            yield len(chunk) / (2 * self._writer.rate_hz) / self._speed

    def _played_until(self) -> float:
        return max(self._due, self._began_at + self._sent_s())

    def _sent_s(self) -> float:
        sent_bytes = sum(sentence.sent_bytes for sentence in self._sentences)
        return sent_bytes / (2 * self._writer.rate_hz)

    def _complete(self) -> int:
        return sum(1 for sentence in self._sentences if sentence.sent_bytes == sentence.n_bytes)

    def _spoken(self, now: float) -> tuple[list[str], str]:
        """Sentences that count as spoken, and the spoken words of the next one."""
        spoken_bytes = sum(sentence.sent_bytes for sentence in self._sentences)
        if self._timing.interruptible_playout:
            played_bytes = round((now - self._began_at) * 2 * self._writer.rate_hz)
            spoken_bytes = min(spoken_bytes, played_bytes)
        complete: list[str] = []
        for sentence in self._sentences:
            if spoken_bytes < sentence.n_bytes:
                words = sentence.text.split()
                n_words = len(words) * spoken_bytes // sentence.n_bytes
                return complete, " ".join(words[:n_words])
            complete.append(sentence.text)
            spoken_bytes -= sentence.n_bytes
        return complete, ""

    def _announce_interruption(self, partial: str) -> None:
        texts = [INTERRUPTED]
        if partial and not {Fault.NO_FINAL, Fault.LATE_FINAL} & self._faults:
            texts.insert(0, partial)
        for _ in range(2 if Fault.DOUBLE_INTERRUPTION in self._faults else 1):
            self._writer.text(Role.ASSISTANT, Stage.FINAL, texts, StopReason.INTERRUPTED)
            texts = [INTERRUPTED]

    def _owe(
        self, texts: Sequence[str], due: float, *, last: StopReason = StopReason.END_TURN
    ) -> None:
        if Fault.NO_FINAL in self._faults:
            return
        late = Fault.LATE_FINAL in self._faults
        for number, text in enumerate(texts, start=1):
            stop = last if number == len(texts) else StopReason.PARTIAL_TURN
            when = math.inf if late else due
            self._owed.append(_Owed(self._turn_number, when, text, stop))

    def _send_owed(self, now: float) -> None:
        sent = [owed for owed in self._owed if owed.due <= now]
        self._owed = [owed for owed in self._owed if owed.due > now]
        for owed in sent:
            self._writer.text(Role.ASSISTANT, Stage.FINAL, [owed.text], owed.stop)
