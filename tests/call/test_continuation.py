"""When a stream is replaced: the table and its deadlines, without a call."""

from __future__ import annotations

import pytest

from opusagent.call.continuation import Action, Continuation, Decision, Moment, Phase
from opusagent.call.plan import ContinuationPolicy

POLICY = ContinuationPolicy()
SPEAKING = Moment()
T0 = 1000.0


def quiet(since: float, **others: bool) -> Moment:
    return Moment(quiet_from=since, **others)


def begun(
    policy: ContinuationPolicy = POLICY, *, spread: float = 0.0, expires_at: float | None = None
) -> Continuation:
    return Continuation(policy, opened_at=T0, spread=spread, expires_at=expires_at)


def armed() -> Continuation:
    one = begun()
    assert one.decide(SPEAKING, T0 + 360) == Decision(Action.ARM)
    return one


def preparing(at: float = T0 + 365) -> Continuation:
    one = armed()
    one.bot_started()
    assert one.decide(SPEAKING, at) == Decision(Action.OPEN_STANDBY, "bot_started")
    return one


def ready(at: float = T0 + 366) -> Continuation:
    one = preparing()
    one.standby_ready(at)
    return one


def nothing(one: Continuation, moment: Moment, now: float) -> bool:
    return one.decide(moment, now).action is Action.NOTHING


# Deadlines


def test_before_the_threshold_nothing_is_done_whatever_the_line_is_like() -> None:
    one = begun()
    one.bot_started()
    for moment in (SPEAKING, quiet(0.0), Moment(interrupted=True)):
        assert nothing(one, moment, T0 + 359.99)
    assert one.next_timer(quiet(0.0)) == T0 + 360


def test_calls_that_began_together_are_spread_over_a_tenth_of_what_is_left_and_never_earlier() -> (
    None
):
    at = [begun(spread=spread).threshold_at - T0 for spread in (0.0, 0.5, 1.0)]
    assert at == [360.0, 366.0, 372.0]


@pytest.mark.parametrize(
    ("policy", "force_at"),
    [
        (POLICY, 460.0),
        (ContinuationPolicy(audio_start_timeout_s=500.0), 470.0),  # the limit less ten seconds
        (ContinuationPolicy(transition_threshold_s=5, limit_s=12.0), 10.8),  # less a tenth
        (ContinuationPolicy(transition_threshold_s=10.0), 110.0),
    ],
)
def test_no_stream_waits_for_a_good_moment_longer_than_this(
    policy: ContinuationPolicy, force_at: float
) -> None:
    assert begun(policy).force_at == pytest.approx(T0 + force_at)


def test_the_spread_does_not_move_the_last_moment_past_the_limit() -> None:
    policy = ContinuationPolicy(transition_threshold_s=400.0)
    assert begun(policy, spread=1.0).force_at == T0 + 470


def test_credentials_that_expire_count_three_minutes_ahead() -> None:
    one = begun(expires_at=T0 + 400)
    assert one.threshold_at == T0 + 220
    assert one.force_at == T0 + 320
    assert begun(expires_at=T0 + 4000).threshold_at == T0 + 360


def test_calls_that_share_credentials_are_spread_over_a_tenth_of_what_these_leave() -> None:
    at = [begun(spread=spread, expires_at=T0 + 400).threshold_at - T0 for spread in (0.0, 0.5, 1.0)]
    assert at == [220.0, 228.5, 237.0]
    assert begun(spread=1.0, expires_at=T0 + 60).threshold_at == T0 + 14
    assert begun(spread=1.0, expires_at=T0 + 15).threshold_at == T0 + 10


def test_credentials_that_have_nearly_expired_do_not_make_a_call_switch_for_ever() -> None:
    assert begun(expires_at=T0 + 60).threshold_at == T0 + 10


# Preparing


def test_credentials_that_expire_bound_the_wait_for_a_good_moment() -> None:
    one = begun(expires_at=T0 + 100)
    assert one.threshold_at == T0 + 10
    assert one.force_at == T0 + 90


def test_a_short_threshold_is_spread_by_a_tenth_of_itself_at_most() -> None:
    assert begun(ContinuationPolicy(transition_threshold_s=10.0), spread=0.5).threshold_at == (
        T0 + 10.5
    )


def test_past_the_threshold_the_bot_beginning_to_speak_opens_the_next_stream() -> None:
    one = armed()
    assert nothing(one, SPEAKING, T0 + 361)
    one.bot_started()
    assert one.decide(SPEAKING, T0 + 362) == Decision(Action.OPEN_STANDBY, "bot_started")
    assert nothing(one, SPEAKING, T0 + 362)


def test_five_seconds_in_which_nobody_speaks_open_it_as_well() -> None:
    one = armed()
    silence = quiet(T0 + 361)
    assert one.next_timer(silence) == T0 + 366
    assert nothing(one, silence, T0 + 365.9)
    assert one.decide(silence, T0 + 366) == Decision(Action.OPEN_STANDBY, "silence")


def test_so_does_time_before_the_deadline_so_that_it_is_ready_at_the_deadline() -> None:
    one = armed()
    assert one.next_timer(SPEAKING) == T0 + 450
    assert nothing(one, SPEAKING, T0 + 449.9)
    assert one.decide(SPEAKING, T0 + 450) == Decision(Action.OPEN_STANDBY, "timeout")


def test_a_standby_that_does_not_come_in_thirty_seconds_is_replaced() -> None:
    one = preparing(T0 + 365)
    assert one.next_timer(SPEAKING) == T0 + 395
    assert nothing(one, SPEAKING, T0 + 394.9)
    assert one.decide(SPEAKING, T0 + 395) == Decision(Action.RENEW_STANDBY, "timeout")


def test_a_standby_that_is_refused_is_tried_again_ever_later() -> None:
    one, now = preparing(), T0 + 365
    for wait_s in (0.5, 1.0, 2.0, 4.0, 8.0, 8.0):
        one.standby_lost(now)
        assert one.next_timer(SPEAKING) == now + wait_s
        assert nothing(one, SPEAKING, now + wait_s - 0.01)
        now += wait_s
        assert one.decide(SPEAKING, now) == Decision(Action.OPEN_STANDBY, "retry")


def test_a_standby_that_breaks_after_it_was_ready_is_opened_again() -> None:
    one = ready()
    one.standby_lost(T0 + 370)
    assert nothing(one, quiet(T0), T0 + 370)
    assert one.decide(SPEAKING, T0 + 370.5) == Decision(Action.OPEN_STANDBY, "retry")


def test_a_standby_that_is_not_used_for_forty_seconds_is_renewed() -> None:
    one = ready(T0 + 366)
    assert one.next_timer(SPEAKING) == T0 + 406
    assert nothing(one, SPEAKING, T0 + 405.9)
    assert one.decide(SPEAKING, T0 + 406) == Decision(Action.RENEW_STANDBY, "stale")
    assert one.phase is Phase.PREPARING


def test_a_standby_is_not_renewed_when_it_will_be_needed_at_once() -> None:
    one = ready(T0 + 418)
    assert one.next_timer(SPEAKING) == T0 + 460
    assert nothing(one, SPEAKING, T0 + 459)
    assert one.decide(SPEAKING, T0 + 460) == Decision(Action.SWITCH, "deadline")


# Switching


def test_an_answer_heard_to_its_end_and_three_tenths_of_quiet_are_a_good_moment() -> None:
    one = ready()
    heard_out = quiet(T0 + 370)
    assert one.next_timer(heard_out) == T0 + 370.3
    assert nothing(one, heard_out, T0 + 370.29)
    assert one.decide(heard_out, T0 + 370.3) == Decision(Action.SWITCH, "turn_complete")
    assert nothing(one, heard_out, T0 + 371)


def test_long_silence_is_a_good_moment() -> None:
    assert ready().decide(quiet(T0 + 350), T0 + 366) == Decision(Action.SWITCH, "silence")


def test_an_interruption_is_a_good_moment_though_the_caller_speaks() -> None:
    assert ready().decide(Moment(interrupted=True), T0 + 367) == Decision(
        Action.SWITCH, "interrupted"
    )


def test_what_the_caller_said_and_nobody_answered_waits_longer() -> None:
    one = ready()
    said = quiet(T0 + 370, unanswered=True)
    assert nothing(one, said, T0 + 372.9)
    assert one.decide(said, T0 + 373) == Decision(Action.SWITCH, "silence")


@pytest.mark.parametrize("moment", [quiet(T0, owed=True), Moment(interrupted=True, owed=True)])
def test_a_debt_defers_everything_but_the_deadline(moment: Moment) -> None:
    one = ready(T0 + 425)
    assert nothing(one, moment, T0 + 459.9)
    assert one.decide(moment, T0 + 460) == Decision(Action.SWITCH, "deadline")


def test_speech_defers_everything_but_the_deadline() -> None:
    one = ready(T0 + 425)
    assert nothing(one, SPEAKING, T0 + 459.9)
    assert one.decide(SPEAKING, T0 + 460) == Decision(Action.SWITCH, "deadline")


# Without a standby


def test_a_standby_that_is_refused_until_the_deadline_makes_the_stream_close_first() -> None:
    one = preparing()
    now = T0 + 365
    while (decision := one.decide(SPEAKING, now)).action is not Action.CLOSE_FIRST:
        if decision.action is Action.OPEN_STANDBY or now == T0 + 365:
            one.standby_lost(now)
        timer = one.next_timer(SPEAKING)
        assert timer is not None
        now = timer
    assert now == T0 + 460
    assert nothing(one, SPEAKING, now)


def test_a_standby_that_is_being_opened_at_the_deadline_is_given_three_seconds() -> None:
    one = armed()
    assert one.decide(SPEAKING, T0 + 450).action is Action.OPEN_STANDBY
    one.standby_lost(T0 + 459)
    assert one.decide(SPEAKING, T0 + 459.5).action is Action.OPEN_STANDBY
    assert nothing(one, SPEAKING, T0 + 460)
    assert one.next_timer(SPEAKING) == T0 + 462.5
    one.standby_ready(T0 + 461)
    assert one.decide(SPEAKING, T0 + 461) == Decision(Action.SWITCH, "deadline")


def test_it_is_not_given_more() -> None:
    one = preparing(T0 + 459)
    assert nothing(one, SPEAKING, T0 + 461.9)
    assert one.decide(SPEAKING, T0 + 462) == Decision(Action.CLOSE_FIRST, "deadline")


def test_where_the_next_one_was_refused_a_good_moment_shortly_before_the_deadline_is_taken() -> (
    None
):
    one = preparing()
    one.standby_lost(T0 + 365)
    assert one.decide(quiet(T0 + 360), T0 + 365.5).action is Action.OPEN_STANDBY
    one.standby_lost(T0 + 425)
    early = quiet(T0 + 424)
    assert nothing(one, early, T0 + 425)
    assert one.decide(early, T0 + 426).action is Action.OPEN_STANDBY
    assert nothing(one, early, T0 + 430)
    one.standby_lost(T0 + 430)
    assert nothing(one, SPEAKING, T0 + 430)
    late = quiet(T0 + 430)
    assert one.next_timer(late) == pytest.approx(T0 + 430.3)
    assert one.decide(late, T0 + 430.3) == Decision(Action.CLOSE_FIRST, "turn_complete")


def test_a_debt_is_no_good_moment_for_that_either() -> None:
    one = preparing()
    one.standby_lost(T0 + 440)
    assert one.decide(Moment(quiet_from=T0, owed=True), T0 + 441).action is Action.OPEN_STANDBY


# Between its head and its being told the past


def test_a_standby_that_is_open_is_used_when_time_is_up_though_it_was_not_told_everything() -> None:
    one = preparing(T0 + 459)
    one.standby_opened(T0 + 459.1)
    assert nothing(one, SPEAKING, one.force_at - 0.01)
    assert one.decide(SPEAKING, one.force_at) == Decision(Action.SWITCH, "deadline")


def test_how_fresh_it_is_counts_from_its_head() -> None:
    one = preparing()
    one.standby_opened(T0 + 366)
    one.standby_ready(T0 + 380)
    assert nothing(one, SPEAKING, T0 + 405.9)
    assert one.decide(SPEAKING, T0 + 406) == Decision(Action.RENEW_STANDBY, "stale")


@pytest.mark.parametrize("is_lost", [True, False])
def test_one_that_was_open_and_is_gone_is_not_used(*, is_lost: bool) -> None:
    one = preparing(T0 + 425)
    one.standby_opened(T0 + 426)
    if is_lost:
        one.standby_lost(T0 + 432)
    else:
        assert one.decide(SPEAKING, T0 + 455).action is Action.RENEW_STANDBY
    assert one.decide(SPEAKING, one.force_at + 10).action is Action.CLOSE_FIRST
