"""`sessions` as an operator meets it, on files; once against a real Valkey."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from opusagent.cli import app, main
from opusagent.config import Settings
from opusagent.models.session_state import SessionState
from opusagent.session_storage.opening import open_storage
from opusagent.store import storage_settings
from tests.session_storage import valkey

NOW = datetime.now(UTC)  # noqa: TID251  the program under test looks at the real clock
VERBS = ("list", "show", "delete", "export", "cleanup")
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


pytestmark = pytest.mark.usefixtures("logging_as_it_was")


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


@dataclass
class Terminal:
    """Runs `sessions` in this process, with the store of the test in the environment."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def sessions(self, *arguments: str) -> Ran:
        code = main(["sessions", *arguments])
        shown = self.capsys.readouterr()
        return Ran(code, shown.out, shown.err)


@pytest.fixture
def terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Terminal:
    for name in ("REDIS_URL", "SESSION_ENCRYPTION_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SESSION_STORE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal(monkeypatch, capsys)


def said(conversation_id: str = "c1", *, days_ago: float = 0.0) -> dict[str, Any]:
    at = NOW - timedelta(days=days_ago)
    state = SessionState.model_validate(
        {
            "conversation_id": conversation_id,
            "caller": "+4930901820",
            "tenant": "acme",
            "status": "active",
            "owner": "process-1",
            "created_at": at,
            "last_activity": at,
            "resumed_count": 2,
            "metadata": {"agent": "sales"},
            "conversation_history": [
                {"type": "input", "text": "My name is Ada."},
                {"type": "output", "text": "Hello Ada."},
            ],
            "function_calls": [
                {"tool_use_id": "t", "name": "find", "arguments": "{}", "started_at": at}
            ],
        }
    )
    return state.to_dict()


def stored(folder: Path, *sessions: dict[str, Any], **settings: Any) -> None:
    """Put sessions where the terminal looks for them."""

    async def write() -> None:
        kept_in = storage_settings(Settings(session_store_dir=folder / "store", **settings))
        storage = open_storage(kept_in)
        for data in sessions:
            await storage.store_session(data["conversation_id"], data)
        await storage.close()

    asyncio.run(write())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example_and_the_flags_of_the_store(verb: str) -> None:
    result = CliRunner().invoke(app, ["sessions", verb, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: python run_bridge.py sessions {verb}" in result.output
    for flag in ("--redis-url", "--session-store-dir", "--session-encryption-keys", "--config"):
        assert flag in result.output
    assert "--bridge-port" not in result.output


def test_no_id_is_cut_however_narrow_the_terminal(terminal: Terminal, tmp_path: Path) -> None:
    long = "126463c0-08ef-4452-a97a-36978b0d629b"
    stored(tmp_path, said(long), said("c2"))
    terminal.monkeypatch.setenv("COLUMNS", "80")
    head, *lines, last = terminal.sessions("list").out.splitlines()
    assert head.split()[:3] == ["id", "status", "tenant"]
    assert [line.split()[:4] for line in lines] == [
        [name, "active", "acme", "sales"] for name in (long, "c2")
    ]
    assert NOW.isoformat() in lines[0]
    assert last.startswith("2 in ")


def test_the_verbs_are_named_by_the_help() -> None:
    result = CliRunner().invoke(app, ["sessions", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert all(verb in result.output for verb in VERBS)
    assert "Example: python run_bridge.py sessions" in result.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "Missing command"),
        (["sing"], "'sing'"),
        (["show"], "'ID'"),
        (["cleanup"], "--older-than"),
        (["cleanup", "--older-than", "0"], "--older-than"),
        (["cleanup", "--older-than", "nan"], "--older-than"),
        (["cleanup", "--older-than", "1e9"], "--older-than"),
        (["export", "c1", "--output", "none/c1.json"], "--output"),
        (["list", "--config", "none.toml"], "none.toml"),
        (["list", "--redis-url", "http://a"], "REDIS_URL"),
        (["list", "--session-encryption-keys", "short"], "SESSION_ENCRYPTION_KEYS"),
    ],
)
def test_a_mistake_of_use_is_one_line_that_names_it_and_exit_code_2(
    terminal: Terminal, arguments: list[str], named: str
) -> None:
    ran = terminal.sessions(*arguments)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert named in line
    assert ran.out == ""


def test_the_help_that_a_mistake_points_to_is_there(terminal: Terminal) -> None:
    assert "(see run_bridge.py sessions --help)" in terminal.sessions("show").err
    assert terminal.sessions("--help").code == 0


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["show", "c"], ["delete", "c"], ["export", "c"], ["cleanup", "--older-than", "1"]],
)
def test_sessions_in_memory_cannot_be_looked_at_from_outside(
    terminal: Terminal, arguments: list[str]
) -> None:
    terminal.monkeypatch.delenv("SESSION_STORE_DIR")
    ran = terminal.sessions(*arguments)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "REDIS_URL, SESSION_STORE_DIR" in line
    assert "sessions in memory die with the process" in line


def test_a_store_that_cannot_be_reached_is_exit_code_1_and_one_line_without_secrets(
    terminal: Terminal,
) -> None:
    ran = terminal.sessions("list", "--redis-url", "redis://:hush@localhost:1")
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert line.startswith("session store redis://localhost:1: ")
    assert "hush" not in line


@pytest.mark.parametrize("verb", ["show", "delete", "export"])
def test_an_unknown_id_is_exit_code_1(terminal: Terminal, verb: str) -> None:
    ran = terminal.sessions(verb, "nobody")
    assert ran.code == 1
    assert ran.out == ""
    (line,) = ran.err.splitlines()
    assert line.startswith("no session nobody in ")


def test_sessions_are_listed_for_people_and_for_programs(
    terminal: Terminal, tmp_path: Path
) -> None:
    assert terminal.sessions("list").out.startswith("0 in ")
    stored(tmp_path, said("b"), said("a"))
    shown = terminal.sessions("list")
    assert shown.code == 0
    assert [line.split()[:4] for line in shown.out.splitlines()[1:3]] == [
        ["a", "active", "acme", "sales"],
        ["b", "active", "acme", "sales"],
    ]
    assert shown.out.splitlines()[-1].startswith("2 in ")
    found = terminal.sessions("list", "--json").last
    assert [session["id"] for session in found["sessions"]] == ["a", "b"]
    assert found["sessions"][0]["turns"] == 2
    assert found["store"] == str(tmp_path / "store")


def test_a_session_that_cannot_be_read_hides_no_other(terminal: Terminal, tmp_path: Path) -> None:
    stored(tmp_path, said("a") | {"schema_version": 99}, said("b"))
    rows = terminal.sessions("list", "--json").last["sessions"]
    assert [(row["id"], row["status"]) for row in rows] == [("a", "unreadable"), ("b", "active")]
    ran = terminal.sessions("show", "a")
    assert ran.code == 1
    assert "cannot be read: not a session: schema_version" in ran.err
    assert terminal.sessions("export", "a").code == 0
    assert terminal.sessions("delete", "a").code == 0


def test_a_session_sealed_with_another_key_is_said_in_words(
    terminal: Terminal, tmp_path: Path
) -> None:
    stored(tmp_path, said("a"), session_encryption_keys=SecretStr(KEY))
    ran = terminal.sessions("export", "a")
    assert ran.code == 1
    assert "cannot be read" in ran.err.splitlines()[-1]
    assert terminal.sessions("export", "a", "--session-encryption-keys", KEY).code == 0


def test_showing_a_session_tells_facts_and_the_words_only_where_they_are_asked_for(
    terminal: Terminal, tmp_path: Path
) -> None:
    stored(tmp_path, said())
    for arguments in (["show", "c1"], ["show", "c1", "--json"]):
        shown = terminal.sessions(*arguments)
        assert shown.code == 0
        for fact in ("active", "process-1", "acme", "sales"):
            assert fact in shown.out
        assert "Ada" not in shown.out
        assert "4930901820" not in shown.out
        private = terminal.sessions(*arguments, "--private")
        assert "My name is Ada." in private.out
        assert "4930901820" in private.out
    facts = terminal.sessions("show", "c1", "--json").last
    assert (facts["turns"], facts["function_calls"], facts["resumed_count"]) == (2, 1, 2)


def test_what_a_caller_is_called_cannot_write_to_the_terminal(
    terminal: Terminal, tmp_path: Path
) -> None:
    stored(tmp_path, said("[red]x\x1b[2J") | {"caller": "\x1b]0;title\x07"})
    for arguments in (["list"], ["show", "[red]x\x1b[2J", "--private"]):
        shown = terminal.sessions(*arguments).out
        assert "[red]x\N{REPLACEMENT CHARACTER}[2J" in shown
        assert "\x1b" not in shown
        assert "\x07" not in shown


def test_a_deleted_session_is_gone(terminal: Terminal, tmp_path: Path) -> None:
    stored(tmp_path, said())
    ran = terminal.sessions("delete", "c1")
    assert (ran.code, ran.err) == (0, "")
    assert terminal.sessions("show", "c1").code == 1


def test_a_damaged_session_is_deleted_like_any_other(terminal: Terminal, tmp_path: Path) -> None:
    stored(tmp_path, said())
    (tmp_path / "store" / "c1.json").write_text("junk")
    ran = terminal.sessions("delete", "c1")
    assert (ran.code, ran.out) == (0, "deleted c1 (a call under way stores it again)\n")
    assert not list((tmp_path / "store").glob("c1*"))


def test_an_export_is_the_whole_record(terminal: Terminal, tmp_path: Path) -> None:
    record = said() | {"of_a_later_version": {"kept": True}}
    stored(tmp_path, record)
    assert json.loads(terminal.sessions("export", "c1").out) == record


def test_an_exported_file_is_for_its_owner_only_whatever_was_there(
    terminal: Terminal, tmp_path: Path
) -> None:
    stored(tmp_path, said())
    fresh, old = tmp_path / "fresh.json", tmp_path / "old.json"
    old.write_text("x" * 10_000)
    old.chmod(0o644)
    for file in (fresh, old):
        ran = terminal.sessions("export", "c1", "--output", str(file))
        assert ran.code == 0
        assert "Ada" not in ran.out
        assert json.loads(file.read_text()) == said()
        assert file.stat().st_mode & 0o777 == 0o600


def test_clean_up_removes_what_is_older_than_so_many_days(
    terminal: Terminal, tmp_path: Path
) -> None:
    year_s = str(365 * 86_400)
    terminal.monkeypatch.setenv("SESSION_TTL", year_s)
    stored(tmp_path, said("old", days_ago=31), said("new", days_ago=29), session_ttl=int(year_s))
    assert terminal.sessions("cleanup", "--older-than", "30").out == "removed 1\n"
    assert [s["id"] for s in terminal.sessions("list", "--json").last["sessions"]] == ["new"]
    assert terminal.sessions("cleanup", "--older-than", "0.5", "--json").last == {"removed": 1}


@pytest.mark.integration
def test_sessions_in_redis_are_found_by_its_url(terminal: Terminal, tmp_path: Path) -> None:
    with valkey.running(tmp_path) as server:
        terminal.monkeypatch.setenv("REDIS_URL", server.url)
        stored(tmp_path, said("c1"), said("c2"), redis_url=SecretStr(server.url))
        found = terminal.sessions("list", "--json").last
        assert [session["id"] for session in found["sessions"]] == ["c1", "c2"]
        assert found["store"] == server.url
        assert terminal.sessions("delete", "c1").code == 0
        assert terminal.sessions("show", "c1").code == 1
        assert terminal.sessions("export", "c2").code == 0
