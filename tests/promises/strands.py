"""`S`: Strands Agents, session management of the bidirectional agent."""

from __future__ import annotations

from typing import Final

from tests.promises.promise import Promise

_SAVER = "services/test_saver.py::"
_SERVICE = "services/test_session_manager_service.py::"
_CONTRACT = "contract/test_session_storage.py::"
_FILES = "session_storage/test_file_storage.py::"
_REDIS = "session_storage/test_redis_storage.py::"
_STATE = "models/test_session_state.py::"
_HANDOVER = "call/test_handover.py::"
_TALK = "call/test_conversation.py::"
_RESUME = "call/test_resume.py::"
_SERVER = "test_server_resume.py::"

STRANDS: Final[dict[str, Promise]] = {
    "S01": Promise(
        says="The conversation is persisted with the transcripts of what was spoken.",
        tests=(
            _TALK + "test_every_final_text_is_saved",
            _SAVER + "test_every_write_is_done_within_100_ms_of_its_event",
        ),
    ),
    "S02": Promise(
        says="Key-value state of the agent is persisted and restored.",
        tests=(
            _STATE + "test_a_state_survives_storage",
            _RESUME + "test_what_tools_have_noted_is_kept",
            "call/test_telephone.py::test_state_is_restored_in_another_process",
            "test_server_state.py::test_what_tools_and_the_model_keep_they_both_know_in_the_next_process_too",
        ),
    ),
    "S03": Promise(
        says="Connection and configuration are restored: voice, tools, prompt, media format.",
        tests=(
            _STATE + "test_a_state_survives_storage",
            _RESUME + "test_the_restored_stream_is_opened_exactly_like_the_first",
            _RESUME + "test_a_return_without_formats_goes_on_with_those_of_before",
            _SERVER + "test_the_agent_of_before_goes_on_though_its_file_has_changed",
        ),
    ),
    "S04": Promise(
        says="The history of tool calls is restored.",
        tests=(
            "test_function_handler.py::test_a_stored_ledger_is_taken_up",
            "call/test_context.py::test_calls_stand_where_they_were_made",
            _RESUME + "test_another_process_tells_a_new_stream_all_that_was_said_and_done",
            _RESUME + "test_of_a_running_tool_that_may_not_be_run_again_the_outcome_is_unknown",
        ),
        departed="The model gets it as text: the service takes no tool events in a history.",
    ),
    "S05": Promise(
        says="A session's id is unique; whoever uses one again overwrites what was there.",
        tests=(
            _SAVER + "test_of_two_new_calls_with_one_id_the_second_wins_and_nothing_is_mixed",
            _SAVER + "test_two_processes_that_begin_the_same_session_at_once_do_not_mix",
            _SAVER + "test_a_new_call_with_another_tenants_id_is_fenced_and_changes_nothing",
            "end_to_end/test_handshake.py::test_a_second_socket_for_a_call_under_way_is_refused_and_the_call_goes_on",
        ),
        departed="Only within a tenant, and never under a call that is under way.",
    ),
    "S06": Promise(
        says="Sessions can be files in a folder, by default a temporary one.",
        tests=(
            _FILES + "test_a_session_is_one_readable_json_file_that_only_its_owner_may_read",
            _FILES + "test_without_a_directory_it_is_one_in_the_temporary_directory",
            _CONTRACT + "test_what_is_stored_is_retrieved_as_it_was",
        ),
    ),
    "S07": Promise(
        says="Sessions can be objects in a bucket, for several servers.",
        tests=(
            "session_storage/test_port.py::test_the_rest_of_the_port_works_over_the_six_methods",
            _CONTRACT + "test_another_process_sees_what_was_stored",
        ),
        departed="Redis is what several servers share: an object store has no claim that nobody can "
        "divide. Another store is six methods.",
    ),
    "S08": Promise(
        says="A session exists from the first start of its agent on.",
        tests=(
            _SAVER + "test_what_is_put_is_stored_at_once_under_its_tenant_and_owner",
            _RESUME + "test_each_committed_item_is_saved_once_in_the_step_that_brings_it",
            _RESUME + "test_a_session_knows_its_agent_and_its_formats_from_the_first_save",
        ),
    ),
    "S09": Promise(
        says="An agent that starts with the id of a session that exists knows what was said in it.",
        tests=(
            _SERVICE + "test_a_conversation_is_taken_up_by_another_process_with_all_that_was_said",
            _SERVER + "test_the_new_stream_is_told_the_conversation_before_it_hears_anything",
        ),
    ),
    "S10": Promise(
        says="Everything is saved as it comes: both voices, the model's answers, tool calls.",
        tests=(
            _TALK + "test_every_final_text_is_saved",
            _TALK + "test_a_played_sentence_counts_though_its_final_text_never_comes",
            _SAVER + "test_each_item_is_written_once_and_nothing_is_written_without_one",
            _RESUME + "test_each_committed_item_is_saved_once_in_the_step_that_brings_it",
            _RESUME + "test_a_final_text_that_differs_from_the_plan_is_saved",
            "end_to_end/test_resume.py::test_at_a_kill_nothing_is_lost_that_was_said_a_tenth_of_a_second_before",
        ),
    ),
    "S11": Promise(
        says="An event says that the connection to the model is replaced, and why.",
        tests=(
            _HANDOVER + "test_it_is_reported_with_its_figures",
            "bridges/test_reporting.py::test_threshold_preparation_and_switch_are_logged_with_their_numbers",
            "hooks/test_story.py::test_a_change_of_stream_and_a_caller_who_comes_back_are_told",
        ),
        departed="The application learns of it once the new connection is there and the change is "
        "stored: none of its code runs inside a call.",
    ),
    "S12": Promise(
        says="Before that, everything is saved; the new connection is told the whole history.",
        tests=(
            _HANDOVER
            + "test_the_new_stream_is_told_what_was_said_and_then_hears_the_caller_without_a_gap",
            _RESUME + "test_a_change_of_stream_is_saved_before_the_next_stream_is_told_anything",
            "end_to_end/test_resume.py::test_at_a_kill_nothing_is_lost_that_was_said_a_tenth_of_a_second_before",
        ),
    ),
    "S13": Promise(
        says="A hook is called after a message has been persisted.",
        tests=(
            _SAVER
            + "test_a_listener_is_told_of_each_state_once_it_is_stored_and_of_the_one_before",
            "hooks/test_story.py::test_a_turn_is_told_when_nothing_will_be_added_to_it",
            "end_to_end/test_hooks.py::test_a_receiver_that_refuses_twice_gets_every_event_of_a_call_signed_and_after_it_is_stored",
        ),
    ),
    "S14": Promise(
        says="An agent is started, stopped, sent to and received from, or run over inputs and outputs.",
        tests=("bridges/test_base_bridge.py::test_a_whole_call_from_greeting_to_hang_up",),
        departed="A bridge is run: one call over one websocket and its streams.",
    ),
    "S15": Promise(
        says="Sessions of more than 30 days ago are cleaned up.",
        tests=(
            "test_sessions_cli.py::test_clean_up_removes_what_is_older_than_so_many_days",
            _CONTRACT + "test_clean_up_removes_what_has_been_quiet_for_too_long",
            _REDIS + "test_a_session_is_one_hash_under_the_prefix_with_a_time_to_live",
        ),
    ),
    "S16": Promise(
        says="A session that cannot be loaded is replaced by a new one with another id.",
        tests=(
            _SERVICE + "test_data_that_is_no_session_of_ours_cannot_be_resumed_and_is_no_crash",
            _SERVICE + "test_a_damaged_record_gives_way_to_a_new_session",
            _SERVER
            + "test_where_it_is_wanted_a_fresh_conversation_begins_but_never_in_anothers_name",
        ),
        departed="Under the same id, which is VoiceAI Connect's, and only where that is set: by "
        "default the tenant's fail-over hears of it.",
    ),
    "S17": Promise(
        says="A damaged file is removed, and the session begins anew.",
        tests=(
            _FILES + "test_a_file_that_cannot_be_read_is_set_aside_and_counted",
            _REDIS + "test_a_damaged_record_is_set_aside_counted_and_replaced_by_the_next_write",
        ),
        departed="It is set aside, not removed: somebody may want to know what happened to it.",
    ),
    "S18": Promise(
        says="The permissions that the store needs are listed.",
        tests=(
            "test_store.py::test_the_redis_user_of_the_readme_may_do_what_the_store_needs_and_no_more",
        ),
        departed="Those of Redis, in place of those of S3.",
    ),
    "S19": Promise(
        says="A named logger of sessions can be set to debug.",
        tests=("test_admin.py::test_the_documents_loggers_are_set_while_the_process_runs",),
    ),
    "S20": Promise(
        says="Notes on disks, backups, life cycles and costs of what is stored.",
        tests=(_FILES + "test_what_has_run_out_is_removed_while_storing",),
        departed="The README says how long what is kept where; buckets do not come into it.",
    ),
    "S21": Promise(
        says="Its later code: a connection is replaced before the limit, at the end of a turn, for "
        "which it waits a bounded time; what was not heard is replayed, within a bound; a stream that "
        "went silent is replaced; usage is cumulative.",
        tests=(
            _HANDOVER + "test_an_hour_of_silence_is_an_hour_of_streams_below_the_limit",
            "call/test_continuation.py::test_no_stream_waits_for_a_good_moment_longer_than_this",
            "call/test_ring.py::test_the_oldest_leaves_when_the_ring_is_full",
            "call/test_call.py::test_a_caller_whose_audio_stays_away_is_replaced_by_silence",
            "sonic/test_failures.py::test_every_error_that_the_peer_can_show_can_be_survived",
            "bridges/test_base_bridge.py::test_a_service_that_does_not_end_its_stream_holds_nobody_up",
            "sonic/test_reader.py::test_usage_is_reported_as_totals_of_the_stream",
        ),
        departed="With the thresholds of the continuation example; ten seconds of the caller are kept "
        "for a replay, and silence is sent where she says nothing.",
    ),
}
