"""Every setting of the program: one model, four sources, errors in words.

Command line over environment over `config/bridge.toml` over default. A setting has one name: in the
environment `PLAY_LEAD_SECONDS`, in the file `play_lead_seconds`, as a flag `--play-lead-seconds`.
Credentials for AWS are not settings: they come from AWS's own chain.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from opusagent.errors import ConfigError
from opusagent.setting_types import (
    LOOPBACK,
    Functions,
    Mounted,
    SigningSecret,
    Token,
    Tokens,
    WebhookUrl,
    https,
    lower,
    one_worker,
    upper,
)

__all__ = ["DEFAULT_FILE", "Settings", "effective", "load", "warnings"]

DEFAULT_FILE = Path("config/bridge.toml")
"""Read when it exists and no other file is named."""

NOVA_HISTORY_BYTES = 40_000
"""What Nova Sonic takes as history of one prompt (Nova 2 user guide, chat history)."""
NOVA_TEXT_BYTES = 1_000
"""What Nova Sonic takes as one text of a history (Nova 2 user guide, chat history)."""
STREAM_LIMIT_S = 480.0
"""Age at which Bedrock ends a stream (Nova 2 user guide: eight minutes)."""
TEN_YEARS_S = 315_360_000
"""Longer, and times of expiry leave the calendar."""

_SECRET = ("token", "secret", "password", "keys", "redis_url", "webhook_url")
"""Settings with one of these in their name are never shown, however wrong they are."""


class Settings(BaseSettings):
    """All settings, checked. Build it with `load`, which says in words what is wrong."""

    model_config = SettingsConfigDict(
        allow_inf_nan=False,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    # The telephone side
    bridge_host: str = Field("0.0.0.0", description="where AudioCodes connects")  # noqa: S104  it serves the outside
    bridge_port: int = Field(8765, ge=0, le=65535, description="its port; 0 takes any free one")
    bridge_token: Token | None = Field(
        None, description="the shared token of the Authorization: Bearer header"
    )
    bridge_tokens: Tokens = Field(
        default={}, description="several tenants: name=token pairs separated by commas"
    )
    bridge_workers: Annotated[int, AfterValidator(one_worker)] = Field(
        1, description="processes sharing the port; only 1"
    )
    bridge_tls_cert: FilePath | None = Field(
        None, description="certificate chain (PEM), to serve wss:// itself"
    )
    bridge_tls_key: FilePath | None = Field(None, description="its private key (PEM)")
    handshake_timeout_seconds: float = Field(
        10.0, gt=0, le=120, description="from the socket's opening to a valid first message"
    )
    session_max_concurrent: int = Field(
        20, ge=1, description="calls at once; Bedrock's default quota of streams is 20"
    )
    drain_seconds: float = Field(
        30.0, ge=0, le=3600, description="from SIGTERM to the process's end, at most"
    )

    # The admin side
    admin_host: str = Field("127.0.0.1", description="where health and metrics are served")
    admin_port: int = Field(8766, ge=0, le=65535, description="its port; 0 takes any free one")
    admin_token: Token | None = Field(
        None,
        description="required for all but health and metrics where the admin host is not loopback",
    )

    # The model
    aws_region: str = Field(
        "us-east-1",
        pattern=r"^[a-z]{2}(-[a-z]+)+-\d+$",
        validation_alias=AliasChoices("aws_region", "aws_default_region"),
        description="region of Bedrock",
    )
    bedrock_model_id: str = Field(
        "amazon.nova-2-sonic-v1:0", min_length=1, description="which Nova Sonic"
    )
    aws_endpoint_url_bedrock_runtime: Annotated[str, AfterValidator(https)] | None = Field(
        None, description="where Bedrock is, when not at AWS"
    )
    aws_ca_bundle: FilePath | None = Field(
        None, description="CA certificates (PEM) for Bedrock, in place of the system's"
    )
    max_chat_history_bytes: int = Field(
        NOVA_HISTORY_BYTES, ge=1_000, description="history that a new stream is told, at most"
    )
    max_single_message_bytes: int = Field(
        NOVA_TEXT_BYTES, ge=100, description="one text of that history, at most"
    )
    audio_buffer_duration_seconds: float = Field(
        10.0, gt=0, le=12, description="caller audio kept for replay, at most 12"
    )

    # Past the eight minutes
    session_limit_seconds: float = Field(
        STREAM_LIMIT_S, gt=0, description="age at which Bedrock ends a stream"
    )
    transition_threshold_seconds: float = Field(
        360.0, gt=0, description="age of a stream at which the next one is prepared"
    )
    audio_start_timeout_seconds: float = Field(
        100.0, ge=0, description="how long after that a good moment to change is waited for"
    )
    next_session_ready_timeout_seconds: float = Field(
        30.0, gt=0, description="a next stream that is not open by then is replaced"
    )
    deaf_after_seconds: float = Field(
        6.0,
        ge=0,
        description="a stream silent so long after the caller spoke is replaced; 0: never",
    )

    # Sessions
    redis_url: Mounted | None = Field(
        None,
        description="redis://, rediss://, redis+sentinel:// or redis+cluster:// store of sessions",
    )
    redis_password: Mounted | None = Field(None, description="its password, if not in the URL")
    redis_db: int = Field(0, ge=0, description="its database, if not in the URL")
    session_store_dir: Path | None = Field(
        None, description="folder of sessions, where there is no redis_url"
    )
    session_ttl: int = Field(
        3600,
        ge=1,
        le=TEN_YEARS_S,
        validation_alias=AliasChoices("session_ttl", "session_timeout"),
        description="seconds after which a conversation without a sign of life is forgotten",
    )
    session_prefix: str = Field("opusagent:session:", description="begins every key in Redis")
    max_sessions: int = Field(10_000, ge=1, description="sessions kept at once, at most")
    session_compression: bool = Field(default=False, description="compress stored sessions")
    session_encryption_keys: SecretStr | None = Field(
        None, description="32 bytes in base64 each, comma-separated; the first one encrypts"
    )
    resume_grace_seconds: float = Field(
        60.0, ge=0, le=3600, description="how long a call without its socket keeps its stream"
    )
    on_unknown_session: Annotated[Literal["refuse", "fresh"], BeforeValidator(lower)] = Field(
        "refuse", description="a caller who comes back to nothing: refuse, or begin fresh"
    )
    keep_ended_sessions: bool = Field(
        default=True, description="keep the record of an ended conversation until its TTL"
    )
    ready_without_store: bool = Field(
        default=False, description="keep /readyz green while the configured store is down"
    )

    # Recordings
    enable_session_recording: bool = Field(
        default=False, description="record every call: sound, events, transcript"
    )
    recording_output_dir: Path = Field(
        Path("session_recordings"), description="where recordings go, a folder for each call"
    )

    # How a call behaves
    agent_config_dir: Path = Field(
        Path("config/agents"), description="one TOML file per agent, read again when it changes"
    )
    play_lead_seconds: float = Field(
        0.3, gt=0, le=5, description="how far bot audio runs ahead of real time"
    )
    barge_in: bool = Field(default=True, description="let the caller interrupt the bot")
    barge_in_on_dtmf: bool = Field(default=True, description="a pressed key interrupts the bot")
    abort_prompts: bool = Field(
        default=True, description="send abortPrompts at an interruption, so that VAIC falls silent"
    )
    dtmf_pause_seconds: float = Field(
        1.0, ge=0, le=30, description="digits closer together than this become one text"
    )
    speech_threshold_rms: int = Field(
        300, ge=1, le=32767, description="caller audio louder than this counts as speech"
    )

    # Events for applications
    event_hooks: Functions = Field(
        default=(), description="Python functions told of calls: module:function, with commas"
    )
    webhook_url: WebhookUrl | None = Field(None, description="where events of calls are posted to")
    webhook_secret: SigningSecret | None = Field(
        None, description="what they are signed with; 16 characters or more, or whsec_ and base64"
    )
    webhook_include_text: bool = Field(
        default=False, description="what was said, and arguments and results of tools, in webhooks"
    )
    webhook_include_numbers: bool = Field(
        default=False, description="who called which number, in webhooks"
    )
    webhook_timeout_seconds: float = Field(
        5.0, gt=0, le=30, description="what the receiver may take for an answer"
    )
    webhook_retry_seconds: float = Field(
        300.0, ge=0, le=86_400, description="how long an event is posted again until it is taken"
    )
    event_queue_size: int = Field(
        1_000, ge=1, description="events that may wait for each function and the webhook"
    )

    # Logs
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(upper)] = (
        Field("INFO", description="the least level that is logged")
    )
    log_format: Annotated[Literal["json", "console"], BeforeValidator(lower)] | None = Field(
        None, description="default: json when not on a terminal, else console"
    )
    log_transitions: bool = Field(default=True, description="log each change of stream")
    log_barge_in_events: bool = Field(default=True, description="log each interruption")
    log_audio_events: bool = Field(default=False, description="log what happens to audio")
    log_private: bool = Field(
        default=False, description="callers' words and numbers in logs; off in production"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if (self.bridge_tls_cert is None) != (self.bridge_tls_key is None):
            raise ValueError("BRIDGE_TLS_CERT and BRIDGE_TLS_KEY belong together: set both or none")
        if (self.webhook_url is None) != (self.webhook_secret is None):
            raise ValueError("WEBHOOK_URL and WEBHOOK_SECRET belong together: set both or none")
        tokens = [token.get_secret_value() for token in self.bridge_tokens.values()]
        if self.bridge_token:
            tokens.append(self.bridge_token.get_secret_value())
        if len(set(tokens)) != len(tokens):
            raise ValueError("BRIDGE_TOKENS: each name needs a token of its own")
        if self.transition_threshold_seconds > self.oldest_stream_seconds:
            raise ValueError(
                f"TRANSITION_THRESHOLD_SECONDS: at most {self.oldest_stream_seconds:g} with "
                f"SESSION_LIMIT_SECONDS {self.session_limit_seconds:g}, "
                f"not {self.transition_threshold_seconds:g}"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only: `Settings()` is the defaults on every machine; `load` reads the sources."""
        return (init_settings,)

    def tenants(self) -> dict[str, str]:
        """Name -> token in clear. The token of `BRIDGE_TOKEN` has the empty name; empty: no check."""
        named = {name: token.get_secret_value() for name, token in self.bridge_tokens.items()}
        return named | ({"": self.bridge_token.get_secret_value()} if self.bridge_token else {})

    @property
    def history_bytes(self) -> int:
        """How much history goes on the wire: the setting, at most what Nova Sonic takes."""
        return min(self.max_chat_history_bytes, NOVA_HISTORY_BYTES)

    @property
    def history_text_bytes(self) -> int:
        """How long one text of the history is on the wire, at most what Nova Sonic takes."""
        return min(self.max_single_message_bytes, NOVA_TEXT_BYTES)

    @property
    def oldest_stream_seconds(self) -> float:
        """Age by which a stream has been replaced: 10 s before its limit, a tenth before a short one."""
        return self.session_limit_seconds - min(10.0, self.session_limit_seconds / 10)

    @property
    def admin_is_local(self) -> bool:
        """Whether only this machine can reach the admin port."""
        return self.admin_host in LOOPBACK


def load(flags: Mapping[str, Any] | None = None, *, file: Path | None = None) -> Settings:
    """The settings in force: `flags` over the environment over the file over the defaults.

    An empty text stands for the default, wherever it is set.

    Args:
        flags: Values from the command line by field name; `None` means not given.
        file: A TOML file that must exist; without it `config/bridge.toml` is read if it is there.

    Raises:
        ConfigError: A file that cannot be read, an unknown key in it, or a wrong value. The message
            names the key, where it was set, the value (never a secret) and what is allowed.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    environment = EnvSettingsSource(Settings)()
    path = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    from_file = _read(path) if path else {}
    values = from_file | environment | given
    try:
        return Settings(**{name: value for name, value in values.items() if value != ""})
    except OSError as error:  # a file that we may not even look for
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    except ValidationError as error:
        problems = []
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0]) if detail["loc"] else ""
            if name in given:
                place = f"--{name.replace('_', '-')}"
            elif name in environment:
                place = name.upper()
            else:
                place = f"{path}: {name}" if path else name.upper()
            problems.append(
                f"{place}: {_in_words(name, detail)}" if name else _in_words(name, detail)
            )
        raise ConfigError("; ".join(problems)) from None


def effective(settings: Settings) -> dict[str, Any]:
    """Every setting as it is in force, JSON-ready; a token shows only that it is set, or its name."""
    return settings.model_dump(mode="json")


def warnings(settings: Settings) -> list[str]:
    """What works but should be known at the start, one sentence each."""
    found = []
    if not settings.tenants():
        found.append("BRIDGE_TOKEN is not set: anybody who reaches the port can open calls")
    if settings.max_chat_history_bytes > NOVA_HISTORY_BYTES:
        found.append(f"MAX_CHAT_HISTORY_BYTES: Nova Sonic takes {NOVA_HISTORY_BYTES}; that is used")
    if settings.max_single_message_bytes > NOVA_TEXT_BYTES:
        found.append(f"MAX_SINGLE_MESSAGE_BYTES: Nova Sonic takes {NOVA_TEXT_BYTES}; that is used")
    if settings.session_limit_seconds > STREAM_LIMIT_S:
        found.append(f"SESSION_LIMIT_SECONDS: Bedrock ends a stream after {STREAM_LIMIT_S:g} s")
    if settings.enable_session_recording:
        found.append(f"Every call is recorded in {settings.recording_output_dir}")
    if settings.webhook_url and settings.webhook_include_text:
        found.append("WEBHOOK_INCLUDE_TEXT is on: webhooks hold what callers say")
    if settings.log_private:
        found.append("LOG_PRIVATE is on: the log holds callers' words and numbers")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    for key in values:
        if key not in Settings.model_fields:
            near = difflib.get_close_matches(key.lower(), Settings.model_fields, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{path}: unknown key {key}{hint}")
    return values


def _in_words(name: str, detail: ErrorDetails) -> str:
    reason = detail["msg"].removeprefix("Value error, ")
    if not name or any(word in name for word in _SECRET):
        return reason
    return f"{reason}, not {detail['input']!r}"
