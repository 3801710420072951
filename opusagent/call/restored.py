"""What a new stream is to know and to do for a caller whose conversation another process began."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from opusagent.audio.convert import resample
from opusagent.call.actions import Actions
from opusagent.call.chronicle import Chronicle
from opusagent.call.model_side import ModelSide
from opusagent.call.succession import BROKE_OFF
from opusagent.models.session_state import SessionState

__all__ = ["go_on_from", "kept"]

KEPT_RATE_HZ = 16_000
"""Of speech that is stored: the line to the next process may have another rate."""


def kept(pcm: bytes, rate_hz: int) -> bytes:
    """Speech that nobody has answered, as it is stored."""
    return resample(pcm, rate_hz, KEPT_RATE_HZ)


def go_on_from(
    state: SessionState,
    now: float,
    *,
    chronicle: Chronicle,
    actions: Actions,
    model: ModelSide,
    rate_hz: int,
    invitation: Callable[[], str],
) -> None:
    """Know what was said and done, and have the model answer what it had not answered.

    Args:
        state: As the other process left it.
        now: The present, in monotonic seconds.
        chronicle: Takes the transcript and the ledger.
        actions: Goes on with functions that were running.
        model: Is told the rest.
        rate_hz: Of what the model hears.
        invitation: What has the model say something where nothing is to be answered.
    """
    chronicle.restore(state)
    last = state.conversation_history[-1] if state.conversation_history else None
    said_at = None if last is None else last.at
    asked = actions.restore(state.function_calls, now, since=said_at, noted_at=_noted_at(state))
    speech = resample(b"".join(state.audio_buffer), KEPT_RATE_HZ, rate_hz)
    model.restore_speech(speech)
    acted = any(said_at is None or call.started_at > said_at for call in state.function_calls)
    if last is not None and last.type == "input" and not acted:
        model.type_text(last.text, now, shown=last.text)  # nobody has answered it
    elif last is not None and last.unfinished and not acted and not speech:
        model.type_text(BROKE_OFF.format(_last_sentence(last.text)), now)
    elif not asked and not state.audio_buffer and (text := invitation()):
        model.type_text(text, now)


def _noted_at(state: SessionState) -> datetime:
    """When the newest thing of a conversation was noted; its `last_activity` is when it was fetched."""
    said = [item.at for item in state.conversation_history if item.at]
    done = [call.ended_at or call.started_at for call in state.function_calls]
    return max([*said, *done], default=state.created_at)


def _last_sentence(text: str) -> str:
    *_, last = re.split(r"(?<=[.!?])\s+", text)
    return last
