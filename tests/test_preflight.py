"""`check`: one finding a line, and no stream opened."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from opusagent.config import Settings
from opusagent.preflight import Finding, bedrock_url, check
from tests.transports.rig import Scripted, serving

pytestmark = pytest.mark.integration


def found(findings: list[Finding], what: str) -> Finding:
    return next(finding for finding in findings if finding.what == what)


def with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def without_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_everything_that_a_call_needs_is_looked_at_and_no_stream_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_keys(monkeypatch)

    async def main() -> None:
        service = Scripted()
        async with serving(tmp_path, service) as rig:
            settings = Settings(
                aws_endpoint_url_bedrock_runtime=rig.server.url, aws_ca_bundle=rig.ca_file
            )
            findings = await check(settings)
        assert all(finding.ok for finding in findings)
        assert found(findings, "agents").found == "default"
        assert "secret" not in found(findings, "credentials").found
        assert found(findings, "Bedrock").found == f"{rig.server.url} answers"
        assert "BRIDGE_TOKEN" in found(findings, "configuration").found
        assert service.requests == []

    asyncio.run(main())


def test_each_thing_that_is_missing_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch, tmp_path)
    settings = Settings(
        agent_config_dir=tmp_path / "nowhere",
        aws_endpoint_url_bedrock_runtime="https://localhost:1",
    )
    findings = asyncio.run(check(settings))
    assert "AGENT_CONFIG_DIR" in found(findings, "agents").found
    assert "AWS_ACCESS_KEY_ID" in found(findings, "credentials").found
    assert "localhost:1 cannot be reached" in found(findings, "Bedrock").found
    assert [finding.ok for finding in findings] == [True, False, False, False]


def test_bedrock_is_where_the_region_is_unless_a_setting_says_otherwise() -> None:
    regional = bedrock_url(Settings(aws_region="eu-north-1"))
    assert regional == "https://bedrock-runtime.eu-north-1.amazonaws.com"
    elsewhere = Settings(aws_endpoint_url_bedrock_runtime="https://localhost:8443")
    assert bedrock_url(elsewhere) == "https://localhost:8443"
