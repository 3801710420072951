"""What a person at the phone understands of the bot: the simulated service's ears, turned around."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from opusagent.simulators.caller_playout import PlaySpan
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.hearing import Heard, PhraseBook
from opusagent.simulators.voice import Voice

__all__ = ["listen"]


def listen(
    record: CallRecord,
    sentences: Iterable[str],
    voice: Voice,
    *,
    goes_on: Callable[[PlaySpan], bool] = lambda _: False,
) -> list[tuple[Heard, ...]]:
    """The sentences that began in each play stream, how whole, and what came twice.

    Args:
        record: The call; its bot's sound must have been kept.
        sentences: All that the bot may have said.
        voice: The bot's.
        goes_on: Whether a play stream was broken off and the rest of it came in the next one.
    """
    book = PhraseBook({sentence: sentence for sentence in sentences}, voice)
    heard: list[tuple[Heard, ...]] = []
    run: list[PlaySpan] = []
    for span in record.played:
        run.append(span)
        if not goes_on(span):
            heard += _in_run(record, run, book)
            run = []
    return heard + _in_run(record, run, book)


def _in_run(
    record: CallRecord, run: Sequence[PlaySpan], book: PhraseBook
) -> list[tuple[Heard, ...]]:
    """The sentences of play streams that are one to the ear, each where it begins."""
    sounds = [_sound_of(record, span) for span in run]
    if not sounds:
        return []
    rate_hz = sounds[0][1]
    found = book.hear(b"".join(pcm for pcm, _ in sounds), rate_hz)
    lengths_ms = (len(pcm) * 1000 / 2 / rate_hz for pcm, _ in sounds)
    bounds = [0.0, *itertools.accumulate(lengths_ms)]
    bounds[-1] = float("inf")
    return [
        tuple(one for one in found if begin <= one.begins_ms < end)
        for begin, end in itertools.pairwise(bounds)
    ]


def _sound_of(record: CallRecord, span: PlaySpan) -> tuple[bytes, int]:
    """What was heard of a play stream, without the gaps in it, and its rate."""
    rate_hz = span.media_format.sample_rate_hz
    if span.began_at is None or span.ended_at is None:
        return b"", rate_hz
    began, ended = span.began_at - 0.001, span.ended_at - 0.001
    return b"".join(s.pcm for s in record.bot_sound if began <= s.at < ended), rate_hz
