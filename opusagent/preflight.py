"""Could a call be taken? One finding a line, none of which opens a stream."""

from __future__ import annotations

from dataclasses import dataclass

from opusagent.agents.files import AgentDirectory
from opusagent.clock import SystemClock
from opusagent.config import Settings, warnings
from opusagent.errors import ConfigError
from opusagent.transports.credentials import Credentials
from opusagent.transports.reachability import why_unreachable


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


async def check(settings: Settings) -> list[Finding]:
    """Look at everything that a call needs."""
    findings = [Finding("configuration", True, _and(warnings(settings)) or "no objections")]
    try:
        agents = AgentDirectory.load(settings.agent_config_dir)
        findings.append(Finding("agents", True, ", ".join(agents.names)))
    except ConfigError as error:
        findings.append(Finding("agents", False, str(error)))
    credentials = Credentials(utcnow=SystemClock().utcnow)
    try:
        findings.append(Finding("credentials", True, await credentials.check()))
    except ConfigError as error:
        findings.append(Finding("credentials", False, str(error).removeprefix("AWS credentials: ")))
    url = bedrock_url(settings)
    problem = await why_unreachable(url, ca_file=settings.aws_ca_bundle)
    findings.append(Finding("Bedrock", problem is None, problem or f"{url} answers"))
    return findings


def _and(sentences: list[str]) -> str:
    return "; ".join(sentences)
