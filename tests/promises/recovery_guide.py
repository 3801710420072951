"""`E`: the Session Recovery Guide for EKS Deployments (Nova Sonic with Bedrock's session API)."""

from __future__ import annotations

from typing import Final

from tests.promises.promise import Promise

_SAVER = "services/test_saver.py::"
_SERVICE = "services/test_session_manager_service.py::"
_CONTRACT = "contract/test_session_storage.py::"
_REDIS = "session_storage/test_redis_storage.py::"
_ADMIN = "test_admin.py::"
_ALERTS = "packaging/test_alerts.py::"
_CLI = "test_sessions_cli.py::"
_RULES = "sonic/test_peer_rules.py::"
_STREAM = "sonic/test_stream.py::"
_HANDSHAKE = "end_to_end/test_handshake.py::"
_RESUME = "call/test_resume.py::"
_SERVER = "test_server_resume.py::"
_BENCH = "bench/test_resume.py::"

_BEDROCK_SESSIONS = (
    "Bedrock's session API is not used: it cannot claim a conversation for one process, and a write "
    "to it takes longer than one to Redis."
)

RECOVERY_GUIDE: Final[dict[str, Promise]] = {
    "E01": Promise(
        says="A conversation survives the restart of its pod.",
        tests=(
            _SERVICE + "test_a_conversation_is_taken_up_by_another_process_with_all_that_was_said",
            _SERVER + "test_the_new_stream_is_told_the_conversation_before_it_hears_anything",
            "end_to_end/test_resume.py::test_a_conversation_goes_on_though_its_process_was_killed",
        ),
    ),
    "E02": Promise(
        says="And the crash of its server.",
        tests=(
            _CONTRACT + "test_another_process_sees_what_was_stored",
            "end_to_end/test_resume.py::test_a_conversation_goes_on_though_its_process_was_killed",
        ),
    ),
    "E03": Promise(
        says="No data is lost in a deployment.",
        tests=(
            "test_server.py::test_everything_is_over_three_seconds_before_the_time_is_up",
            _SERVER + "test_three_processes_are_replaced_one_after_the_other_and_no_call_is_lost",
            _SERVER
            + "test_twenty_calls_are_let_go_and_taken_up_by_another_process_and_none_is_hung_up",
            "end_to_end/test_resume.py::test_three_processes_are_replaced_one_after_the_other_under_twenty_calls",
        ),
    ),
    "E04": Promise(
        says="The service is told session, prompt, system text, history turn by turn, and then audio.",
        tests=(
            _STREAM + "test_history_goes_out_block_by_block_before_the_audio_opens",
            _STREAM + "test_a_stream_that_heard_the_caller_closes_in_order",
            _RULES + "test_a_wrong_order_is_an_invalid_request",
            _RULES + "test_audio_for_a_text_block_is_refused_like_audio_during_history",
        ),
    ),
    "E05": Promise(
        says="The history is sent at every turn.",
        tests=(
            "call/test_handover.py::test_the_new_stream_is_told_what_was_said_and_then_hears_the_caller_without_a_gap",
        ),
        departed="Once to each stream, as the service's own guide has it; the stream remembers.",
    ),
    "E06": Promise(
        says="A history has its turns, the number of the current one, and the ids of its session.",
        tests=(
            "models/test_session_state.py::test_the_defaults_are_the_published_ones",
            "models/test_session_state.py::test_a_state_survives_storage",
        ),
        departed="Under the names of `SessionState`; there are no ids of Bedrock's sessions.",
    ),
    "E07": Promise(
        says="A stream that does not begin a conversation is given its history.",
        tests=(
            _STREAM + "test_history_goes_out_block_by_block_before_the_audio_opens",
            _RESUME + "test_another_process_tells_a_new_stream_all_that_was_said_and_done",
        ),
    ),
    "E08": Promise(
        says="Audio waits until the history is sent.",
        tests=(
            _STREAM + "test_history_goes_out_block_by_block_before_the_audio_opens",
            _RULES + "test_audio_inside_an_open_text_block_is_refused",
        ),
    ),
    "E09": Promise(
        says="A turn that is complete is saved with both transcripts, and counted.",
        tests=(
            "call/test_conversation.py::test_every_final_text_is_saved",
            "call/test_conversation.py::test_the_turns_of_the_caller_are_counted",
        ),
    ),
    "E10": Promise(
        says="A turn is appended to what is stored.",
        tests=(_SAVER + "test_each_item_is_written_once_and_nothing_is_written_without_one",),
        departed="The whole state is written, newest wins: one write repairs whatever went wrong "
        "before it.",
    ),
    "E11": Promise(
        says="What is loaded is what was written.",
        tests=(
            _CONTRACT + "test_what_is_stored_is_retrieved_as_it_was",
            "models/test_session_state.py::test_a_state_survives_storage",
        ),
    ),
    "E12": Promise(
        says="Sessions, invocations and steps are made and read through Bedrock's session API.",
        tests=(
            "session_storage/test_port.py::test_the_rest_of_the_port_works_over_the_six_methods",
        ),
        departed=_BEDROCK_SESSIONS,
    ),
    "E13": Promise(
        says="A client posts the id of a session to go on with it, and learns its status and age.",
        tests=(_ADMIN + "test_a_session_is_looked_up_without_a_word_of_what_was_said",),
        departed="Going on is VoiceAI Connect's `session.resume`; the look-up is GET /sessions/ID.",
    ),
    "E14": Promise(
        says="A client posts that audio begins.",
        tests=("call/test_call.py::test_silence_stands_in_until_the_phone_listens",),
        departed="VoiceAI Connect says so on the websocket, with `userStream.start`.",
    ),
    "E15": Promise(
        says="What was said can be asked for: id, length, and role, text and time of each turn.",
        tests=(
            _ADMIN + "test_a_history_has_the_shape_of_the_recovery_guide",
            _ADMIN + "test_on_an_open_port_all_but_health_and_metrics_needs_the_token",
        ),
        departed="With a token; without the id of a session at Bedrock, which there is not.",
    ),
    "E16": Promise(
        says="The client keeps the id and forgets it at the end.",
        tests=(
            _SERVICE + "test_an_ended_session_is_kept_for_audit_or_removed",
            _SAVER + "test_an_ended_conversation_is_removed_where_the_setting_says_so",
        ),
        departed="VoiceAI Connect keeps it. The end closes the record, or removes it.",
    ),
    "E17": Promise(
        says="It is seen that a conversation was recovered, and how long its history is.",
        tests=(
            _SERVICE + "test_three_cuts_are_counted_as_three",
            _ALERTS + "test_every_outcome_of_a_resume_is_counted_from_zero",
            "services/test_session_manager_service.py::test_a_recovery_is_a_log_line_with_the_length_of_the_history_and_none_of_its_words",
        ),
    ),
    "E18": Promise(
        says="Two tests by hand: kill and restart; a rolling update.",
        departed="They run by themselves.",
        tests=(
            "end_to_end/test_resume.py::test_a_conversation_goes_on_though_its_process_was_killed",
            "end_to_end/test_resume.py::test_three_processes_are_replaced_one_after_the_other_under_twenty_calls",
        ),
    ),
    "E19": Promise(
        says="Keys and region come from the environment.",
        tests=(
            "transports/test_credentials.py::test_keys_of_the_environment_need_no_botocore",
            "test_config.py::test_the_region_comes_from_either_variable",
        ),
    ),
    "E20": Promise(
        says="The model is a setting.",
        tests=(
            "sonic/test_profiles.py::test_the_default_model_and_voice_are_those_of_the_second_generation",
        ),
        departed="By default the present generation, not the first one.",
    ),
    "E21": Promise(
        says="At most 10 sessions at once.",
        tests=(
            _HANDSHAKE + "test_one_call_too_many_is_refused_at_once_and_readyz_says_so",
            _ALERTS + "test_what_turns_callers_away_or_leaves_them_unheard_has_a_rule",
        ),
        departed="20 by default, the account's quota of streams; above it with the reason.",
    ),
    "E22": Promise(
        says="A session is kept for 3600 s.",
        tests=(
            _REDIS + "test_a_session_is_one_hash_under_the_prefix_with_a_time_to_live",
            _SERVICE + "test_a_conversation_expires_an_hour_after_its_last_sign_of_life",
        ),
    ),
    "E23": Promise(
        says="The permissions that are needed at AWS are listed.",
        departed="One action on one model, in the README: sessions are not kept at AWS.",
    ),
    "E24": Promise(
        says="A session expires after 24 hours.",
        tests=(
            _SERVICE + "test_a_conversation_expires_an_hour_after_its_last_sign_of_life",
            _SAVER + "test_a_caller_on_hold_for_hours_keeps_the_session",
        ),
        departed="After `SESSION_TTL` without a sign of life, however long the call.",
    ),
    "E25": Promise(
        says="An id that nobody knows is dropped, and a new conversation begins.",
        tests=(
            _SERVICE + "test_an_unknown_conversation_is_refused",
            _HANDSHAKE + "test_a_resume_of_an_unknown_conversation_is_refused_with_the_reason",
            _SERVER
            + "test_where_it_is_wanted_a_fresh_conversation_begins_but_never_in_anothers_name",
        ),
        departed="Where that is set; by default the tenant's fail-over hears of it.",
    ),
    "E26": Promise(
        says="The history is read again every five turns.",
        tests=(
            _SAVER + "test_a_session_that_another_process_claimed_is_let_go_at_the_next_save",
            _SAVER + "test_what_the_store_lost_is_written_again",
        ),
        departed="Not needed: a session has one owner, who learns at its next sign of life that it "
        "was replaced, or that the store has lost something.",
    ),
    "E27": Promise(
        says="Where nothing can be stored, the call goes on in memory.",
        tests=(
            _SAVER
            + "test_while_the_store_is_down_states_wait_and_the_newest_is_written_when_it_is_back",
            _SAVER + "test_put_never_waits_and_the_newest_of_several_wins",
            "test_server.py::test_a_store_that_is_down_makes_the_bridge_unready_unless_that_is_tolerated",
            _SERVER + "test_while_the_store_is_down_calls_run_on_at_a_signal",
            _SERVER + "test_a_store_that_stands_still_delays_no_audio",
            "end_to_end/test_resume.py::test_a_store_that_stands_still_delays_no_frame_of_the_callers",
            _BENCH + "test_each_promise_can_be_broken",
        ),
    ),
    "E28": Promise(
        says="Any pod can go on with any conversation.",
        tests=(
            _CONTRACT + "test_a_claim_raises_the_epoch_by_one_and_names_the_owner",
            _CONTRACT + "test_whoever_was_replaced_cannot_write_and_its_successor_can",
            _SERVER + "test_another_process_takes_the_call_and_the_old_owner_goes_without_a_word",
        ),
    ),
    "E29": Promise(
        says="What was said is kept for an audit, for a time that is set.",
        tests=(
            _CLI + "test_an_export_is_the_whole_record",
            _CLI + "test_an_exported_file_is_for_its_owner_only_whatever_was_there",
            _CLI + "test_a_deleted_session_is_gone",
        ),
    ),
    "E30": Promise(
        says="The rate of recoveries is measured; under 90 % somebody is called.",
        tests=(
            _ALERTS + "test_the_thresholds_are_those_of_the_recovery_guide",
            _ALERTS + "test_every_label_in_a_rule_is_there_before_anything_happens",
            _SERVICE + "test_three_cuts_are_counted_as_three",
        ),
    ),
    "E31": Promise(
        says="The time to load a history is measured; over 2 s somebody is called.",
        tests=(
            _ALERTS + "test_the_thresholds_are_those_of_the_recovery_guide",
            _ALERTS + "test_every_metric_in_a_rule_is_one_of_ours",
            _SERVER + "test_the_new_stream_is_told_the_conversation_before_it_hears_anything",
            _BENCH + "test_a_long_session_is_loaded_from_a_real_store_long_before_the_alarm",
            _BENCH + "test_each_promise_can_be_broken",
        ),
    ),
    "E32": Promise(
        says="The rate of writes that succeed is measured; under 95 % somebody is called.",
        tests=(
            _ALERTS + "test_the_thresholds_are_those_of_the_recovery_guide",
            _SAVER
            + "test_while_the_store_is_down_states_wait_and_the_newest_is_written_when_it_is_back",
        ),
    ),
}
