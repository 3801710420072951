"""From settings and an agent's file to the plan of a call."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from opusagent.audio.convert import load_wav
from opusagent.call.plan import CallPlan, ContinuationPolicy, Recording
from opusagent.config import Settings
from opusagent.models.agent import Agent

PLAY_RATES_HZ = (8_000, 16_000, 24_000)


def make_plan(settings: Settings, name: str, agent: Agent) -> CallPlan:
    """Everything that a call of this agent needs; recordings are made ready for every play rate."""
    return CallPlan(
        agent=agent,
        agent_name=name,
        model_id=agent.model or settings.bedrock_model_id,
        greeting_audio=_recording(agent.greeting.audio),
        comfort_audio=_recording(agent.comfort_audio),
        filler_audio=_recording(agent.filler.audio),
        failure_audio=_recording(agent.failure.audio),
        barge_in=settings.barge_in,
        barge_in_on_dtmf=settings.barge_in_on_dtmf,
        abort_prompts=settings.abort_prompts,
        play_lead_s=settings.play_lead_seconds,
        dtmf_pause_s=settings.dtmf_pause_seconds,
        speech_threshold_rms=settings.speech_threshold_rms,
        audio_buffer_s=settings.audio_buffer_duration_seconds,
        continuation=ContinuationPolicy(
            transition_threshold_s=settings.transition_threshold_seconds,
            audio_start_timeout_s=settings.audio_start_timeout_seconds,
            next_session_ready_timeout_s=settings.next_session_ready_timeout_seconds,
            limit_s=settings.session_limit_seconds,
        ),
        deaf_after_s=settings.deaf_after_seconds,
        record=settings.enable_session_recording,
        resume_grace_s=settings.resume_grace_seconds,
        max_history_bytes=settings.history_bytes,
        max_part_bytes=settings.history_text_bytes,
    )


def _recording(path: str) -> Recording:
    return _read(path, Path(path).stat().st_mtime_ns) if path else Recording()


@lru_cache(maxsize=64)
def _read(path: str, _changed_at: int) -> Recording:
    data = Path(path).read_bytes()
    return Recording({rate: load_wav(data, rate) for rate in PLAY_RATES_HZ})
