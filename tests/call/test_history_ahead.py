"""What the next stream is told of a long conversation before it is needed, and what is left for the switch."""

from __future__ import annotations

from dataclasses import replace

from opusagent.call.chronicle import Chronicle
from opusagent.call.events import CloseReason, StreamId, StreamSent
from opusagent.call.plan import CallPlan, ContinuationPolicy
from opusagent.sonic.history import MIN_BYTES
from opusagent.sonic.reader import StopReason
from tests.call.driver import EPOCH, PLAN, CallDriver, Service

POLICY = ContinuationPolicy(transition_threshold_s=40.0, audio_start_timeout_s=20.0, limit_s=120.0)
PLAN_LONG = replace(PLAN, continuation=POLICY)
REFUSED = (
    "ValidationException",
    "Chat history is over max limit. Trim chat history and try again.",
)
FILTERED = ("validationException", "This request has been blocked by our content filters.")
EXCHANGE_S = 3.6


def exchange(call: CallDriver, number: int, *, words: str = "") -> None:
    call.talk(0.6)
    call.quiet(0.6)
    call.hears(f"Question {number}{words}.")
    call.says(f"Answer {number}{words}.", 1, 0.6)
    call.quiet(EXCHANGE_S - 1.2)


def talked(n: int = 11, plan: CallPlan = PLAN_LONG, *, words: str = "") -> CallDriver:
    """Short questions and answers until just before the threshold, if there are eleven."""
    call = CallDriver(plan=plan, random=lambda: 0.0)
    call.answer()
    for number in range(1, n + 1):
        exchange(call, number, words=words)
    assert len(call.services) == 1
    return call


def asks_for_all(
    call: CallDriver, seconds: float, end: StopReason | None = StopReason.END_TURN
) -> None:
    call.talk(1.0)
    call.quiet(0.6)
    call.hears("And now tell me all.")
    call.says("Listen, this takes some time.", 2, seconds, end=end)


def prepared(
    n: int = 11,
    plan: CallPlan = PLAN_LONG,
    *,
    words: str = "",
    last: str = "Listen, this takes some time.",
) -> CallDriver:
    """The bot gives a long answer, and the next stream stands by."""
    call = talked(n, plan, words=words)
    call.talk(1.0)
    call.quiet(0.6)
    call.hears("And now tell me all.")
    call.says(last, 2, 8.0)
    call.quiet(0.5)
    assert call.report("standby ready")
    assert not call.newest.audio
    return call


def two(call: CallDriver) -> Service:
    return call.services[StreamId(2)]


def lines(first: int, last: int, words: str = "") -> list[tuple[str, str]]:
    numbers = range(first, last + 1)
    return [
        line
        for n in numbers
        for line in (("USER", f"Question {n}{words}."), ("ASSISTANT", f"Answer {n}{words}."))
    ]


LAST = [("USER", "And now tell me all."), ("ASSISTANT", "Listen, this takes some time.")]


def test_a_standby_is_told_at_once_what_is_settled() -> None:
    call = prepared()
    assert two(call).told == lines(1, 8)  # what is younger than ten seconds may change
    assert not two(call).audio
    assert call.report("standby ready")[-1]["history_items"] == 16


def test_at_the_switch_it_is_told_the_rest_and_nothing_twice() -> None:
    call = prepared()
    call.quiet(9.0)
    (report,) = call.report("stream switched")
    assert report["reason"] == "turn_complete"
    assert two(call).told == [*lines(1, 11), *LAST]
    assert two(call).audio
    assert report["history_items"] == 24
    assert report["history_ahead"] == 16
    assert report["history_bytes"] == sum(len(text) for _, text in two(call).told)
    assert report["history_trimmed"] == 0


def test_a_stream_that_is_cut_off_is_followed_by_what_was_told_ahead_and_the_rest() -> None:
    call = prepared()
    call.breaks()
    assert call.report("stream switched")[-1]["reason"] == "lost"
    assert call.live is two(call)
    assert two(call).told[:22] == lines(1, 11)


def test_a_stream_that_takes_over_without_having_stood_by_is_told_everything_at_once() -> None:
    call = talked()
    call.breaks()
    call.advance(0.2)
    assert two(call).told == lines(1, 11)
    assert call.report("stream opened")[-1]["history_ahead"] == 0


def test_a_standby_that_is_renewed_is_told_what_has_settled_since() -> None:
    call = talked(plan=replace(PLAN, continuation=replace(POLICY, audio_start_timeout_s=75.0)))
    asks_for_all(call, 60.0)  # longer than a standby is kept
    call.quiet(38.0)
    assert call.report("standby asked") == [{"stream": 2, "cause": "bot_started"}]
    call.quiet(3.0)
    assert call.newest.id == 3
    assert call.newest.told == lines(1, 11)  # the last question is the newest of the caller's


def test_after_one_that_died_of_it_none_is_told_ahead_in_this_call() -> None:
    call = prepared()
    call.breaks_standby(*REFUSED)
    call.quiet(1.0)
    assert call.newest.id == 3
    assert call.newest.told == []
    call.quiet(9.0)
    assert call.report("stream switched")[-1]["stream"] == 3
    assert call.live.told == [*lines(1, 11), *LAST]
    assert call.report("stream switched")[-1]["history_ahead"] == 0


def test_one_that_died_without_it_says_nothing_about_it() -> None:
    call = talked()
    call.head_s = None
    asks_for_all(call, 8.0)
    call.head_s = 0.1
    call.breaks_standby()
    call.quiet(1.0)
    assert call.newest.id == 3
    assert call.newest.told == lines(1, 8)


def test_a_sentence_that_is_worded_anew_meanwhile_is_told_once_more_as_it_was_spoken() -> None:
    call = prepared()
    call.confirms("Answer 8 indeed.", call.services[StreamId(1)])
    call.quiet(9.0)
    told = two(call).told
    assert told[:16] == lines(1, 8)
    assert told[16:18] == [
        ("USER", "[the call goes on]"),
        ("ASSISTANT", "Answer 8 indeed."),
    ]
    assert told[18:] == [*lines(9, 11), *LAST]


# What is not settled


def test_what_waits_for_the_phone_is_not_told_ahead_whatever_the_caller_said_meanwhile() -> None:
    call = talked(7)
    call.talk(1.0)
    call.quiet(0.6)
    call.hears("Tell me")
    for number in range(1, 6):
        call.says(f"Sentence {number}.", 1 + number, 6.0, end=StopReason.PARTIAL_TURN)
    call.quiet(0.5)
    call.hears("all of it.")  # a late part of the same turn
    call.quiet(13.0)
    call.says("Sentence 6.", 7, 6.0)
    call.quiet(1.0)
    assert two(call).told == lines(1, 7)
    call.talk(1.0)
    call.interrupts()
    call.quiet(1.0)
    told = " ".join(text for _, text in two(call).told)
    assert "Sentence 3." in told
    assert "Sentence 4." not in told
    assert told.count("Sentence 1.") == 1


def test_a_function_without_a_result_is_told_at_the_switch() -> None:
    call = talked(7)
    call.live.ask("t1", "lookup", {"n": 1})
    call.deliver()
    for number in range(8, 12):
        exchange(call, number)
    asks_for_all(call, 8.0)
    call.quiet(0.5)
    assert two(call).told == lines(1, 6)  # it is asked for in the seventh answer
    call.tool_done(call.tools[-1], {"status": "sent"})
    call.says("It was sent.", 3, 1.0)
    call.quiet(12.0)
    assert call.report("stream switched")
    told = str(two(call).told)
    assert told.count("called lookup") == 1
    assert '"status": "sent"' in told


def test_equal_words_are_told_as_often_as_they_were_said() -> None:
    call = CallDriver(plan=PLAN_LONG, random=lambda: 0.0)
    call.answer()
    for _ in range(11):
        exchange(call, 7)
    asks_for_all(call, 8.0)
    call.quiet(9.5)
    assert two(call).told == [*lines(7, 7) * 11, *LAST]
    assert call.report("stream switched")[-1]["history_ahead"] == 16


def test_a_filtered_exchange_is_told_to_nobody() -> None:
    call = prepared()
    call.breaks(*FILTERED)
    call.quiet(0.5)
    assert call.live is two(call)
    assert call.live.told == lines(1, 11)


def test_a_call_that_another_process_began_is_told_ahead_as_well() -> None:
    first = prepared()
    call = first.elsewhere()
    call.come_back()
    call.advance(0.3)
    assert call.live.told[:22] == lines(1, 11)
    for number in range(12, 23):
        exchange(call, number)
    call.quiet(0.5)
    call.says("Listen, this takes some time.", 2, 8.0)
    call.quiet(0.5)
    assert not call.newest.audio
    assert call.newest.told[:22] == lines(1, 11)
    call.quiet(12.0)
    assert call.report("stream switched")
    told = [text for _, text in call.live.told]
    assert len(told) == len(set(told))
    assert [line for line in told if "Question" in line] == [f"Question {n}." for n in range(1, 23)]


def test_what_turns_out_to_be_secret_can_be_taken_out_of_what_was_told() -> None:
    chronicle = Chronicle(lambda: EPOCH)
    chronicle.secrets.learn("4711")
    assert chronicle.context(()).hide("It is 4711.") == "It is ****."


# Until it is sent


def slow() -> CallDriver:
    """The next stream is open, and what it is told is still on its way."""
    call = talked()
    call.sent_s = None
    asks_for_all(call, 3.0)
    call.quiet(5.0)
    assert two(call).told == lines(1, 8)
    assert not call.report("standby ready")
    return call


def test_a_standby_is_ready_when_it_was_sent_what_there_is_to_tell() -> None:
    call = slow()
    assert not call.report("stream switched")  # though the moment is a good one
    call.send()
    assert call.report("standby ready")[-1]["history_items"] == 16
    assert call.report("stream switched")[-1]["history_ahead"] == 16
    assert two(call).told == [*lines(1, 11), *LAST]


def test_when_time_is_up_it_is_used_all_the_same() -> None:
    call = slow()
    call.quiet(16.0)
    assert [r["reason"] for r in call.report("stream switched")] == ["deadline"]
    assert not call.report("closed first")
    assert two(call).told == [*lines(1, 11), *LAST]


def test_at_the_deadline_an_answer_is_heard_to_its_end_though_the_next_stream_is_being_told() -> (
    None
):
    call = talked()
    call.sent_s = None
    asks_for_all(call, 17.5, end=None)
    call.quiet(17.0)
    call.speaks(2, 4.0, end=None)
    call.quiet(2.0)
    assert [r["reason"] for r in call.report("stream switched")] == ["deadline"]
    old = call.services[StreamId(1)]
    assert old.closed is None
    old.writer.end_audio(StopReason.END_TURN)
    call.deliver(old)
    call.quiet(5.0)
    assert call.plays()[-1] == {2: 21.5}
    assert not two(call).typed  # nothing has to be said again


def test_one_that_is_not_told_in_its_time_is_replaced_by_one_that_is_told_at_the_switch() -> None:
    policy = replace(POLICY, next_session_ready_timeout_s=4.0)
    call = talked(plan=replace(PLAN, continuation=policy))
    call.sent_s = None
    asks_for_all(call, 8.0)
    call.quiet(9.5)
    assert two(call).closed is CloseReason.REPLACED
    assert call.report("stream switched")[-1]["stream"] == 3
    assert call.report("stream switched")[-1]["history_ahead"] == 0
    assert call.live.told == [*lines(1, 11), *LAST]


def test_what_is_sent_of_a_call_that_is_over_changes_nothing() -> None:
    call = slow()
    call.phone.end()
    call.flush()
    call.handle(StreamSent(StreamId(2)))
    call.assert_lawful_end()


def test_a_stream_that_is_cut_off_is_followed_by_it_as_well() -> None:
    call = slow()
    call.breaks()
    assert call.live is two(call)
    assert two(call).told == [*lines(1, 11), *LAST]
    call.send()
    assert not call.report("standby ready")


# A service that takes no such thing


def test_one_that_dies_soon_after_it_was_used_is_the_last_that_was_told_ahead() -> None:
    call = prepared()
    call.quiet(9.0)
    assert call.live is two(call)
    call.breaks("modelStreamErrorException")
    call.quiet(45.0)
    assert len(call.report("stream switched")) == 2
    assert call.report("stream switched")[-1]["history_ahead"] == 0


def test_a_standby_that_was_refused_for_its_size_is_followed_by_less() -> None:
    call = sized(SIZE, " and so on" * 6)
    call.breaks_standby(*REFUSED)
    call.quiet(9.5)
    assert call.live.id == 3
    assert 0 < n_bytes(call.live) <= SIZE // 2


# Limits

SIZE = 4_096
ROOM = SIZE // 8


def sized(max_bytes: int, words: str, last: str = "Listen.") -> CallDriver:
    """Thirty-two exchanges and a long answer."""
    policy = replace(POLICY, transition_threshold_s=32 * EXCHANGE_S + 0.4, limit_s=300.0)
    plan = replace(PLAN_LONG, continuation=policy, max_history_bytes=max_bytes)
    return prepared(32, plan, words=words, last=last)


def n_bytes(service: Service) -> int:
    return sum(len(text.encode()) for _, text in service.told)


def test_what_does_not_fit_is_left_out_with_room_for_what_is_still_to_be_said() -> None:
    call = sized(SIZE, " and so on" * 6)
    assert SIZE // 2 < n_bytes(two(call)) <= SIZE - ROOM
    assert "earlier turns are not shown" in two(call).told[0][1]
    call.quiet(9.0)
    assert SIZE - ROOM < n_bytes(two(call)) <= SIZE
    assert two(call).told[-1] == ("ASSISTANT", "Listen.")
    assert sum("not shown" in text for _, text in two(call).told) == 1


def test_a_conversation_that_fits_is_told_whole_and_ahead_as_far_as_there_is_room() -> None:
    call = sized(SIZE, " and so on" * 5)
    assert SIZE - ROOM - 200 < n_bytes(two(call)) <= SIZE - ROOM
    call.quiet(9.0)
    (report,) = call.report("stream switched")
    assert report["history_trimmed"] == 0
    assert SIZE - ROOM < n_bytes(two(call)) <= SIZE
    assert len(two(call).told) == 66


def test_more_news_than_there_is_room_for_are_shortened() -> None:
    call = sized(SIZE, " and so on" * 6, last="Listen. " + "On and on. " * 60)
    call.quiet(9.0)
    assert n_bytes(two(call)) <= SIZE
    assert two(call).told[-1][1].endswith("On and on.")
    assert int(str(call.report("stream switched")[-1]["history_trimmed"])) > 0


def test_a_limit_too_small_to_leave_room_is_kept_by_telling_all_at_the_switch() -> None:
    call = sized(8 * MIN_BYTES - 8, " and so on" * 6)
    assert two(call).told == []
    call.quiet(9.0)
    assert 0 < n_bytes(two(call)) <= 8 * MIN_BYTES - 8
    assert two(call).told[-1] == ("ASSISTANT", "Listen.")


def test_a_standby_that_was_told_more_than_the_service_turns_out_to_take_is_not_used() -> None:
    policy = replace(POLICY, transition_threshold_s=5.0)
    call = CallDriver(plan=replace(PLAN_LONG, continuation=policy), random=lambda: 0.0)
    call.answer()
    for number in range(4):
        call.quiet(7.5)
        call.talk(1.0)
        call.quiet(0.6)
        call.hears(f"Question {number}.")
        call.says(f"Answer {number}.", 1, 7.0)
        call.quiet(0.5)
    assert call.live.told
    standby = call.newest
    assert standby.told
    assert not standby.audio
    call.breaks(*REFUSED)
    call.advance(0.2)
    assert call.report("stream lost")[-1]["remedy"] == "reopen_shorter"
    assert standby.closed is CloseReason.REPLACED
    assert call.live.id > standby.id
    assert call.live.told
