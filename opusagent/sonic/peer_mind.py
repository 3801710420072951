"""What the service makes of what it is told: hears, answers, is interrupted, waits for tools."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from opusagent.models.session_state import Role, Turn
from opusagent.sonic.peer_brain import Brain, Ears, PeerContext, Reply, ToolAnswer, ToolAsk
from opusagent.sonic.peer_faults import Fault
from opusagent.sonic.peer_hearing import Hearing, SpeechBegan, Utterance
from opusagent.sonic.peer_record import At, StreamRecord
from opusagent.sonic.peer_voice import Voice
from opusagent.sonic.peer_writer import PeerWriter
from opusagent.sonic.profiles import Profile, Timing
from opusagent.sonic.reader import Stage, StopReason

__all__ = ["Mind"]


@dataclass(slots=True)
class _Asked:
    """The tools of one reply; the brain goes on when all of them have answered."""

    names: dict[str, str]
    answers: list[ToolAnswer] = field(default_factory=list)


class Mind:
    """Holds one conversation: knows nothing of the order of events, only what they say.

    A reply begins when the caller is quiet and the bot is, `think_s` after the last reason for one.
    What is said to it before it has begun to answer is answered together.

    Args:
        brain: Answers, and speaks.
        ears: Recognise speech; without them every utterance is a noise.
        writer: Where the answers go.
        record: Where it is noted what was heard and said.
        new_id: Names tool uses.
    """

    def __init__(
        self,
        brain: Brain,
        ears: Ears | None,
        writer: PeerWriter,
        record: StreamRecord,
        *,
        new_id: Callable[[], str],
        profile: Profile,
        timing: Timing,
        faults: Collection[Fault],
    ) -> None:
        self._brain = brain
        self._ears = ears
        self._writer = writer
        self._record = record
        self._new_id = new_id
        self._profile = profile
        self._timing = timing
        self._faults = frozenset(faults)
        self._voice = Voice(writer, brain.speak, timing, faults)
        self._hearing: Hearing | None = None
        self._rate_hz = 0
        self._context = PeerContext()
        self._unanswered: list[str] = []
        self._answer_at = math.inf
        self._to_ask: tuple[ToolAsk, ...] = ()
        self._asked: list[_Asked] = []
        self._answered: deque[_Asked] = deque()
        self._new_tool_uses: list[str] = []
        self._swallow_text = Fault.SWALLOWED_TEXT in self._faults
        self.gave_up = False
        """Whether the stream is to end where the first answer should begin (a fault)."""

    # What it is told

    def set_up(self, *, system_prompt: str = "", tool_names: tuple[str, ...] = ()) -> None:
        """Learn the prompt and the tools; an empty value changes nothing."""
        self._context = replace(
            self._context,
            system_prompt=system_prompt or self._context.system_prompt,
            tool_names=tool_names or self._context.tool_names,
        )

    def remember(self, turn: Turn) -> None:
        """Learn a turn of the history."""
        self._context = replace(self._context, history=(*self._context.history, turn))
        self._converse(turn.role, turn.text)

    def open_ears(self, rate_hz: int, pause_s: float) -> None:
        """Begin to hear: audio of this rate, a turn being over after this pause."""
        self._rate_hz = rate_hz
        self._hearing = Hearing(
            rate_hz,
            pause_s=pause_s,
            threshold_rms=self._timing.threshold_rms,
            deaf_s=self._timing.deaf_s,
        )

    def hear(self, pcm: bytes, now: float) -> bool:
        """Take caller audio. Returns whether somebody speaks in it."""
        if self._hearing is None:
            return False
        found = self._hearing.feed(pcm)
        for event in found:
            match event:
                case SpeechBegan():
                    self._interrupt(now)
                case Utterance():
                    self._understand(event, now)
        return bool(found) or self._hearing.speaking

    def read(self, text: str, now: float) -> None:
        """Take a typed text. It cuts the bot off if it is speaking (measured on a live service)."""
        if self._swallow_text:
            self._swallow_text = False
            return
        self._converse(Role.USER, text)
        if not self._profile.typed_text_answered:
            return
        self._interrupt(now)
        self._writer.count(text_in=text)
        if Fault.ECHO_TYPED in self._faults:
            self._say_heard(text)
        self._unanswered.append(text)
        self._answer_at = now + self._timing.think_s

    def take_result(self, tool_use_id: str, result: dict[str, JsonValue], now: float) -> ToolAnswer:
        """Take a tool's result; the last one of a reply makes the brain go on."""
        asked = next(asked for asked in self._asked if tool_use_id in asked.names)
        answer = ToolAnswer(tool_use_id, asked.names.pop(tool_use_id), result)
        asked.answers.append(answer)
        results = (*self._context.tool_results, answer)
        self._context = replace(self._context, tool_results=results)
        if not asked.names:
            self._asked.remove(asked)
            self._answered.append(asked)
            self._answer_at = now + self._timing.think_s
        return answer

    # What it does

    def tool_uses(self) -> list[str]:
        """Ids of the tool uses that were asked for since the last call."""
        new, self._new_tool_uses = self._new_tool_uses, []
        return new

    def next_timer(self) -> float | None:
        """When `step` has something to do."""
        times = [at for at in (self._voice.next_timer(),) if at is not None]
        if self._answer_at < math.inf and self._quiet():
            times.append(self._answer_at)
        return min(times, default=None)

    def step(self, now: float) -> None:
        """Say what is due, and answer if it is time."""
        for sentence in self._voice.advance(now):
            self._record.said.append(At(now, sentence))
            self._converse(Role.ASSISTANT, sentence)
        if self._to_ask and not self._voice.busy:
            self._ask(now)
        if self._answer_at <= now and self._quiet():
            self._answer(now)

    def close(self, now: float) -> None:
        """Say the last: the FINAL texts that are owed, and the usage."""
        self._answer_at = math.inf
        self._voice.stop(now)
        self._writer.usage()
        self._writer.completion_end()

    def _quiet(self) -> bool:
        somebody_speaks = self._hearing is not None and self._hearing.speaking
        return not (somebody_speaks or self._voice.busy or self._to_ask)

    def _interrupt(self, now: float) -> None:
        if not self._voice.speaking(now):
            return
        self._to_ask = ()
        partial = self._voice.interrupt(now)
        if partial:
            self._converse(Role.ASSISTANT, partial)
        self._record.interruptions.append(now)

    def _understand(self, utterance: Utterance, now: float) -> None:
        heard = self._ears.hear(utterance.pcm, self._rate_hz).text if self._ears else ""
        if self._profile.announces_speech_end:
            self._writer.speech_end()
        self._writer.count(speech_in_s=utterance.until_s - utterance.from_s, text_in=heard)
        if heard.strip():
            self._record.heard.append(At(now, heard))
            self._converse(Role.USER, heard)
            self._say_heard(heard)
            self._unanswered.append(heard)
        self._writer.usage()
        if self._unanswered or self._answered:
            self._answer_at = now + self._timing.think_s

    def _say_heard(self, text: str) -> None:
        self._voice.confirm()
        words = text.split()
        middle = (len(words) + 1) // 2
        split = Fault.SPLIT_TEXT in self._faults and len(words) > 1
        parts = [" ".join(words[:middle]), " ".join(words[middle:])] if split else [text]
        for part in parts:
            self._writer.text(Role.USER, Stage.FINAL, [part], StopReason.PARTIAL_TURN)

    def _answer(self, now: float) -> None:
        if Fault.PREMATURE_CLOSE in self._faults:
            self.gave_up = True
            return
        if self._unanswered:
            heard = " ".join(self._unanswered)
            self._unanswered.clear()
            reply = self._brain.reply(heard, self._context)
        elif self._answered:
            reply = self._brain.after_tools(self._answered.popleft().answers, self._context)
        else:
            reply = Reply()
        more = bool(self._unanswered or self._answered)
        self._answer_at = now if more else math.inf
        self._to_ask = reply.tools
        self._voice.begin(reply.sentences, now, more=bool(reply.tools))
        self.step(now)

    def _ask(self, now: float) -> None:
        asks = [(self._new_id(), ask) for ask in self._to_ask]
        self._to_ask = ()
        self._asked.append(_Asked({tool_use_id: ask.name for tool_use_id, ask in asks}))
        self._new_tool_uses += [tool_use_id for tool_use_id, _ in asks]
        self._writer.tools(asks)

    def _converse(self, role: Role, text: str) -> None:
        turn = Turn(role=role, text=text)
        conversation = (*self._context.conversation, turn)
        self._context = replace(self._context, conversation=conversation)
