"""Plays a call: the real bridge between a simulated VoiceAI Connect and the local service, in virtual time."""

from __future__ import annotations

import asyncio
import json
from asyncio import _get_running_loop
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, assert_never

from pydantic import JsonValue, ValidationError

from opusagent.agents import DEFAULT, AgentDirectory, load_agent
from opusagent.config import Settings
from opusagent.errors import ConfigError
from opusagent.models.agent import Agent
from opusagent.models.session_state import SessionState
from opusagent.observability import Metrics
from opusagent.server import BridgeServer
from opusagent.services.session_manager_service import SessionManagerService
from opusagent.session_storage.memory_storage import MemorySessionStorage
from opusagent.simulators import caller_script as script
from opusagent.simulators.caller import SimulatedCaller
from opusagent.simulators.virtual_time import VirtualTimeLoop, run
from opusagent.testing.judging import faults
from opusagent.testing.model import Mind, ScriptedModel
from opusagent.testing.outcome import Line, Outcome, ToolUse
from opusagent.testing.service import PlayService
from opusagent.testing.speech import Speech
from opusagent.testing.steps import (
    Acts,
    CallerStep,
    ChangesStream,
    HangsUp,
    Interrupts,
    Listens,
    LosesLine,
    LosesStream,
    Presses,
    Says,
    Waits,
)
from opusagent.testing.tools import Fake, PlayTools
from opusagent.transports.memory import MemoryCaller, caller_pair

__all__ = ["play"]

CONVERSATION: Final = "play"
_BEGAN: Final = datetime(2026, 1, 1, 9, tzinfo=UTC)
_QUIET_S: Final = 0.8
"""The bot is done when it was quiet for so long, and the model waits for no tool."""
_ANSWER_S: Final = 45.0
"""How long an answer may take: more than a tool may."""
_CHANGE_S: Final = 600.0


def play(
    agent: Agent | Path | str,
    *,
    caller: Sequence[CallerStep] = (),
    model: Sequence[Acts] = (),
    fakes: Mapping[str, Fake] | None = None,
    tool_seconds: Mapping[str, float] | None = None,
    number: str = "+15551230001",
    settings: Mapping[str, Any] | None = None,
) -> Outcome:
    """Play a call with an agent, and say what came of it.

    Args:
        agent: Its file, or itself.
        caller: What the caller does, one after the other; she hears the greeting first, if there is one, and
            hangs up in the end.
        model: What the model does each time that it is its turn, in order: on the greeting's text, on what
            the caller says, on keys, on results of tools.
        fakes: What stands in for a tool, by the tool's name: its result, or a function. The tools of MCP
            servers are there only in this way; all others are really run.
        tool_seconds: By tool: how long it takes before it does what it does.
        number: The caller's.
        settings: Of the bridge, by their names in lower case.

    Raises:
        AssertionError: If the call did not go as told: the bot did not answer, the model was asked when its
            script was over, or not asked for all of it, VoiceAI Connect was told what it may not be told, a
            step was not reached.
        ConfigError: If the agent's file, a setting or the name of a tool is wrong.
        RuntimeError: If it is called in an async function.
    """
    if _get_running_loop() is not None:
        raise RuntimeError("play() runs a loop of its own: call it in a plain test, no async one")
    name = DEFAULT if isinstance(agent, Agent) else Path(agent).stem
    loaded = agent if isinstance(agent, Agent) else load_agent(Path(agent))
    performance = _Performance(name, loaded, caller, ScriptedModel(model), number)
    return run(performance.run(_settings(settings or {}), fakes or {}, tool_seconds or {}))


def _settings(given: Mapping[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        words = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong)
        raise ConfigError(f"settings: {'; '.join(words)}") from None


class _Clock:
    """A day that begins when the play does."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def utcnow(self) -> datetime:
        return _BEGAN + timedelta(seconds=self.monotonic())


@dataclass(frozen=True, slots=True)
class _Socket:
    """VoiceAI Connect's end of a websocket; it notes the bot's activities."""

    end: MemoryCaller
    activities: list[dict[str, JsonValue]]

    async def recv(self) -> str | bytes | None:
        text = await self.end.recv()
        if text is not None:
            self.activities.extend(json.loads(text).get("activities", ()))
        return text

    async def send(self, text: str) -> None:
        await self.end.send(text)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.end.close(code, reason)

    def abort(self) -> None:
        self.end.abort()


@dataclass
class _Performance:
    """One play."""

    name: str
    agent: Agent
    caller_steps: Sequence[CallerStep]
    model: ScriptedModel
    number: str
    problems: list[str] = field(default_factory=list)
    activities: list[dict[str, JsonValue]] = field(default_factory=list)
    speech: Speech = field(default_factory=Speech)
    n_begun: int = 0

    async def run(
        self, settings: Settings, fakes: Mapping[str, Fake], tool_seconds: Mapping[str, float]
    ) -> Outcome:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        clock = _Clock()
        self.tools = PlayTools(self.name, self.agent, fakes=fakes, seconds=tool_seconds, loop=loop)
        sessions = SessionManagerService(storage := MemorySessionStorage(clock=clock), clock=clock)
        await sessions.start()
        async with self.tools, asyncio.TaskGroup() as tasks:
            self.service = PlayService(partial(Mind, self.model), self.speech, tasks)
            server = BridgeServer(
                settings,
                AgentDirectory({DEFAULT: self.agent, self.name: self.agent}),
                self.service,
                Metrics(),
                sessions=sessions,
                tools=self.tools,
                clock=clock,
                at_rest=lambda: None,
            )

            async def dial() -> _Socket:
                ours, theirs = caller_pair()
                tasks.create_task(server.serve(ours, ""))
                return _Socket(theirs, self.activities)

            plan = script.CallerPlan(caller=self.number, bot_name=self.name, keep_audio=False)
            self.phone = SimulatedCaller(plan, dial, conversation_id=CONVERSATION, clock=clock)
            await self.phone.run(self._script())
        await sessions.stop()
        data = await storage.retrieve_session(CONVERSATION)
        return self._outcome(None if data is None else SessionState.from_dict(data))

    # The caller

    def _script(self) -> Iterator[script.Step]:
        """Her steps, each made when the one before is done."""
        if self.agent.greeting.text or self.agent.greeting.audio:
            first = self.caller_steps[0] if self.caller_steps else None
            yield from self._hear_out("the greeting", first)
        for step, after in pairwise([*self.caller_steps, None]):
            self.n_begun += 1
            if self.problems or step is None or isinstance(step, HangsUp):
                return
            yield from self._do(Says(step) if isinstance(step, str) else step, after)

    def _do(self, step: CallerStep, after: CallerStep | None) -> Iterator[script.Step]:
        match step:
            case Says(text, answered):
                yield self._say(text)
                if answered and not isinstance(after, Interrupts):
                    yield from self._hear_out(repr(text), after)
            case Interrupts(text, after_s):
                yield script.WaitForBotToSpeak(seconds=after_s, timeout_s=_ANSWER_S)
                yield self._say(text, over_bot=True)
                if not self.phone.record.phrases[-1].over_bot:
                    what = f"the bot did not speak for {after_s:g} s"
                    self.problems.append(f"{what}: {text!r} interrupted nothing")
                    return
                yield from self._hear_out(repr(text), after)
            case Presses(keys, answered):
                yield script.Press(digits=keys)
                if answered:
                    yield from self._hear_out(f"the keys {keys}", after)
            case Waits(seconds):
                yield script.Pause(seconds)
            case Listens():
                yield from self._hear_out("what came before", after)
            case LosesLine(back_after_s):
                yield script.CutSocket(resume_after_s=back_after_s)
            case LosesStream():
                self.service.break_off()
            case ChangesStream():
                yield from self._await_change()
            case str() | HangsUp():
                pass
            case _:
                assert_never(step)

    def _say(self, text: str, *, over_bot: bool = False) -> script.Say:
        return script.Say(sound=partial(self.speech.say, text), label=text, over_bot=over_bot)

    def _hear_out(self, what: str, after: CallerStep | None) -> Iterator[script.Step]:
        """Until the bot has answered, and nothing more is to come but for what she does after it."""
        in_vain = len(self.phone.record.in_vain)
        n_turns, waited_s = -1, 0.0
        while n_turns != len(self.model.told):
            n_turns = len(self.model.told)
            yield script.WaitForBot(quiet_s=_QUIET_S, timeout_s=_ANSWER_S)
            if len(self.phone.record.in_vain) > in_vain:
                self.problems.append(f"the bot gave no answer to {what}")
                return
            while self.tools.running or self.model.waits_for_tools:
                if self.model.waits_for_keys and isinstance(after, Presses):
                    return
                yield script.Pause(0.1)
                waited_s += 0.1
                if waited_s > _ANSWER_S:
                    self.problems.append(f"the model got no result of what it asked for on {what}")
                    return
            if n_turns != len(self.model.told):
                yield script.Pause(_QUIET_S)  # what it says now has to reach her first

    def _await_change(self) -> Iterator[script.Step]:
        old = self.service.records[-1]
        waited_s = 0.0
        while old.ended_at is None and waited_s < _CHANGE_S:
            yield script.Pause(0.2)
            waited_s += 0.2
        if old.ended_at is None:
            self.problems.append(f"the stream was not changed within {_CHANGE_S:g} s")

    # What came of it

    def _outcome(self, state: SessionState | None) -> Outcome:
        record = self.phone.record
        if state is None:
            raise AssertionError(f"there was no call: {record.refused or record.failure}")
        ended_by: Literal["caller", "bot", "nobody"] = "caller"
        if record.hangup_reason is not None or record.end_reason == "transferred":
            ended_by = "bot"
        elif record.failure is not None:
            ended_by = "nobody"
        outcome = Outcome(
            transcript=[
                Line("caller" if item.type == "input" else "bot", item.text, item.interrupted)
                for item in state.conversation_history
            ],
            tool_calls=[ToolUse.of(call) for call in state.function_calls],
            hung_up_by=ended_by,
            hangup_reason=record.hangup_reason or "",
            activities=self.activities,
            told=self.model.told,
            streams=self.service.records,
            phone=record,
            state=state,
            seconds=record.ended_at or 0.0,
        )
        problems = faults(
            record,
            met=[*self.problems, *self.model.problems],
            steps=self.caller_steps,
            n_begun=self.n_begun,
            left=self.model.left,
        )
        if problems:
            raise AssertionError("; ".join([*problems, f"the call was:\n{outcome.text}"]))
        return outcome
