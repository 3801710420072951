"""Whether a play went as told."""

from __future__ import annotations

from collections.abc import Sequence

from opusagent.simulators.caller_record import CallRecord
from opusagent.testing.steps import Acts, CallerStep, HangsUp, Told

__all__ = ["faults"]


def faults(
    record: CallRecord,
    *,
    met: Sequence[str],
    steps: Sequence[CallerStep],
    n_begun: int,
    left: Sequence[Acts],
) -> list[str]:
    """What did not go as told, in words; what follows from something else is not named.

    Args:
        record: What VoiceAI Connect saw.
        met: What went wrong on the way.
        steps: What the caller was to do.
        n_begun: How many of them were begun.
        left: What the model was to do and was not asked for.
    """
    found = [*met, *(f"VoiceAI Connect: {violation.what}" for violation in record.violations)]
    if record.failure is not None:
        found.append(record.failure)
    if n_begun < len(steps) and not met:
        found.append(f"the call was over before {steps[n_begun]!r}")
    # A tool that the model was never asked for would pass for one that was tested.
    if left and not found and not _may_be_left(left, steps):
        turns = "turn" if len(left) == 1 else f"{len(left)} turns"
        found.append(f"the model was not asked for its last {turns}: {', '.join(map(repr, left))}")
    return found


def _may_be_left(left: Sequence[Acts], steps: Sequence[CallerStep]) -> bool:
    """Who has the caller hang up in so many words may have her cut the model short."""
    if not steps or not isinstance(steps[-1], HangsUp):
        return False
    return not any(isinstance(acts, Told) for acts in left)
