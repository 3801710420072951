"""A call whose streams fare as a test says, and the laws that hold of them step by step.

A step is what the call does at one input or timer. Whatever drives the call, each step is held against
what both ends have said and heard so far; what a stream is to the call is told from its wire alone.
"""

from __future__ import annotations

import enum
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from opusagent.audiocodes.peer_events import PeerEvent, PlayChunk
from opusagent.call.answer import MAX_PAUSE_S
from opusagent.call.events import (
    Effect,
    FromSonic,
    Report,
    StreamId,
    ToolCall,
)
from opusagent.models.session_state import Role
from opusagent.sonic.failures import Remedy, classify
from opusagent.sonic.peer_brain import ToolAsk
from opusagent.sonic.reader import Stage, StopReason
from tests.call.driver import (
    CALLER_RATE_HZ,
    EPSILON_S,
    FRAME_S,
    PLAY_RATE_HZ,
    Service,
    bot_pcm,
)
from tests.call.fated_call import FatedCall, Life

OVERLAP_FRAMES = 100
"""Of what the caller is saying while its text comes, so much may be given to the next stream as well."""

PREROLL_FRAMES = 25
TAIL_FRAMES = 100
"""A silence is never shortened to less than this in a replay."""

ONSET_FRAMES = 3
"""Less sound than this is not yet speech to anybody who goes by energy."""

HANG_FRAMES = 20
"""So much quiet ends what was being said."""

BROKE_OFF = "[the line broke"
"""How the request begins to finish a sentence, which is quoted."""

KEYS = re.compile(r"\b(?:\d )+#")
TOKENS = re.compile(r"\b[ub]\d+\.|" + KEYS.pattern)


@dataclass
class Block:
    """A block of the bot's audio; every sample of it has the value that names it."""

    stream: StreamId
    sent_s: float = 0.0
    doubtful: bool = False  # the model was told to be silent: it need not be heard to its end
    dead: bool = False  # the caller cut it off: it must not be heard any more
    late: bool = False  # begun when its stream was closed: nobody hears it
    fresh: bool = True  # it was announced as the first of an answer
    sounded: bool = False
    tellable: bool = False  # as FINAL text: it has been spoken


@dataclass
class Turn:
    """What the caller has said and the model has told as text."""

    frames: frozenset[int]
    answered: bool
    promised: bool = True  # else nothing is promised but that it is not told twice


class Debt(enum.Enum):
    """Whether the model owes an answer to what it was given."""

    OWED = "owed"
    PERHAPS = "perhaps"
    PAID = "paid"


TIMES = {Debt.OWED: {1}, Debt.PERHAPS: {0, 1}, Debt.PAID: {0}}
"""How often a result may be given to a stream when that goes live."""


def values_in(pcm: bytes) -> dict[int, int]:
    """How many samples have which value, in the order of their first."""
    samples = memoryview(pcm).cast("h")
    if samples and pcm == pcm[:2] * len(samples):
        return {samples[0]: len(samples)}
    return Counter(samples)


@dataclass
class WatchedCall(FatedCall):
    """A call under the laws."""

    blocks: dict[int, Block] = field(default_factory=dict)
    played: Counter[int] = field(default_factory=Counter)
    turns: dict[str, Turn] = field(default_factory=dict)
    results: dict[str, Debt] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._open_mark = 0  # frames from here on are certainly not done with
        self._done_mark = 0  # frames below are certainly done with
        self._next_value = 100
        self._n_tools = self._n_keys = 0
        self._muted: set[StreamId] = set()
        self._answers: dict[
            StreamId, tuple[float, bool]
        ] = {}  # under way: when last heard of, for sure
        self._answered_to = 0  # frames below are answered: the bot has sounded since
        self._untold_from = 0
        self._told_by: defaultdict[StreamId, set[int]] = defaultdict(set)
        self._newest: dict[StreamId, int] = {}
        self._last_heard: dict[StreamId, int] = {}
        self._lost: set[int] = set()

    def loses(self, stream: StreamId, code: str = "ConnectionLost", message: str = "") -> None:
        filtered = classify(code, message).remedy is Remedy.REOPEN_WITHOUT_LAST
        if filtered and stream == self.current:
            # The last exchange is given up on purpose, with all that was being said.
            self._open_mark = self._done_mark = len(self.loud)
            for turn in self.turns.values():
                turn.promised = False
            self._doubt()
            self._perhaps_paid()
        super().loses(stream, code, message)

    # The model

    def understands(self, service: Service) -> None:
        """A stream tells what it has heard of the caller and nobody has told."""
        mark, live = len(self.loud), self.live_id
        heard = set(service.frames) - self._told_by[service.id]
        frames = [n for n in range(self._untold_from, mark) if self.loud[n] and n in heard]
        if not frames:
            return
        sure_to = told_to = self._sure_to(mark)
        if service.id != live and frames[0] < self._done_mark:
            told_to = min(sure_to, self._done_mark)  # it owes this text; nobody can cut it in two
        token = f"u{len(self.turns)}."
        turn = Turn(
            frozenset(n for n in frames if n < told_to),
            answered=frames[-1] < self._answered_to and self._played_until > self.now,
            promised=service.id == live,
        )
        self.turns[token] = turn
        self._told_by[service.id].update(frames)
        if service.id == live:
            self._untold_from = max(self._untold_from, sure_to)
            self._open_mark = mark
        self._text(service, Role.USER, Stage.FINAL, token)
        if service.id == live == self.live_id:
            self._done_mark = max(self._done_mark, sure_to)
            self._muted.discard(live)

    def begins(self, service: Service) -> None:
        """A stream announces a sentence and begins to speak it."""
        self._next_value += 1
        value = self._next_value
        self._text(service, Role.ASSISTANT, Stage.SPECULATIVE, f"b{value}.")
        fresh = self._goes_on(service.id) is False
        if not fresh:
            self._answers[service.id] = (self.now, self._answers[service.id][1])
        service.writer.start_audio()
        late = service.closed is not None
        doubtful = service.id in self._muted
        self.blocks[value] = Block(service.id, doubtful=doubtful, late=late, fresh=fresh)
        self._newest[service.id] = value
        self._carry(service)

    def sounds(self, service: Service, seconds: float) -> None:
        """A stream sends more of the sentence that it is speaking."""
        value, live = self._newest[service.id], self.live_id
        block, mark = self.blocks[value], len(self.loud)
        goes_on = self._goes_on(service.id)
        if service.id == live:
            if goes_on is not True:
                self._open_mark = mark
            self._perhaps_paid()
        if service.closed is None:
            block.sent_s += seconds
        first = not block.sounded
        block.tellable = block.tellable or first
        block.sounded = True
        service.writer.audio(bot_pcm(value, seconds))
        self._carry(service)
        sure = not (block.doubtful or block.dead)
        self._answers[service.id] = (self.now, sure)
        certain = first and sure and goes_on is False and block.fresh
        if certain and service.id == live == self.live_id:
            self._answered_to = max(self._answered_to, self._sure_to(mark))
            self._answered(mark)

    def ends(self, service: Service, stop: StopReason) -> None:
        """The sentence ends, perhaps with the answer."""
        if stop is StopReason.INTERRUPTED and service.id == self.live_id:
            self._doubt()
        service.writer.end_audio(stop)
        self._carry(service)
        if stop in (StopReason.END_TURN, StopReason.INTERRUPTED):
            self._answers.pop(service.id, None)
            self._muted.discard(service.id)

    def sounds_late(self, service: Service) -> None:
        """A stream sends audio that nobody may hear, because it is closed."""
        if service.closed is not None:
            if not service.writer.audio_open:
                self.begins(service)
            self.sounds(service, 0.1)

    def tells(self, service: Service) -> None:
        """A stream says once more what it has spoken last."""
        value = self._newest.get(service.id)
        if value is not None and (block := self.blocks[value]).tellable:
            block.tellable = False
            self._text(service, Role.ASSISTANT, Stage.FINAL, f"b{value}.")

    def interrupts(self) -> None:
        if self.live_id is not None:
            self._doubt()
            self._perhaps_paid()  # it had begun to answer
            self._muted.discard(self.live_id)
            self._answers.pop(self.live_id, None)
            super().interrupts()

    def wants(self, service: Service, *, known: bool = True) -> None:
        """A stream asks for a tool; one that is not known has its result at once."""
        self._n_tools += 1
        tool_use_id, live, mark = f"t{self._n_tools}", self.live_id, len(self.loud)
        name = "lookup" if known else f"no-{tool_use_id}."
        if service.id == live:
            self._open_mark = mark
            self._perhaps_paid()
            service.ask(tool_use_id, name, {"n": self._n_tools})
        else:
            service.writer.tools([(tool_use_id, ToolAsk(name, {"n": self._n_tools}))])
        self._carry(service)
        if service.id == live == self.live_id:
            self._answered(mark)
        if not known and live is not None and live == self.live_id:
            assert self._times_given(self.live, name) == 1
        if not known:
            self.results[name] = Debt.OWED if service.closed is None else Debt.PERHAPS

    def gives(self, call: ToolCall) -> None:
        """A tool gives its result, perhaps once more."""
        result, live = f"r-{call.tool_use_id}.", self.live_id
        first = result not in self.results
        self.results.setdefault(result, Debt.OWED)
        before = self._times_given(self.live, result)
        self.tool_done(call, {"result": result})
        if live is not None and live == self.live_id:
            after = self._times_given(self.live, result)
            assert after == 1 if first else after == before, "a result was not given once"

    def presses(self) -> None:
        """The caller presses keys that name themselves."""
        self._n_keys += 1
        self.phone.dtmf(f"{self._n_keys}#")
        self.flush()

    def _text(self, service: Service, role: Role, stage: Stage, text: str) -> None:
        service.writer.text(role, stage, [text], StopReason.PARTIAL_TURN)
        self._carry(service)

    def _carry(self, service: Service) -> None:
        for payload in service.writer.drain():
            self.handle(FromSonic(service.id, payload))

    def _sure_to(self, mark: int) -> int:
        """Frames below this number are done with, once the caller is understood or answered."""
        if not self.flowing or not any(self.loud[-HANG_FRAMES:]):
            return mark
        return max(mark - OVERLAP_FRAMES - PREROLL_FRAMES - 2 * self.grain, 0)

    def _answered(self, mark: int) -> None:
        self._done_mark = max(self._done_mark, self._sure_to(mark))
        for turn in self.turns.values():
            turn.answered = True
        self.results = dict.fromkeys(self.results, Debt.PAID)

    def _perhaps_paid(self) -> None:
        for result, debt in self.results.items():
            if debt is Debt.OWED:
                self.results[result] = Debt.PERHAPS

    def _goes_on(self, stream: StreamId) -> bool | None:
        """Whether what a stream says belongs to an answer of which some was heard; None if nobody can tell."""
        if stream not in self._answers:
            return False
        at, sure = self._answers[stream]
        pause_s = self.now - at
        if pause_s > MAX_PAUSE_S + EPSILON_S:
            return False
        return True if sure and pause_s < MAX_PAUSE_S - EPSILON_S else None

    def _doubt(self) -> None:
        for block in self.blocks.values():
            block.doubtful = True

    @staticmethod
    def _times_given(service: Service, result: str) -> int:
        """How often a stream was given a result."""
        texts = [text for _, text in service.results] + service.typed
        return sum(result in text for text in texts)

    # Every step

    def _run_one(self, effect: Effect) -> None:
        super()._run_one(effect)
        match effect:
            case Report(event="barge-in", fields=fields):
                for block in self.blocks.values():
                    block.dead = True
                self._answers = {stream: (at, False) for stream, (at, _) in self._answers.items()}
                if fields["cause"] == "dtmf":
                    self._muted |= set(self.open)

    def _hear(self, event: PeerEvent) -> None:
        super()._hear(event)
        if isinstance(event, PlayChunk):
            for value, n in values_in(event.data).items():
                if (block := self.blocks.get(value)) is not None:
                    self._check_what_is_heard(value, block)
                    self.played[value] += n
                    heard_s = self.played[value] / PLAY_RATE_HZ
                    assert heard_s <= block.sent_s + EPSILON_S, "the bot is heard twice"

    def _note_keys(self) -> None:
        """Keys that were typed are a turn of the caller."""
        for life in self.hearing:
            typed = life.service.typed[life.n_typed :]
            life.n_typed += len(typed)
            for keys in KEYS.findall(" ".join(typed)):
                self.turns.setdefault(keys, Turn(frozenset(), answered=False))

    # The laws

    @property
    def longest_live_s(self) -> float:
        """The age that no stream passes which hears the caller.

        At its deadline (`last_s`) it is replaced, with the standby that is being opened or without
        one; for that it is given half of the margin before the limit, three seconds at most.
        """
        policy = self.plan.continuation
        return policy.last_s + min(3.0, (policy.limit_s - policy.last_s) / 2)

    @property
    def longest_s(self) -> float:
        """The age that no stream passes: one that finishes an answer has half of the margin more.

        Five seconds at most. Both together end at the limit, and never after it.
        """
        policy = self.plan.continuation
        return self.longest_live_s + min(5.0, (policy.limit_s - policy.last_s) / 2)

    def stream_closed(self, life: Life) -> None:
        assert all(a < b for a, b in pairwise(life.service.frames)), "out of order"
        if life.head_at is not None:
            assert self.now - life.head_at <= self.longest_s + EPSILON_S, "too old"

    def step_done(self) -> None:
        self._note_keys()
        hearing = self.hearing
        assert len(self.open) - len(hearing) <= 1, "two streams wait"
        assert len(hearing) <= 2, "two streams finish their answers"
        if len(hearing) == 2:
            assert self.live_id in {life.service.id for life in hearing}
        for life in self.open.values():
            stream = life.service.id
            if life.head_at is not None:
                live = stream == self.live_id
                longest = self.longest_live_s if live else self.longest_s
                assert self.now - life.head_at <= longest + EPSILON_S, "too old"
            else:
                patience_s = max(self.plan.continuation.next_session_ready_timeout_s, 3.0)
                assert self.now - life.asked_at <= patience_s + EPSILON_S, "it does not come"
            if life.live_at is not None:
                withheld = not self.flowing or stream != self.live_id
                pause_s = 0.1 + 0.2 if withheld else 1.1 + 0.2
                starved_s = self.now - max(life.fed_at, self.withheld_at if withheld else 0.0)
                assert starved_s <= pause_s + EPSILON_S, f"{stream} heard nothing for {starved_s} s"

    def _check_what_is_heard(self, value: int, block: Block) -> None:
        assert not block.dead, "what the caller cut off is heard"
        assert value >= self._last_heard.get(block.stream, 0), (
            "the bot's sentences are out of order"
        )
        if block.stream not in self._last_heard:
            older = [v for v, b in self.blocks.items() if b.stream < block.stream]
            assert not any(self._is_cut(v) for v in older), "the old answer was not heard first"
        self._last_heard[block.stream] = value

    def _is_cut(self, value: int) -> bool:
        """Whether a block has not been heard to its end, as far as it came, though it should be."""
        block = self.blocks[value]
        if block.dead or block.doubtful:
            return False
        return abs(self.played[value] / PLAY_RATE_HZ - block.sent_s) > 1e-3

    def went_live(self, life: Life) -> None:
        service = life.service
        assert len(service.audio) >= 2 * CALLER_RATE_HZ * 0.1, "no sound in the step of the switch"
        assert all(heard >= 2 * CALLER_RATE_HZ * 0.068 for heard in service.audio_when_typed)
        self._check_the_replay(service.frames)
        self._check_what_it_is_told(service)
        for result, debt in self.results.items():
            times = self._times_given(service, result)
            assert times in TIMES[debt], f"{result} is {debt.value} and was given {times} times"

    def _check_the_replay(self, replay: list[int]) -> None:
        n = len(self.loud)
        assert all(a < b for a, b in pairwise(replay)), "out of order"
        speech_to = n - self.loud[-1] if n and self.loud[-1] < ONSET_FRAMES else n
        kept_from = n - int(self.plan.audio_buffer_s / FRAME_S) + self.grain
        missing = {i for i in range(self._open_mark, speech_to) if self.loud[i]} - set(replay)
        assert all(i < kept_from for i in missing), f"{missing} not replayed"
        self._check_what_fell_out(missing)
        done = [i for i in replay if i < self._done_mark and self.loud[i]]
        assert not done, f"{done} replayed though done with"
        for a, b in pairwise(replay):
            if b > a + 1:
                self._check_a_shortened_silence(replay, a, b)

    def _check_what_fell_out(self, missing: set[int]) -> None:
        heard: set[int] = set().union(*(service.frames for service in self.services.values()))
        self._lost |= {i for i in missing - heard if self.loud[i] >= ONSET_FRAMES}
        told = self.report("stream opened") + self.report("stream switched")
        told_ms = sum(int(str(fields["lost_ms"])) for fields in told)
        assert told_ms >= round(len(self._lost) * FRAME_S * 1000), (
            f"{len(self._lost)} frames were lost, {told_ms} ms told"
        )

    def _check_a_shortened_silence(self, replay: list[int], a: int, b: int) -> None:
        assert not any(self.loud[a + 1 : b]), "a hole in the replay"
        first, last = b, b
        while first and not self.loud[first - 1]:
            first -= 1
        while last < len(self.loud) and not self.loud[last]:
            last += 1
        kept = sum(first <= i < last for i in replay)
        assert kept >= TAIL_FRAMES - ONSET_FRAMES - self.grain, (
            f"{kept} frames of a silence are left"
        )

    def _check_what_it_is_told(self, service: Service) -> None:
        told = " ".join(turn.text for turn in service.history)
        typed = TOKENS.findall(" ".join(t for t in service.typed if not t.startswith(BROKE_OFF)))
        tokens = Counter(TOKENS.findall(told) + typed)
        twice = [token for token, count in tokens.items() if count > 1]
        assert not twice, f"told twice: {twice}"
        turns = {token: turn for token, turn in self.turns.items() if token in tokens}
        audio = Counter(service.frames)
        for token, turn in turns.items():
            audio.update(turn.frames)
            assert not (turn.answered and token in typed), (
                f"{token} was answered and is asked again"
            )
        assert all(count == 1 for count in audio.values()), "as text and as audio"
        if "so far, shortened" in service.system_prompt:
            return
        for token, turn in self.turns.items():
            assert token in tokens or not turn.promised, f"{token} of the caller is forgotten"
        unheard = [v for v, block in self.blocks.items() if block.late and f"b{v}." in tokens]
        assert not unheard, f"{unheard} are told and were never heard"
        for value, block in self.blocks.items():
            if self.played[value] and not (block.doubtful or block.dead):
                assert f"b{value}." in tokens, f"{value} of the bot is forgotten"

    def assert_all_was_heard(self) -> None:
        """Fail unless what the bot said was heard to its end."""
        assert not any(self._is_cut(value) for value in self.blocks), "cut"

    @property
    def still_to_play_s(self) -> float:
        """How much of the bot's speech is still to be heard, at most."""
        return sum(
            block.sent_s - self.played[value] / PLAY_RATE_HZ
            for value, block in self.blocks.items()
            if not block.dead
        )
