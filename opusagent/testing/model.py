"""The model of a play: it does what its script says, one turn after the other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from opusagent.models.telephone import TelephoneFunction
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
        self._awaited: tuple[str, ...] = ()
        self.problems: list[str] = []
        self.told: list[str] = []

    @property
    def waits_for_tools(self) -> bool:
        """Whether it has asked for tools and not gone on since."""
        return bool(self._awaited)

    @property
    def waits_for_keys(self) -> bool:
        """Whether what it has asked for are keys that the caller presses."""
        return TelephoneFunction.COLLECT_DIGITS in self._awaited

    @property
    def left(self) -> Sequence[Acts]:
        """Its turns that have not come."""
        return tuple(self._script)

    def answer(
        self, stream: int, told: str, result: Mapping[str, JsonValue] | None = None
    ) -> Reply:
        """What it does on being told this; the same again where another stream is told it again.

        Args:
            stream: Which of its streams is told.
            told: What it is told.
            result: Of its tools, where that is what it is told.
        """
        if self._last is not None and self._last[0] != stream and self.told[-1] in told:
            self._last = stream, self._last[1]
            return self._last[1]
        self.told.append(told)
        if result is not None or (self._last is not None and self._last[0] != stream):
            self._awaited = ()
        self._result = result or _result_in(told) or self._result
        if not self._script:
            self.problems.append(f"the model has nothing more to say, and was told {told!r}")
            return Reply()
        reply = self._reply(self._script.pop(0), told)
        self._last = stream, reply
        self._awaited += tuple(ask.name for ask in reply.tools)
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
        told = [f"{a.name}: {json.dumps(a.result, ensure_ascii=False)}" for a in answers]
        fields = {key: value for answer in answers for key, value in answer.result.items()}
        return self._model.answer(self._stream, "\n".join(told), fields)

    def speak(self, sentence: str, rate_hz: int) -> bytes:
        """The sentence as sound."""
        return bot_speech(sentence, rate_hz)


def _result_in(told: str) -> Mapping[str, JsonValue]:
    """The result of a tool that another stream has asked for: it is typed, as text."""
    found = _JSON.search(told)
    try:
        result = json.loads(found[0]) if found else {}
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}
