"""What became of every frame, turn, sentence and result across the switches of one case."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from opusagent.bench.switches.cases import Case
from opusagent.bench.switches.facts import BridgeLine, Reply, ServiceStream
from opusagent.bench.switches.figures import CaseFigures
from opusagent.bench.switches.frames import FRAME_MS, FRAME_S
from opusagent.bench.switches.mind import DATA, answer_parts, parts_of_answer, turns_in
from opusagent.bench.switches.phone import CallLog, Chunk, conversation_id

__all__ = ["measure"]

IN_FLIGHT_S: Final = 0.05
"""What the service said so shortly before the bridge decided may not have reached the bridge."""

LAST_S: Final = 0.2
"""Frames that were sent so shortly before the hang-up may not have arrived."""

_HAND_OVERS: Final = frozenset({"stream switched", "stream opened"})
_WITHOUT_STREAM: Final = frozenset({"closed first", "stream lost"})
"""Lines of the bridge's log after which no stream hears the caller for a moment."""

SETTLED_S: Final = 2.5
"""A threshold so shortly before the end of its call need not have led to a switch."""


def measure(
    case: Case,
    calls: Sequence[CallLog],
    streams: dict[int, list[ServiceStream]],
    replies: Sequence[Reply],
    lines: Sequence[BridgeLine],
) -> CaseFigures:
    """Compare what was sent with what arrived, call by call."""
    began = min(call.began_at for call in calls)
    seconds = max(call.ended_at for call in calls) - began
    figures = CaseFigures(name=case.name, calls=len(calls), seconds=round(seconds, 1))
    lines_of: dict[str, list[BridgeLine]] = defaultdict(list)
    for line in lines:
        lines_of[line.conversation].append(line)
    for call in calls:
        if call.failure:
            figures.failures.append(f"call {call.call}: {call.failure}")
        one = _Call(
            case,
            call,
            streams.get(call.call, []),
            [reply for reply in replies if reply.call == call.call],
            lines_of[conversation_id(call.call)],
            figures,
        )
        one.measure()
    return figures


class _Call:
    """One call, measured into the figures of its case."""

    def __init__(
        self,
        case: Case,
        call: CallLog,
        streams: Sequence[ServiceStream],
        replies: Sequence[Reply],
        lines: Sequence[BridgeLine],
        figures: CaseFigures,
    ) -> None:
        self._case = case
        self._call = call
        self._streams = streams
        self._replies = replies
        self._lines = lines
        self._figures = figures
        self._hand_overs = [stream.opened_at for stream in streams[1:]]
        self._chunks: dict[int, list[Chunk]] = defaultdict(list)  # by turn
        for chunk in call.chunks:
            for turn in {frame.turn for frame in chunk.frames}:
                self._chunks[turn].append(chunk)

    def measure(self) -> None:
        """All of it."""
        figures = self._figures
        figures.switches += len(self._hand_overs)
        figures.turns += len(self._call.turns)
        figures.silenced += len(self._call.silenced_at)
        for at in self._hand_overs:
            for situation in self._situations(at):
                _count(figures.situations, situation)
        self._caller_audio()
        self._answers()
        for before, stream in self._successions():
            self._history(before, stream)
        self._results()
        self._times()

    def _wrong(self, words: str) -> None:
        self._figures.wrong.append(f"call {self._call.call}: {words}")

    def _successions(self) -> Iterator[tuple[Sequence[ServiceStream], ServiceStream]]:
        """Each stream but the first, and those before it."""
        for n in range(1, len(self._streams)):
            yield self._streams[:n], self._streams[n]

    # What it was like

    def _situations(self, at: float) -> Iterator[str]:
        sent = self._call.sent
        caller = any(turn and abs(when - at) <= FRAME_S for when, turn in sent)
        bot = any(chunk.begins_at <= at < chunk.ends_at for chunk in self._call.chunks)
        yield {(True, True): "both", (True, False): "caller", (False, True): "bot"}.get(
            (caller, bot), "neither"
        )
        waits = any(
            turn.began_at <= at and not self._begun(turn.number, at) for turn in self._call.turns
        )
        if waits and self._call.turns[-1].keyed:
            yield "keys"
        if waits and not caller and self._case.service.tools:
            yield "tool"

    def _begun(self, turn: int, at: float) -> bool:
        return any(reply.turn == turn and reply.at < at for reply in self._replies)

    # The caller's audio

    def _caller_audio(self) -> None:
        reached: Counter[int] = Counter()
        for stream in self._streams:
            numbers = [arrival.frame.number for arrival in stream.frames]
            self._figures.disordered += sum(b <= a for a, b in pairwise(numbers))
            reached.update(set(numbers))
        broke = any(line.event in _WITHOUT_STREAM for line in self._lines)
        silence_counts = self._case.seamless and not broke
        until = self._call.ended_at - LAST_S
        lost = [
            number
            for number, (at, turn) in enumerate(self._call.sent)
            if number not in reached and at < until and (turn or silence_counts)
        ]
        if lost:
            self._figures.lost_ms += FRAME_MS * len(lost)
            self._wrong(f"frames {lost[0]} to {lost[-1]} ({len(lost)}) reached no stream")
        for before, stream in self._successions():
            self._doubled(before, stream)
        for turn in self._call.turns:
            self._unheard(turn.number)

    def _unheard(self, turn: int) -> None:
        minds = {reply.mind for reply in self._replies if reply.turn == turn}
        answering = [stream for stream in self._streams if stream.mind in minds]
        if not answering or turn in answering[0].typed_turns:
            return
        reached = {arrival.frame.number for arrival in answering[0].frames}
        sent = (number for number, (_, of) in enumerate(self._call.sent) if of == turn)
        if unheard := [number for number in sent if number not in reached]:
            self._figures.unheard_ms += FRAME_MS * len(unheard)
            words = f"stream {answering[0].number} answered turn {turn} without frames"
            self._wrong(f"{words} {unheard[0]} to {unheard[-1]} ({len(unheard)})")

    def _known_by(self, stream: ServiceStream) -> float:
        """What was said by then, the bridge knew when it took the word from the stream before this one."""
        lines = [line for line in self._lines if line.at < stream.opened_at + IN_FLIGHT_S]
        *before, given = [0.0, *(line.at for line in lines if line.event in _HAND_OVERS)]
        since = max(before, default=0.0)
        left = (line.at for line in lines if line.event in _WITHOUT_STREAM and line.at > since)
        return min(left, default=given or stream.opened_at) - IN_FLIGHT_S

    def _doubled(self, before: Sequence[ServiceStream], stream: ServiceStream) -> None:
        numbers = {arrival.frame.number for old in before for arrival in old.frames}
        again = [a.frame for a in stream.frames if a.frame.number in numbers and a.frame.turn]
        self._figures.doubled_ms.append(FRAME_MS * len(again))
        by = self._known_by(stream)
        done = {
            turn
            for old in before
            for told in old.heard
            if told.at < by
            for _, turn in turns_in(told.text)
        }
        done |= {reply.turn for reply in self._replies if reply.at < by}
        if wrongly := [frame for frame in again if frame.turn in done]:
            self._figures.doubled_wrongly_ms += FRAME_MS * len(wrongly)
            turns = sorted({frame.turn for frame in wrongly})
            self._wrong(f"turns {turns} were replayed to stream {stream.number} though done with")

    # The bot's audio

    def _answers(self) -> None:
        for turn in self._call.turns:
            chunks = self._chunks.get(turn.number, [])
            minds = {f.extra for c in chunks for f in c.frames if f.turn == turn.number}
            minds -= {stream.mind for stream in self._finishing(turn.number)}
            if not chunks and not self._call.failure:
                self._figures.never += 1
                self._wrong(f"turn {turn.number} was never answered")
            elif len(minds) > 1:
                self._figures.twice += 1
                self._wrong(f"turn {turn.number} was answered by the models {sorted(minds)}")
            if chunks:
                self._answer(turn.number, chunks)

    def _answer(self, turn: int, chunks: Sequence[Chunk]) -> None:
        figures = self._figures
        numbers = [f.number for c in chunks for f in c.frames if f.turn == turn]
        whole = set(self._expected(turn))
        figures.bot_frames += len(numbers)
        doubled = len(numbers) - len(set(numbers)) - self._repeated(turn, chunks)
        cut = len(whole - set(numbers))
        figures.bot_doubled += doubled
        if self._finishing(turn) and any(at >= chunks[0].at for at in self._call.silenced_at):
            cut = 0  # in the pause the caller has taken the word
        if cut:
            figures.bot_cut_ms.append(FRAME_MS * cut)
        if doubled or cut:
            self._wrong(f"of the answer to turn {turn} {doubled} frames came twice, {cut} never")
        if self._finishing(turn):
            return
        hole_ms = round(1000 * max((chunk.late_s for chunk in chunks[1:]), default=0.0), 1)
        across = any(chunks[0].at < at < chunks[-1].ends_at for at in self._hand_overs)
        (figures.hole_ms if across else figures.hole_without_ms).append(hole_ms)

    def _finishing(self, turn: int) -> list[ServiceStream]:
        """The streams that were asked to finish the answer to a turn."""
        return [s for s in self._streams if any(of == turn for of, _ in s.finishes)]

    def _repeated(self, turn: int, chunks: Sequence[Chunk]) -> int:
        """Note how answers went on that broke off; returns the frames that were said twice for that."""
        figures, total = self._figures, 0
        _, part_frames = parts_of_answer(self._case.service.answer_s)
        for stream in self._finishing(turn):
            before = [c for c in chunks if any(f.extra < stream.mind for f in c.frames)]
            after = [c for c in chunks if any(f.extra == stream.mind for f in c.frames)]
            heard = {f.number for c in before for f in c.frames if f.turn == turn}
            again = {f.number for c in after for f in c.frames if f.turn == turn} & heard
            parts = {part - 1 for of, part in stream.finishes if of == turn}
            repeated = sum(number // part_frames in parts for number in again)
            figures.repeated_ms.append(FRAME_MS * repeated)
            total += repeated
            if before and after:
                began_s = after[0].begins_at - before[-1].ends_at
                figures.goes_on_ms.append(round(1000 * began_s, 1))
        return total

    def _expected(self, turn: int) -> Iterator[int]:
        """The frames of an answer: all, or where its stream was cut, those of what had been said.

        Where another stream was asked to finish it, all as well.
        """
        n_parts, part_frames = parts_of_answer(self._case.service.answer_s)
        parts: set[int] = set()
        for stream in self._streams:
            if stream.struck_at is None:
                if stream in self._finishing(turn) or any(
                    r.mind == stream.mind and r.turn == turn for r in self._replies
                ):
                    parts |= set(range(1, n_parts + 1))
            else:
                by = stream.struck_at - IN_FLIGHT_S
                parts |= {
                    p
                    for told in stream.said
                    if told.at < by
                    for _, t, p in answer_parts(told.text)
                    if t == turn
                }
        for part in parts:
            yield from range((part - 1) * part_frames, part * part_frames)

    # What the next stream is told

    def _history(self, before: Sequence[ServiceStream], stream: ServiceStream) -> None:
        by = self._known_by(stream)
        turns = {
            turn
            for old in before
            for told in (*old.heard, *old.typed)
            if told.at < by
            for _, turn in turns_in(told.text)
        }
        heard = {(f.turn, f.number) for c in self._call.chunks for f in c.frames}
        _, part_frames = parts_of_answer(self._case.service.answer_s)
        parts = {
            (turn, part)
            for old in before
            for told in old.said
            if told.at < (by if old.struck_at is None else min(by, old.struck_at - IN_FLIGHT_S))
            for _, turn, part in answer_parts(told.text)
            if (turn, (part - 1) * part_frames) in heard
        }
        lost = [*sorted(turns - stream.known_turns), *sorted(parts - stream.known_parts)]
        if lost:
            self._figures.history_lost += len(lost)
            self._wrong(f"stream {stream.number} was not told of {lost}")

    def _results(self) -> None:
        if not self._case.service.tools:
            return
        given = {turn for stream in self._streams for turn in stream.results}
        for stream in self._streams:
            texts = (told.text for told in stream.typed if told.text.startswith(DATA))
            given |= {turn for text in texts for _, turn in turns_in(text)}
        turns = {turn for s in self._streams for told in s.heard for _, turn in turns_in(told.text)}
        self._figures.results += len(turns)
        if lost := sorted(turns - given):
            self._figures.results_lost += len(lost)
            self._wrong(f"the results for turns {lost} reached no stream")

    # How long it took

    def _times(self) -> None:
        figures = self._figures
        switched = [line for line in self._lines if line.event == "stream switched"]
        for line in switched:
            _count(figures.reasons, str(line.fields["reason"]))
            after = [stream for stream in self._streams if stream.opened_at > line.at - IN_FLIGHT_S]
            if not after or line.fields["reason"] == "lost":
                continue
            live = (a.at for a in after[0].frames if a.frame.extra > line.at * 1e9)
            if (first_at := min(live, default=None)) is not None:
                figures.first_frame_ms.append(round(1000 * (first_at - line.at), 1))
        for stream in self._streams:
            if stream.struck_at is not None:
                self._after_cut(stream.struck_at)
        for line in self._lines:
            if line.event == "threshold reached" and line.at < self._call.ended_at - SETTLED_S:
                figures.thresholds += 1
                figures.switched += any(other.at >= line.at for other in switched)

    def _after_cut(self, struck_at: float) -> None:
        following = (s for s in self._streams if s.opened_at > struck_at and s.frames)
        if (stream := next(following, None)) is None:
            return
        hears_s = stream.frames[0].at - struck_at - self._case.service.open_delay_s
        self._figures.after_cut_ms.append(round(1000 * hears_s, 1))


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1
