import json
import re
import tomllib
from pathlib import Path

import pytest

from opusagent.config import Settings, effective, load, warnings
from opusagent.errors import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine, and a working directory without `config/bridge.toml`."""
    for name in [*Settings.model_fields, "aws_default_region"]:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load().play_lead_seconds == 0.3
    file = toml(tmp_path, "play_lead_seconds = 0.1")
    assert load(file=file).play_lead_seconds == 0.1
    monkeypatch.setenv("PLAY_LEAD_SECONDS", "0.2")
    assert load(file=file).play_lead_seconds == 0.2
    assert load({"play_lead_seconds": "0.4"}, file=file).play_lead_seconds == 0.4


def test_a_flag_that_was_not_given_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_PORT", "9000")
    assert load({"bridge_port": None}).bridge_port == 9000


def test_an_empty_environment_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "")
    monkeypatch.setenv("BRIDGE_TOKEN", "")
    assert load().aws_region == "us-east-1"
    assert load().bridge_token is None


def test_so_does_an_empty_text_in_the_file_or_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = toml(tmp_path, 'session_store_dir = ""\nbridge_tls_cert = ""\nbridge_port = 9000')
    assert load(file=file) == load({"bridge_port": 9000})
    monkeypatch.setenv("SESSION_STORE_DIR", "sessions")
    assert load({"session_store_dir": ""}, file=file).session_store_dir is None


def test_the_file_beside_the_program_is_read_without_being_named(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "bridge.toml").write_text("bridge_port = 9001", encoding="utf-8")
    assert load().bridge_port == 9001


def test_defaults_alone_come_from_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_PORT", "9000")
    assert Settings().bridge_port == 8765


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-north-1"}, "eu-north-1"),
        ({"AWS_REGION": "us-gov-west-1"}, "us-gov-west-1"),
    ],
)
def test_the_region_comes_from_either_variable(
    variables: dict[str, str], region: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load(file=toml(tmp_path, 'aws_region = "us-west-2"')).aws_region == region


def test_the_region_in_the_file_is_used_when_the_environment_has_none(tmp_path: Path) -> None:
    assert load(file=toml(tmp_path, 'aws_region = "us-west-2"')).aws_region == "us-west-2"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load(file=tmp_path / "nowhere.toml")


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"my\.toml: is not TOML"):
        load(file=toml(tmp_path, "bridge_port: 1"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bridge_prot = 1", "unknown key bridge_prot; did you mean bridge_port?"),
        ("BRIDGE_PORT = 1", "unknown key BRIDGE_PORT; did you mean bridge_port?"),
        ("[bridge]\nport = 1", "unknown key bridge"),
    ],
)
def test_an_unknown_key_in_the_file_is_an_error(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(file=toml(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("bridge_port", "eight", ["--bridge-port", "integer", "'eight'"]),
        ("bridge_port", "70000", ["less than or equal to 65535", "'70000'"]),
        ("bridge_workers", "2", ["--bridge-workers", "only 1", "not built", "'2'"]),
        ("log_level", "loud", ["'DEBUG', 'INFO', 'WARNING' or 'ERROR'", "'LOUD'"]),
        ("log_format", "xml", ["'json' or 'console'"]),
        ("play_lead_seconds", "0", ["greater than 0"]),
        ("play_lead_seconds", "nan", ["finite"]),
        ("aws_region", "Frankfurt", ["--aws-region", "'Frankfurt'"]),
        ("aws_endpoint_url_bedrock_runtime", "http://x", ["https://HOST[:PORT]", "'http://x'"]),
        ("aws_endpoint_url_bedrock_runtime", "https://u:p@x", ["https://HOST[:PORT]"]),
        ("aws_endpoint_url_bedrock_runtime", "https://x:99999", ["https://HOST[:PORT]", "99999"]),
        ("aws_endpoint_url_bedrock_runtime", "https://x:port", ["https://HOST[:PORT]", ":port'"]),
        ("aws_endpoint_url_bedrock_runtime", "https://a..b", ["https://HOST[:PORT]", "a..b"]),
        ("session_ttl", "9999999999999", ["less than or equal to 315360000", "9999999999999"]),
        ("aws_ca_bundle", "/no/such.pem", ["does not point to a file", "'/no/such.pem'"]),
        ("barge_in", "perhaps", ["boolean", "'perhaps'"]),
        ("audio_buffer_duration_seconds", "13", ["less than or equal to 12", "'13'"]),
        ("transition_threshold_seconds", "0", ["greater than 0"]),
        ("next_session_ready_timeout_seconds", "0", ["greater than 0"]),
        ("audio_start_timeout_seconds", "-1", ["greater than or equal to 0"]),
        ("session_limit_seconds", "nan", ["finite"]),
        ("deaf_after_seconds", "-1", ["greater than or equal to 0"]),
        ("log_transitions", "maybe", ["--log-transitions", "boolean"]),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_allowed(
    name: str, value: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: value})
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_wrong_value_is_named_as_its_source_spells_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = toml(tmp_path, "bridge_port = -1")
    with pytest.raises(ConfigError, match=r"my\.toml: bridge_port: .* not -1"):
        load(file=file)
    monkeypatch.setenv("BRIDGE_PORT", "-2")
    with pytest.raises(ConfigError, match=r"^BRIDGE_PORT: .* not '-2'"):
        load(file=file)


def test_several_tenants_are_read_from_one_variable() -> None:
    settings = load({"bridge_tokens": " north = abc== , south=x=y ,", "bridge_token": "plain"})
    assert settings.tenants() == {"north": "abc==", "south": "x=y", "": "plain"}


def test_several_tenants_are_read_from_a_table_in_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, '[bridge_tokens]\nnorth = "abc"')
    assert load(file=file).tenants() == {"north": "abc"}


@pytest.mark.parametrize(
    "pairs", ["hunter2", "=hunter2", "north=", "north=hunter2,north=other", "a=hunter2,b=hunter2"]
)
def test_wrong_tokens_are_refused_without_being_shown(pairs: str) -> None:
    with pytest.raises(ConfigError, match=r"(?i)bridge.tokens: ") as caught:
        load({"bridge_tokens": pairs})
    assert "hunter2" not in str(caught.value)


SECRET = {"webhook_secret": "sixteen letters!"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"webhook_url": "http://crm.example/x"} | SECRET, "--webhook-url: must be https://HOST"),
        ({"webhook_url": "https://me:hunter2@crm.example/"} | SECRET, "--webhook-url: must be"),
        ({"webhook_url": "https://crm.example:99999/hunter2"} | SECRET, "--webhook-url: must be"),
        ({"webhook_url": "hunter2"} | SECRET, "--webhook-url: must be"),
        ({"webhook_url": "https://crm.example/"}, "WEBHOOK_URL and WEBHOOK_SECRET belong together"),
        (SECRET, "WEBHOOK_URL and WEBHOOK_SECRET belong together"),
        ({"webhook_secret": "hunter2"}, "--webhook-secret: must have 16 characters"),
        (
            {"webhook_secret": "whsec_hunter2*"},
            "--webhook-secret: what follows whsec_ is not base64",
        ),
        ({"event_hooks": "my_app"}, "--event-hooks: 'my_app' is not module:function"),
        ({"event_hooks": "a:b, c d:e"}, "--event-hooks: 'c d:e' is not module:function"),
        ({"webhook_timeout_seconds": "31"}, "--webhook-timeout-seconds: "),
        ({"event_queue_size": "0"}, "--event-queue-size: "),
    ],
)
def test_a_receiver_of_events_that_cannot_be_is_refused_without_its_secrets(
    settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        load(settings)
    assert "hunter2" not in str(caught.value)


def test_receivers_of_events_are_read_from_every_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load().event_hooks == ()
    monkeypatch.setenv("EVENT_HOOKS", " a.b:c , d.py:e ,")
    assert load().event_hooks == ("a.b:c", "d.py:e")
    monkeypatch.delenv("EVENT_HOOKS")
    file = toml(tmp_path, 'event_hooks = ["a:b"]\nwebhook_url = "http://localhost:1/x"')
    settings = load(SECRET, file=file)
    assert settings.event_hooks == ("a:b",)
    shown = json.dumps(effective(settings))
    assert "localhost" not in shown
    assert "sixteen" not in shown


def test_a_webhook_with_texts_is_pointed_out() -> None:
    plain = {"bridge_token": "x", "webhook_url": "https://crm.example/"} | SECRET
    assert warnings(load(plain)) == []
    (said,) = warnings(load(plain | {"webhook_include_text": "true"}))
    assert said.startswith("WEBHOOK_INCLUDE_TEXT is on")


def test_a_blank_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="--bridge-token: must not be blank"):
        load({"bridge_token": "  "})


def test_the_newline_of_a_mounted_secret_is_no_part_of_a_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BRIDGE_TOKEN", "hunter2\n")
    monkeypatch.setenv("ADMIN_TOKEN", " hunter3\r\n")
    settings = load(file=toml(tmp_path, '[bridge_tokens]\nnorth = "hunter4\\n"'))
    assert settings.tenants() == {"north": "hunter4", "": "hunter2"}
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == "hunter3"


def test_nor_is_it_of_other_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "redis_url": "redis://127.0.0.1:6379/0",
        "redis_password": "two words ",
        "webhook_url": "https://example.com/hook",
        "webhook_secret": "sixteen characters",
    }
    for name, secret in secrets.items():
        monkeypatch.setenv(name.upper(), f"{secret}\r\n")
    settings = load()
    found = {name: getattr(settings, name).get_secret_value() for name in secrets}
    assert found == secrets


@pytest.mark.parametrize("token", ["schlüssel", "pass\u200bword", "two\nlines", "nul\0"])
@pytest.mark.parametrize("name", ["bridge_token", "admin_token", "bridge_tokens"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_shown(
    name: str, token: str
) -> None:
    value = f"north=fine,south={token}" if name == "bridge_tokens" else token
    with pytest.raises(ConfigError) as caught:
        load({name: value})
    place = f"--{name.replace('_', '-')}"
    assert f"{place}: must be printable ASCII" in str(caught.value)
    assert token not in str(caught.value)


def test_two_tenants_whose_tokens_differ_in_a_newline_have_the_same_one() -> None:
    with pytest.raises(ConfigError, match="each name needs a token of its own"):
        load({"bridge_tokens": "north=hunter2", "bridge_token": "hunter2\n"})


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BRIDGE_TLS_CERT and BRIDGE_TLS_KEY belong together"):
        load({"bridge_tls_cert": str(toml(tmp_path, ""))})


def test_the_effective_values_are_json_and_hold_no_secret() -> None:
    settings = load(
        {"bridge_token": "hunter2", "admin_token": "hunter3", "bridge_tokens": "north=hunter4"}
    )
    shown = effective(settings)
    assert "hunter" not in json.dumps(shown)
    assert "hunter" not in repr(settings)
    assert shown["bridge_tokens"] == ["north"]
    assert set(shown) == set(Settings.model_fields)


def test_what_nova_cannot_take_is_cut_to_its_limit_with_a_warning() -> None:
    settings = load({"max_chat_history_bytes": 204_800, "max_single_message_bytes": 51_200})
    assert settings.history_bytes == 40_000
    assert settings.history_text_bytes == 1_000
    said = " ".join(warnings(settings))
    assert "MAX_CHAT_HISTORY_BYTES" in said
    assert "MAX_SINGLE_MESSAGE_BYTES" in said


def test_the_defaults_are_those_of_the_session_continuation_sample() -> None:
    settings = load()
    assert settings.transition_threshold_seconds == 360
    assert settings.audio_start_timeout_seconds == 100
    assert settings.next_session_ready_timeout_seconds == 30
    assert settings.audio_buffer_duration_seconds == 10
    assert settings.session_limit_seconds == 480
    assert settings.recording_output_dir == Path("./session_recordings")
    assert not settings.enable_session_recording  # unlike the sample: this is a telephone


def test_the_sample_s_setting_for_tests_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSITION_THRESHOLD_SECONDS", "10")
    monkeypatch.setenv("AUDIO_BUFFER_DURATION_SECONDS", "10")
    settings = load()
    assert settings.transition_threshold_seconds == 10
    assert settings.audio_buffer_duration_seconds == 10


@pytest.mark.parametrize(("limit", "oldest"), [(480, 470), (90, 81), (100, 90), (20, 18)])
def test_a_threshold_that_leaves_no_time_before_the_limit_is_refused_in_words(
    limit: float, oldest: float
) -> None:
    times = {"session_limit_seconds": limit, "transition_threshold_seconds": oldest}
    assert load(times).oldest_stream_seconds == oldest
    with pytest.raises(ConfigError) as caught:
        load(times | {"transition_threshold_seconds": oldest + 0.5})
    assert str(caught.value) == (
        f"TRANSITION_THRESHOLD_SECONDS: at most {oldest} with SESSION_LIMIT_SECONDS {limit}, "
        f"not {oldest + 0.5}"
    )


def test_a_limit_beyond_bedrock_s_and_a_recording_are_pointed_out() -> None:
    plain = {"bridge_token": "x"}
    (said,) = warnings(load(plain | {"session_limit_seconds": 600}))
    assert said == "SESSION_LIMIT_SECONDS: Bedrock ends a stream after 480 s"
    (said,) = warnings(load(plain | {"enable_session_recording": "true"}))
    assert said == "Every call is recorded in session_recordings"


def test_a_bridge_without_a_token_warns() -> None:
    assert any("BRIDGE_TOKEN is not set" in words for words in warnings(Settings()))
    assert warnings(load({"bridge_token": "x"})) == []


def test_the_admin_port_knows_whether_it_is_local() -> None:
    assert load().admin_is_local
    assert not load({"admin_host": "0.0.0.0"}).admin_is_local


def test_the_shipped_file_shows_every_setting_with_its_default() -> None:
    text = (ROOT / "config" / "bridge.toml").read_text(encoding="utf-8")
    shown = tomllib.loads("\n".join(re.findall(r"^# ([a-z_]+ = .*)$", text, re.MULTILINE)))
    defaults = Settings().model_dump(mode="json")
    assert shown == {
        name: value or "" if value in (None, []) else value for name, value in defaults.items()
    }
    assert tomllib.loads(text) == {}


def test_the_lines_of_the_shipped_file_may_be_used_as_they_stand(tmp_path: Path) -> None:
    text = (ROOT / "config" / "bridge.toml").read_text(encoding="utf-8")
    lines = "\n".join(re.findall(r"^# ([a-z_]+ = .*)$", text, re.MULTILINE))
    assert load(file=toml(tmp_path, lines)) == Settings()


def test_a_file_that_cannot_even_be_looked_for_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"^/x+: File name too long$"):
        load({"aws_ca_bundle": f"/{'x' * 300}"})  # as with PermissionError of its folder
