"""`check`: one finding a line, and no stream opened."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from opusagent.agents import AgentDirectory
from opusagent.clock import SystemClock
from opusagent.config import Settings
from opusagent.models.agent import Agent
from opusagent.preflight import (
    Finding,
    bedrock_problem,
    bedrock_url,
    check,
    make_connector,
    model_doubts,
    voice_doubts,
)
from opusagent.simulators.wire import WireServer
from opusagent.transports.credentials import Credentials
from tests.call.driver import SILENT_AGENT
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
        assert found(findings, "agents").found == "bank, default, restaurant"
        assert "secret" not in found(findings, "credentials").found
        assert found(findings, "Bedrock").found == f"{rig.server.url} answers"
        assert "BRIDGE_TOKEN" in found(findings, "configuration").found
        assert service.requests == []

    asyncio.run(main())


def test_tools_are_listed_with_their_schema_and_servers_that_are_away_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_keys(monkeypatch)
    (tmp_path / "shop.py").write_text(
        "from opusagent.tools import ToolRegistry\n"
        "registry = ToolRegistry()\n"
        "@registry.tool()\n"
        "def find_order(number: str) -> None:\n"
        '    """Look an order up."""\n',
        encoding="utf-8",
    )
    server = Path(__file__).parent / "tools" / "mcp_server.py"
    (tmp_path / "shop.toml").write_text(
        'system_prompt = "x"\n'
        '[[tools]]\ntype = "python"\nmodule = "shop.py"\n'
        f'[[tools]]\ntype = "mcp"\nname = "tiny"\ncommand = ["{sys.executable}", "{server}"]\n'
        'only = ["add", "find"]\n'
        '[[tools]]\ntype = "mcp"\nname = "gone"\ncommand = ["/no/such/command"]\n',
        encoding="utf-8",
    )
    findings = asyncio.run(check(Settings(agent_config_dir=tmp_path)))
    mine = found(findings, "tool find_order of shop")
    assert mine.ok
    assert mine.found.startswith("Look an order up. {")
    assert '"number": {"type": "string"}' in mine.found
    assert '"required": ["a", "b"]' in found(findings, "tool add of shop").found
    lacks = found(findings, "MCP server tiny of shop")
    assert (lacks.ok, lacks.found) == (True, "has no find, which only or repeatable names")
    gone = found(findings, "MCP server gone of shop")
    assert gone.ok
    assert "No such file" in gone.found
    assert "calls are taken all the same, without its tools" in gone.found


@pytest.mark.parametrize(
    ("dtmf", "words"),
    [
        ('tool = "environment"\nargument = "name"', None),
        (
            'tool = "environment"',
            "dtmf.argument: environment has no argument digits; it takes name",
        ),
        ('tool = "add"\nargument = "a"', "dtmf.tool: add cannot be run without b; it gets a only"),
        ('tool = "find"', "dtmf.tool: there is no tool named find"),
    ],
)
def test_tools_of_servers_must_take_the_digits_that_they_get(
    dtmf: str, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_keys(monkeypatch)
    server = Path(__file__).parent / "tools" / "mcp_server.py"
    (tmp_path / "shop.toml").write_text(
        f'system_prompt = "x"\n[dtmf]\n{dtmf}\n'
        f'[[tools]]\ntype = "mcp"\nname = "tiny"\ncommand = ["{sys.executable}", "{server}"]\n',
        encoding="utf-8",
    )
    findings = asyncio.run(check(Settings(agent_config_dir=tmp_path)))
    wrong = [finding.found for finding in findings if finding.what == "digits of shop"]
    assert wrong == ([] if words is None else [words])
    assert not [finding for finding in findings if finding.found in wrong and finding.ok]


def test_a_server_that_is_away_may_have_the_tool_that_gets_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_keys(monkeypatch)
    (tmp_path / "shop.toml").write_text(
        'system_prompt = "x"\n[dtmf]\ntool = "find"\n'
        '[[tools]]\ntype = "mcp"\nname = "gone"\ncommand = ["/no/such/server"]\n',
        encoding="utf-8",
    )
    findings = asyncio.run(check(Settings(agent_config_dir=tmp_path)))
    assert found(findings, "MCP server gone of shop").ok
    assert not [finding for finding in findings if finding.what == "digits of shop"]


def test_tools_that_cannot_be_loaded_in_their_process_fail_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_keys(monkeypatch)
    (tmp_path / "shop.py").write_text(
        "from pathlib import Path\n"
        "from opusagent.tools import ToolRegistry\n"
        f"Path({str(tmp_path / 'lock')!r}).touch(exist_ok=False)\n"
        "registry = ToolRegistry()\n"
        "@registry.tool()\n"
        "def find_order(number: str) -> None:\n"
        '    """Look an order up."""\n',
        encoding="utf-8",
    )
    (tmp_path / "shop.toml").write_text(
        'system_prompt = "x"\n[[tools]]\ntype = "python"\nmodule = "shop.py"\n', encoding="utf-8"
    )
    tools = found(asyncio.run(check(Settings(agent_config_dir=tmp_path))), "tools")
    assert not tools.ok
    assert "shop.py: cannot be loaded: FileExistsError" in tools.found
    assert "in the process of the tools" in tools.found


def test_each_thing_that_is_missing_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch, tmp_path)
    settings = Settings(
        agent_config_dir=tmp_path / "nowhere",
        aws_endpoint_url_bedrock_runtime="https://localhost:1",
        enable_session_recording=True,
        recording_output_dir=Path(__file__) / "recordings",
    )
    findings = asyncio.run(check(settings))
    assert "AGENT_CONFIG_DIR" in found(findings, "agents").found
    assert "RECORDING_OUTPUT_DIR" in found(findings, "recordings").found
    assert "AWS_ACCESS_KEY_ID" in found(findings, "credentials").found
    assert "localhost:1 cannot be reached" in found(findings, "Bedrock").found
    assert [finding.ok for finding in findings] == [True, False, False, True, False, False]


def test_what_serve_would_refuse_at_the_start_is_refused_here(tmp_path: Path) -> None:
    none = tmp_path / "none.pem"
    none.write_text("none", encoding="utf-8")
    settings = Settings(
        aws_endpoint_url_bedrock_runtime="https://localhost:1",
        bridge_tls_cert=none,
        bridge_tls_key=none,
        session_encryption_keys=SecretStr("hunter2"),
    )
    findings = asyncio.run(check(settings))
    assert not found(findings, "certificate").ok
    assert "BRIDGE_TLS_CERT" in found(findings, "certificate").found
    assert not found(findings, "session store").ok
    assert "SESSION_ENCRYPTION_KEYS: key 1" in found(findings, "session store").found


@pytest.mark.parametrize(
    ("settings", "doubt"),
    [
        ({}, None),
        ({"bedrock_model_id": "us.amazon.nova-2-sonic-v1:0"}, None),
        ({"bedrock_model_id": "amazon.nova-2-5-sonic-v1:0", "aws_region": "eu-west-3"}, None),
        ({"bedrock_model_id": "amazon.nova-lite-v1:0"}, "BEDROCK_MODEL_ID: amazon.nova-lite-v1:0"),
        ({"aws_region": "eu-west-3"}, "AWS_REGION: amazon.nova-2-sonic-v1:0"),
        (
            {
                "aws_region": "eu-west-3",
                "aws_endpoint_url_bedrock_runtime": "https://localhost:8443",
            },
            None,
        ),
    ],
)
def test_a_model_or_region_that_nobody_has_heard_of_is_a_doubt(
    settings: dict[str, str], doubt: str | None
) -> None:
    found = model_doubts(Settings(**settings))  # type: ignore[arg-type]
    assert len(found) == (doubt is not None)
    assert not found or found[0].startswith(str(doubt))


def test_a_voice_that_the_model_does_not_have_is_a_doubt() -> None:
    greta = SILENT_AGENT.model_copy(update={"voice": "greta"})
    agents = AgentDirectory({"default": SILENT_AGENT, "german": greta})
    (doubt,) = voice_doubts(Settings(), agents)
    assert "german" in doubt
    assert "greta" in doubt
    assert voice_doubts(Settings(bedrock_model_id="amazon.nova-sonic-v1:0"), agents) == []
    assert voice_doubts(Settings(bedrock_model_id="new-one"), agents) == []


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ({"voice": "carolina", "language": "de-DE"}, "carolina is no voice of de-DE; those are lennart, tina"),
        ({"voice": "tiffany", "language": "de-DE"}, None),
        ({"voice": "tina", "language": "de-DE"}, None),
        ({"model": "amazon.nova-sonic-v1:0", "voice": "greta", "language": "de-DE"}, None),
        ({"model": "amazon.nova-sonic-v1:0", "language": "de-DE"}, "those are greta, lennart"),
        ({"model": "amazon.nova-lite-v1:0"}, "agent a: model: amazon.nova-lite-v1:0 is not known"),
        ({"model": "amazon.nova-sonic-v1:0", "voice": "tina"}, "nova-sonic-v1:0 is not known to have the voice tina"),
    ],
)  # fmt: skip
def test_the_model_and_language_of_an_agent_are_looked_at_too(
    agent: dict[str, object], words: str | None
) -> None:
    agents = AgentDirectory(
        {"default": SILENT_AGENT, "a": Agent.model_validate({"system_prompt": "x", **agent})}
    )
    found = "; ".join(voice_doubts(Settings(), agents))
    assert words in found if words else not found


def test_agents_are_listed_and_each_file_that_is_wrong_has_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "default.toml").write_text("system_prompt = 'x'")
    (tmp_path / "sales.toml").write_text("system_prompt = 'x'")
    without_keys(monkeypatch, tmp_path)
    settings = Settings(
        agent_config_dir=tmp_path, aws_endpoint_url_bedrock_runtime="https://localhost:1"
    )
    agents = found(asyncio.run(check(settings)), "agents")
    assert agents.ok
    assert agents.found == "default, sales"
    (tmp_path / "sales.toml").write_text("system_prompt = '{x}'")
    (tmp_path / "other.toml").write_text("=")
    wrong = [f for f in asyncio.run(check(settings)) if f.what == "agents"]
    assert [finding.ok for finding in wrong] == [False, False]
    assert wrong[0].found.startswith(f"{tmp_path / 'other.toml'}: is not TOML")
    assert wrong[1].found.startswith(f"{tmp_path / 'sales.toml'}: system_prompt: unknown variable")


@pytest.mark.parametrize(
    ("settings", "ok", "words"),
    [
        ({"event_hooks": ["json:dumps"]}, True, "json:dumps"),
        ({"event_hooks": ["json:nothing"]}, False, "EVENT_HOOKS: json has no function nothing"),
        (
            {"webhook_url": "https://crm.example/hush", "webhook_secret": "sixteen letters!"},
            True,
            "webhook at https://crm.example",
        ),
    ],
)
def test_who_is_told_of_calls_is_looked_at(
    settings: dict[str, object],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    ok: bool,
) -> None:
    without_keys(monkeypatch, tmp_path)
    elsewhere = {"aws_endpoint_url_bedrock_runtime": "https://localhost:1"}
    finding = found(asyncio.run(check(Settings.model_validate(elsewhere | settings))), "events")
    assert (finding.ok, finding.found) == (ok, words)


def test_doubts_are_said_and_fail_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_keys(monkeypatch)
    (tmp_path / "default.toml").write_text('system_prompt = "x"\nvoice = "nobody"\n')

    async def main() -> list[Finding]:
        async with serving(tmp_path, Scripted()) as rig:
            return await check(
                Settings(
                    agent_config_dir=tmp_path,
                    aws_endpoint_url_bedrock_runtime=rig.server.url,
                    aws_ca_bundle=rig.ca_file,
                )
            )

    findings = asyncio.run(main())
    assert all(finding.ok for finding in findings)
    assert "the voice nobody" in found(findings, "agents").found


def test_a_certificate_that_streams_trust_is_no_problem_whatever_python_thinks(
    tmp_path: Path,
) -> None:
    """Where Python was built elsewhere, it looks for the system's certificates in a wrong place."""

    async def main() -> None:
        async with serving(tmp_path, Scripted()) as rig:
            url = rig.server.url
            knows_nobody = Settings(aws_endpoint_url_bedrock_runtime=url)
            problem = await bedrock_problem(knows_nobody, rig.connector())
            assert problem is None
            (tmp_path / "other.pem").write_bytes(WireServer(Scripted()).ca_pem)
            trusts_others = Settings(
                aws_endpoint_url_bedrock_runtime=url, aws_ca_bundle=tmp_path / "other.pem"
            )
            connector = make_connector(trusts_others, Credentials(utcnow=SystemClock().utcnow))
            problem = await bedrock_problem(trusts_others, connector)
            assert problem is not None
            assert problem.lasts
            assert "not trusted" in problem.words
        assert rig.service.requests == []

    asyncio.run(main())


def test_bedrock_is_where_the_region_is_unless_a_setting_says_otherwise() -> None:
    regional = bedrock_url(Settings(aws_region="eu-north-1"))
    assert regional == "https://bedrock-runtime.eu-north-1.amazonaws.com"
    elsewhere = Settings(aws_endpoint_url_bedrock_runtime="https://localhost:8443")
    assert bedrock_url(elsewhere) == "https://localhost:8443"


def store_of(monkeypatch: pytest.MonkeyPatch, **settings: object) -> Finding:
    """What is found of the store where nothing else works."""
    with_keys(monkeypatch)
    elsewhere: dict[str, object] = {"aws_endpoint_url_bedrock_runtime": "https://localhost:1"}
    chosen = Settings.model_validate(elsewhere | settings)
    return found(asyncio.run(check(chosen)), "session store")


def test_sessions_in_memory_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = store_of(monkeypatch)
    assert finding.ok
    assert "sessions die with the process; set REDIS_URL or SESSION_STORE_DIR" in finding.found


def test_the_store_is_written_read_and_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = store_of(monkeypatch, session_store_dir=tmp_path / "store")
    assert finding.ok
    assert finding.found == f"{tmp_path / 'store'} can be written, read and cleared"
    assert list((tmp_path / "store").glob("*.json")) == []


def test_a_store_that_is_down_fails_the_check_unless_calls_are_to_be_taken_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finding = store_of(monkeypatch, redis_url="redis://:hush@localhost:1")
    assert not finding.ok
    assert finding.found.startswith("redis://localhost:1: ")
    assert "hush" not in finding.found
    tolerated = store_of(monkeypatch, redis_url="redis://localhost:1", ready_without_store=True)
    assert tolerated.ok
    assert "READY_WITHOUT_STORE" in tolerated.found


def test_a_url_that_names_no_store_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = store_of(monkeypatch, redis_url="http://localhost")
    assert not finding.ok
    assert finding.found.startswith("REDIS_URL: must begin with")
