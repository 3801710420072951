import shutil
from pathlib import Path

import pytest

from opusagent.agents import AgentFolder, load_agent
from opusagent.agents.files import sources_of
from opusagent.errors import ConfigError
from tests.agents.test_files import ROOT, TOOLS, agent_file, recording

WITH_TOOL = 'system_prompt = "x"\n[[tools]]\ntype = "python"\nmodule = "orders.py"\n'


def test_a_call_is_answered_by_the_agent_named_like_the_bot(tmp_path: Path) -> None:
    agent_file(tmp_path)
    agent_file(tmp_path, "Sales", 'system_prompt = "Sell"')
    directory = AgentFolder.open(tmp_path).directory
    assert directory.names == ("Sales", "default")
    assert directory.pick("sales")[0] == "Sales"
    assert directory.pick("Sales")[1].system_prompt == "Sell"


@pytest.mark.parametrize("bot_name", ["", "unknown", "../default", "default.toml", "/etc/passwd"])
def test_any_other_bot_name_is_answered_by_the_default(bot_name: str, tmp_path: Path) -> None:
    agent_file(tmp_path)
    assert AgentFolder.open(tmp_path).directory.pick(bot_name)[0] == "default"


def test_two_agents_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    agent_file(tmp_path, "sales")
    agent_file(tmp_path, "Sales")
    with pytest.raises(ConfigError, match="same name but for upper case"):
        AgentFolder.open(tmp_path)


def test_hidden_files_of_editors_and_archives_are_no_agents(tmp_path: Path) -> None:
    agent_file(tmp_path)
    (tmp_path / ".#default.toml").symlink_to("me@here.4711:1")
    (tmp_path / "._default.toml").write_bytes(b"\x00\x05\x16\x07\xff")
    assert AgentFolder.open(tmp_path).directory.names == ("default",)


def test_the_shipped_agent_answers_where_no_default_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = load_agent(ROOT / "config" / "agents" / "default.toml")
    assert AgentFolder.open(tmp_path).directory.pick("x") == ("default", shipped)
    monkeypatch.chdir(tmp_path)
    assert AgentFolder.open(Path("config/agents")).directory.pick("x") == ("default", shipped)


def test_a_directory_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"AGENT_CONFIG_DIR: .*nowhere is not a directory"):
        AgentFolder.open(tmp_path / "nowhere")


def test_an_agent_directory_can_be_moved(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config" / "agents", tmp_path / "agents")
    assert "default" in AgentFolder.open(tmp_path / "agents").directory.names


# Reading again


def test_nothing_is_read_again_as_long_as_nothing_has_changed(tmp_path: Path) -> None:
    agent_file(tmp_path)
    folder = AgentFolder.open(tmp_path)
    first = folder.directory
    assert folder.look() is first
    agent_file(tmp_path, "sales", 'system_prompt = "Sell"')
    second = folder.look()
    assert second.names == ("default", "sales")
    assert second.agents["default"] is first.agents["default"]
    assert folder.look() is second


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = agent_file(tmp_path)
    folder = AgentFolder.open(tmp_path)
    path.write_text('system_prompt = "Changed"', encoding="utf-8")
    assert folder.look().agents["default"].system_prompt == "Changed"


def test_so_is_a_file_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("One", encoding="utf-8")
    agent_file(tmp_path, text='system_prompt_file = "prompt.txt"\ncomfort_audio = "a.wav"')
    wav = recording(tmp_path / "a.wav")
    folder = AgentFolder.open(tmp_path)
    (tmp_path / "prompt.txt").write_text("Another", encoding="utf-8")
    changed = folder.look()
    assert changed.agents["default"].system_prompt == "Another"
    wav.write_bytes(wav.read_bytes() + bytes(2))
    assert folder.look() is not changed


def test_so_is_a_file_of_tools_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(TOOLS, encoding="utf-8")
    agent_file(tmp_path, text=WITH_TOOL)
    folder = AgentFolder.open(tmp_path)
    first = folder.directory
    (tmp_path / "orders.py").write_text("1 / 0", encoding="utf-8")
    broken = folder.look()
    assert "orders.py: cannot be loaded: ZeroDivisionError" in next(iter(broken.problems.values()))
    assert broken.agents["default"] is first.agents["default"]
    assert folder.look() is broken
    (tmp_path / "orders.py").write_text(TOOLS, encoding="utf-8")
    assert folder.look().problems == {}
    (tmp_path / "orders.py").write_text(TOOLS + "# another", encoding="utf-8")
    assert folder.look().agents["default"] is not first.agents["default"]


@pytest.mark.parametrize("tools", ["3", "[3]", "[{}]", "[{module = 3}]", '[{module = "os"}]'])
def test_tools_that_name_no_file_are_none_of_its_files(tools: str, tmp_path: Path) -> None:
    path = agent_file(tmp_path, text=f"tools = {tools}")
    assert sources_of(path) == (path,)


def test_of_a_broken_file_the_last_good_state_goes_on_and_the_others_change(tmp_path: Path) -> None:
    broken = agent_file(tmp_path, "sales", 'system_prompt = "Sell"')
    default = agent_file(tmp_path)
    folder = AgentFolder.open(tmp_path)
    broken.write_text("system_prompt =", encoding="utf-8")
    default.write_text('system_prompt = "Changed"', encoding="utf-8")
    found = folder.look()
    assert found.agents["sales"].system_prompt == "Sell"
    assert found.agents["default"].system_prompt == "Changed"
    (problem,) = found.problems.items()
    assert problem[0] == str(broken)
    assert problem[1].startswith(f"{broken}: is not TOML")
    assert folder.look() is found
    broken.write_text('system_prompt = "Sell more"', encoding="utf-8")
    assert folder.look().agents["sales"].system_prompt == "Sell more"
    assert folder.look().problems == {}


def test_a_file_that_is_missing_is_noticed_when_it_comes(tmp_path: Path) -> None:
    agent_file(tmp_path)
    folder = AgentFolder.open(tmp_path)
    agent_file(tmp_path, "sales", 'system_prompt_file = "sell.txt"')
    found = folder.look()
    assert found.names == ("default",)
    assert "sell.txt: cannot be read" in next(iter(found.problems.values()))
    (tmp_path / "sell.txt").write_text("Sell", encoding="utf-8")
    assert folder.look().agents["sales"].system_prompt == "Sell"


def test_an_agent_whose_file_is_gone_answers_no_more(tmp_path: Path) -> None:
    agent_file(tmp_path)
    sales = agent_file(tmp_path, "sales", 'system_prompt = "Sell"')
    folder = AgentFolder.open(tmp_path)
    sales.unlink()
    assert folder.look().pick("sales")[0] == "default"


def test_agents_that_do_not_go_together_change_nothing(tmp_path: Path) -> None:
    agent_file(tmp_path)
    agent_file(tmp_path, "sales", 'system_prompt = "Sell"\nnumbers = ["1"]')
    folder = AgentFolder.open(tmp_path)
    other = agent_file(tmp_path, "other", 'system_prompt = "x"\nnumbers = ["1"]')
    found = folder.look()
    assert found.names == ("default", "sales")
    assert (
        "other and sales: two agents answer for the same numbers" in found.problems[str(tmp_path)]
    )
    other.unlink()
    assert folder.look().problems == {}


def test_a_folder_that_vanishes_for_a_while_sends_nobody_away(tmp_path: Path) -> None:
    home = tmp_path / "agents"
    home.mkdir()
    agent_file(home, "sales", 'system_prompt = "Sell"')
    folder = AgentFolder.open(home)
    home.rename(tmp_path / "elsewhere")
    found = folder.look()
    assert found.names == ("default", "sales")
    assert "is not a directory" in found.problems[str(home)]
    assert folder.look() is found
    (tmp_path / "elsewhere").rename(home)
    assert folder.look().problems == {}


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    agent_file(tmp_path, "a", "voice = 1")
    agent_file(tmp_path, "b", "=")
    found = AgentFolder(tmp_path).look()
    assert [Path(file).name for file in found.problems] == ["a.toml", "b.toml"]
    with pytest.raises(ConfigError, match=r"a\.toml: .*b\.toml: is not TOML"):
        AgentFolder.open(tmp_path)
