"""What the published designs promise, in our own words, and the tests that show it.

`C` is the session-continuation example for Nova Sonic (AWS samples), its README and shipped settings;
`S`, `E` and `R` are the three on sessions, each in a file of `tests/promises`.
A promise that we keep in another way, or on purpose do not keep, says why in `departed`.
"""

from __future__ import annotations

from typing import Final

from tests.promises.promise import Promise
from tests.promises.recovery_guide import RECOVERY_GUIDE
from tests.promises.session_resume import SESSION_RESUME
from tests.promises.strands import STRANDS

__all__ = ["PENDING", "PROMISES", "Promise"]


_CONTINUATION = "call/test_continuation.py::"
_HANDOVER = "call/test_handover.py::"
_AHEAD = "call/test_history_ahead.py::"
_RING = "call/test_ring.py::"
_MODEL = "call/test_model_side.py::"
_REPORTING = "bridges/test_reporting.py::"
_PLANNING = "bridges/test_planning.py::"
_RECORDING = "test_recording.py::"
_CONFIG = "test_config.py::"

CONTINUATION: Final[dict[str, Promise]] = {
    "C01": Promise(
        says="A conversation lasts as long as the caller wants.",
        tests=(
            _HANDOVER + "test_an_hour_of_silence_is_an_hour_of_streams_below_the_limit",
            _HANDOVER + "test_two_switches_close_together_keep_everything",
        ),
    ),
    "C02": Promise(
        says="The service ends a stream after about eight minutes, and the call goes on.",
        tests=(
            "sonic/test_peer.py::test_a_stream_lives_eight_minutes",
            "end_to_end/test_stream_loss.py::test_a_stream_that_reaches_its_limit_is_replaced_each_time",
        ),
    ),
    "C03": Promise(
        says="At most 1.8 % of a call are spent in transition.",
        tests=(
            _REPORTING + "test_the_share_of_calls_in_transition_can_be_computed",
            "bench/test_switches.py::test_each_time_is_held_against_its_limit",
        ),
    ),
    "C04": Promise(
        says="A stream is old after 360 s.",
        tests=(
            _CONFIG + "test_the_defaults_are_those_of_the_session_continuation_sample",
            _PLANNING + "test_the_settings_of_the_continuation_reach_the_call",
            _CONTINUATION + "test_before_the_threshold_nothing_is_done_whatever_the_line_is_like",
        ),
        departed="Each call adds up to a tenth of the time that is left to the limit, so that calls "
        "that began together do not change streams together.",
    ),
    "C05": Promise(
        says="The caller's last 10 s are kept; what is older goes first, and is counted.",
        tests=(
            _RING + "test_the_oldest_leaves_when_the_ring_is_full",
            _RING + "test_only_speech_that_no_stream_heard_counts_as_lost",
            _MODEL + "test_speech_beyond_the_ring_is_counted_as_lost",
        ),
    ),
    "C06": Promise(
        says="That takes 320 KB of memory at 16 kHz.",
        tests=(
            _PLANNING + "test_ten_seconds_of_a_caller_at_16_khz_take_320_kilobytes_and_no_more",
        ),
    ),
    "C07": Promise(
        says="100 s past the threshold the change is made, good moment or not.",
        tests=(
            _CONTINUATION + "test_no_stream_waits_for_a_good_moment_longer_than_this",
            _CONTINUATION
            + "test_so_does_time_before_the_deadline_so_that_it_is_ready_at_the_deadline",
            _HANDOVER + "test_a_silent_line_is_switched_as_well",
        ),
    ),
    "C08": Promise(
        says="A next stream that is not ready after 30 s is replaced, while the old one lives on.",
        tests=(
            _CONTINUATION + "test_a_standby_that_does_not_come_in_thirty_seconds_is_replaced",
            _HANDOVER + "test_a_standby_that_never_comes_is_replaced_after_its_time",
        ),
    ),
    "C09": Promise(
        says="Sessions are recorded where that is switched on.",
        tests=(
            _RECORDING + "test_caller_and_bot_are_recorded_in_step_with_the_clock",
            _PLANNING + "test_sound_is_recorded_only_where_it_is_asked_for",
            "call/test_conversation.py::test_without_a_recording_no_sound_is_noted",
        ),
        departed="Off by default: callers have to be told.",
    ),
    "C10": Promise(
        says="Recordings go to the folder that is named.",
        tests=(
            _RECORDING + "test_a_folder_s_name_is_safe_whatever_the_conversation_is_called",
            _RECORDING + "test_a_second_recording_of_a_conversation_leaves_the_first_alone",
            _RECORDING + "test_a_folder_that_cannot_be_written_is_refused_at_start_up",
        ),
    ),
    "C11": Promise(
        says="To watch it, a threshold of 10 s and a buffer of 10 s can be set.",
        tests=(
            _CONFIG + "test_the_sample_s_setting_for_tests_is_accepted",
            _REPORTING + "test_what_a_whole_call_reports_of_its_switch_is_logged_and_counted",
        ),
    ),
    "C12": Promise(
        says="The history and one message of it have settings for their largest size.",
        tests=(
            _CONFIG + "test_what_nova_cannot_take_is_cut_to_its_limit_with_a_warning",
            _MODEL + "test_a_history_keeps_the_limits_of_the_service",
        ),
        departed="The sample's 200 KB and 50 KB are more than the service takes: 40 KB and 1 KB are "
        "sent at most, with a warning at the start.",
    ),
    "C13": Promise(
        says="Lines on transitions, barge-ins and audio are switched on and off apart.",
        tests=(_REPORTING + "test_each_switch_turns_its_lines_on_and_off",),
    ),
    "C14": Promise(
        says="Threshold, preparation and change are logged with age, texts, bytes and replay.",
        tests=(
            _REPORTING + "test_threshold_preparation_and_switch_are_logged_with_their_numbers",
            _REPORTING + "test_what_a_whole_call_reports_of_its_switch_is_logged_and_counted",
            _HANDOVER + "test_it_is_reported_with_its_figures",
        ),
    ),
    "C15": Promise(
        says="Nothing is spent on it before the threshold.",
        tests=(_HANDOVER + "test_before_the_threshold_a_call_has_one_stream",),
    ),
    "C16": Promise(
        says="Past the threshold, the bot beginning to speak opens the next stream.",
        tests=(
            _CONTINUATION
            + "test_past_the_threshold_the_bot_beginning_to_speak_opens_the_next_stream",
            _HANDOVER
            + "test_the_next_stream_is_opened_when_the_bot_speaks_and_is_told_nothing_yet",
        ),
        departed="Five seconds in which nobody speaks open it as well: on hold no bot ever would.",
    ),
    "C17": Promise(
        says="It is opened in the background.",
        tests=(_HANDOVER + "test_while_a_standby_is_slow_the_live_stream_hears_everything",),
    ),
    "C18": Promise(
        says="Caller audio is kept from the moment that the bot begins to speak.",
        tests=(_RING + "test_speech_is_replayed_from_half_a_second_before_it_to_the_newest_frame",),
        departed="It is kept always: a stream may break at any moment. What was answered is not "
        "replayed, so nothing is heard twice.",
    ),
    "C19": Promise(
        says="The old stream hears the caller until the change.",
        tests=(_HANDOVER + "test_while_a_standby_is_slow_the_live_stream_hears_everything",),
    ),
    "C20": Promise(
        says="Neither the bot's audio nor what was said before the transition is replayed.",
        tests=(
            _RING + "test_committed_speech_is_not_replayed",
            _RING + "test_silence_is_nothing_to_replay",
            _MODEL + "test_an_answered_turn_is_never_replayed",
        ),
        departed="Speech from before it is replayed where the model has not answered it.",
    ),
    "C21": Promise(
        says="The new stream is given the history, then the audio block, then what was kept.",
        tests=(
            "sonic/test_stream.py::test_history_goes_out_block_by_block_before_the_audio_opens",
            _HANDOVER
            + "test_the_new_stream_is_told_what_was_said_and_then_hears_the_caller_without_a_gap",
            _AHEAD + "test_a_standby_is_told_at_once_what_is_settled",
            _AHEAD + "test_at_the_switch_it_is_told_the_rest_and_nothing_twice",
        ),
        departed="What will not change any more is sent before: of a long call it is more than goes out "
        "at once while the caller waits.",
    ),
    "C22": Promise(
        says="The change comes when the bot has finished, or was interrupted.",
        tests=(
            _HANDOVER + "test_the_switch_comes_when_the_answer_was_heard_and_the_caller_is_quiet",
            _HANDOVER + "test_an_interruption_is_a_good_moment_and_what_she_says_is_replayed",
        ),
        departed="Finished means the end of the turn and its playout. Counts of planned and final "
        "texts may never meet.",
    ),
    "C23": Promise(
        says="The new stream takes over at once, and the old one is closed in the background.",
        tests=(
            _HANDOVER
            + "test_the_new_stream_is_told_what_was_said_and_then_hears_the_caller_without_a_gap",
            "bridges/test_base_bridge.py::test_a_service_that_does_not_end_its_stream_holds_nobody_up",
            "end_to_end/test_continuation.py::test_a_stream_that_is_cut_while_the_next_is_ready_costs_nothing",
        ),
    ),
    "C24": Promise(
        says="After the change nothing is kept of the replay.",
        tests=(
            _RING + "test_what_was_replayed_has_reached_a_stream_and_is_not_lost",
            _HANDOVER + "test_two_switches_close_together_keep_everything",
        ),
        departed="It is kept until it is answered: the new stream may break as well.",
    ),
    "C25": Promise(
        says="It repeats for as long as the call lasts.",
        tests=(_HANDOVER + "test_an_hour_of_silence_is_an_hour_of_streams_below_the_limit",),
    ),
    "C26": Promise(
        says="Nothing that the caller says is lost.",
        tests=(
            _HANDOVER + "test_two_switches_close_together_keep_everything",
            _HANDOVER + "test_when_the_quota_is_full_until_the_deadline_"
            "the_old_stream_goes_first_and_no_word_is_lost",
            "end_to_end/test_continuation.py::test_what_the_caller_is_saying_at_the_deadline_reaches_the_next_stream_from_its_beginning",
            "end_to_end/test_continuation.py::test_where_no_second_stream_is_allowed_the_first_is_closed_and_nothing_is_lost",
        ),
    ),
    "C27": Promise(
        says="A caller who interrupts during the transition is heard, and answered once.",
        tests=(
            _HANDOVER + "test_an_interruption_is_a_good_moment_and_what_she_says_is_replayed",
            _HANDOVER + "test_nothing_of_the_old_answer_is_played_after_the_interruption",
            _HANDOVER + "test_a_barge_in_silences_both_streams",
        ),
    ),
    "C28": Promise(
        says="A next stream that is dead is noticed and replaced.",
        tests=(
            _HANDOVER + "test_a_standby_that_dies_after_its_head_is_replaced",
            _HANDOVER + "test_two_streams_that_die_soon_after_their_history_lead_to_a_summary",
        ),
    ),
    "C29": Promise(
        says="The caller notices nothing.",
        tests=(
            _HANDOVER + "test_what_was_generated_is_played_to_its_end",
            _HANDOVER + "test_the_new_stream_waits_until_the_old_one_has_been_heard",
            "end_to_end/test_continuation.py::test_an_answer_that_is_being_made_at_the_deadline_is_heard_whole_and_without_a_gap",
        ),
    ),
    "C30": Promise(
        says="Keeping audio only during transitions saves two thirds of its memory.",
        departed="320 KB for each call are always kept: a stream may break at any moment, and without "
        "them the caller's word would be lost.",
    ),
    "C31": Promise(
        says="A recording holds the history, the audio, the times of transitions, and metadata.",
        tests=(
            _RECORDING + "test_the_session_file_has_metadata_switches_and_transcript_by_its_schema",
            _RECORDING + "test_events_are_written_with_their_seconds_and_their_fields",
            "bridges/test_audiocodes_bridge.py::test_a_recorded_call_sounds_as_it_was_heard_on_the_phone",
        ),
    ),
    "C32": Promise(
        says="One part manages the transition, one each stream, one the audio at the ends.",
        departed="The roles are there under other names; the README says where.",
    ),
    "C33": Promise(
        says="Tools work on every stream.",
        tests=(
            _HANDOVER + "test_a_running_tool_defers_the_switch_and_its_answer_too",
            _HANDOVER + "test_at_the_deadline_its_result_goes_to_the_new_stream_as_data",
            "end_to_end/test_continuation.py::test_a_tool_that_runs_at_the_deadline_gives_its_result_to_the_next_stream_as_data",
            "end_to_end/test_continuation.py::test_a_tool_that_is_done_before_the_deadline_is_waited_for",
        ),
    ),
    "C34": Promise(
        says="Python 3.12 or newer, and credentials from the environment of AWS.",
        tests=(
            "packaging/test_dockerfile.py::test_the_image_runs_on_the_projects_python_without_build_tools_or_root",
            "transports/test_credentials.py::test_keys_of_the_environment_need_no_botocore",
            "transports/test_credentials.py::test_the_standard_chain_finds_a_profile",
        ),
    ),
    "C35": Promise(
        says="A buffer that overflows is warned of.",
        tests=(
            _REPORTING + "test_speech_that_overflowed_the_replay_buffer_is_warned_of_and_counted",
        ),
    ),
    "C36": Promise(
        says="Related examples: resume a conversation, log its history, count its tokens.",
        tests=(
            _RECORDING + "test_the_session_file_has_metadata_switches_and_transcript_by_its_schema",
            _MODEL + "test_usage_is_reported_as_what_was_used_since",
            "end_to_end/test_resume.py::test_a_conversation_goes_on_though_its_process_was_killed",
        ),
    ),
}

PROMISES: Final = CONTINUATION | STRANDS | RECOVERY_GUIDE | SESSION_RESUME

PENDING: Final[frozenset[str]] = frozenset()
"""What is still to be shown. Nothing may be left here in the end."""
