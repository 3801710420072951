"""What a person at the phone understands of the bot: the simulated service's ears, turned around."""

from __future__ import annotations

from collections.abc import Iterable

from opusagent.simulators.caller_playout import PlaySpan
from opusagent.simulators.caller_record import CallRecord
from opusagent.simulators.hearing import Heard, PhraseBook
from opusagent.simulators.voice import Voice

__all__ = ["listen"]


def listen(record: CallRecord, sentences: Iterable[str], voice: Voice) -> list[tuple[Heard, ...]]:
    """The sentences that were heard in each play stream, how whole, and what came twice.

    Args:
        record: The call; its bot's sound must have been kept.
        sentences: All that the bot may have said.
        voice: The bot's.
    """
    book = PhraseBook({sentence: sentence for sentence in sentences}, voice)
    return [book.hear(*_sound_of(record, span)) for span in record.played]


def _sound_of(record: CallRecord, span: PlaySpan) -> tuple[bytes, int]:
    """What was heard of a play stream, without the gaps in it, and its rate."""
    rate_hz = span.media_format.sample_rate_hz
    if span.began_at is None or span.ended_at is None:
        return b"", rate_hz
    began, ended = span.began_at - 0.001, span.ended_at - 0.001
    return b"".join(s.pcm for s in record.bot_sound if began <= s.at < ended), rate_hz
