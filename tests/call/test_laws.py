"""What holds whatever both sides do, in any order, cut off anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from opusagent.audiocodes.peer_events import PlayChunk
from opusagent.call.events import (
    BegunAnew,
    CallerLost,
    Drain,
    FromCaller,
    FromSonic,
    HangUp,
    StreamId,
    StreamLost,
    StreamOpened,
    ToolCall,
)
from opusagent.call.plan import CallPlan, Recording
from opusagent.models.session_state import Role
from opusagent.sonic.failures import OUR_CODES, classify
from opusagent.sonic.peer_brain import ToolAsk
from opusagent.sonic.peer_faults import STREAM_FAULTS, Fault
from opusagent.sonic.peer_writer import INTERRUPTED, PeerWriter
from opusagent.sonic.reader import Stage, StopReason
from tests.call.driver import (
    FRAME_S,
    GREETING_AGENT,
    PLAN,
    SILENT_AGENT,
    T0,
    CallDriver,
    Service,
    bot_pcm,
    counted,
)

YOUNG_S = 300.0
"""So long no stream is about to be replaced, and none stands by."""


def plan_of(
    *,
    greets: str,
    barge_in: bool,
    dtmf: bool,
    abort: bool,
    pause_s: float,
    ring_s: float,
    room: int,
) -> CallPlan:
    """A plan that is drawn in a few short words, so that a failure can be read."""
    recorded = Recording({24_000: bot_pcm(1, 2.0)}) if greets == "by recording" else Recording()
    return replace(
        PLAN,
        agent=GREETING_AGENT if greets == "by text" else SILENT_AGENT,
        greeting_audio=recorded,
        comfort_audio=Recording({24_000: bot_pcm(2, 0.5)}),
        barge_in=barge_in,
        barge_in_on_dtmf=dtmf,
        abort_prompts=abort,
        dtmf_pause_s=pause_s,
        audio_buffer_s=ring_s,
        max_history_bytes=room,
    )


plans = st.fixed_dictionaries(
    {
        "greets": st.sampled_from(["not", "by text", "by recording"]),
        "barge_in": st.booleans(),
        "dtmf": st.booleans(),
        "abort": st.booleans(),
        "pause_s": st.sampled_from([0.0, 1.0]),
        "ring_s": st.sampled_from([0.5, 10.0]),
        "room": st.sampled_from([300, 40_000]),
    }
)
failures = st.sampled_from(
    [*STREAM_FAULTS.values()]
    + [(code, "") for code in OUR_CODES]
    + [("ThrottlingException", ""), ("ExpiredTokenException", "")]
)
fatal = st.sampled_from([("AccessDeniedException", ""), ("ResourceNotFoundException", "")])
spoilt = st.sets(
    st.sampled_from(
        [
            Fault.DUPLICATE_TEXT,
            Fault.EMPTY_TEXT,
            Fault.NO_STAGE,
            Fault.STRAY_END,
            Fault.UNKNOWN_EVENT,
            Fault.EMPTY_AUDIO,
            Fault.ODD_AUDIO,
            Fault.TOOL_WITHOUT_END,
            Fault.INTERLEAVED_TOOLS,
            Fault.TWICE_ENCODED_TOOL,
            Fault.BROKEN_TOOL,
            Fault.DUPLICATE_TOOL,
        ]
    ),
    max_size=2,
)
words = st.sampled_from(["Yes.", "My name is Ann.", "…", " ", "Ü" * 700, '{"a": 1}', "[data]"])
ends = st.sampled_from([None, *StopReason])
phone_junk = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20),
    st.sampled_from(
        [
            '{"type":"userStream.chunk","audioChunk":"!"}',
            '{"type":"userStream.chunk","conversationId":"other","audioChunk":"AAAA"}',
            '{"type":"activities","activities":[]}',
            '{"type":"activities","conversationId":"c-1","activities":[{"type":"event"}]}',
            '{"type":"session.accepted","mediaFormat":"raw/lpcm16"}',
            '{"type":"session.initiate","conversationId":"c-2"}',
            '{"type":"playStream.mark.reached"}',
        ]
    ),
)
_IDS = '"sessionId":"S","promptName":"P","completionId":"K"'
model_junk = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"{}",
            b'{"event":{}}',
            b'{"event":{"toolUse":{}}}',
            b'{"event":{"novel":{"a":[1]}}}',
            f'{{"event":{{"audioOutput":{{{_IDS},"contentId":"x","content":"AA"}}}}}}'.encode(),
            f'{{"event":{{"contentEnd":{{{_IDS},"contentId":"x","type":"AUDIO"}}}}}}'.encode(),
            f'{{"event":{{"completionEnd":{{{_IDS},"stopReason":"END_TURN"}}}}}}'.encode(),
        ]
    ),
)


class AnyCall(RuleBasedStateMachine):
    """A call between a VoiceAI Connect and a service that do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = CallDriver()
        self.looked_at = 0
        self.next_value = 100
        self.begun: set[int] = set()
        self.dead: set[int] = set()
        self.barge_ins = 0
        self.sent_live: dict[StreamId, list[int]] = {}
        self.opened: set[StreamId] = set()
        self.asked: list[tuple[StreamId, str, str]] = []
        self.finished_tools: set[str] = set()
        self.n_tools = 0

    @initialize(plan=plans, n_steps=st.sampled_from([0, 1, 2, 4, 4, 4, 4, 4]))
    def a_call(self, plan: dict[str, Any], n_steps: int) -> None:
        self.driver = CallDriver(plan=plan_of(**plan), head_s=None, random=lambda: 0.5)
        steps = [
            self.a_session_is_asked_for,
            self.a_head_comes,
            self.the_call_starts,
            self.the_phone_listens,
        ]
        for step in steps[:n_steps]:
            step()

    def has_stream(self) -> bool:
        return bool(self.driver.services)

    def goes_on(self) -> bool:
        return not self.driver.finished

    def is_accepted(self) -> bool:
        return self.driver.accepted and self.goes_on()

    @property
    def live(self) -> StreamId | None:
        """The stream that hears the caller."""
        for number, service in self.driver.services.items():
            if number in self.opened and service.closed is None:
                return number
        return None

    # Time

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.1, 0.3, 0.5, 1.0, 3.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.driver.advance(seconds)

    @rule(seconds=st.sampled_from([0.5, 2.0, 20.0]))
    def this_process_stalls(self, seconds: float) -> None:
        self.driver.now += seconds
        self.driver.tick()

    # The phone

    @rule()
    def a_session_is_asked_for(self) -> None:
        if not self.driver.finished and not self.driver.services:
            self.driver.phone.initiate("c-1", formats=self.driver.offered)
            self.driver.flush()

    @precondition(is_accepted)
    @rule()
    def the_call_starts(self) -> None:
        self.driver.phone.start()
        self.driver.flush()

    @precondition(is_accepted)
    @rule(participant=st.sampled_from([None, None, "agent"]))
    def the_phone_listens(self, participant: str | None = None) -> None:
        self.driver.phone.start_user_stream(participant)
        self.driver.flush()

    @precondition(is_accepted)
    @rule(participant=st.sampled_from([None, None, "agent"]))
    def the_phone_stops_listening(self, participant: str | None) -> None:
        self.driver.phone.stop_user_stream(participant)
        self.driver.flush()

    @precondition(is_accepted)
    @rule(n=st.integers(1, 60), loud=st.booleans(), burst=st.booleans())
    def the_caller_makes_a_sound(self, n: int, *, loud: bool, burst: bool) -> None:
        for _ in range(n):
            if not burst:
                self.driver.advance(FRAME_S)
            if self.driver.finished:
                return
            live = self.live
            number = self.driver.frame(loud=loud)
            if live is not None:
                self.sent_live.setdefault(live, []).append(number)

    @rule(keys=st.text("0123456789*#", min_size=1, max_size=3))
    def the_caller_presses_keys(self, keys: str) -> None:
        if self.goes_on() and self.has_stream():
            self.driver.phone.dtmf(keys)
            self.driver.flush()

    @precondition(is_accepted)
    @rule(played_ms=st.integers(0, 5000))
    def the_phone_has_played(self, played_ms: int) -> None:
        self.driver.phone.play_finished(played_ms)
        self.driver.flush()

    @rule(text=phone_junk)
    def the_phone_talks_nonsense(self, text: str | bytes) -> None:
        if not self.driver.accepted and isinstance(text, str) and "session." in text:
            return  # a request of its own is another call
        self.driver.handle(FromCaller(text))

    # The service

    @precondition(has_stream)
    @rule()
    def a_head_comes(self) -> None:
        newest = self.driver.live
        if newest.closed is None and newest.id not in self.opened:
            self.driver.handle(StreamOpened(newest.id))
            if newest.closed is None:
                self.opened.add(newest.id)

    @precondition(has_stream)
    @rule(faults=spoilt)
    def the_service_is_odd(self, faults: set[Fault]) -> None:
        service = self.driver.live
        if not service.writer.audio_open:
            name = f"s{service.id}-{self.driver.now}"
            service.writer = PeerWriter(new_id=counted(name), faults=faults)
            service.writer.prompt_name = "P"

    @precondition(has_stream)
    @rule(text=words)
    def the_model_hears(self, text: str) -> None:
        self.driver.hears(text)

    @precondition(has_stream)
    @rule(text=words, seconds=st.sampled_from([0.0, 0.01, 0.3, 2.0]), end=ends)
    def the_model_speaks(self, text: str, seconds: float, end: StopReason | None) -> None:
        if not self.driver.live.writer.audio_open:
            self.driver.plans(text)
            self.next_value += 1
            self.begun.add(self.next_value)
        live = self.live
        self.driver.speaks(self.next_value, seconds, end=end)
        self.nothing_that_was_cut_off_is_heard()  # up to the interruption
        if end is StopReason.INTERRUPTED and live is not None:
            self.dead |= self.begun

    @precondition(has_stream)
    @rule(text=words)
    def the_model_confirms(self, text: str) -> None:
        self.driver.confirms(text)

    @precondition(has_stream)
    @rule(twice=st.booleans())
    def the_model_is_interrupted(self, *, twice: bool) -> None:
        live = self.live
        self.driver.interrupts()
        if twice:
            self.driver.interrupts()
        if live is not None:
            self.dead |= self.begun

    @precondition(has_stream)
    @rule(name=st.sampled_from(["lookup", "fly"]), again=st.booleans())
    def the_model_wants_a_tool(self, name: str, *, again: bool) -> None:
        service = self.driver.live
        if not again:
            self.n_tools += 1
        tool_use_id = f"t-{service.id}-{self.n_tools}"
        if self.live != service.id or (service.id, tool_use_id, name) in self.asked:
            service.writer.tools([(tool_use_id, ToolAsk(name, {}))])
        elif not any(asked == tool_use_id for _, asked, _ in self.asked):
            service.ask(tool_use_id, name, {"n": self.n_tools})
            self.asked.append((service.id, tool_use_id, name))
        self.driver.deliver()

    @rule(data=st.data(), twice=st.booleans())
    def a_tool_has_finished(self, data: st.DataObject, *, twice: bool) -> None:
        if self.driver.tools:
            call: ToolCall = data.draw(st.sampled_from(self.driver.tools))
            for _ in range(1 + twice):
                self.driver.tool_done(call, {"ok": 1})
            self.finished_tools.add(call.tool_use_id)

    @precondition(has_stream)
    @rule(number=st.integers(1, 5), text=words)
    def an_old_stream_says_something(self, number: int, text: str) -> None:
        service = self.driver.services.get(StreamId(number))
        if service is not None and service.closed is not None:
            service.writer.text(Role.USER, Stage.FINAL, [text], StopReason.PARTIAL_TURN)
            service.writer.start_audio()
            service.writer.audio(bot_pcm(99, 0.1))
            service.writer.text(Role.ASSISTANT, Stage.FINAL, [INTERRUPTED], StopReason.INTERRUPTED)
            self.driver.deliver(service)

    @precondition(has_stream)
    @rule(payload=model_junk)
    def the_service_talks_nonsense(self, payload: bytes) -> None:
        self.driver.handle(FromSonic(self.driver.live.id, payload))

    @precondition(has_stream)
    @rule(failure=failures, number=st.integers(0, 2))
    def a_stream_is_lost(self, failure: tuple[str, str], number: int) -> None:
        stream = StreamId(max(self.driver.live.id - number, 1))
        self.driver.handle(StreamLost(stream, classify(*failure)))

    @precondition(has_stream)
    @rule(failure=fatal)
    def nothing_can_be_done(self, failure: tuple[str, str]) -> None:
        self.driver.breaks(*failure)

    # The end

    @rule()
    def this_side_hangs_up(self) -> None:
        self.driver.handle(HangUp("done"))

    @precondition(is_accepted)
    @rule()
    def the_caller_hangs_up(self) -> None:
        self.driver.phone.end()
        self.driver.flush()

    @rule(event=st.sampled_from([CallerLost(), BegunAnew(), Drain()]))
    def the_socket_goes(self, event: CallerLost | BegunAnew | Drain) -> None:
        self.driver.handle(event)

    # The laws. More of them stand in the driver: no effect after the end or for a closed stream,
    # no timer that does not move on, no message that the strict ends refuse, never too far ahead.

    @invariant()
    def nothing_that_was_cut_off_is_heard(self) -> None:
        for _, event in self.driver.heard[self.looked_at :]:
            if isinstance(event, PlayChunk):
                values = set(memoryview(event.data).cast("h"))
                assert not values & self.dead
                assert 99 not in values, "a stream that was replaced is heard"
        self.looked_at = len(self.driver.heard)
        barge_ins = len(self.driver.report("barge-in"))
        if barge_ins > self.barge_ins:
            self.dead |= self.begun
        self.barge_ins = barge_ins

    @precondition(lambda self: self.driver.now < T0 + YOUNG_S)
    @invariant()
    def one_stream_at_most_is_open(self) -> None:
        open_ones = [s for s in self.driver.services.values() if s.closed is None]
        assert len(open_ones) <= 1

    @invariant()
    def the_caller_is_heard_in_order_and_once_on_each_stream(self) -> None:
        for service in self._recent():
            frames = service.frames
            assert all(a < b for a, b in pairwise(frames))

    @invariant()
    def no_frame_is_lost_while_a_stream_hears_the_caller(self) -> None:
        for service in self._recent():
            assert set(self.sent_live.get(service.id, ())) <= set(service.frames)

    @invariant()
    def an_interruption_is_no_word_of_anybody(self) -> None:
        for service in self._recent():
            assert not any("interrupted" in turn.text for turn in service.history)
            assert not any("interrupted" in text for text in service.typed)
        if self.driver.saves:
            items = self.driver.saves[-1].conversation_history
            assert not any("interrupted" in item.text for item in items)

    @invariant()
    def what_is_saved_can_be_stored(self) -> None:
        if self.driver.saves:
            json.dumps(self.driver.saves[-1].to_dict())

    @invariant()
    def speech_is_told_in_order(self) -> None:
        self.driver.assert_lawful()

    def teardown(self) -> None:
        self.driver.advance(3.0)
        if (live := self.live) is not None and not self.driver.finished:
            given = [tool_use_id for tool_use_id, _ in self.driver.services[live].results]
            assert len(given) == len(set(given))
            for stream, tool_use_id, name in self.asked:
                if stream == live and (name == "fly" or tool_use_id in self.finished_tools):
                    assert tool_use_id in given
        self.driver.handle(CallerLost())
        self.driver.assert_lawful_end()

    def _recent(self) -> list[Service]:
        """The streams that may have changed."""
        return [self.driver.services[n] for n in sorted(self.driver.services)[-2:]]


AnyCall.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
test_whatever_both_sides_do = AnyCall.TestCase
