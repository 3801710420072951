"""Could a call be taken? One finding a line, none of which opens a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opusagent.agents import AgentDirectory, AgentFolder
from opusagent.agents.files import check_entries
from opusagent.call import functions
from opusagent.clock import SystemClock
from opusagent.config import Settings, warnings
from opusagent.errors import ConfigError
from opusagent.hooks.hub import described
from opusagent.recording import prepare
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.session_storage.opening import open_storage
from opusagent.sonic.languages import LANGUAGES, POLYGLOT
from opusagent.sonic.profiles import PROFILES, Profile
from opusagent.store import storage_place, storage_settings
from opusagent.tools.toolbox import Toolbox
from opusagent.transports.bedrock import BedrockConnector
from opusagent.transports.certificate import server_tls
from opusagent.transports.credentials import Credentials
from opusagent.transports.reachability import Problem, why_unreachable

__all__ = [
    "Finding",
    "bedrock_problem",
    "bedrock_url",
    "check",
    "make_connector",
    "model_doubts",
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
    findings += [*_certificate(settings), *await _agents(settings), *_events(settings)]
    if settings.enable_session_recording:
        try:
            prepare(settings.recording_output_dir)
            findings.append(Finding("recordings", True, str(settings.recording_output_dir)))
        except ConfigError as error:
            findings.append(Finding("recordings", False, str(error)))
    findings.append(await _store(settings))
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


def _certificate(settings: Settings) -> list[Finding]:
    """Whether `wss://` can be served, if it is to be."""
    if settings.bridge_tls_cert is None:
        return []
    try:
        server_tls(settings.bridge_tls_cert, settings.bridge_tls_key)
    except ConfigError as error:
        return [Finding("certificate", False, str(error))]
    return [Finding("certificate", True, str(settings.bridge_tls_cert))]


async def _agents(settings: Settings) -> list[Finding]:
    """Who answers, and with which tools; a line for each file that cannot be used."""
    try:
        agents = AgentFolder(settings.agent_config_dir).look()
        if agents.problems:
            return [Finding("agents", False, problem) for problem in agents.problems.values()]
        told = _and([", ".join(agents.names), *voice_doubts(settings, agents)])
        return [Finding("agents", True, told), *await _tools(agents)]
    except ConfigError as error:
        return [Finding("agents", False, str(error))]


async def _tools(agents: AgentDirectory) -> list[Finding]:
    """What each agent can do, as the model is told of it; MCP servers are asked for their tools."""
    findings = []
    async with Toolbox({name: agent.tools for name, agent in agents.agents.items()}) as toolbox:
        for problem in toolbox.unloaded.values():
            found = f"{problem}; in the process of the tools, where it is loaded as well"
            findings.append(Finding("tools", False, found))
        for name in agents.names:
            for spec in (*toolbox.of(name).specs, *functions.specs(agents.agents[name])):
                told = f"{spec.description.partition('\n')[0]} {json.dumps(spec.input_schema)}"
                findings.append(Finding(f"tool {spec.name} of {name}", True, told))
            known = {spec.name: spec for spec in toolbox.of(name).specs}
            try:
                check_entries(agents.agents[name], known, all_known=not toolbox.away(name))
            except ConfigError as error:
                findings.append(Finding(f"digits of {name}", False, str(error)))
            for server, problem in toolbox.away(name).items():
                found = f"{problem}; calls are taken all the same, without its tools"
                findings.append(Finding(f"MCP server {server} of {name}", True, found))
            for server, missing in toolbox.lacking(name).items():
                found = f"has no {', '.join(missing)}, which only or repeatable names"
                findings.append(Finding(f"MCP server {server} of {name}", True, found))
    return findings


def _events(settings: Settings) -> list[Finding]:
    """Who is told of calls, if anybody is; nothing is sent."""
    try:
        told = described(settings)
    except ConfigError as error:
        return [Finding("events", False, str(error))]
    return [Finding("events", True, told)] if told else []


async def _store(settings: Settings) -> Finding:
    """Which store of sessions, and whether it can be written, read and cleared."""
    what = "session store"
    kept_in = storage_settings(settings)
    try:
        storage = open_storage(kept_in)
    except ConfigError as error:
        return Finding(what, False, str(error))
    if not kept_in.outlives_us:
        found = "memory: sessions die with the process; set REDIS_URL or SESSION_STORE_DIR"
        return Finding(what, True, found)
    try:
        health = await SessionManagerService(storage).health_check()
    finally:
        await storage.close()
    if health["status"] == "healthy":
        return Finding(what, True, f"{storage_place(storage)} can be written, read and cleared")
    found = f"{storage_place(storage)}: {health['error']}"
    if settings.ready_without_store:
        return Finding(what, True, f"{found}; calls are taken all the same (READY_WITHOUT_STORE)")
    return Finding(what, False, found)


def model_doubts(settings: Settings) -> list[str]:
    """What is not known of the model and its region, one sentence each; new ones appear, so no errors."""
    return _model_doubts(settings, settings.bedrock_model_id, "BEDROCK_MODEL_ID")


def voice_doubts(settings: Settings, agents: AgentDirectory) -> list[str]:
    """What is not known of the agents' models, and of their voices there, one sentence each."""
    doubts = []
    for name, agent in agents.agents.items():
        if agent.model:
            doubts += _model_doubts(settings, agent.model, f"agent {name}: model")
        profile = _profile_of(agent.model or settings.bedrock_model_id)
        if profile is None:
            continue
        if agent.voice not in profile.voices:
            known = ", ".join(sorted(profile.voices))
            doubts.append(
                f"agent {name}: {profile.model_id} is not known to have the voice {agent.voice};"
                f" known: {known}"
            )
        elif agent.language is not None and not _speaks(agent.voice, agent.language, profile):
            voices = ", ".join(sorted(LANGUAGES[agent.language].voices & profile.voices))
            doubts.append(
                f"agent {name}: {agent.voice} is no voice of {agent.language}; those are {voices}"
            )
    return doubts


def _speaks(voice: str, language: str, profile: Profile) -> bool:
    return voice in LANGUAGES[language].voices or (profile.name != "v1" and voice in POLYGLOT)


def _model_doubts(settings: Settings, model_id: str, key: str) -> list[str]:
    profile = _profile_of(model_id)
    if profile is None:
        known = ", ".join(sorted(profile.model_id for profile in PROFILES.values()))
        return [f"{key}: {model_id} is not known here; known: {known}"]
    regions = _REGIONS.get(profile.name, frozenset())
    is_elsewhere = settings.aws_endpoint_url_bedrock_runtime is not None
    if not regions or is_elsewhere or settings.aws_region in regions:
        return []
    known = ", ".join(sorted(regions))
    where = f"{profile.model_id} is not known to be in {settings.aws_region}; known: {known}"
    return [f"AWS_REGION: {where}"]


def _profile_of(model_id: str) -> Profile | None:
    """The model's generation; an inference profile's id has the model's in it."""
    for profile in PROFILES.values():
        if profile.model_id in model_id:
            return profile
    return None


def _and(sentences: list[str]) -> str:
    return "; ".join(sentences) or "no objections"
