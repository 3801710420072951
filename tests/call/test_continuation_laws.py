"""What holds while streams are replaced, whatever happens in between: see `law_driver` for the laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from opusagent.call.events import CallerLost
from opusagent.call.plan import CallPlan, ContinuationPolicy, Recording
from opusagent.sonic.failures import OUR_CODES
from opusagent.sonic.peer_faults import STREAM_FAULTS
from opusagent.sonic.reader import StopReason
from tests.call.driver import FRAME_S, GREETING_AGENT, PLAN, SILENT_AGENT, Service, bot_pcm
from tests.call.fated_call import Fate
from tests.call.law_driver import WatchedCall

SHORT = ContinuationPolicy(
    transition_threshold_s=15.0,
    audio_start_timeout_s=15.0,
    next_session_ready_timeout_s=4.0,
    limit_s=40.0,
)
PATIENT = ContinuationPolicy(
    transition_threshold_s=20.0,
    audio_start_timeout_s=100.0,
    next_session_ready_timeout_s=6.0,
    limit_s=120.0,
)

POLICIES = {"short": SHORT, "patient": PATIENT}


def plan_of(
    *, policy: str, greets: bool, barge_in: bool, dtmf: bool, ring_s: float, deaf_s: float
) -> CallPlan:
    """A plan that is drawn in a few short words, so that a failure can be read."""
    return replace(
        PLAN,
        agent=GREETING_AGENT if greets else SILENT_AGENT,
        comfort_audio=Recording({24_000: bot_pcm(2, 0.5)}),
        continuation=POLICIES[policy],
        barge_in=barge_in,
        barge_in_on_dtmf=dtmf,
        audio_buffer_s=ring_s,
        deaf_after_s=deaf_s,
    )


plans = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["short", "short", "patient"]),
        "greets": st.booleans(),
        "barge_in": st.booleans(),
        "dtmf": st.booleans(),
        "ring_s": st.sampled_from([10.0, 2.0]),
        "deaf_s": st.sampled_from([0.0, 6.0]),
    }
)
grains = st.sampled_from([8, 8, 5, 1])
"""Frames in a message: VoiceAI Connect was seen to send 160 ms, as tests like to send 20 ms."""

fates = st.sampled_from(
    [
        Fate(),
        Fate(),
        Fate(head_s=2.5),
        Fate(head_s=None),
        Fate(refused="ThrottlingException"),
        Fate(refused="ServiceUnavailableException", head_s=0.3),
        Fate(dies_after_s=0.05),
        Fate(dies_after_s=4.0),
        Fate(lives_s=200.0),
        Fate(lives_s=30.0),
    ]
)
failures = st.sampled_from(
    [*STREAM_FAULTS.values()]
    + [(code, "") for code in OUR_CODES]
    + [("ThrottlingException", ""), ("ExpiredTokenException", "")]
)
sounds = st.sampled_from([0.01, 0.3, 1.0, 4.0])
ends = st.sampled_from([StopReason.PARTIAL_TURN, StopReason.END_TURN, None])


class AnyContinuation(RuleBasedStateMachine):
    """A call whose streams are short-lived, refused, slow and broken."""

    def __init__(self) -> None:
        super().__init__()
        self.call = WatchedCall()

    @initialize(
        plan=plans,
        chance=st.sampled_from([0.0, 0.5, 0.999]),
        grain=grains,
        sent_s=st.sampled_from([0.0, 0.0, 0.7, 40.0]),
    )
    def a_call(self, plan: dict[str, Any], chance: float, grain: int, sent_s: float) -> None:
        self.call = WatchedCall(
            plan=plan_of(**plan), random=lambda: chance, grain=grain, sent_s=sent_s
        )
        self.call.answer()

    def goes_on(self) -> bool:
        return not self.call.finished and bool(self.call.services)

    def listens(self) -> bool:
        return self.goes_on() and self.call.listening

    def is_live(self) -> bool:
        return self.goes_on() and self.call.live_id is not None

    def is_draining(self) -> bool:
        return self.goes_on() and self.call.draining is not None

    def _speaker(self, *, old: bool) -> Service | None:
        """The stream that speaks: the live one, or the one before it."""
        if old and self.call.draining is not None:
            return self.call.draining
        return None if self.call.live_id is None else self.call.live

    # Time

    @rule(seconds=st.sampled_from([0.02, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.call.advance(seconds)

    # The caller

    @precondition(listens)
    @rule(frames=st.integers(3, 150), quiet=st.integers(0, 60))
    def the_caller_speaks(self, frames: int, quiet: int) -> None:
        self.call.speaks_up(frames, quiet)

    @precondition(listens)
    @rule(early_s=st.sampled_from([1.0, 0.1, -0.1]))
    def the_caller_speaks_until_the_deadline(self, early_s: float) -> None:
        self.call.speaks_up(max(int((self.call.deadline_in_s - early_s) / FRAME_S), 3))

    @precondition(listens)
    @rule(frames=st.integers(1, 250))
    def the_caller_is_silent(self, frames: int) -> None:
        self.call.speaks_up(0, frames)

    @precondition(goes_on)
    @rule()
    def the_phone_withholds_or_listens(self) -> None:
        if self.call.listening:
            self.call.withholds()
        else:
            self.call.listens()

    @precondition(goes_on)
    @rule()
    def the_caller_presses_keys(self) -> None:
        self.call.presses()

    # The model

    @precondition(is_live)
    @rule()
    def the_model_understands(self) -> None:
        self.call.understands(self.call.live)

    @precondition(is_live)
    @rule(old=st.booleans(), seconds=sounds, end=ends)
    def the_model_speaks(self, *, old: bool, seconds: float, end: StopReason | None) -> None:
        service = self._speaker(old=old)
        if service is None:
            return
        if not service.writer.audio_open:
            self.call.begins(service)
        self.call.sounds(service, seconds)
        if end is not None:
            self.call.ends(service, end)

    @precondition(is_live)
    @rule(old=st.booleans())
    def the_model_announces_a_sentence(self, *, old: bool) -> None:
        service = self._speaker(old=old)
        if service is not None and not service.writer.audio_open:
            self.call.begins(service)

    @precondition(is_live)
    @rule(seconds=sounds)
    def the_model_answers(self, seconds: float) -> None:
        self.call.understands(self.call.live)
        self.the_model_speaks(old=False, seconds=seconds, end=StopReason.END_TURN)

    @precondition(listens)
    @rule(frames=st.integers(3, 100), seconds=sounds, heard_s=st.sampled_from([0.0, 0.5, 5.0]))
    def a_turn_is_talked(self, frames: int, seconds: float, heard_s: float) -> None:
        self.call.speaks_up(frames, 25)
        if self.is_live():
            self.the_model_answers(seconds)
            self.call.advance(heard_s)

    @precondition(is_live)
    @rule(early_s=st.sampled_from([1.0, 0.1, -0.1]))
    def the_bot_speaks_until_the_deadline(self, early_s: float) -> None:
        until = self.call.now + self.call.deadline_in_s - early_s
        while self.is_live() and (left_s := until - self.call.now) > 0:
            self.the_model_speaks(old=False, seconds=4.0, end=None)
            self.call.advance(min(left_s, 3.9))

    @precondition(is_draining)
    @rule(stop=st.sampled_from([StopReason.END_TURN, StopReason.INTERRUPTED]))
    def the_old_answer_ends(self, stop: StopReason) -> None:
        if self.call.draining is not None:
            self.call.ends(self.call.draining, stop)

    @precondition(is_live)
    @rule()
    def the_model_is_interrupted(self) -> None:
        self.call.interrupts()

    @precondition(goes_on)
    @rule(age=st.integers(0, 3), user=st.booleans())
    def an_old_stream_has_last_words(self, age: int, *, user: bool) -> None:
        """FINAL text, also of streams that are closed properly but not yet gone."""
        service = self.call.past(age)
        if service is None:
            return
        if user:
            self.call.understands(service)
        else:
            self.call.tells(service)
            self.call.sounds_late(service)

    @precondition(is_live)
    @rule()
    def the_model_tells_what_it_said(self) -> None:
        self.call.tells(self.call.live)

    # Tools

    @precondition(is_live)
    @rule(old=st.booleans(), known=st.booleans())
    def the_model_wants_a_tool(self, *, old: bool, known: bool) -> None:
        service = self._speaker(old=old)
        if service is not None:
            self.call.wants(service, known=known)

    @precondition(goes_on)
    @rule(data=st.data())
    def a_tool_has_finished(self, data: st.DataObject) -> None:
        if self.call.tools:
            self.call.gives(data.draw(st.sampled_from(self.call.tools)))

    # Streams

    @rule(fate=fates)
    def the_next_streams_fare_otherwise(self, fate: Fate) -> None:
        self.call.fate = fate

    @precondition(is_live)
    @rule(failure=failures)
    def the_live_stream_breaks(self, failure: tuple[str, str]) -> None:
        self.call.loses(self.call.live.id, *failure)

    @precondition(goes_on)
    @rule(failure=failures, which=st.sampled_from(["waiting", "draining"]))
    def another_stream_breaks(self, failure: tuple[str, str], which: str) -> None:
        service = self.call.waiting if which == "waiting" else self.call.draining
        if service is not None:
            self.call.loses(service.id, *failure)

    def teardown(self) -> None:
        call = self.call
        if self.goes_on():
            call.fate = Fate()
            if call.listening:
                call.withholds()
            call.advance(call.still_to_play_s + 3.0)
        if not call.finished:
            call.assert_all_was_heard()
            call.handle(CallerLost())
        call.assert_lawful_end()


AnyContinuation.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_whatever_becomes_of_the_streams = AnyContinuation.TestCase
