"""From a scenario to what the simulated caller does, and to what the bot must have answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from opusagent.models.session_state import ConversationItem
from opusagent.simulators import caller_script as script
from opusagent.simulators import steps as told
from opusagent.simulators.scenario import Scenario
from opusagent.simulators.voice import Voice


def steps_of(scenario: Scenario, voice: Voice, kill: Callable[[int], None]) -> list[script.Step]:
    """The caller's script; phrases in a row are one utterance.

    Args:
        scenario: What it is made of.
        voice: The caller's.
        kill: Kills the bridge of that number, from 1.
    """
    steps: list[script.Step] = []
    bridges = iter(scenario.route)
    for step, after in zip(scenario.step, [*scenario.step[1:], None], strict=False):
        answered = isinstance(after, told.Wait | told.Interrupt) or _needs_bot(after)
        if isinstance(step, told.Interrupt | told.CutSocket | told.KillBridge) and step.after_s:
            timeout_s = step.within_s + step.after_s
            steps.append(script.WaitForBotToSpeak(seconds=step.after_s, timeout_s=timeout_s))
        match step:
            case told.Wait(within_s=within_s):
                steps.append(script.WaitForBot(timeout_s=within_s + 15.0, quiet_s=0.4))
            case told.Say(phrase=phrase):
                steps.append(_say(scenario, voice, phrase, answered=answered))
            case told.Interrupt(phrase=phrase):
                steps.append(_say(scenario, voice, phrase, answered=answered, over_bot=True))
            case told.Dtmf(digits=digits):
                steps.append(script.Press(digits=digits))
            case told.Pause(seconds=seconds):
                steps.append(script.Pause(seconds))
            case told.CutSocket(resume_after_s=after_s):
                next(bridges)
                steps.append(script.CutSocket(resume_after_s=after_s, behind_chunk=True))
            case told.KillBridge(resume_after_s=after_s):
                kills = partial(kill, next(bridges))
                steps.append(script.LoseBot(kill=kills, resume_after_s=after_s))
            case told.HangUp():
                steps.append(script.HangUp())
    return steps


def complaints(scenario: Scenario, transcript: Sequence[ConversationItem]) -> list[str]:
    """What the bot should have answered and did not, in words."""
    answers = _answers(transcript)
    found = []
    utterance = 0
    spoke = False  # whether the step before was speech: phrases in a row are one utterance
    for step in scenario.step:
        if isinstance(step, told.Interrupt):
            found.append(step.verdict(answers[utterance] if utterance < len(answers) else ""))
        if isinstance(step, told.Dtmf) and step.collected:
            spoke = False
        elif isinstance(step, told.Say | told.Interrupt | told.Dtmf):
            utterance += 0 if spoke and isinstance(step, told.Say) else 1
            spoke = True
        elif not isinstance(step, told.Pause):
            spoke = False
        if isinstance(step, told.Wait):
            found.append(step.verdict(answers[utterance] if utterance < len(answers) else ""))
    return [words for words in found if words]


def _answers(transcript: Sequence[ConversationItem]) -> list[str]:
    """What the bot said before the caller's first turn, after it, after the second, ..."""
    answers = [""]
    for item in transcript:
        if item.type == "input":
            answers.append("")
        else:
            answers[-1] = f"{answers[-1]} {item.text}".strip()
    return answers


def _needs_bot(step: told.Step | None) -> bool:
    """Whether a step waits for the bot before it cuts the line."""
    return isinstance(step, told.CutSocket | told.KillBridge) and step.after_s is not None


def _say(
    scenario: Scenario,
    voice: Voice,
    phrase: str,
    *,
    answered: bool,
    over_bot: bool = False,
) -> script.Say:
    text = scenario.phrases[phrase]
    return script.Say(
        sound=script.spoken(voice, text), label=text, over_bot=over_bot, expects_answer=answered
    )
