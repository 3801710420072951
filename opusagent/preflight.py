"""Could a call be taken? One finding a line, none of which opens a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from opusagent.agents.files import AgentDirectory
from opusagent.clock import SystemClock
from opusagent.config import Settings, warnings
from opusagent.errors import ConfigError
from opusagent.recording import prepare
from opusagent.session_storage.opening import StorageSettings
from opusagent.sonic.profiles import PROFILES, Profile
from opusagent.transports.bedrock import BedrockConnector
from opusagent.transports.credentials import Credentials
from opusagent.transports.reachability import Problem, why_unreachable

__all__ = [
    "Finding",
    "bedrock_problem",
    "bedrock_url",
    "check",
    "make_connector",
    "model_doubts",
    "storage_settings",
    "voice_doubts",
]

_REGIONS: Final[Mapping[str, frozenset[str]]] = {
    "v1": frozenset({"us-east-1", "ap-northeast-1", "eu-north-1"}),
    "nova-2": frozenset({"us-east-1", "us-west-2", "ap-northeast-1", "eu-north-1"}),
}
"""Where each generation is, by its profile; 2.5 is too new for a list. Source: Amazon Bedrock user guide,
supported Regions and models."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it works, and what was found."""

    what: str
    ok: bool
    found: str


def bedrock_url(settings: Settings) -> str:
    """Where Bedrock is for these settings."""
    regional = f"https://bedrock-runtime.{settings.aws_region}.amazonaws.com"
    return settings.aws_endpoint_url_bedrock_runtime or regional


def storage_settings(settings: Settings) -> StorageSettings:
    """What the store of sessions is opened with."""

    def clear(secret: SecretStr | None) -> str:
        return "" if secret is None else secret.get_secret_value()

    return StorageSettings(
        redis_url=clear(settings.redis_url),
        redis_password=clear(settings.redis_password),
        redis_db=settings.redis_db,
        session_ttl=settings.session_ttl,
        session_prefix=settings.session_prefix,
        max_sessions=settings.max_sessions,
        session_store_dir=settings.session_store_dir,
        session_compression=settings.session_compression,
        session_encryption_keys=clear(settings.session_encryption_keys),
    )


def make_connector(settings: Settings, credentials: Credentials) -> BedrockConnector:
    """What opens the streams for these settings.

    Raises:
        ConfigError: If the certificates of `AWS_CA_BUNDLE` cannot be used.
    """
    return BedrockConnector(
        region=settings.aws_region,
        model_id=settings.bedrock_model_id,
        credentials=credentials,
        utcnow=SystemClock().utcnow,
        endpoint=settings.aws_endpoint_url_bedrock_runtime,
        ca_file=settings.aws_ca_bundle,
    )


async def bedrock_problem(settings: Settings, connector: BedrockConnector) -> Problem | None:
    """Why streams cannot be connected now, as far as a TLS handshake shows it; bounded."""
    url = bedrock_url(settings)
    problem = await why_unreachable(url, ca_file=settings.aws_ca_bundle)
    if problem is not None and problem.lasts and await connector.handshake(url):
        return (
            None  # Python looks for the system's certificates where it has none; streams find them
        )
    return problem


async def check(settings: Settings) -> list[Finding]:
    """Look at everything that a call needs."""
    findings = [Finding("configuration", True, _and(warnings(settings) + model_doubts(settings)))]
    try:
        agents = AgentDirectory.load(settings.agent_config_dir)
        found = [", ".join(agents.names), *voice_doubts(settings, agents)]
        findings.append(Finding("agents", True, _and(found)))
    except ConfigError as error:
        findings.append(Finding("agents", False, str(error)))
    if settings.enable_session_recording:
        try:
            prepare(settings.recording_output_dir)
            findings.append(Finding("recordings", True, str(settings.recording_output_dir)))
        except ConfigError as error:
            findings.append(Finding("recordings", False, str(error)))
    credentials = Credentials(utcnow=SystemClock().utcnow)
    try:
        findings.append(Finding("credentials", True, await credentials.check()))
    except ConfigError as error:
        findings.append(Finding("credentials", False, str(error).removeprefix("AWS credentials: ")))
    try:
        connector = make_connector(settings, credentials)
        await connector.prepare()
        problem = await bedrock_problem(settings, connector)
        url = bedrock_url(settings)
        found_there = f"{url} answers" if problem is None else problem.words
        findings.append(Finding("Bedrock", problem is None, found_there))
    except ConfigError as error:
        findings.append(Finding("Bedrock", False, str(error)))
    return findings


def model_doubts(settings: Settings) -> list[str]:
    """What is not known of the model and its region, one sentence each; new ones appear, so no errors."""
    profile = _profile_of(settings)
    if profile is None:
        known = ", ".join(sorted(profile.model_id for profile in PROFILES.values()))
        return [f"BEDROCK_MODEL_ID: {settings.bedrock_model_id} is not known here; known: {known}"]
    regions = _REGIONS.get(profile.name, frozenset())
    is_elsewhere = settings.aws_endpoint_url_bedrock_runtime is not None
    if not regions or is_elsewhere or settings.aws_region in regions:
        return []
    known = ", ".join(sorted(regions))
    where = f"{profile.model_id} is not known to be in {settings.aws_region}; known: {known}"
    return [f"AWS_REGION: {where}"]


def voice_doubts(settings: Settings, agents: AgentDirectory) -> list[str]:
    """Which agents have a voice that the model is not known to have, one sentence each."""
    profile = _profile_of(settings)
    if profile is None:
        return []
    return [
        f"agent {name}: {profile.model_id} is not known to have the voice {agent.voice};"
        f" known: {', '.join(sorted(profile.voices))}"
        for name, agent in map(agents.pick, agents.names)
        if agent.voice not in profile.voices
    ]


def _profile_of(settings: Settings) -> Profile | None:
    """The model's generation; an inference profile's id has the model's in it."""
    for profile in PROFILES.values():
        if profile.model_id in settings.bedrock_model_id:
            return profile
    return None


def _and(sentences: list[str]) -> str:
    return "; ".join(sentences) or "no objections"
