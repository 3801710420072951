"""`R`: the session-resume document of OpusAgent."""

from __future__ import annotations

from typing import Final

from tests.promises.promise import Promise

_SAVER = "services/test_saver.py::"
_SERVICE = "services/test_session_manager_service.py::"
_CONTRACT = "contract/test_session_storage.py::"
_MEMORY = "session_storage/test_memory_storage.py::"
_REDIS = "session_storage/test_redis_storage.py::"
_CODEC = "session_storage/test_codec.py::"
_STATE = "models/test_session_state.py::"
_ADMIN = "test_admin.py::"
_DOCUMENT = "test_session_resume.py::"
_RESUME = "call/test_resume.py::"
_SERVER = "test_server_resume.py::"

SESSION_RESUME: Final[dict[str, Promise]] = {
    "R01": Promise(
        says="A conversation goes on after a disconnection, a restart or another interruption.",
        tests=(
            _SERVICE + "test_a_conversation_is_taken_up_by_another_process_with_all_that_was_said",
            "bridges/test_attach.py::test_a_call_goes_on_on_another_websocket_and_no_frame_is_lost",
            _RESUME + "test_the_rest_of_a_sentence_is_played_in_a_play_stream_with_a_new_id",
            _SERVER + "test_the_new_stream_is_told_the_conversation_before_it_hears_anything",
        ),
    ),
    "R02": Promise(
        says="A store stores, retrieves, deletes, lists, and cleans up after 3600 s.",
        tests=(
            _CONTRACT + "test_what_is_stored_is_retrieved_as_it_was",
            _CONTRACT + "test_a_deleted_session_is_gone",
            _CONTRACT + "test_all_sessions_are_listed_in_order",
            _CONTRACT + "test_clean_up_removes_what_has_been_quiet_for_too_long",
        ),
    ),
    "R03": Promise(
        says="In memory there is room for 1000 sessions, and a cleaning every 300 s.",
        tests=(
            _MEMORY + "test_the_defaults_are_a_thousand_sessions_and_five_minutes",
            _MEMORY + "test_one_session_too_many_takes_the_place_of_the_quietest",
            _MEMORY + "test_what_has_run_out_is_removed_after_the_interval",
        ),
    ),
    "R04": Promise(
        says="Threads may share it; it cleans up in the background.",
        tests=(
            _MEMORY + "test_threads_may_share_it",
            _CONTRACT + "test_many_tasks_at_once_lose_nothing",
        ),
        departed="It cleans up while it is used: nothing runs where nothing happens.",
    ),
    "R05": Promise(
        says="Redis takes a URL, a prefix, a time to live, a number of connections, and whether to "
        "try again after a timeout and to keep connections alive.",
        tests=(
            _DOCUMENT + "TestRedisSessionStorage::test_store_and_retrieve",
            _REDIS + "test_a_session_is_one_hash_under_the_prefix_with_a_time_to_live",
            _REDIS + "test_no_more_connections_are_open_than_are_allowed",
            _REDIS + "test_a_connection_that_hangs_is_given_up_in_time_for_another_one",
            _REDIS + "test_tcp_looks_after_idle_connections_where_it_is_asked_to",
        ),
    ),
    "R06": Promise(
        says="Connections are pooled and made anew; trouble degrades gracefully.",
        tests=(
            _REDIS + "test_connections_that_are_killed_under_load_lose_no_write",
            _REDIS + "test_a_server_that_is_stopped_is_said_soon_and_its_return_is_noticed",
            _SAVER
            + "test_while_the_store_is_down_states_wait_and_the_newest_is_written_when_it_is_back",
        ),
    ),
    "R07": Promise(
        says="A session's state has the fields and the defaults of the document.",
        tests=(
            _STATE + "test_the_defaults_are_the_published_ones",
            _STATE + "test_a_state_survives_storage",
            _STATE + "test_fields_of_others_are_kept",
            _STATE
            + "test_a_session_of_the_published_shape_is_read_with_what_belongs_to_other_vendors",
            _STATE + "test_a_time_without_a_zone_gets_one_when_it_is_set",
        ),
        departed="The ids of another vendor's model are no fields of their own; they are kept as "
        "whatever else is not known.",
    ),
    "R08": Promise(
        says="It is initiated, active, paused, ended or in error; the last two cannot be resumed.",
        tests=(
            _STATE + "test_a_conversation_that_has_ended_is_not_resumed",
            _SERVICE + "test_a_conversation_that_has_ended_is_refused",
            _SERVICE + "test_a_conversation_in_any_other_status_is_taken_up",
        ),
    ),
    "R09": Promise(
        says="A service creates, resumes, updates, ends and validates sessions.",
        tests=(
            _DOCUMENT + "TestSessionManagerService::test_creation_and_resume",
            _DOCUMENT + "TestSessionManagerService::test_update_and_end",
            _SERVICE + "test_fields_are_changed_by_name_and_checked",
            _SERVICE + "test_sessions_are_listed_deleted_and_cleaned_up",
        ),
    ),
    "R10": Promise(
        says="Each resume is counted.",
        tests=(_SERVICE + "test_three_cuts_are_counted_as_three",),
    ),
    "R11": Promise(
        says="A session that has expired is not resumed.",
        tests=(
            _SERVICE + "test_a_conversation_expires_an_hour_after_its_last_sign_of_life",
            _STATE + "test_a_conversation_expires_by_its_last_activity",
        ),
    ),
    "R12": Promise(
        says="Where it cannot be resumed, a new session begins.",
        tests=(
            _SERVICE + "test_every_refusal_has_words_for_the_peer",
            "end_to_end/test_handshake.py::test_a_resume_of_an_unknown_conversation_is_refused_with_the_reason",
            _SERVER
            + "test_where_it_is_wanted_a_fresh_conversation_begins_but_never_in_anothers_name",
            _SERVER + "test_a_conversation_that_cannot_go_on_is_refused_in_words",
        ),
        departed="Only where that is set. By default it is refused with the reason, because a bot "
        "that has forgotten everything and does not say so is worse than the tenant's fail-over.",
    ),
    "R13": Promise(
        says="The state is updated all the time.",
        tests=(
            _SAVER + "test_every_write_is_done_within_100_ms_of_its_event",
            _SAVER + "test_put_never_waits_and_the_newest_of_several_wins",
            _RESUME + "test_each_committed_item_is_saved_once_in_the_step_that_brings_it",
            "end_to_end/test_resume.py::test_at_a_kill_nothing_is_lost_that_was_said_a_tenth_of_a_second_before",
            "end_to_end/test_resume.py::test_without_saving_a_kill_loses_everything",
        ),
    ),
    "R14": Promise(
        says="A bridge takes a store of sessions.",
        tests=(_SERVER + "test_after_the_grace_a_caller_is_taken_up_from_the_store",),
        departed="It takes the service over the store, under that keyword: one saver for all calls of "
        "a process.",
    ),
    "R15": Promise(
        says="Transcript and function calls are restored, read and cleared.",
        tests=(
            "test_transcript_manager.py::test_stored_turns_are_taken_up_with_all_that_stands_in_them",
            "test_function_handler.py::test_a_stored_ledger_is_taken_up",
            _RESUME + "test_another_process_tells_a_new_stream_all_that_was_said_and_done",
        ),
    ),
    "R16": Promise(
        says="A turn is stored as input or output, with its text.",
        tests=(
            _DOCUMENT + "TestSessionState::test_creation_and_serialisation",
            _SERVICE + "test_what_is_stored_by_hand_can_be_resumed",
        ),
    ),
    "R17": Promise(
        says="Audio is part of the state.",
        tests=(
            _STATE + "test_a_state_survives_storage",
            _RESUME
            + "test_speech_that_nobody_has_answered_is_kept_when_a_call_is_let_go_and_replayed_once",
            _RESUME + "test_without_a_drain_no_sound_is_stored",
        ),
        departed="Only what the caller said and nobody has answered, when a call is let go.",
    ),
    "R18": Promise(
        says="URL, password and database of Redis, time to live, prefix and number of sessions come "
        "from the environment.",
        tests=(
            "test_config.py::test_the_shipped_file_shows_every_setting_with_its_default",
            "test_config.py::test_the_effective_values_are_json_and_hold_no_secret",
            "test_store.py::test_every_setting_of_the_store_reaches_it",
        ),
    ),
    "R19": Promise(
        says="Statistics say how many sessions are stored, and in what.",
        tests=(
            _DOCUMENT + "TestSessionManagerService::test_statistics_and_health",
            _ADMIN + "test_stats_count_the_stored_sessions_and_say_null_where_they_cannot",
            _CONTRACT + "test_the_statistics_name_the_kind_of_store",
        ),
    ),
    "R20": Promise(
        says="The health check writes, reads and deletes.",
        tests=(
            _SERVICE + "test_the_health_check_writes_reads_and_deletes",
            "test_preflight.py::test_the_store_is_written_read_and_cleared",
            "test_server.py::test_a_store_that_is_down_makes_the_bridge_unready_unless_that_is_tolerated",
            _ADMIN + "test_a_bridge_that_cannot_says_why_but_stays_alive",
        ),
    ),
    "R21": Promise(
        says="A session is validated before it is resumed; it expires; Redis asks who comes; what is "
        "stored may be encrypted.",
        tests=(
            _SERVICE + "test_another_tenants_conversation_is_refused_as_if_it_did_not_exist",
            _REDIS + "test_a_wrong_password_is_trouble_and_is_not_shown",
            _REDIS + "test_tls_urls_verify_the_certificate",
            _CODEC + "test_what_is_sealed_shows_nothing_and_never_looks_the_same",
            _CODEC + "test_the_first_key_seals_and_all_of_them_open",
        ),
    ),
    "R22": Promise(
        says="Three loggers can be set to debug by their names.",
        tests=(_ADMIN + "test_the_documents_loggers_are_set_while_the_process_runs",),
    ),
    "R23": Promise(
        says="There are tests of the state, the stores, the service, the parts and the whole.",
        tests=(
            _DOCUMENT + "TestSessionState::test_resume_validation",
            _DOCUMENT + "TestMemorySessionStorage::test_list_active_sessions",
            _DOCUMENT + "TestSessionManagerService::test_an_expired_session_is_not_resumed",
            "test_transcript_manager.py::test_stored_turns_are_taken_up_with_all_that_stands_in_them",
            _RESUME + "test_another_process_tells_a_new_stream_all_that_was_said_and_done",
            "end_to_end/test_resume.py::test_a_conversation_goes_on_though_its_process_was_killed",
        ),
    ),
    "R24": Promise(
        says="Later: databases, analytics, regions, migration, caches, compression, batches, replicas, "
        "shards.",
        tests=(
            _CODEC + "test_a_session_of_40_kilobytes_is_stored_in_less_than_10",
            _SAVER + "test_each_item_is_written_once_and_nothing_is_written_without_one",
            _REDIS + "test_a_cluster_spreads_sessions_and_every_node_tells_of_a_claim",
            _REDIS + "test_a_failover_of_sentinel_is_survived_and_what_was_lost_is_noticed",
        ),
        departed="Compression, one write for several changes, clusters and fail-over are built. A "
        "replica is never read: it may not know of a claim yet.",
    ),
}
