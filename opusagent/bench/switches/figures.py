"""What one case measured."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CaseFigures"]


@dataclass(slots=True, kw_only=True)
class CaseFigures:
    """What one case measured. Lists have one value a switch, or an answer, in milliseconds.

    Attributes:
        situations: How many switches fell into which situation.
        reasons: Why the bridge says that it switched.
        lost_ms: Caller audio that reached no stream; silence counts where there should
            always have been one.
        unheard_ms: Speech that did not reach the stream that answered it, or that text did not stand for.
        doubled_ms: For each switch: speech that had reached an older stream, too.
        doubled_wrongly_ms: Of that, what had been understood or answered before.
        disordered: Frames that came after a later one on the same stream, or twice.
        hole_ms: For each answer across a switch: the longest silence inside it.
        hole_without_ms: The same for answers within one stream.
        bot_doubled: Frames; of a sentence that broke off with its stream and was said once more, none.
        repeated_ms: For each answer that another stream had to finish: how much of it was said twice.
        goes_on_ms: For each of them: from the end of what was heard of it to where it goes on.
        bot_cut_ms: For each answer that was not heard to its end: how much of it was missing.
        twice, never: Turns.
        history_lost: Turns and sentences of which the next stream was not told.
        results_lost: Results of tools.
        first_frame_ms: From the decision (its line in the bridge's log) to the arrival of the first frame that was
            sent after it.
        after_cut_ms: From the cut of a stream to the arrival of the caller's audio on the next one, without
            the service's delay.
        thresholds, switched: In calls long enough: thresholds reached, and those that led to a switch.
        left_open: Streams and connections that were there after the last call.
        silenced: Answers that the bridge stopped for the caller.
        wrong: In words, what should not have been.
        bridge_percent, others_percent: Of a core: the bridge, and what had nothing to do with this.
        failures: Calls that broke off, and why.
    """

    name: str
    calls: int
    seconds: float
    switches: int = 0
    situations: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    lost_ms: int = 0
    unheard_ms: int = 0
    doubled_ms: list[int] = field(default_factory=list)
    doubled_wrongly_ms: int = 0
    disordered: int = 0
    hole_ms: list[float] = field(default_factory=list)
    hole_without_ms: list[float] = field(default_factory=list)
    turns: int = 0
    bot_frames: int = 0
    bot_doubled: int = 0
    repeated_ms: list[int] = field(default_factory=list)
    goes_on_ms: list[float] = field(default_factory=list)
    bot_cut_ms: list[int] = field(default_factory=list)
    twice: int = 0
    never: int = 0
    history_lost: int = 0
    results: int = 0
    results_lost: int = 0
    first_frame_ms: list[float] = field(default_factory=list)
    after_cut_ms: list[float] = field(default_factory=list)
    thresholds: int = 0
    switched: int = 0
    left_open: int = 0
    silenced: int = 0
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    bridge_percent: float = 0.0
    others_percent: float = 0.0
