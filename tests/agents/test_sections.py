"""The sections of an agent's file about the telephone."""

from __future__ import annotations

from pathlib import Path

import pytest

from opusagent.agents import load_agent
from opusagent.errors import ConfigError
from tests.agents.test_files import agent_file, recording

TELEPHONE = """
[[tools]]
type = "telephone"
functions = ["hang_up", "transfer_call", "play_url", "collect_digits"]
[tools.targets.support]
to = "tel:+15551234"
description = "people who help"
referred_by = "sip:bot@example.com"
headers = { "X-Topic" = "orders" }
[tools.sounds.jingle]
url = "https://example.com/jingle.wav"
"""

CHECK_PIN = """
[[tools]]
type = "http"
name = "check_pin"
description = "Checks."
url = "https://example.com/"
[tools.parameters.pin]
[tools.parameters.card]
required = false
"""

CRM = """
[[tools]]
type = "mcp"
name = "crm"
url = "https://crm.example.com/mcp"
"""

WHOLE = f"""
system_prompt = "x"
{TELEPHONE}
{CHECK_PIN}
[dtmf]
terminator = "#"
pause_recording = true
[dtmf.inputs.pin]
count = 4
sensitive = true
tool = "check_pin"
argument = "pin"

[filler]
after_s = 1.5
audio = "moment.wav"

[silence]
after_s = 8
prompts = 1
then = "transfer"
target = "support"

[failure]
then = "transfer"
target = "support"
audio = "moment.wav"
"""


def test_an_agent_has_the_telephone_and_what_happens_in_silence_and_failure(tmp_path: Path) -> None:
    wav = recording(tmp_path / "moment.wav")
    agent = load_agent(agent_file(tmp_path, text=WHOLE))
    assert agent.telephone.targets["support"].headers == {"X-Topic": "orders"}
    assert agent.dtmf.inputs["pin"].count == 4
    assert agent.filler.audio == agent.failure.audio == str(wav)
    assert agent.silence is not None
    assert agent.silence.target == "support"


def test_digits_may_go_to_the_tool_of_a_server_that_is_not_known_yet(tmp_path: Path) -> None:
    text = f"system_prompt = 'x'\n{CRM}\n[dtmf]\ntool = 'find_customer'\nargument = 'number'"
    assert load_agent(agent_file(tmp_path, text=text)).dtmf.tool == "find_customer"


def test_without_sections_nothing_of_it_happens(tmp_path: Path) -> None:
    agent = load_agent(agent_file(tmp_path))
    assert agent.telephone.functions == ()
    assert agent.silence is None
    assert (agent.filler.text, agent.filler.audio, agent.failure.then) == ("", "", "error")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[tools]]\ntype = 'telephone'\nfunctions = ['fly']", "tools.0.telephone.functions.0: "),
        (
            "[[tools]]\ntype = 'telephone'\nfunctions = ['transfer_call']",
            "tools.0.telephone: transfer_call needs targets",
        ),
        (
            "[[tools]]\ntype = 'telephone'\nfunctions = ['play_url']",
            "tools.0.telephone: play_url needs sounds",
        ),
        (
            "[[tools]]\ntype = 'telephone'\n[tools.targets.a]\nto = '+4930'",
            "tools.0.telephone.targets.a.to: String should match",
        ),
        (
            "[[tools]]\ntype = 'telephone'\n[tools.targets.a]\nto = 'tel:1'\n[tools.targets.a.headers]\nX-A = \"b\\r\\nc\"",
            "tools.0.telephone.targets.a.headers.X-A: String should match",
        ),
        (
            "[[tools]]\ntype = 'telephone'\n[tools.sounds.a]\nurl = 'file:///etc/passwd'",
            "tools.0.telephone.sounds.a.url: String should match",
        ),
        (TELEPHONE * 2, "tools: one section of type telephone is enough"),
        ("[silence]\nthen = 'transfer'\ntarget = 'x'", "silence.target: must be one"),
        ("[failure]\nthen = 'transfer'", "failure.target: must be one"),
        ("[failure]\nthen = 'sing'", "failure.then: Input should be"),
        ("[dtmf]\nterminator = '##'", "dtmf.terminator: String should match"),
        ("[dtmf]\ncount = 4\ntool = 'check'", "dtmf.tool: there is no tool named check"),
        (
            TELEPHONE + "[dtmf.inputs.pin]\ntool = 'check'",
            "dtmf.inputs.pin.tool: there is no tool named check",
        ),
        ("[dtmf]\nwait_s = 5", "dtmf: wait_s belongs under [dtmf.inputs.NAME]"),
        ("[dtmf.inputs.pin]\nbarge_in = true", "dtmf.inputs.pin.barge_in: Extra inputs"),
        (
            "[dtmf.inputs.pin]\ncount = 4",
            "dtmf.inputs.pin: cannot be asked for without collect_digits among",
        ),
        (
            "[[tools]]\ntype = 'telephone'\nfunctions = ['hang_up']\n[dtmf.inputs.pin]\ncount = 4",
            "dtmf.inputs.pin: cannot be asked for without collect_digits among",
        ),
        (
            TELEPHONE + CHECK_PIN + "[dtmf.inputs.pin]\ntool = 'check_pin'",
            "dtmf.inputs.pin.argument: check_pin has no argument digits; it takes pin, card",
        ),
        (
            CHECK_PIN + "[dtmf]\ncount = 4\ntool = 'check_pin'",
            "dtmf.argument: check_pin has no argument digits; it takes pin, card",
        ),
        (
            CHECK_PIN + "[dtmf]\ntool = 'check_pin'\nargument = 'card'",
            "dtmf.tool: check_pin cannot be run without pin; it gets card only",
        ),
        (
            CHECK_PIN + CRM + "[dtmf]\ntool = 'check_pin'\nargument = 'card'",
            "dtmf.tool: check_pin cannot be run without pin; it gets card only",
        ),
        (
            CHECK_PIN.replace(
                "[tools.parameters.pin]\n[tools.parameters.card]\nrequired = false", ""
            )
            + "[dtmf]\ntool = 'check_pin'",
            "dtmf.argument: check_pin has no argument digits; it takes none",
        ),
        ("[filler]\naudio = 'none.wav'", "filler.audio: "),
        ("[silence]\nprompt = ''", "silence.prompt: String should have at least"),
        (
            TELEPHONE + "[[tools]]\ntype = 'http'\nname = 'hang_up'\n"
            "description = 'x'\nurl = 'http://x/'",
            "tools.1: there is another tool named hang_up",
        ),
    ],
)
def test_a_wrong_section_is_refused_with_file_key_and_reason(
    text: str, words: str, tmp_path: Path
) -> None:
    path = agent_file(tmp_path, text=f"system_prompt = 'x'\n{text}")
    with pytest.raises(ConfigError) as caught:
        load_agent(path)
    assert str(caught.value).startswith(f"{path}: {words}")
