import re
import wave
from pathlib import Path

import pytest

from opusagent.agents import load_agent
from opusagent.errors import ConfigError
from opusagent.models.agent import McpServer, PythonTools

ROOT = Path(__file__).parents[2]


def agent_file(directory: Path, name: str = "default", text: str = 'system_prompt = "Hi"') -> Path:
    path = directory / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def recording(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(1_600))
    return path


def test_an_agent_with_only_a_prompt_has_defaults_for_the_rest(tmp_path: Path) -> None:
    agent = load_agent(agent_file(tmp_path))
    assert agent.system_prompt == "Hi"
    assert agent.voice == "tiffany"
    assert agent.greeting.text == ""


def test_the_prompt_may_stand_in_a_text_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Grüße", encoding="utf-8")
    assert (
        load_agent(agent_file(tmp_path, text='system_prompt_file = "prompt.txt"')).system_prompt
        == "Grüße"
    )


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Grüße", encoding="utf-8-sig")
    file = tmp_path / "default.toml"
    file.write_text('system_prompt_file = "prompt.txt"', encoding="utf-8-sig")
    assert load_agent(file).system_prompt == "Grüße"


def test_recordings_are_found_beside_the_file(tmp_path: Path) -> None:
    wav = recording(tmp_path / "hello.wav")
    text = 'system_prompt = "Hi"\ncomfort_audio = "hello.wav"\n[greeting]\naudio = "hello.wav"'
    agent = load_agent(agent_file(tmp_path, text=text))
    assert agent.comfort_audio == agent.greeting.audio == str(wav)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("system_prompt: 1", "is not TOML"),
        ("voice = 'amy'", "system_prompt: Field required"),
        ("system_prompt = ' '", "system_prompt: must not be empty"),
        ("system_prompt = 'x'\nvoyce = 'amy'", "voyce: Extra inputs are not permitted"),
        ("system_prompt = 'x'\n[inference]\ntop_p = 2", "inference.top_p: Input should be less"),
        ("system_prompt = 'x'\nendpointing = 'SOON'", "endpointing: Input should be 'HIGH'"),
        ("system_prompt = 'x'\nsystem_prompt_file = 'y'", "not both"),
        ("system_prompt_file = 1", "system_prompt_file: must be a path"),
        ("system_prompt_file = 'none.txt'", "system_prompt_file: "),
        (
            "system_prompt = 'You are {callr}.'",
            "system_prompt: unknown variable {callr}; did you mean {caller}?",
        ),
        (
            "system_prompt = 'x'\n[greeting]\ntext = '{start}'",
            "greeting.text: unknown variable {start}; there are",
        ),
        (
            "system_prompt = 'x'\n[resume]\ntext = '{foo.bar}'",
            "resume.text: unknown variable {foo.bar}",
        ),
        ("system_prompt = 'x'\ntime_zone = 'Berlin'", "time_zone: 'Berlin' is no time zone"),
        ("system_prompt = 'x'\ntime_zone = '../etc/passwd'", "time_zone: "),
        ("system_prompt = 'x'\ntime_zone = ''", "time_zone: '' is no time zone"),
        (
            "system_prompt = 'x'\ntime_zone = '{query.zone|Berlin}'",
            "time_zone: 'Berlin' is no time",
        ),
        ("system_prompt = 'x'\ntime_zone = '{zone}'", "time_zone: unknown variable {zone}"),
        ("system_prompt = 'x'\nlanguage = 'de'", "language: Input should be 'en-US'"),
        ("system_prompt = 'x'\nnumbers = ['*']", "numbers.0: '*' is no number"),
        ("system_prompt = 'x'\nbot_names = ['']", "bot_names.0: String should have at least 1"),
        ("system_prompt = 'x'\ncomfort_audio = 'none.wav'", "No such file"),
        ("system_prompt = 'x'\ncomfort_audio = 'default.toml'", "comfort_audio: "),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_reason(
    text: str, words: str, tmp_path: Path
) -> None:
    path = agent_file(tmp_path, text=text)
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        load_agent(path)
    assert str(caught.value).startswith(str(path))


TOOLS = """
from opusagent.tools import ToolRegistry

registry = ToolRegistry()


@registry.tool()
def find_order(order_id: str) -> str:
    \"\"\"Look an order up.\"\"\"
    return order_id
"""


def test_an_agent_names_its_tools_and_their_files_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(TOOLS, encoding="utf-8")
    text = """
        system_prompt = "Hi"
        [[tools]]
        type = "python"
        module = "orders.py"
        [[tools]]
        type = "mcp"
        name = "crm"
        command = ["python", "crm.py"]
        """
    python, server = load_agent(agent_file(tmp_path, text=text)).tools
    assert isinstance(python, PythonTools)
    assert isinstance(server, McpServer)
    assert python.module == str(tmp_path / "orders.py")
    assert server.folder == str(tmp_path)


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("type = 'python'", "tools.0.python.module: Field required"),
        ("type = 'python'\nmodule = 'none.py'", "tools.0: module: "),
        ("type = 'magic'", "tools.0: Input tag 'magic'"),
        ("name = 'x'", "tools.0: Unable to extract tag"),
        ("type = 'http'\nname = 'a b'\ndescription = 'x'\nurl = 'http://x/'", "tools.0.http.name"),
        (
            "type = 'http'\nname = 'a'\ndescription = 'x'\nurl = 'http://x/'\ntimeout_s = 31",
            "tools.0.http.timeout_s: Input should be less than or equal to 30",
        ),
        (
            "type = 'http'\nname = 'a'\ndescription = 'x'\nurl = 'http://x/${NO_SUCH_VARIABLE}'",
            "tools.0: url: ${NO_SUCH_VARIABLE} is not set in the environment",
        ),
        ("type = 'mcp'\nname = 'a'", "tools.0.mcp: give url or command"),
    ],
)
def test_a_wrong_tool_is_refused_with_file_key_and_reason(
    tool: str, words: str, tmp_path: Path
) -> None:
    path = agent_file(tmp_path, text=f"system_prompt = 'x'\n[[tools]]\n{tool}")
    with pytest.raises(ConfigError) as caught:
        load_agent(path)
    assert str(caught.value).startswith(f"{path}: {words}")


def test_the_shipped_agent_greets_by_typed_text_and_does_nothing_else_by_itself() -> None:
    agent = load_agent(ROOT / "config" / "agents" / "default.toml")
    assert agent.greeting.text
    assert agent.greeting.audio == agent.comfort_audio == ""
