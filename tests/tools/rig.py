"""A call without threads: everything runs on the loop that asks, so virtual time works."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from opusagent.call.events import StreamId, ToolCall
from opusagent.tools.runner import CallTools
from opusagent.tools.tool import Place, Tool, ToolContext


class Here:
    """Runs users' functions at once."""

    async def plain[T](self, _name: str, work: Callable[[], T]) -> T:
        return work()

    async def coroutine[T](self, _name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await work()


@dataclass
class Counts:
    """Remembers what became of tools."""

    ended: list[tuple[str, str, float]] = field(default_factory=list)
    abandoned: list[int] = field(default_factory=list)

    def tool_ended(self, name: str, outcome: str, seconds: float) -> None:
        self.ended.append((name, outcome, seconds))

    def tool_threads_abandoned(self, count: int) -> None:
        self.abandoned.append(count)

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, outcome, _ in self.ended]


def of_call(
    tools: Iterable[Tool],
    *,
    context: ToolContext | None = None,
    place: Place | None = None,
    meter: Counts | None = None,
) -> CallTools:
    return CallTools(
        {tool.spec.name: tool for tool in tools},
        context=context or ToolContext(conversation_id="c1", caller="+15551230001", agent="bank"),
        place=place or Here(),
        meter=meter or Counts(),
    )


def asks(name: str, arguments: str = "{}", tool_use_id: str = "u1") -> ToolCall:
    return ToolCall(StreamId(1), tool_use_id, name, arguments)
