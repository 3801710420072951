"""The model of a play: it does what its script says, one turn after the other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from opusagent.sonic.peer_brain import PeerContext, Reply, ToolAnswer, ToolAsk
from opusagent.testing.speech import bot_speech
from opusagent.testing.steps import Act, Acts, Calls, Told

__all__ = ["Mind", "ScriptedModel"]

_FIELD: Final = re.compile(r"\{([A-Za-z_][\w.]*)\}")
_JSON: Final = re.compile(r"\{.*\}", re.DOTALL)


class ScriptedModel:
    """What the model does, over all streams of a call.

    Attributes:
        problems: What it could not do, in words.
        told: Everything that it was told when it had to answer, oldest first.
    """

    def __init__(self, script: Sequence[Acts]) -> None:
        self._script = list(script)
        self._last: tuple[int, Reply] | None = None
        self._result: Mapping[str, JsonValue] = {}
        self._awaited = 0
        self.problems: list[str] = []
        self.told: list[str] = []

    @property
    def waits_for_tools(self) -> bool:
        """Whether it has asked for tools and not gone on since."""
        return self._awaited > 0

    def answer(self, stream: int, told: str) -> Reply:
        """What it does on being told this; the same again where another stream is told it again."""
        if self._last is not None and self._last[0] != stream and self.told[-1] in told:
            self._last = stream, self._last[1]
            return self._last[1]
        self.told.append(told)
        if found := _JSON.search(told):
            self._learn(found[0])
        if not self._script:
            self.problems.append(f"the model has nothing more to say, and was told {told!r}")
            return Reply()
        reply = self._reply(self._script.pop(0), told)
        self._last = stream, reply
        self._awaited = len(reply.tools)
        return reply

    def _reply(self, acts: Acts, told: str) -> Reply:
        if isinstance(acts, Told):
            if not acts.pattern.search(told):
                wanted = acts.pattern.pattern
                self.problems.append(f"the model should be told {wanted!r}, and was told {told!r}")
            acts = acts.acts
        all_acts: Sequence[Act] = [acts] if isinstance(acts, str | Calls) else acts
        return Reply(
            tuple(self._filled(act) for act in all_acts if isinstance(act, str)),
            tuple(ToolAsk(act.tool, act.arguments) for act in all_acts if isinstance(act, Calls)),
        )

    def _filled(self, sentence: str) -> str:
        def value(match: re.Match[str]) -> str:
            found: JsonValue = dict(self._result)
            for key in match[1].split("."):
                if not isinstance(found, dict) or key not in found:
                    self.problems.append(f"{match[0]} is not in the result {dict(self._result)}")
                    return match[0]
                found = found[key]
            return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

        return _FIELD.sub(value, sentence)

    def _learn(self, text: str) -> None:
        try:
            result = json.loads(text)
        except ValueError:
            return
        if isinstance(result, dict):
            self._result = result


class Mind:
    """The model as one stream has it: a `Brain`."""

    def __init__(self, model: ScriptedModel, stream: int) -> None:
        self._model = model
        self._stream = stream

    def reply(self, heard: str, context: PeerContext) -> Reply:
        """What it does on what was said or typed."""
        return self._model.answer(self._stream, heard)

    def after_tools(self, answers: Sequence[ToolAnswer], context: PeerContext) -> Reply:
        """What it does on the results of tools."""
        results = (f"{a.name}: {json.dumps(a.result, ensure_ascii=False)}" for a in answers)
        return self._model.answer(self._stream, "\n".join(results))

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        """The sentence as sound."""
        return bot_speech(sentence, rate_hz)
